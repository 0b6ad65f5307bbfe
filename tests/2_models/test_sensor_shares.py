"""Shares by sensor: sums, and Shapley values of the game between sensors, against hand-computed ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.models.coalitions import coalitions, shapley_values
from equipoise.models.errors import ModelError
from equipoise.models.sensor_shares import group_information, shares, summed

GROUPS = ("s2", "s1", "s2")


def test_shares_of_dates_sum_to_that_of_the_sensor():
    assert summed([0.25, 0.5, 0.125], GROUPS) == {"s2": 0.375, "s1": 0.5}


def test_dates_that_tell_something_only_together():
    # Bits: may, sar, july. v is 1 where both dates are there, else 0: to the sensors, s2 tells all.
    value = [1.0 if subset[0] and subset[2] else 0.0 for subset in coalitions(3).tolist()]
    assert group_information(value, GROUPS) == {"s2": 1.0, "s1": 0.0}
    assert shapley_values(torch.tensor(value), members=3).tolist() == [0.5, 0.0, 0.5]


def test_a_group_need_not_be_the_sum_of_its_members():
    # Any one of the three tells all: to members a third each, to the two sensors a half each.
    value = [float(any(subset)) for subset in coalitions(3).tolist()]
    assert group_information(value, GROUPS) == {"s2": 0.5, "s1": 0.5}
    members = shapley_values(torch.tensor(value, dtype=torch.float64), members=3).tolist()
    assert summed(members, GROUPS) == pytest.approx({"s2": 2 / 3, "s1": 1 / 3})


@given(st.lists(st.floats(-1, 1), min_size=16, max_size=16), st.lists(st.sampled_from("abc"), min_size=4, max_size=4))
def test_groups_and_members_sum_to_the_whole(value, groups):
    found = group_information(value, groups)
    assert sum(found.values()) == pytest.approx(value[-1] - value[0], abs=1e-9)
    members = shapley_values(torch.tensor(value, dtype=torch.float64), members=4).tolist()
    assert sum(summed(members, groups).values()) == pytest.approx(value[-1] - value[0], abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8))
def test_groups_of_one_are_the_members(value):
    members = shapley_values(torch.tensor(value, dtype=torch.float64), members=3).tolist()
    assert list(group_information(value, ("a", "b", "c")).values()) == pytest.approx(members, abs=1e-12)


def test_values_that_sum_when_dates_add_up():
    gains = (0.25, 0.5, 0.125)
    value = [sum(g for g, there in zip(gains, subset, strict=True) if there) for subset in coalitions(3).tolist()]
    assert group_information(value, GROUPS) == summed(gains, GROUPS)


def test_shares_are_of_what_is_above_zero():
    assert shares({"a": 3.0, "b": -1.0, "c": 1.0}) == {"a": 0.75, "b": 0.0, "c": 0.25}
    assert shares({"a": 0.0, "b": -1.0}) is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(ModelError, match="2 values; wanted 3"):
        summed([1.0, 2.0], GROUPS)
    with pytest.raises(ModelError, match="4 coalition values"):
        group_information([0.0] * 4, GROUPS)
