"""Shapley values: brute force and the axioms."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.models.coalitions import coalitions, shapley_values
from equipoise.models.errors import ModelError


def _values(members, *trailing, seed=0, dtype=torch.float64):
    return torch.rand(2**members, *trailing, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _by_permutations(values, members):
    orders = list(permutations(range(members)))
    shares = torch.zeros(members, *values.shape[1:], dtype=values.dtype)
    for order in orders:
        seen = 0
        for member in order:
            shares[member] += values[seen | 1 << member] - values[seen]
            seen |= 1 << member
    return shares / len(orders)


def test_coalitions_follow_the_bits():
    assert coalitions(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]
    assert (coalitions(5).long() @ (2 ** torch.arange(5))).tolist() == list(range(32))


@pytest.mark.parametrize("members", [1, 2, 3, 4, 5])
def test_shapley_is_the_mean_over_orders(members):
    values = _values(members, 3, 2)
    torch.testing.assert_close(shapley_values(values, members=members), _by_permutations(values, members))


@settings(max_examples=30, deadline=None)
@given(members=st.integers(1, 6), seed=st.integers(0, 10_000))
def test_efficiency_in_single_precision(members, seed):
    values = _values(members, 4, 5, seed=seed, dtype=torch.float32)
    total = shapley_values(values, members=members).sum(dim=0)
    assert (total - (values[-1] - values[0])).abs().max() <= 1e-6


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(4)), seed=st.integers(0, 10_000))
def test_permuting_the_modalities_permutes_the_values(order, seed):
    values = _values(4, 3, seed=seed)
    # Member i of the permuted game is member order[i] of the first.
    codes = (coalitions(4).long() * (2 ** torch.tensor(order))).sum(dim=1)
    torch.testing.assert_close(
        shapley_values(values[codes], members=4), shapley_values(values, members=4)[torch.tensor(order)]
    )


def test_efficiency_in_double_precision():
    # Weights such as 1/6 must not pass through single precision on their way.
    values = _values(3, 50)
    assert (shapley_values(values, members=3).sum(dim=0) - (values[-1] - values[0])).abs().max() < 1e-14


def test_dummy_gets_nothing():
    values = _values(3)
    values[4:] = values[:4]  # bit 2 changes nothing
    assert shapley_values(values, members=3)[2] == 0


def test_twins_share_equally():
    members = coalitions(3)
    either = (members[:, 0] | members[:, 1]).double()
    shares = shapley_values(either + 0.3 * members[:, 2], members=3)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.5, 0.3], dtype=torch.float64))


def test_synergy_is_split():
    both = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert shapley_values(both, members=2).tolist() == [0.5, 0.5]


def test_half_precision_is_promoted_and_lengths_are_checked():
    assert shapley_values(_values(2).bfloat16(), members=2).dtype == torch.float32
    with pytest.raises(ModelError, match=r"7 coalition values.*2 \*\* 3"):
        shapley_values(torch.zeros(7), members=3)
    with pytest.raises(ModelError, match="0 members"):
        coalitions(0)
