"""Strategies that change loss and gradients: against hand-computed values, and that they do what they are for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_steps import NAMES, SPEC, batch_of, step_of
from scipy.stats import chisquare

from equipoise.models.balancing import Utilization, build_strategy
from equipoise.models.balancing.composite import Composite
from equipoise.models.balancing.exchange import holders, kept_statistics, rise
from equipoise.models.balancing.frozen_head import FrozenHead, decision_layers
from equipoise.models.balancing.inverse_reliance import InverseReliance
from equipoise.models.balancing.mmpareto import MMPareto, joined_direction
from equipoise.models.balancing.mu_bounded import MuBounded
from equipoise.models.balancing.mu_legacy import MuLegacy
from equipoise.models.balancing.ogm_ge import OgmGe
from equipoise.models.balancing.share_target import ShareTarget
from equipoise.models.balancing.share_watch import ShareWatch
from equipoise.models.balancing.unimodal import alone, unimodal_losses
from equipoise.models.coalitions import coalitions, shapley_values
from equipoise.models.errors import ModelError
from equipoise.models.evaluation import evaluating
from equipoise.models.losses import IGNORE
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.scores import brier_score, cross_entropy_score

#: torch notes once that gradients of maps this small lie in memory in another order than the weights.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient layout contract.*")


@pytest.fixture(params=["segmentation", "classification"])
def network(request):
    torch.manual_seed(0)
    return FusionUNet(replace(SPEC, task=request.param)).train()


def train(names, *, steps=120, utilization=None, seed=0):
    """A short training by hand; returns the strategy and the shares that it watches at the end."""
    torch.manual_seed(seed)
    network = FusionUNet(SPEC).train()
    strategy = build_strategy(names, modalities=NAMES, utilization=utilization)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for number in range(steps):
        image, target = batch_of(16, seed=number)
        step = step_of(network, image=image, target=target, seed=number, progress=number / steps)
        loss = strategy.loss(step, step.criterion(step.logits, step.target))
        optimiser.zero_grad()
        loss.backward()
        strategy.gradients(network)
        optimiser.step()
    watch = ShareWatch(NAMES, kinds=frozenset({"share"}), seed=0)
    with torch.no_grad(), evaluating(network):
        for number in range(6):
            image, target = batch_of(32, seed=10_000 + number)
            step = step_of(network, image=image, target=target)
            watch.update(network, step.features, available=step.available, logits=step.logits, target=step.target)
    return strategy, watch.compute()["share"]


# the exchange


def test_a_rise_is_that_of_the_rolled_images(network):
    """Oracle: the images themselves rolled and encoded anew, in evaluation mode, where samples do not mix."""
    network.eval()
    step, rows = step_of(network), torch.tensor([0, 2, 3, 6, 7])
    found = rise(step, 1, rows, score=brier_score, detached=True)
    generator = torch.Generator().manual_seed(0)
    shift = 1 + int(torch.randint(4, (1,), generator=generator))
    image, target = batch_of(task=network.spec.task)
    mixed = {"eo": image["eo"][rows], "sar": image["sar"][rows.roll(-shift)]}
    expected = brier_score(network(mixed), target[rows]) - brier_score(network(image), target)[rows]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("detached", [True, False])
def test_a_rise_teaches_encoders_only_where_it_may(network, detached):
    rise(step_of(network), 0, torch.arange(8), score=brier_score, detached=detached).mean().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in network.head.parameters())
    reached = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in network.encoders.parameters()]
    assert any(reached) != detached


def test_extra_passes_leave_no_trace_in_the_statistics(network):
    step = step_of(network)
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    rise(step, 0, torch.arange(8), score=brier_score, detached=True)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    with kept_statistics(network):
        pass
    momenta = {part.momentum for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)}
    assert momenta == {0.1}


def test_only_holders_are_drawn():
    available = torch.tensor([[1, 0], [1, 1], [1, 1], [0, 1], [1, 1]]).bool()
    generator = torch.Generator().manual_seed(0)
    assert holders(available, 1, most=None, generator=generator).tolist() == [1, 2, 3, 4]
    drawn = [tuple(holders(available, 1, most=2, generator=generator).tolist()) for _ in range(200)]
    assert len(set(drawn)) == 6
    assert all(first < second for first, second in drawn)


def test_every_part_gets_its_own_mode_back(network):
    network.encoders.eval()
    with evaluating(network):
        assert not any(part.training for part in network.modules())
    assert network.training
    assert not any(part.training for part in network.encoders.modules())


# unimodal passes


def test_unimodal_losses_are_those_of_the_samples_that_have_the_modality(network):
    network.eval()
    available = torch.tensor([[1, 1]] * 5 + [[1, 0]] * 3).bool()
    step = step_of(network, available=available)
    found = dict(unimodal_losses(step))
    image, target = batch_of(task=network.spec.task)
    only = network({name: data[:5] for name, data in image.items()}, available=torch.tensor([[False, True]] * 5))
    torch.testing.assert_close(found[1], step.criterion(only, target[:5]))
    nobody = step_of(network, available=torch.tensor([[True, False]] * 8))
    assert dict(unimodal_losses(nobody)).keys() == {0}


# frozen head


def test_encoders_stand_still_after_the_first_phase_and_decision_layers_start_again():
    torch.manual_seed(0)
    network, strategy = FusionUNet(SPEC).train(), FrozenHead(0.5)
    strategy.begin_epoch(network, progress=0.2)
    step = step_of(network)
    alone_loss = torch.stack([loss for _, loss in unimodal_losses(step)]).mean()
    torch.testing.assert_close(strategy.loss(step, torch.tensor(9.0)), alone_loss)
    assert strategy.observe({}) == 1
    before = {name: value.clone() for name, value in network.state_dict().items()}
    strategy.begin_epoch(network, progress=0.5)
    changed = {
        name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"decoder", "head"}
    assert not any(parameter.requires_grad for parameter in network.encoders.parameters())
    assert not any(part.training for encoder in network.encoders for part in encoder.modules())
    assert float(strategy.loss(step, torch.tensor(9.0))) == 9
    assert strategy.observe({}) == 0
    after = {name: value.clone() for name, value in network.state_dict().items()}
    strategy.begin_epoch(network, progress=0.8)
    assert all(torch.equal(value, after[name]) for name, value in network.state_dict().items())
    assert all(part is not network.encoders for part in decision_layers(network))


# utilization


def test_the_legacy_share_is_that_of_three_passes(network):
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(8):  # until it relies on something
        step = step_of(network)
        optimiser.zero_grad()
        step.criterion(step.logits, step.target).backward()
        optimiser.step()
    network.eval()
    target = ShareTarget(low=(0.7, 0.0), high=(0.8, 1.0))
    strategy = MuLegacy(target, start=0.0, most=2.0, first=0.5, growth=1.0)
    step = step_of(network, progress=0.5)
    found = strategy.loss(step, torch.tensor(1.0))
    generator, image = torch.Generator().manual_seed(0), batch_of(task=network.spec.task)[0]
    base = cross_entropy_score(network(image), step.target).mean()
    rises = []
    for name in NAMES:
        order = torch.randperm(8, generator=generator)
        rises.append(cross_entropy_score(network({**image, name: image[name][order]}), step.target).mean() - base)
    share = float((rises[0] / sum(rises)).detach())
    assert float(found.detach()) == pytest.approx(1.0 + 0.5 * np.exp(0.5) * abs(share - 0.75), rel=1e-5)
    assert strategy.figures()["legacy_share"] == pytest.approx(share, abs=1e-5)


def test_the_legacy_recipe_has_one_focus():
    with pytest.raises(ModelError, match=r"2 modalities.*one for `mu_legacy`"):
        MuLegacy(ShareTarget(low=(0.5, 0.4), high=(0.6, 0.5)))


def test_bounded_targets_move_the_shares_where_joint_training_does_not():
    _, plain = train("joint")
    strategy, low = train("mu_bounded", utilization=Utilization(target={"eo": 0.25}, fraction=1.0))
    _, high = train("mu_bounded", utilization=Utilization(target={"sar": (0.0, 0.1)}, fraction=1.0))
    assert low[0] < plain[0] - 0.15 < plain[0] + 0.05 < high[0]
    assert (strategy.control.effort >= 0).all()
    assert strategy.observe({"share": [0.5, 0.5]}) == pytest.approx(0.24)


@pytest.mark.parametrize(("task", "exchanged"), [("segmentation", 2), ("classification", 8)])
def test_a_quarter_of_a_batch_is_exchanged_where_pixels_are_many(task, exchanged):
    network = FusionUNet(NetworkSpec.from_dict({**SPEC.to_dict(), "task": task}))
    assert build_strategy("mu_bounded", modalities=NAMES)._portion(step_of(network), 8) == exchanged


def test_targets_are_approached_from_the_shares_that_were_there(monkeypatch):
    strategy = MuBounded(ShareTarget(low=(0.2, 0.0), high=(0.2, 1.0)), warm_up=0.1)
    asked = []
    monkeypatch.setattr(strategy.control, "press", lambda _condition, allowed: asked.append(float(allowed[0])))
    strategy.control.measure({(0, 0): 0.3, (0, 1): 0.1})
    for progress in (0.1, 0.25, 0.4, 1.0):
        strategy._steer(0, progress=progress)
    assert asked == pytest.approx([0.75, 0.475, 0.2, 0.2])
    resumed = MuBounded(strategy.target, warm_up=0.1)
    resumed.load_state_dict(strategy.state_dict())
    assert resumed.begun[0].tolist() == pytest.approx([0.75, 0.25])


def test_a_range_that_is_kept_asks_for_nothing(monkeypatch):
    strategy = MuBounded(ShareTarget(low=(0.5, 0.0), high=(0.8, 1.0)), warm_up=0.1)
    monkeypatch.setattr(strategy.control, "press", lambda _condition, allowed: asked.append(float(allowed[0])))
    asked = []
    strategy.control.measure({(0, 0): 0.3, (0, 1): 0.1})
    for progress in (0.1, 0.25, 1.0):
        strategy._steer(0, progress=progress)
    assert asked == pytest.approx([0.75] * 3)


def test_what_is_not_pressed_needs_no_gradient(network):
    strategy = build_strategy("mu_bounded", modalities=NAMES)
    step, rows = step_of(network), torch.arange(8)
    free, pressed = (strategy._reliance(step, 0, rows, pressed=flag) for flag in (False, True))
    assert (free.requires_grad, pressed.requires_grad) == (False, True)
    assert not strategy._pressed(0, 0)
    strategy.control.effort[0, 0] = 0.1
    assert strategy._pressed(0, 0)


def test_chips_are_watched_with_every_partner_where_they_are_few():
    torch.manual_seed(0)
    network = FusionUNet(replace(SPEC, task="classification")).eval()
    image, target = batch_of(4, task="classification")
    watch = ShareWatch(NAMES, kinds=frozenset({"share"}), seed=0)
    with torch.no_grad():
        step = step_of(network, image=image, target=target)
        watch.update(network, step.features, available=step.available, logits=step.logits, target=step.target)
        base = brier_score(network(image), target)
        rises = [
            sum(
                (brier_score(network(image | {name: image[name].roll(-shift, dims=0)}), target) - base).sum()
                for shift in (1, 2, 3)
            )
            for name in NAMES
        ]
    assert watch.rises.tolist() == pytest.approx([float(rise) for rise in rises], abs=1e-5)
    assert watch.pairs.tolist() == [12.0] * len(NAMES)


def test_no_target_is_no_pressure():
    torch.manual_seed(0)
    network = FusionUNet(SPEC).train()
    strategy = build_strategy("mu_bounded", modalities=NAMES, utilization=Utilization())
    step = step_of(network, progress=0.9)
    loss = step.criterion(step.logits, step.target)
    for _ in range(3):
        assert strategy.loss(step, loss) is loss


def test_matched_targets_are_the_information_of_each_condition():
    torch.manual_seed(0)
    network = FusionUNet(SPEC).train()
    strategy = build_strategy("mu_matched", modalities=NAMES, utilization=Utilization(fraction=1.0))
    condition = torch.tensor([0, 0, 0, 0, 3, 3, 3, 99])
    step = step_of(network, condition=condition)
    strategy.loss(step, torch.tensor(1.0))
    assert (strategy.counted[:, 0] > 0).nonzero().flatten().tolist() == [0, 3]
    with torch.no_grad(), evaluating(network):
        rows = torch.tensor([4, 5, 6])
        values = torch.stack(
            [
                -brier_score(step.decode(step.available[rows] & s, features=step.features.of(rows)), step.target[rows])
                .double()
                .mean()
                for s in coalitions(2)
            ]
        )
    torch.testing.assert_close(strategy.information[3], shapley_values(values, members=2))


# gradients


def test_pareto_directions_against_a_search_over_the_hull():
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        fused, single = torch.randn(6, generator=generator), torch.randn(6, generator=generator)
        found = joined_direction(fused, single, stretch=1.5)
        if torch.dot(fused, single) >= 0:
            torch.testing.assert_close(found, fused + single)
            continue
        weights = torch.linspace(0, 1, 100_001)[:, None]
        hull = weights * fused + (1 - weights) * single
        smallest = hull[hull.norm(dim=1).argmin()]
        torch.testing.assert_close(found / found.norm(), smallest / smallest.norm(), atol=1e-3, rtol=0)
        assert float(found.norm()) == pytest.approx(1.5 * float((fused + single).norm()), rel=1e-5)
        # No conflict is left: neither loss rises along it.
        assert torch.dot(found, fused) > -1e-5
        assert torch.dot(found, single) > -1e-5


def test_pareto_gives_the_encoders_their_direction_and_the_rest_the_sum(network):
    network.eval()  # sums of gradients are compared: the statistics of a batch must not differ between passes
    strategy, step = MMPareto(), step_of(network)
    loss = step.criterion(step.logits, step.target)
    losses = [loss, *(own for _, own in unimodal_losses(step))]
    head = torch.autograd.grad(sum(losses), list(network.head.parameters()), retain_graph=True)
    first = next(parameter for parameter in network.encoders[0].parameters())
    total = strategy.loss(step, loss)
    total.backward()
    strategy.gradients(network)
    torch.testing.assert_close([parameter.grad for parameter in network.head.parameters()], list(head))
    fused, single = (torch.cat([g.flatten() for g in torch.autograd.grad(
        x, list(network.encoders[0].parameters()), retain_graph=True, allow_unused=True) if g is not None])
        for x in _again(step))  # fmt: skip
    expected = joined_direction(fused, single, stretch=1.5)[: first.numel()]
    torch.testing.assert_close(first.grad.flatten(), expected, rtol=1e-3, atol=1e-5)


def _again(step):
    """Fused and optical loss of the same batch on a new graph."""
    network = step.network
    image, _ = batch_of(task=network.spec.task)
    renewed = step_of(network, image=image, target=step.target)
    return step.criterion(renewed.logits, step.target), dict(unimodal_losses(renewed))[0]


def test_the_modality_that_is_ahead_is_slowed_down(network):
    network.eval()
    strategy, step = OgmGe(2, alpha=0.5, noise=False), step_of(network)
    loss = step.criterion(step.logits, step.target)
    strategy.loss(step, loss).backward()
    sure = [1 - float(brier_score(alone(step, m)[1], step.target).mean().detach()) for m in range(2)]
    leader = int(np.argmax(sure))
    factor = 1 - np.tanh(0.5 * sure[leader] / sure[1 - leader])
    assert strategy.factors.tolist() == pytest.approx([factor if m == leader else 1.0 for m in range(2)], rel=1e-5)
    before = [[p.grad.clone() for p in e.parameters() if p.grad is not None] for e in network.encoders]
    strategy.gradients(network)
    for column, encoder in enumerate(network.encoders):
        after = [p.grad for p in encoder.parameters() if p.grad is not None]
        for old, new in zip(before[column], after, strict=True):
            torch.testing.assert_close(new, old * strategy.factors[column].to(old))


# sampling


def test_the_weaker_modality_is_alone_more_often():
    strategy = InverseReliance(2, alone=1.0)
    strategy.strength.copy_(torch.tensor([0.8, 0.2]))
    rows = torch.ones(5000, 2, dtype=torch.bool)
    seen = strategy.available(rows, generator=torch.Generator().manual_seed(0))
    assert (seen.sum(dim=1) == 1).all()
    counts = seen.sum(dim=0).numpy()
    # Fixed seed: the probability bound says that this draw is ordinary.
    assert chisquare(counts, [1000, 4000]).pvalue > 0.01


def test_strength_follows_what_single_modalities_achieve(network):
    strategy = InverseReliance(2)
    step = step_of(network, available=torch.tensor([[True, False]] * 4 + [[True, True]] * 4))
    strategy.loss(step, torch.tensor(1.0))
    score = 1 - float(brier_score(step.logits.detach(), step.target)[:4].mean())
    assert strategy.strength.tolist() == pytest.approx([1 + 0.05 * (score - 1), 1.0], rel=1e-5)


# together


def test_parts_work_one_after_the_other():
    strategy = build_strategy(
        ["subset_sampling", "mu_bounded"], modalities=NAMES, utilization=Utilization(target={"eo": 0.5})
    )
    assert isinstance(strategy, Composite)
    assert strategy.watches == {"share"}
    seen = strategy.available(torch.ones(64, 2, dtype=torch.bool), generator=torch.Generator().manual_seed(0))
    assert 0 < int((seen.sum(dim=1) == 1).sum()) < 64
    assert strategy.observe({"share": [0.6, 0.4]}) == pytest.approx(0.09)


def test_a_step_without_labels_or_partners_is_survived(network):
    for names in (
        "mu_bounded",
        "mu_matched",
        "ogm_ge",
        "mmpareto",
        "inverse_reliance",
        "frozen_head",
        "auxiliary",
        "greedy",
    ):
        strategy = build_strategy(names, modalities=NAMES, utilization=Utilization(target={"eo": 0.3}))
        image, target = batch_of(task=network.spec.task)
        step = step_of(network, image=image, target=torch.full_like(target, IGNORE), progress=0.9)
        loss = strategy.loss(step, step.criterion(step.logits, step.target))
        loss.backward()
        strategy.gradients(network)
        assert bool(loss.isfinite()), names
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in network.parameters()), names
        one = {name: data[:2] for name, data in image.items()}
        lonely = step_of(network, image=one, target=target[:2], available=torch.eye(2).bool(), progress=0.9)
        assert bool(strategy.loss(lonely, lonely.criterion(lonely.logits, lonely.target)).isfinite()), names


# greedy


def test_the_lagging_modality_is_left_alone_for_some_steps(network):
    strategy = build_strategy("greedy", modalities=NAMES)
    strategy.begin_epoch(network, progress=0.5)
    step = step_of(network)
    features = strategy.adapt(step.features, modalities=NAMES)
    assert features is step.features
    network.zero_grad()
    step.criterion(step.logits, step.target).backward()
    for parameter in network.encoders[0].parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(10)  # a hundred times the speed: the other one lags
    strategy.gradients(network)
    assert (int(strategy.left), int(strategy.lagging)) == (5, 1)
    changed = strategy.adapt(step.features, modalities=NAMES)
    assert changed.maps["sar"] is step.features.maps["sar"]
    for old, new, share in zip(step.features.maps["eo"], changed.maps["eo"], step.features.shares["eo"], strict=True):
        expected = (old.detach() * share).sum(dim=(0, 2, 3)) / share.sum()
        torch.testing.assert_close(new, expected[None, :, None, None].expand_as(old))
    before = strategy.speed.steps.clone()
    for _ in range(5):
        strategy.gradients(network)
    assert int(strategy.left) == 0
    assert strategy.speed.steps == before
    other = build_strategy("greedy", modalities=NAMES)
    other.load_state_dict(strategy.state_dict())
    torch.testing.assert_close(other.means, strategy.means)
