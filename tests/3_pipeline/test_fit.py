"""Fit: an interrupted training ends as if it had not been, and damage is named."""

import itertools
import signal

import pytest
import torch
from safetensors.torch import load_file

from equipoise.models.task import FusionTask
from equipoise.pipeline.callbacks import KeepProgress, SaveState
from equipoise.pipeline.errors import RunFolderError
from equipoise.pipeline.train import fit_network, network_spec
from equipoise.pipeline.utilization_options import UtilizationOptions

EPOCHS = 3


@pytest.fixture(scope="module")
def again(trained_run):
    """Fits the network of the trained run once more, in another folder."""
    run = trained_run.run
    data = run._training_data()

    def fit(folder, *, resume="one", **changes):
        config = run.config.model_copy(update={"train": run.config.train.model_copy(update=changes)})
        return fit_network(
            network_spec(data, config), data, config, strategies=config.train.strategies, folder=folder, resume=resume,
            label="train",
        )  # fmt: skip

    return fit


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "last.ckpt", "resume.txt"]


@pytest.mark.parametrize(
    "strategy",
    ["frozen_head", "greedy", "mmpareto", ["subset_sampling", "mu_bounded"], ["subset_sampling", "mu_matched"]],
)
def test_what_a_strategy_remembers_survives_an_interruption(again, tmp_path, monkeypatch, strategy):
    changes = {"strategy": strategy, "utilization": UtilizationOptions(target={"eo": 0.2})}
    whole = again(tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        _stopped_at_step(patch, 12)
        with pytest.raises(InterruptedError):
            again(tmp_path / "part", **changes)
    resumed = again(tmp_path / "part", **changes)
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
    for path in checkpoints.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(FusionTask, "training_step", lambda *_: pytest.fail("trained again"))
    result = again(tmp_path, resume=(checkpoints / "resume.txt").read_text())
    assert result.history == trained_run.run.folder.stages["train"].figures["history"]


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
    for path in checkpoints.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(RunFolderError, match=r"found a damaged checkpoint.*--force") as caught:
        again(tmp_path, resume=(checkpoints / "resume.txt").read_text())
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
