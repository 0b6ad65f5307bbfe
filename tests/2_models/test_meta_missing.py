"""Meta step for missing modalities: closed forms, plain training at a step of 0, and a detector that is hidden from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_steps import fitted, same_tensors, task_of
from torch import nn

from equipoise.models.balancing.composite import Composite
from equipoise.models.balancing.exchange import kept_statistics
from equipoise.models.balancing.gradient_reversal import ramp, reversed_gradient
from equipoise.models.balancing.meta_missing import MetaMissing, PresenceDetector, detector_loss, moved_parameters
from equipoise.models.balancing.strategy import Step, Strategy
from equipoise.models.balancing.subset_sampling import SubsetSampling
from equipoise.models.baselines import build_network
from equipoise.models.errors import ModelError
from equipoise.models.features import Features
from equipoise.models.network import FusionUNet, NetworkSpec

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    # torch notes once that gradients of maps this small lie in memory in another order than the weights.
    pytest.mark.filterwarnings("ignore:.*gradient layout contract.*"),
]

NAMES = ("eo", "sar")
SPEC = NetworkSpec(modalities=NAMES, in_channels=(2, 1), classes=3, depth=2, decoder_channels=(8, 4))


def _batch(count=4, *, seed=0, task="segmentation", edge=8):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 3, (count, 1, 1), generator=generator).expand(-1, edge, edge).contiguous()
    noise = 0.3 * torch.randn(count, 3, edge, edge, generator=generator)
    available = torch.ones(count, 2, dtype=torch.bool)
    available[0, 1] = False
    return {
        "image": {"eo": mask[:, None] + noise[:, :2], "sar": 2.0 - mask[:, None] + noise[:, 2:]},
        "valid": {name: torch.ones(count, edge, edge, dtype=torch.bool) for name in NAMES}, "available": available,
        **({"mask": mask} if task == "segmentation" else {"label": mask[:, 0, 0]}),
    }  # fmt: skip


def _task(strategy, *, spec=SPEC, steps=8):
    return task_of(strategy, spec=spec, steps=steps)


def _fitted(folder, strategy, *, epochs=2, spec=SPEC, **options):
    batches = [_batch(seed=number, task=spec.task) for number in range(2)]
    return fitted(folder, strategy, batches, spec=spec, epochs=epochs, **options)


def _learned(task):
    """All that answers depend on; how often batch normalisation was called is no part of it."""
    return {name: value for name, value in task.network.state_dict().items() if "num_batches" not in name}


# gradient reversal


def test_reversed_gradient_by_hand():
    values = torch.tensor([1.0, 2.0, -3.0], requires_grad=True)
    passed = reversed_gradient(values, 0.5)
    assert torch.equal(passed, values)
    (passed.square() * torch.tensor([1.0, 10.0, 1.0])).sum().backward()
    # The gradient of sum w v^2 is 2 w v; half of it comes back, with the other sign.
    assert values.grad.tolist() == [-1.0, -20.0, 3.0]
    assert torch.autograd.grad(reversed_gradient(values, 0.0).sum(), values)[0].tolist() == [0.0, 0.0, 0.0]


def test_the_weight_rises_from_0():
    weights = [ramp(progress, most=0.3) for progress in (0.0, np.log(3) / 10, 0.5, 1.0)]
    assert weights[:2] == [0.0, pytest.approx(0.15)]
    assert weights == sorted(weights)
    assert weights[3] == pytest.approx(0.3, rel=1e-4)


# first order


class Line(nn.Module):
    """One number a modality: encoders scale it, fusion adds what is there, the head scales the sum."""

    modalities = NAMES

    def __init__(self):
        super().__init__()
        self.scales = nn.ModuleList([nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in NAMES])
        self.head = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        for layer, value in zip([*self.scales, self.head], (0.5, -1.5, 0.8), strict=True):
            nn.init.constant_(layer.weight, value)

    def modality_encoders(self):
        return list(self.scales)

    def encode(self, values):
        maps = {name: [scale(values[name])] for name, scale in zip(NAMES, self.scales, strict=True)}
        return Features(
            maps=maps, shares={name: [torch.ones(len(values[name]), 1, 1, 1)] for name in NAMES}, size=(1, 1)
        )

    def fuse(self, features, available):
        return [sum(features.maps[name][0] * available[:, [column]] for column, name in enumerate(NAMES))]

    def decode(self, fused, *, size):  # noqa: ARG002 (the protocol's)
        return self.head(fused[0])


def test_a_step_is_the_two_steps_by_hand():
    """The inner gradient of the head, the outer loss behind it, and gradients there that reach the old head."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2)), rng.normal(size=5)
    network, alpha, weight = Line(), 0.3, 0.7
    values = {name: torch.tensor(x[:, [column]]) for column, name in enumerate(NAMES)}
    features, available = network.encode(values), torch.ones(5, 2, dtype=torch.bool)
    target = torch.tensor(y[:, None])

    def criterion(found, wanted):
        return (found - wanted).square().mean()

    step = Step(
        network=network, features=features, available=available,
        logits=network.decode(network.fuse(features, available), size=(1, 1)), target=target, criterion=criterion,
        generator=torch.Generator().manual_seed(4), progress=0.5,
    )  # fmt: skip
    loss = MetaMissing(alpha=alpha, inner_weight=weight, adversary=0).loss(step, torch.tensor(torch.nan))
    loss.backward()

    shown = SubsetSampling().available(available, generator=torch.Generator().manual_seed(4)).numpy()
    assert 0 < shown.sum() < 10
    e, h = np.array([0.5, -1.5]), 0.8
    part, full = (x * shown) @ e, x @ e
    moved = h - alpha * np.mean(2 * (h * part - y) * part)
    outer, inner = moved * full - y, h * part - y
    assert float(loss.detach()) == pytest.approx(np.mean(outer**2) + weight * np.mean(inner**2), rel=1e-12)
    of_head = np.mean(2 * outer * full) + weight * np.mean(2 * inner * part)
    assert float(network.head.weight.grad) == pytest.approx(of_head, rel=1e-12)
    for column, scale in enumerate(network.scales):
        of_scale = np.mean(2 * outer * moved * x[:, column]) + weight * np.mean(2 * inner * h * (x * shown)[:, column])
        assert float(scale.weight.grad) == pytest.approx(of_scale, rel=1e-12)


def test_the_inner_step_moves_decision_layers_alone_and_nothing_that_is_frozen():
    network, batch = FusionUNet(replace(SPEC, fusion="gated")), _batch()
    network.head.requires_grad_(False)
    before = {name: value.clone() for name, value in network.named_parameters()}
    loss = network(batch["image"], available=batch["available"]).square().mean()
    moved = moved_parameters(network, loss, alpha=0.1)
    assert {name.split(".")[1] for name in moved} == {"fusion", "decoder"}
    assert all(not torch.equal(value, before[name.removeprefix("network.")]) for name, value in moved.items())
    assert same_tensors(dict(network.named_parameters()), before)


class FullAndPartial(Strategy):
    """Joint training on full and partial inputs, by hand."""

    def loss(self, step, loss):
        drawn = SubsetSampling().available(step.available, generator=step.generator)
        with kept_statistics(step.network):
            return loss + 0.5 * step.criterion(step.decode(drawn), step.target)


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, task="classification")], ids=["segmentation", "classification"])
def test_without_an_inner_step_it_is_joint_training_to_the_last_bit(tmp_path, spec):
    meta, _ = _fitted(tmp_path, MetaMissing(alpha=0, inner_weight=0.5, adversary=0), spec=spec)
    plain, _ = _fitted(tmp_path, FullAndPartial(), spec=spec)
    other, _ = _fitted(tmp_path, MetaMissing(alpha=0.5, inner_weight=0.5, adversary=0), spec=spec)
    assert same_tensors(_learned(meta), _learned(plain))
    assert not same_tensors(_learned(meta), _learned(other))


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_batch_normalisation_remembers_the_main_pass_alone(task):
    spec, batch = replace(SPEC, task=task), _batch(task=task)
    states = []
    for strategy in (Strategy(), MetaMissing()):
        done = _task(strategy, spec=spec)
        done.training_step(batch, 0)
        states.append({name: value for name, value in done.network.state_dict().items() if "running" in name})
    assert states[0]
    assert same_tensors(*states)


# what is absent


def _gradients(batch, **settings):
    task = _task(MetaMissing(**settings))
    task.training_step(batch, 0).backward()
    return {name: item.grad for name, item in task.named_parameters() if item.grad is not None}


@pytest.mark.parametrize("adversary", [0, 0.5])
def test_what_is_absent_changes_nothing(adversary):
    batch = _batch()
    batch["valid"]["sar"][1] = False
    first = _gradients(batch, adversary=adversary)
    batch["image"]["sar"][:2] = torch.nan
    second = _gradients(batch, adversary=adversary)
    assert first
    assert same_tensors(first, second)


def test_nothing_is_drawn_that_is_absent_or_hidden_by_another_strategy():
    seen = []

    class Noting(MetaMissing):
        def loss(self, step, loss):
            fuse = step.network.fuse
            step.network.fuse = lambda features, available: (seen.append(available.clone()), fuse(features, available))[
                1
            ]
            try:
                return super().loss(step, loss)
            finally:
                del step.network.fuse

    class NoSar(Strategy):
        def available(self, batch_available, *, generator):  # noqa: ARG002 (the protocol's)
            return batch_available & torch.tensor([True, False])

    batch = _batch()
    batch["valid"]["sar"][1] = False
    _task(Noting()).training_step(batch, 0)
    partial, full = seen
    assert torch.equal(full, batch["available"])
    assert partial.any(dim=1).all()
    assert not partial[:2, 1].any()
    seen.clear()
    _task(Composite([NoSar(), Noting()])).training_step(_batch(8), 0)
    assert all(not drawn[:, 1].any() for drawn in seen)


# the detector


def test_the_detector_is_asked_by_hand():
    logits = torch.tensor([[0.0, 5.0], [2.0, -1.0]])
    drawn = torch.tensor([[True, True], [True, False]])
    asked = torch.tensor([[False, False], [True, True]])
    # ln(1 + e^-2) and ln(1 + e^-1); the first sample is not asked about.
    assert float(detector_loss(logits, drawn, asked=asked)) == pytest.approx((0.126928 + 0.313262) / 2, abs=1e-6)


def test_the_detector_learns_and_what_is_below_it_unlearns(tmp_path):
    """Gradients of the detector's own loss: as they are above the reversal, turned round below it."""
    task, _ = _fitted(tmp_path, MetaMissing(adversary=1.0))
    fresh = _task(MetaMissing(adversary=1.0))
    learned, before = task.strategy.state_dict(), fresh.strategy.state_dict()
    assert learned.keys() == before.keys() != set()
    assert all(not torch.equal(value, before[name]) for name, value in learned.items())

    torch.manual_seed(1)
    detector, values = PresenceDetector(6, modalities=2), torch.randn(16, 6, requires_grad=True)
    drawn = torch.rand(16, 2) > 0.5
    found = []
    for given in (values, reversed_gradient(values, 0.25)):
        loss = detector_loss(detector(given), drawn, asked=torch.ones_like(drawn))
        found.append(torch.autograd.grad(loss, [values, *detector.parameters()]))
    torch.testing.assert_close(found[1][0], -0.25 * found[0][0])
    for plain, turned in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(plain, turned)


def test_at_the_beginning_the_detector_teaches_the_network_nothing():
    with_, without = _gradients(_batch(), adversary=1.0), _gradients(_batch(), adversary=0)
    assert {name for name in with_ if name not in without} == {name for name in with_ if name.startswith("strategy")}
    assert same_tensors(without, with_)


@pytest.mark.parametrize("kind", ["late", "i2m2"])
def test_where_answers_are_joined_there_is_no_detector(kind):
    task = _task(MetaMissing(), spec=replace(SPEC, kind=kind))
    assert list(task.strategy.parameters()) == []
    assert bool(task.training_step(_batch(), 0).isfinite())


def test_where_each_sample_has_one_modality_there_is_nothing_to_hide():
    batch = _batch()
    batch["available"][:, 1] = False
    assert not any(name.startswith("strategy") for name in _gradients(batch, adversary=1.0))
    single = replace(SPEC, modalities=("eo",), in_channels=(2,))
    assert MetaMissing(adversary=1.0).detector is None
    strategy = MetaMissing(adversary=1.0)
    strategy.attach(build_network(single))
    assert strategy.detector is None


# training


def test_resumed_equals_uninterrupted_to_the_bit(tmp_path):
    whole, _ = _fitted(tmp_path, MetaMissing(), epochs=3)
    _, trainer = _fitted(tmp_path, MetaMissing(), epochs=1)
    trainer.save_checkpoint(tmp_path / "epoch.ckpt")
    torch.manual_seed(999)
    resumed, _ = _fitted(tmp_path, MetaMissing(), epochs=3, ckpt_path=tmp_path / "epoch.ckpt")
    assert any(name.startswith("strategy.detector") for name in whole.state_dict())
    assert same_tensors(resumed.state_dict(), whole.state_dict())


def _trained(strategy, *, steps=80):
    """Train on a small scene; both sensors show the class."""
    spec = replace(SPEC, decoder_channels=(16, 8), norm="layer")
    task = _task(strategy, spec=spec, steps=steps)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for number in range(steps):
        batch = _batch(16, seed=number)
        loss = task.training_step(batch, number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task.network.eval()


def test_every_subset_learns_the_task():
    network, test = _trained(MetaMissing()), _batch(32, seed=999)
    for subset in ([True, False], [False, True], [True, True]):
        shown = torch.tensor(subset).expand(32, 2)
        with torch.inference_mode():
            right = network(test["image"], available=shown).argmax(dim=1) == test["mask"]
        assert float(right.float().mean()) > 0.9, subset


@pytest.mark.parametrize("name", ["alpha", "inner_weight", "adversary"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ModelError, match=name):
        MetaMissing(**{name: value})
