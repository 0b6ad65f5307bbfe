"""Explanation erasing: what is salient is found and hidden, the more the further a share is above what is allowed."""

from dataclasses import replace

import pytest
import torch
from fake_steps import NAMES, SPEC, step_of

from equipoise.models.balancing import Utilization, build_strategy
from equipoise.models.balancing.explanation_erasing import ExplanationErasing, erase
from equipoise.models.balancing.saliency import feature_saliency, most_salient
from equipoise.models.balancing.share_target import ShareTarget
from equipoise.models.errors import ModelError
from equipoise.models.losses import IGNORE
from equipoise.models.network import FusionUNet

#: torch notes once that gradients of maps this small lie in memory in another order than the weights.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient layout contract.*")

FREE = ShareTarget(low=(0.0, 0.0), high=(1.0, 1.0))
HALF = ShareTarget(low=(0.4, 0.0), high=(0.5, 1.0))


@pytest.fixture(params=["segmentation", "classification"])
def network(request):
    torch.manual_seed(0)
    return FusionUNet(replace(SPEC, task=request.param)).train()


def _erasing(target=HALF, erased=(0.0, 0.0)):
    strategy = ExplanationErasing(target)
    strategy.erased.copy_(torch.tensor(erased, dtype=torch.float64))
    return strategy


# saliency


def test_saliency_of_a_linear_answer_is_known():
    """Of logits that are sums over one modality's channels, it is the feature itself times 1 - p of the class."""
    torch.manual_seed(0)
    step = step_of(FusionUNet(replace(SPEC, task="classification")).train())
    maps = {name: [value.detach().requires_grad_() for value in step.features.maps[name]] for name in NAMES}
    total = maps["eo"][-1].sum(dim=(1, 2, 3))
    logits = torch.stack([total, torch.zeros_like(total), torch.zeros_like(total)], dim=1)
    target = torch.zeros_like(step.target)
    linear = replace(step, features=replace(step.features, maps=maps), logits=logits, target=target)
    eo, sar = feature_saliency(linear)
    rest = 1 - logits.softmax(dim=1)[:, 0]
    expected = (maps["eo"][-1].sum(dim=1) * rest[:, None, None]).abs()
    torch.testing.assert_close(eo, expected.detach())
    assert sar is None


def test_a_modality_that_is_absent_or_ignored_is_not_salient(network):
    available = torch.tensor([[True, True], [True, False]] * 4)
    step = step_of(network, available=available)
    eo, sar = feature_saliency(step)
    assert (eo > 0).any()
    assert not sar[1::2].any()
    assert (sar[::2] > 0).any()


def test_without_a_label_the_predicted_class_is_explained(network):
    step = step_of(network)
    bare = feature_saliency(replace(step, target=torch.full_like(step.target, IGNORE)))
    named = feature_saliency(replace(step, target=step.logits.argmax(dim=1)))
    for one, other in zip(bare, named, strict=True):
        torch.testing.assert_close(one, other)


def test_saliency_leaves_the_history_of_the_answer_for_the_loss(network):
    step = step_of(network)
    feature_saliency(step)
    step.criterion(step.logits, step.target).backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


def test_the_most_salient_cells_are_those_of_the_highest_values():
    saliency = torch.tensor([[[4.0, 1.0], [3.0, 2.0]], [[1.0, 1.0], [1.0, 9.0]]])
    seen = torch.tensor([[[True, True], [True, True]], [[True, True], [True, False]]])
    found = most_salient(saliency, seen, fraction=0.5)
    assert found[0].tolist() == [[True, False], [True, False]]
    assert found[1].tolist() == [[True, True], [False, False]], "two of three, the first of equal ones"
    assert not most_salient(saliency, seen, fraction=0.0).any()
    assert torch.equal(most_salient(saliency, seen, fraction=1.0), seen)


# erasing


def test_what_is_erased_counts_as_not_observed_at_every_scale(network):
    step = step_of(network)
    changed = erase(step, [0.5, 0.0])
    for before, after in zip(step.features.shares["eo"], changed.shares["eo"], strict=True):
        assert float(after.mean()) == pytest.approx(0.5 * float(before.mean()), abs=0.01)
        assert set(after.unique().tolist()) <= {0.0, *before.unique().tolist()}
    assert changed.shares["sar"] == step.features.shares["sar"]
    salient, _ = feature_saliency(step)
    hidden = changed.shares["eo"][-1][:, 0] == 0
    for values, gone in zip(salient, hidden, strict=True):
        assert values[gone].min() >= values[~gone].max() - 1e-12


def test_nothing_is_added_while_nothing_is_erased(network):
    for strategy, progress in ((_erasing(), 0.5), (_erasing(erased=(0.5, 0.0)), 0.05)):
        step = step_of(network, progress=progress)
        loss = step.criterion(step.logits, step.target)
        assert strategy.loss(step, loss) is loss


def test_the_second_loss_is_that_of_the_erased_features(network):
    step = step_of(network)
    loss = step.criterion(step.logits, step.target)
    found = _erasing(erased=(0.5, 0.0)).loss(step, loss)
    rest = step.criterion(step.decode(step.available, features=erase(step, [0.5, 0.0])), step.target)
    torch.testing.assert_close(found, loss + rest)
    found.backward()
    assert all(item.grad is not None for item in network.encoders[0].parameters() if item.requires_grad)


# control


def test_more_is_erased_above_the_range_and_less_below_it():
    strategy = _erasing()
    assert strategy.observe({"share": [0.8, 0.2]}) == pytest.approx(0.3)
    assert strategy.erased.tolist() == pytest.approx([0.3, 0.0])
    strategy.observe({"share": [0.6, 0.4]})
    assert strategy.erased.tolist() == pytest.approx([0.4, 0.0])
    assert strategy.observe({"share": [0.45, 0.55]}) == 0
    assert strategy.erased.tolist() == pytest.approx([0.4, 0.0]), "inside the range it stays"
    strategy.observe({"share": [0.2, 0.8]})
    assert strategy.erased.tolist() == pytest.approx([0.2, 0.2])
    for _ in range(9):
        strategy.observe({"share": [1.0, 0.0]})
    assert strategy.erased.tolist() == pytest.approx([0.8, 0.0])


def test_without_a_target_shares_are_held_against_the_information():
    strategy = _erasing(FREE)
    assert strategy.watches == {"share", "information"}
    assert strategy.observe({"share": [0.8, 0.2], "information": [0.6, 0.4]}) == 0
    assert strategy.erased.tolist() == pytest.approx([0.2, 0.0])
    assert strategy.targets() == {}


def test_what_cannot_be_told_changes_nothing():
    strategy = _erasing(erased=(0.3, 0.0))
    assert strategy.observe({}) == 0
    assert strategy.erased.tolist() == [0.3, 0.0]


def test_it_is_chosen_by_name_with_the_target_of_the_configuration():
    strategy = build_strategy(
        "explanation_erasing", modalities=NAMES, utilization=Utilization(target={"eo": 0.5}, tolerance=0.02)
    )
    assert strategy.targets()[0] == pytest.approx((0.49, 0.51))
    assert strategy.watches == {"share"}
    restored = build_strategy("explanation_erasing", modalities=NAMES, utilization=Utilization(target={"eo": 0.5}))
    strategy.observe({"share": [0.9, 0.1]})
    restored.load_state_dict(strategy.state_dict())
    assert restored.erased.tolist() == pytest.approx([0.4, 0.0])


def test_a_gain_of_nothing_is_refused():
    with pytest.raises(ModelError, match="gain 0"):
        ExplanationErasing(HALF, gain=0)
