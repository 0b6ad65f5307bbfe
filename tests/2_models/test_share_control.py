"""Share control on plants whose answer is known: it arrives, without a lasting error and without wind-up."""

import math

import pytest
import torch

from equipoise.models.balancing.share_control import ShareControl


def settle(control, plant, allowed, *, steps=2000):
    """A first-order plant: reliance follows what the efforts ask for, a thirtieth of the way each step."""
    state = torch.tensor([0.4, 0.15, 0.05], dtype=torch.float64)
    start = state.clone()
    for _ in range(steps):
        wanted = start * plant(control.effort[0])
        state = state + (wanted - state) / 30
        control.measure({(0, m): float(value) for m, value in enumerate(state)})
        control.press(0, allowed)
    return state / state.sum()


@pytest.mark.parametrize("gain", [0.05, 0.2, 0.5])
def test_the_shares_arrive_whatever_the_gain_of_the_plant(gain):
    control, allowed = ShareControl(3), torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
    shares = settle(control, lambda effort: torch.exp(-gain * effort), allowed)
    torch.testing.assert_close(shares, allowed, rtol=0, atol=0.01)
    assert (control.effort >= 0).all()


def test_what_cannot_be_reached_clips_the_effort_and_leaves_no_debt():
    """A plant that does not answer: the effort stops at its limit; as soon as the share is allowed it falls."""
    control = ShareControl(3)
    settle(control, torch.ones_like, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), steps=2000)
    assert float(control.effort[0, 0]) == control.most
    control.press(0, torch.tensor([0.9, 0.05, 0.05], dtype=torch.float64))
    assert float(control.effort[0, 0]) < control.most
    for _ in range(800):
        control.press(0, torch.tensor([0.9, 0.05, 0.05], dtype=torch.float64))
    assert float(control.effort[0, 0]) == 0


def test_the_first_measurements_count_fully_and_later_ones_are_averaged():
    control = ShareControl(2)
    assert control.shares(0) is None
    control.measure({(0, 0): 0.3})
    assert control.shares(0) is None
    control.measure({(0, 1): 0.1})
    assert control.shares(0).tolist() == pytest.approx([0.75, 0.25])
    for _ in range(400):
        control.measure({(0, 0): 0.1})
    assert control.shares(0).tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_no_reliance_at_all_is_not_divided():
    control = ShareControl(2)
    control.measure({(0, 0): -0.2, (0, 1): 0.0})
    assert control.shares(0).tolist() == [0, 0]
    control.press(0, torch.tensor([0.5, 0.5]))
    assert all(math.isfinite(value) for value in control.effort[0].tolist())


def test_conditions_are_apart_and_the_state_is_saved():
    control = ShareControl(2, conditions=3)
    control.measure({(1, 0): 0.2, (1, 1): 0.2})
    assert control.shares(0) is None
    control.press(1, torch.tensor([0.2, 0.8]))
    assert float(control.effort[1, 0]) > 0
    assert not control.effort[0].any()
    other = ShareControl(2, conditions=3)
    other.load_state_dict(control.state_dict())
    assert torch.equal(other.effort, control.effort)
    assert other.total(1) == control.total(1)


def test_the_effort_is_signed_inside_and_never_negative_outside():
    """What pressed one modality must first be taken back before the others are pressed: no two efforts at once."""
    control = ShareControl(2)
    for _ in range(40):
        control.measure({(0, 0): 0.3, (0, 1): 0.3})
        control.press(0, torch.tensor([0.3, 0.7]))
    assert float(control.effort[0, 0]) > 0
    assert float(control.effort[0, 1]) == 0
    assert float(control.summed[0].sum()) == pytest.approx(0, abs=1e-9)
