"""Consistency: closed forms, what is pulled and what is not, and that a hidden sensor costs less afterwards."""

from dataclasses import replace

import pytest
import torch
from fake_steps import NAMES, SPEC, batch_of, step_of

from equipoise.models.balancing import STRATEGIES, TEACH_SUBSETS, build_strategy
from equipoise.models.balancing.consistency import Consistency, divergence
from equipoise.models.balancing.subset_sampling import SubsetSampling
from equipoise.models.errors import ModelError
from equipoise.models.losses import IGNORE
from equipoise.models.network import FusionUNet

#: torch notes once that gradients of maps this small lie in memory in another order than the weights.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient layout contract.*")


@pytest.fixture(params=["segmentation", "classification"])
def network(request):
    torch.manual_seed(0)
    return FusionUNet(replace(SPEC, task=request.param, norm="layer")).train()


def _drawn(step):
    """What the strategy will hide, from a generator in the same state."""
    generator = torch.Generator()
    generator.set_state(step.generator.get_state())
    return SubsetSampling().available(step.available, generator=generator)


def test_divergence_by_hand():
    logits = torch.tensor([[[0.0, 2.0]], [[0.0, 0.0]]]).movedim(1, 2).double()  # (2, 2, 1): class, then place
    wanted = torch.tensor([[[4.0, 0.0]], [[0.0, 0.0]]]).movedim(1, 2).double()
    p = torch.softmax(torch.tensor([2.0, 0.0]).double(), 0)
    q = torch.softmax(torch.tensor([0.0, 1.0]).double(), 0)
    expected = 4 * float((p * (p / q).log()).sum())
    usable = torch.tensor([[1.0], [0.0]]).double()
    assert float(divergence(logits, wanted, temperature=2.0, usable=usable)) == pytest.approx(expected)
    usable = torch.tensor([[1.0], [1.0]]).double()
    assert float(divergence(logits, wanted, temperature=2.0, usable=usable)) == pytest.approx(expected / 2)
    assert float(divergence(logits, wanted, temperature=2.0, usable=0 * usable)) == 0


def test_the_loss_is_the_sum_that_is_documented(network):
    step = step_of(network, seed=3)
    loss = step.criterion(step.logits, step.target)
    drawn = _drawn(step)
    rows = (~drawn).any(dim=1).nonzero().flatten()
    assert 0 < len(rows) < len(drawn)
    found = Consistency(partial=0.5, weight=0.25, temperature=2.0).loss(step, loss)
    logits = step.decode(drawn[rows], features=step.features.of(rows))
    usable = torch.ones_like(logits[:, 0])
    wanted = step.logits[rows].detach()
    expected = loss + 0.5 * step.criterion(logits, step.target[rows])
    expected = expected + 0.25 * divergence(logits, wanted, temperature=2.0, usable=usable)
    torch.testing.assert_close(found, expected)


def test_the_full_answer_is_not_pulled(network):
    """With the divergence alone, the gradient that reaches the full pass's logits is nothing."""
    step = step_of(network, seed=3)
    logits = step.logits.detach().requires_grad_()
    found = Consistency(partial=0).loss(replace(step, logits=logits), step.logits.new_zeros(()))
    assert found > 0
    found.backward()
    assert logits.grad is None


def test_places_without_a_label_are_pulled_and_those_that_nothing_saw_are_not():
    torch.manual_seed(0)
    network = FusionUNet(replace(SPEC, norm="layer")).train()
    step = step_of(network, seed=3)
    bare = replace(step, target=torch.full_like(step.target, IGNORE))
    nothing = step.logits.new_zeros(())
    assert Consistency(partial=0).loss(bare, nothing) > 0
    hidden = {name: torch.zeros(8, 8, 8, dtype=torch.bool) for name in NAMES}
    step = replace(step_of(network, seed=3), batch={"valid": hidden})
    assert Consistency(partial=0).loss(step, nothing) == 0


@pytest.mark.parametrize("settings", [{"partial": 0, "weight": 0}, {}])
def test_one_sensor_has_nothing_to_hide(network, settings):
    available = torch.tensor([[True, False]] * 8) if not settings else None
    step = step_of(network, available=available)
    loss = step.criterion(step.logits, step.target)
    assert Consistency(**settings).loss(step, loss) is loss


def test_what_is_absent_in_the_data_stays_absent(network):
    image, target = batch_of(task=network.spec.task)
    available = torch.tensor([[True, True], [False, True]] * 4)
    losses = []
    for value in (0.0, float("nan")):
        image["eo"][1::2] = value
        step = step_of(network, image=image, target=target, available=available, seed=3)
        losses.append(Consistency().loss(step, step.criterion(step.logits, step.target)))
    assert torch.equal(*losses)
    assert losses[0].isfinite()


def test_settings_out_of_range_are_refused():
    for settings in ({"partial": -1}, {"weight": float("inf")}, {"temperature": 0}):
        with pytest.raises(ModelError):
            Consistency(**settings)


def test_a_hidden_sensor_costs_less_than_after_plain_training():
    right = {}
    for name in ("joint", "consistency"):
        torch.manual_seed(1)
        network = FusionUNet(replace(SPEC, norm="layer")).train()
        strategy = build_strategy(name, modalities=NAMES)
        optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
        for number in range(60):
            image, target = batch_of(seed=number)
            image["eo"] = target[:, None].float().expand(-1, 2, -1, -1).clone()  # one look at eo is enough
            step = step_of(network, image=image, target=target, seed=number)
            optimizer.zero_grad()
            strategy.loss(step, step.criterion(step.logits, step.target)).backward()
            optimizer.step()
        image, target = batch_of(64, seed=999)
        alone = torch.tensor([[False, True]] * 64)
        with torch.inference_mode():
            right[name] = float((network.eval()(image, available=alone).argmax(dim=1) == target).float().mean())
    assert right["consistency"] > right["joint"] + 0.1


def test_it_teaches_subsets():
    assert "consistency" in TEACH_SUBSETS
    assert set(STRATEGIES) >= TEACH_SUBSETS
