"""Strategies: what a step may see."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from equipoise.models.balancing import STRATEGIES, Utilization, build_strategy
from equipoise.models.errors import ModelError


def _codes(available):
    return (available.long() * 2 ** torch.arange(available.shape[1])).sum(dim=1)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    name=st.sampled_from(sorted(STRATEGIES)),
)
def test_never_what_is_absent_and_never_nothing(rows, seed, name):
    present = torch.tensor(rows)
    strategy = build_strategy(name, modalities="abcd", utilization=Utilization(target={"a": 0.5}))
    seen = strategy.available(present, generator=torch.Generator().manual_seed(seed))
    assert seen.dtype == torch.bool
    assert not (seen & ~present).any()
    assert torch.equal(seen.any(dim=1), present.any(dim=1))


@pytest.mark.parametrize(
    ("present", "expected"), [((1, 1, 1), range(1, 8)), ((1, 0, 1), (1, 4, 5)), ((0, 1, 1), (2, 4, 6))]
)
def test_subsets_are_uniform(present, expected):
    rows = torch.tensor([present] * 7000).bool()
    seen = _codes(build_strategy("subset_sampling").available(rows, generator=torch.Generator().manual_seed(3)))
    counts = torch.bincount(seen, minlength=8)
    assert set(counts.nonzero().flatten().tolist()) == set(expected)
    # Fixed seed: the probability bound says that this draw is ordinary, not that luck is needed.
    assert chisquare(counts[list(expected)].numpy()).pvalue > 0.01


def test_samples_draw_independently():
    rows = torch.ones(7000, 3, dtype=torch.bool)
    seen = _codes(build_strategy("subset_sampling").available(rows, generator=torch.Generator().manual_seed(0)))
    pairs = torch.bincount((seen[::2] - 1) * 7 + seen[1::2] - 1, minlength=49)
    assert chisquare(pairs.numpy()).pvalue > 0.01


def test_the_generator_decides():
    rows, strategy = torch.ones(64, 3, dtype=torch.bool), build_strategy("subset_sampling")
    first, second, third = (
        strategy.available(rows, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_joint_sees_everything():
    present = torch.tensor([[True, False], [False, False]])
    assert torch.equal(build_strategy("joint").available(present, generator=torch.Generator()), present)


def test_unknown_strategy_is_named():
    with pytest.raises(ModelError, match=r"'magic'.*joint.*subset_sampling"):
        build_strategy("magic")
