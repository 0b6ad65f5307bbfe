"""FusionTask: learns, scores against an oracle, resumes to the bit, and takes competitors and other precisions."""

from dataclasses import replace

import lightning as L
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score

from equipoise.models.balancing import STRATEGIES, Strategy, Utilization, build_strategy
from equipoise.models.balancing.composite import Composite
from equipoise.models.balancing.frozen_head import FrozenHead, decision_layers
from equipoise.models.balancing.strategy import Step, parts_of
from equipoise.models.balancing.subset_sampling import SubsetSampling
from equipoise.models.baselines import BASELINES, build_network, single_modality_spec
from equipoise.models.errors import ModelError
from equipoise.models.losses import IGNORE, ClassificationLoss, SegmentationLoss
from equipoise.models.network import NetworkSpec
from equipoise.models.task import FusionTask, accuracy, mean_iou, warm_cosine

pytestmark = [
    # Tiny in-memory data need no loader processes.
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    # torch notes once that gradients of maps this small lie in memory in another order than the weights.
    pytest.mark.filterwarnings("ignore:.*gradient layout contract.*"),
]

MODALITIES = ("eo", "sar")
SPEC = NetworkSpec(modalities=MODALITIES, in_channels=(2, 1), classes=3, depth=2, decoder_channels=(8, 4))


class Patches(torch.utils.data.Dataset):
    """Invented patches: eo shows the class, sar shows noise and is sometimes missing."""

    def __init__(self, count=8, *, task="segmentation"):
        generator = torch.Generator().manual_seed(7)
        self.task = task
        self.mask = torch.randint(0, 3, (count, 1, 1), generator=generator).expand(-1, 8, 8).clone()
        self.eo = self.mask[:, None].float().expand(-1, 2, -1, -1) + 0.1 * torch.randn(
            count, 2, 8, 8, generator=generator
        )
        self.sar = torch.randn(count, 1, 8, 8, generator=generator)

    def __len__(self):
        return len(self.mask)

    def __getitem__(self, index):
        target = {"mask": self.mask[index]} if self.task == "segmentation" else {"label": self.mask[index, 0, 0]}
        return {
            "image": {"eo": self.eo[index], "sar": self.sar[index]},
            "valid": {name: torch.ones(8, 8, dtype=torch.bool) for name in MODALITIES},
            "available": torch.tensor([True, index % 3 > 0]),
            **target,
        }


def _loader(**options):
    return torch.utils.data.DataLoader(Patches(**options), batch_size=4)


def _task(spec=SPEC, **options):
    torch.manual_seed(0)
    loss = SegmentationLoss() if spec.task == "segmentation" else ClassificationLoss()
    options = {"total_steps": 6, "strategy": build_strategy("subset_sampling"), "loss": loss, **options}
    return FusionTask(build_network(spec), **options)


def _trainer(folder, epochs, **options):
    return L.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **options},
    )


@pytest.mark.parametrize(("count", "accumulate"), [(8, 1), (12, 2)])
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, count, accumulate):
    """With three batches an epoch, of which two make a step, the last one makes a step of its own."""

    def fit(epochs, **options):
        task = _task()
        trainer = _trainer(tmp_path, epochs, accumulate_grad_batches=accumulate)
        trainer.fit(task, _loader(count=count), _loader(), **options)
        assert trainer.global_step == 2 * epochs
        return task, trainer

    (whole, _), (first, trainer), path = fit(3), fit(1), tmp_path / "epoch.ckpt"
    trainer.save_checkpoint(path)
    torch.manual_seed(999)  # a new process does not share the old one's random stream
    resumed, _ = fit(3, ckpt_path=path)

    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())
    assert not all(torch.equal(value, expected[name]) for name, value in first.state_dict().items())


def test_batches_of_one_step_draw_differently_and_are_all_seen(tmp_path):
    seen = []

    class Noting(SubsetSampling):
        def available(self, batch_available, *, generator):
            drawn = super().available(torch.ones_like(batch_available), generator=generator)
            seen.append(drawn)
            return drawn & batch_available

    strategy = build_strategy("ogm_ge", modalities=MODALITIES)
    task = _task(strategy=Composite([Noting(), strategy]))
    _trainer(tmp_path, 1, accumulate_grad_batches=4).fit(task, _loader(count=16), _loader())
    assert task.global_step == 1
    assert len({tuple(drawn.flatten().tolist()) for drawn in seen}) == 4


class Noted(Strategy):
    """Changes nothing, and notes in which precision it is asked."""

    def __init__(self):
        super().__init__()
        self.types = set()

    def loss(self, step, loss):
        again = step.decode(step.available)
        self.types |= {step.logits.dtype, again.dtype, step.criterion(step.logits, step.target).dtype, loss.dtype}
        self.types.add(("maps", step.features.maps["eo"][0].dtype))
        return loss


def test_half_precision_trains_near_single_and_is_scored_in_single(tmp_path):
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        noted = Noted()
        steered = build_strategy("mu_bounded", modalities=MODALITIES, utilization=Utilization(target={"eo": 0.4}))
        task = _task(learning_rate=1e-2, total_steps=20, strategy=Composite([noted, steered]))
        trainer = _trainer(tmp_path, 10, precision=precision, check_val_every_n_epoch=10)
        trainer.fit(task, _loader(), _loader())
        assert all(bool(value.isfinite().all()) for value in task.state_dict().values())
        found[precision] = {name: float(value) for name, value in trainer.callback_metrics.items()}
        low = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
        assert noted.types == {torch.float32, ("maps", low)}
    single, half = found["32-true"], found["bf16-mixed"]
    assert single["train_loss"] != half["train_loss"]
    for name in ("train_loss", "validation_loss"):
        assert half[name] == pytest.approx(single[name], rel=0.1)


@pytest.mark.parametrize("names", ["mu_bounded", "subset_sampling", "auxiliary"])
@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_a_batch_without_any_label_is_survived(tmp_path, names, kind):
    spec = replace(SPEC, task=kind, deep_supervision=kind == "segmentation")
    task = _task(
        spec, strategy=build_strategy(names, modalities=MODALITIES, utilization=Utilization(target={"eo": 0.4}))
    )
    patches = Patches(task=kind)
    patches.mask[4:] = IGNORE  # the second batch
    trainer = _trainer(tmp_path, 3)
    trainer.fit(task, torch.utils.data.DataLoader(patches, batch_size=4), _loader(task=kind))
    assert trainer.global_step == 6
    assert all(bool(value.isfinite().all()) for value in task.state_dict().values())
    assert all(value.isfinite() for value in trainer.callback_metrics.values())


# competitors


@pytest.mark.parametrize("kind", sorted(BASELINES))
@pytest.mark.parametrize("names", sorted(STRATEGIES))
def test_competitors_train_with_every_strategy_or_refuse_it(kind, names):
    spec = replace(SPEC, kind=kind)
    wanted = Utilization(target={"eo": 0.4}, depth="decoder" if kind == "early" else "all")
    strategy = build_strategy(names, modalities=MODALITIES, utilization=wanted)
    if kind == "early" and any(part.needs_encoders for part in parts_of(strategy)):
        with pytest.raises(ModelError, match=r"kind 'early' for \w+; wanted a network with an encoder for each"):
            _task(spec, strategy=strategy)
        return
    if names == "latent_surrogate":  # competitors have no part that guesses
        with pytest.raises(ModelError, match=f"kind '{kind}' without surrogate; wanted"):
            _task(spec, strategy=strategy)
        return
    task = _task(spec, strategy=strategy)
    (optimizer,) = [task.configure_optimizers()["optimizer"]]
    counted = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(item) for item in counted} == {id(item) for item in [*task.network.parameters(), *strategy.parameters()]}
    assert len(counted) == len(set(map(id, counted)))
    for progress in (0.0, 1.0):  # before and after a change of phase
        strategy.begin_epoch(task.network, progress=progress)
        batch = next(iter(_loader()))
        with task._seeded(0) as generator:
            available = strategy.available(batch["available"], generator=generator)
        features = strategy.adapt(task.network.encode(batch["image"], available=available), modalities=MODALITIES)
        logits = task.network.decode(task.network.fuse(features, available), size=features.size)
        step = Step(
            network=task.network, features=features, available=available, logits=logits, target=batch["mask"],
            criterion=task.loss, generator=torch.Generator().manual_seed(0), progress=progress,
        )  # fmt: skip
        loss = strategy.loss(step, task.loss(logits, batch["mask"]))
        loss.backward()
        strategy.gradients(task.network)
        assert bool(loss.isfinite())
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in task.network.parameters())


def test_encoders_of_another_rate_need_encoders():
    steered = build_strategy("mu_bounded", utilization=Utilization(depth="all", target={}), modalities=MODALITIES)
    with pytest.raises(ModelError, match=r"kind 'early' and encoders that learn at 0.2"):
        _task(replace(SPEC, kind="early"), strategy=steered)
    groups = _task(replace(SPEC, kind="i2m2"), strategy=steered).configure_optimizers()["optimizer"].param_groups
    assert [group["initial_lr"] for group in groups] == pytest.approx([1e-3, 2e-4])


def test_decision_layers_are_all_that_no_encoder_holds():
    for kind in ("late", "i2m2"):
        network = build_network(replace(SPEC, kind=kind))
        encoders = {id(part) for encoder in network.modality_encoders() for part in encoder.parameters()}
        decisions = {id(part) for layer in decision_layers(network) for part in layer.parameters()}
        assert encoders.isdisjoint(decisions)
        assert encoders | decisions == {id(part) for part in network.parameters()}


# what is told


class Wanting(Strategy):
    def targets(self):
        return {1: (0.2, 0.3)}


def test_targets_are_told_by_name_from_wherever_they_are():
    assert _task().targets() == {}
    assert _task(strategy=Composite([SubsetSampling(), Wanting()])).targets() == {"sar": (0.2, 0.3)}


def test_epochs_count_once_every_warm_up_is_over(tmp_path):
    found = []

    class Noting(L.Callback):
        def on_validation_end(self, trainer, pl_module):  # noqa: ARG002 (Lightning's signature)
            found.append(pl_module.settled)

    task = _task(total_steps=8, strategy=Composite([FrozenHead(0.5), Wanting()]))
    _trainer(tmp_path, 4, callbacks=[Noting()], num_sanity_val_steps=0).fit(task, _loader(), _loader())
    assert found == [False, False, True, True]


def test_steps_do_not_depend_on_or_disturb_the_global_stream():
    draws = []
    for start in (1, 2):
        task = _task()
        torch.manual_seed(start)
        state = torch.random.get_rng_state()
        with task._seeded(0) as generator:
            draws.append((torch.rand(3), torch.rand(3, generator=generator)))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    with _task(seed=1)._seeded(0) as other, _task()._seeded(1) as later:
        assert not torch.equal(torch.rand(3, generator=other), draws[0][1])
        assert not torch.equal(torch.rand(3, generator=later), draws[0][1])


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_training_learns_and_logs(tmp_path, kind):
    spec = NetworkSpec(**{**SPEC.to_dict(), "task": kind, "modalities": MODALITIES, "in_channels": (2, 1)})
    task = _task(spec, learning_rate=1e-2, total_steps=60)
    trainer = _trainer(tmp_path, 30, check_val_every_n_epoch=10)
    trainer.fit(task, _loader(task=kind), _loader(task=kind))
    logged = trainer.callback_metrics
    assert {"train_loss", "validation_loss", "validation_score"} <= set(logged)
    assert logged["validation_score"] > 0.9


def test_a_single_modality_network_reads_the_same_batches(tmp_path):
    task = _task(single_modality_spec(SPEC, "sar"), batch_modalities=MODALITIES)
    batch = next(iter(_loader()))
    assert task._present(batch).tolist() == [[False], [True], [True], [False]]
    _trainer(tmp_path, 1).fit(task, _loader(), _loader())
    with pytest.raises(ModelError, match="'sar'"):
        _task(batch_modalities=("eo",))


def test_absent_keys_mean_everything_is_there():
    batch = next(iter(_loader()))
    assert _task()._present({"image": batch["image"]}).all()


def test_scores_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    truth, guess = (torch.randint(0, 4, (200,), generator=generator) for _ in range(2))
    truth[truth == 2] = 0  # class 2 occurs in the guesses only
    counts = torch.from_numpy(confusion_matrix(truth, guess, labels=range(5)))
    expected = jaccard_score(truth, guess, labels=[0, 1, 3], average="macro")
    assert mean_iou(counts).item() == pytest.approx(expected)
    assert accuracy(counts).item() == pytest.approx((truth == guess).float().mean().item())


def test_ignored_pixels_are_not_counted():
    task = _task()
    target = torch.tensor([[0, 255, 2]])
    task.confusion.update(torch.tensor([[0, 1, 1]]), target)
    assert task.confusion.compute().sum() == 2


def test_schedule_warms_up_and_ends_at_zero():
    rates = [warm_cosine(step, total=100) for step in range(120)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[5] == 1
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[100:] == [0] * 20
    assert warm_cosine(0, total=1) == 1


def test_steps_are_counted():
    with pytest.raises(ModelError, match="0 total steps"):
        _task(total_steps=0)


def test_what_a_strategy_learns_itself_is_trained_beside_the_network(tmp_path):
    class Scale(Strategy):
        """Learns one number, of the width that the network has."""

        def attach(self, network):
            self.scale = torch.nn.Parameter(torch.ones(network.spec.decoder_channels[0]))

        def loss(self, step, loss):
            assert set(step.batch["image"]) == set(MODALITIES)
            return loss + self.scale.square().sum()

    scale = Scale()
    task = _task(strategy=Composite([SubsetSampling(), scale]))
    _trainer(tmp_path, 1).fit(task, _loader(), _loader())
    assert scale.scale.shape == (8,)
    assert (scale.scale < 1).all()
