"""Fit: an interrupted training ends as if it had not been, and damage is named."""

import csv
import itertools
import shutil
import signal
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from equipoise.datasets.patches import PatchIndex
from equipoise.models.balancing import STRATEGIES, TEACH_SUBSETS
from equipoise.models.baselines import BASELINES
from equipoise.models.checkpoint import load_model, save_model
from equipoise.models.task import FusionTask
from equipoise.pipeline import learning_rate
from equipoise.pipeline.callbacks import KeepProgress, SaveState
from equipoise.pipeline.errors import RunFolderError
from equipoise.pipeline.learning_rate import suggested
from equipoise.pipeline.model_folder import load_predictor
from equipoise.pipeline.train import fit_network, network_spec, train
from equipoise.pipeline.training_bar import line
from equipoise.pipeline.training_logs import table
from equipoise.pipeline.utilization_options import UtilizationOptions

EPOCHS = 3


@pytest.fixture(scope="module")
def again(trained_run):
    """Fits the network of the trained run once more, in another folder."""
    return partial(_fit, trained_run.run.config, trained_run.run._training_data())


@pytest.fixture(scope="module")
def briefly(trained_run):
    """Fits it to every third patch, a third as many at once: as many steps, with a third of the work."""
    config, data = trained_run.run.config, trained_run.run._training_data()
    table = data.index.table[data.index.table.groupby("split").cumcount() % 3 == 0].reset_index(drop=True)
    few = replace(data, index=PatchIndex(table=table, modalities=data.index.modalities))
    return partial(_fit, config, few, batch_size=config.train.batch_size // 3)


def _fit(config, data, folder, *, resume="one", **changes):
    config = config.model_copy(update={"train": config.train.model_copy(update=changes)})
    return fit_network(
        network_spec(data, config), data, config, strategies=config.train.strategies, folder=folder, resume=resume,
        label="train",
    )  # fmt: skip


def _stopped_after_epoch(monkeypatch, epochs):
    save, calls = SaveState.on_train_epoch_end, itertools.count(1)

    def stop(self, *arguments):
        save(self, *arguments)
        if next(calls) == epochs:
            raise InterruptedError

    monkeypatch.setattr(SaveState, "on_train_epoch_end", stop)


def _stopped_at_step(monkeypatch, step):
    train, calls = FusionTask.training_step, itertools.count(1)

    def stop(self, *arguments):
        if next(calls) == step:
            raise InterruptedError
        return train(self, *arguments)

    monkeypatch.setattr(FusionTask, "training_step", stop)


def _stopped_in_validation(monkeypatch, epoch):
    """The best weights of an epoch may be written while its state is not."""
    note, calls = KeepProgress.on_validation_end, itertools.count(1)

    def stop(self, *arguments):
        note(self, *arguments)
        if next(calls) == epoch:
            raise InterruptedError

    monkeypatch.setattr(KeepProgress, "on_validation_end", stop)


@pytest.mark.parametrize(
    ("stop", "at"),
    [(_stopped_after_epoch, 1), (_stopped_after_epoch, EPOCHS), (_stopped_at_step, 3), (_stopped_at_step, 12),
     (_stopped_in_validation, 2)],
)  # fmt: skip
def test_an_interrupted_fit_ends_bit_for_bit_as_one_that_was_not(again, trained_run, tmp_path, monkeypatch, stop, at):
    with monkeypatch.context() as patch:
        stop(patch, at)
        with pytest.raises(InterruptedError):
            again(tmp_path)
    resumed = again(tmp_path)
    whole = trained_run.run.folder.stages["train"].figures
    assert resumed.history == whole["history"]
    assert (resumed.best_epoch, resumed.best_score) == (whole["best_epoch"], whole["best_score"])
    expected = load_file(trained_run.root / "model" / "model.safetensors")
    found = resumed.network.state_dict()
    assert set(found) == set(expected)
    assert [name for name, tensor in found.items() if not torch.equal(tensor, expected[name])] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "last.ckpt", "logs", "resume.txt"]


@pytest.mark.parametrize(
    "strategy",
    ["frozen_head", "greedy", "mmpareto", ["subset_sampling", "mu_bounded"], ["subset_sampling", "mu_matched"]],
)
def test_what_a_strategy_remembers_survives_an_interruption(briefly, tmp_path, monkeypatch, strategy):
    changes = {"strategy": strategy, "utilization": UtilizationOptions(target={"eo": 0.2})}
    whole = briefly(tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        _stopped_at_step(patch, 12)
        with pytest.raises(InterruptedError):
            briefly(tmp_path / "part", **changes)
    resumed = briefly(tmp_path / "part", **changes)
    assert resumed.history == whole.history
    expected = whole.network.state_dict()
    assert [n for n, tensor in resumed.network.state_dict().items() if not torch.equal(tensor, expected[n])] == []
    watched = {name.split("/")[0] for epoch in whole.history for name in epoch if "/" in name}
    assert ("share" in watched) == ("mu_" in str(strategy))
    assert ("strategy" in watched) == (strategy not in ("frozen_head", "mmpareto"))


def test_ctrl_c_in_training_arrives_as_ctrl_c(again, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(FusionTask, "training_step", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            again(tmp_path)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning has it ignored from then on


def test_a_finished_fit_is_not_trained_again(again, trained_run, tmp_path, monkeypatch):
    checkpoints = trained_run.root / "checkpoints" / "fusion"
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(FusionTask, "training_step", lambda *_: pytest.fail("trained again"))
    result = again(tmp_path, resume=(checkpoints / "resume.txt").read_text())
    assert result.history == trained_run.run.folder.stages["train"].figures["history"]


def _differing(one, other):
    expected = other.network.state_dict()
    return [name for name, tensor in one.network.state_dict().items() if not torch.equal(tensor, expected[name])]


def test_accumulated_steps_in_half_precision_survive_an_interruption(briefly, tmp_path, monkeypatch):
    changes = {"accumulate": 2, "precision": "bf16", "epochs": 2}
    whole = briefly(tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        _stopped_after_epoch(patch, 1)
        with pytest.raises(InterruptedError):
            briefly(tmp_path / "part", **changes)
    resumed = briefly(tmp_path / "part", **changes)
    assert resumed.history == whole.history
    assert _differing(resumed, whole) == []


# patience


def test_patience_stops_where_no_later_epoch_was_better_and_a_resumed_run_there_too(again, tmp_path, monkeypatch):
    """Oracle: the scores of a training to the end, at a rate that makes them go up and down."""
    changes = {"epochs": 4, "learning_rate": 30.0}
    whole = again(tmp_path / "whole", **changes)
    assert (len(whole.history), whole.ended) == (4, "all epochs done")
    scores = [row["validation_score"] for row in whole.history]
    last = next(n for n in range(1, 4) if scores[n] <= max(scores[:n]))
    assert last < 3
    with monkeypatch.context() as patch:
        _stopped_after_epoch(patch, last + 1)  # the state of the last epoch is there, and nothing after it
        with pytest.raises(InterruptedError):
            again(tmp_path / "part", patience=1, **changes)
        patch.setattr(FusionTask, "training_step", lambda *_: pytest.fail("trained again"))
        stopped = again(tmp_path / "part", patience=1, **changes)
    assert stopped.history == whole.history[: last + 1]
    assert stopped.ended == "no better epoch in 1"


# learning rate


def test_a_rate_is_found_kept_and_leaves_no_trace(briefly, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_rate, "STEPS", 30)
    changes = {"learning_rate": "find", "epochs": 1}
    with monkeypatch.context() as patch:
        _stopped_after_epoch(patch, 1)
        with pytest.raises(InterruptedError):
            briefly(tmp_path / "found", **changes)
    monkeypatch.setattr(learning_rate, "Tuner", lambda *_: pytest.fail("looked for it again"))
    found = briefly(tmp_path / "found", **changes)
    assert 1e-7 < found.learning_rate < 0.1
    chosen = briefly(tmp_path / "chosen", learning_rate=found.learning_rate, epochs=1)
    assert chosen.history == found.history
    assert _differing(chosen, found) == []
    (tmp_path / "found" / "learning_rate.txt").write_text("fast")
    with pytest.raises(RunFolderError, match=r"learning_rate.txt: found a damaged checkpoint.*--force"):
        briefly(tmp_path / "found", **changes)


def test_the_suggested_rate_is_a_tenth_of_the_best_or_none():
    rates = [10.0 ** (step / 10 - 6) for step in range(60)]
    losses = [1.0] * 20 + [0.5] * 21 + [2.0] * 19  # the mean falls up to step 40, whatever its weights
    assert suggested(rates, losses) == pytest.approx(1e-3)
    for bad in (sorted(losses), [float("nan")] * 60, []):
        with pytest.raises(RunFolderError, match=r"found no learning rate.*`train.learning_rate: find`") as caught:
            suggested(rates, bad)
        assert "\n" not in str(caught.value)


# what is told


def test_every_epoch_is_in_the_table_once_however_often_the_training_was_interrupted(briefly, tmp_path, monkeypatch):
    changes = {"strategy": "mu_bounded", "utilization": UtilizationOptions(target={"eo": 0.2}), "epochs": 2}
    for stop, at in ((_stopped_after_epoch, 1), (_stopped_in_validation, 1)):
        with monkeypatch.context() as patch:
            stop(patch, at)
            with pytest.raises(InterruptedError):
                briefly(tmp_path, **changes)
    resumed = briefly(tmp_path, **changes)
    with (tmp_path / "logs" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [{key: float(value) for key, value in row.items()} for row in rows] == resumed.history
    assert {"train_loss", "validation_loss", "validation_score", "share/eo", "strategy/effort_0"} <= set(rows[0])


def test_figures_that_an_epoch_lacks_stay_empty():
    assert (
        table([{"epoch": 0, "loss": 0.5}, {"epoch": 1, "share/eo": 0.25}]) == "epoch,loss,share/eo\n0,0.5,\n1,,0.25\n"
    )


def test_missing_tensorboard_is_one_line(again, tmp_path, monkeypatch):
    for module in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RunFolderError, match=r"found no TensorBoard.*pip install tensorboard") as caught:
        again(tmp_path, logs=["csv", "tensorboard"])
    assert "\n" not in str(caught.value)


def test_the_bar_moves_within_an_epoch_where_a_person_watches(briefly, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    briefly(tmp_path, epochs=1)
    shown = capsys.readouterr().err
    assert "train 1/1" in shown
    assert "loss 0." in shown or "loss 1." in shown or "loss 2." in shown
    monkeypatch.delenv("FORCE_COLOR")
    briefly(tmp_path / "alone", epochs=1, logs=[])
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "alone" / "logs").exists()


def test_the_line_says_what_shares_were_wanted():
    row = {"validation_score": 0.5, "share/eo": 0.41, "share/sar": 0.59, "target_low/eo": 0.4, "target_high/eo": 0.5}
    assert line(row, best=0.7) == "score 0.500, best 0.700, shares eo 41% (40-50%) sar 59%"


# competitors


@pytest.mark.parametrize("kind", sorted(BASELINES))
def test_competitors_are_trained_saved_and_predict(trained_run, tmp_path, kind):
    run = trained_run.run
    changes = {"network": kind, "epochs": 1, "logs": []}
    config = run.config.model_copy(update={"train": run.config.train.model_copy(update=changes)})
    data = run._training_data()
    figures = train(data, config, model_folder=tmp_path / "model", checkpoints=tmp_path / "fit", resume="one")
    assert figures["ended"] == "all epochs done"
    predictor = load_predictor(tmp_path / "model", device="cpu")
    assert type(predictor.network) is BASELINES[kind]
    assert predictor.network.spec.kind == kind
    batch = next(iter(data.module(config).loader("test")))
    answers = predictor.network(batch["image"], valid=batch["valid"], available=batch["available"])
    assert answers.shape[:2] == (len(batch["mask"]), len(data.classes))


@pytest.mark.parametrize(
    ("strategies", "approximate"),
    [(("joint",), True), (("response",), True), (("subset_sampling",), False), (("response", "meta_missing"), False)],
)
def test_a_network_that_was_taught_subsets_answers_for_them(trained_run, tmp_path, strategies, approximate):
    network, card = load_model(trained_run.root / "model")
    told = replace(card, training={**card.training, "strategy": list(strategies)})
    save_model(tmp_path, network, told)
    assert load_predictor(tmp_path, device="cpu").approximate == approximate
    assert set(STRATEGIES) >= TEACH_SUBSETS


def test_another_mark_throws_the_old_state_away(again, tmp_path, monkeypatch):
    (tmp_path / "resume.txt").write_text("other")
    (tmp_path / "last.ckpt").write_bytes(b"what an older run left")
    _stopped_at_step(monkeypatch, 1)
    with pytest.raises(InterruptedError):
        again(tmp_path)
    assert not (tmp_path / "last.ckpt").exists()
    assert (tmp_path / "resume.txt").read_text() == "one"


def _cut(content):
    return content[: len(content) // 2]


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 64]) + content[middle + 64 :]


DAMAGE = {"empty": lambda _: b"", "text": lambda _: b"not a checkpoint", "cut": _cut, "bits flipped": _flipped,
          "no head": lambda content: content[1000:]}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["last.ckpt", "best.safetensors"])
def test_a_damaged_checkpoint_is_one_clear_line(again, trained_run, tmp_path, name, damage):
    checkpoints = trained_run.root / "checkpoints" / "fusion"
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(RunFolderError, match=r"found a damaged checkpoint.*--force") as caught:
        again(tmp_path, resume=(checkpoints / "resume.txt").read_text())
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
