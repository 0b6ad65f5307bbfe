"""The histogram in bounded memory: its counts do not depend on the order, its percentiles are numpy's to a bin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from equipoise.datasets.histogram import BINS, RunningHistogram


def streamed(parts):
    histogram = RunningHistogram()
    for part in parts:
        histogram.update(np.asarray(part, np.float64))
    return histogram


values = hnp.arrays(
    np.float32, st.integers(1, 60), elements=st.floats(-3e5, 3e5, width=32) | st.floats(-0.125, 0.125, width=32)
)


@given(parts=st.lists(values, min_size=1, max_size=6), order=st.randoms(use_true_random=False))
def test_counts_do_not_depend_on_the_chunks_or_their_order(parts, order):
    """Every count is also what numpy finds between the bins' edges."""
    whole = np.concatenate(parts).astype(np.float64)
    shuffled = list(whole)
    order.shuffle(shuffled)
    once, again, singly = streamed([whole]), streamed(parts), streamed([[value] for value in shuffled])
    for other in (again, singly):
        assert (other.exponent, other.first) == (once.exponent, once.first)
        np.testing.assert_array_equal(other.counts, once.counts)
    edges = (once.first + np.arange(once.counts.size + 1)) * once.width
    found = np.searchsorted(np.sort(whole), edges, side="left")
    np.testing.assert_array_equal(np.diff(found), once.counts)
    assert once.counts.sum() == whole.size


def test_zeros_that_come_first_widen_no_bin():
    zeros, small = np.zeros(3), np.array([1e-5, 9e-6])
    assert streamed([zeros, small]).width == streamed([small, zeros]).width < 1e-8


@given(parts=st.lists(values, min_size=1, max_size=4))
def test_memory_is_bounded_and_the_width_is_a_small_part_of_the_range(parts):
    histogram, whole = streamed(parts), np.concatenate(parts).astype(np.float64)
    assert histogram.counts.size <= BINS
    finest = np.abs(whole).max() * 2.0**-23 if whole.any() else np.inf
    assert histogram.width <= max(2 * np.ptp(whole) / (BINS - 1), finest)


@pytest.mark.parametrize(("level", "spread"), [(0.2, 0.1), (-14.0, 5.0), (290.0, 8.0), (3e4, 2e3)])
def test_percentiles_are_numpys_to_a_bin(level, spread):
    """Levels and spreads of reflectance, decibels, kelvin and digital numbers."""
    stream = np.random.default_rng(0).normal(level, spread, 50_000).astype(np.float32)
    histogram = streamed(np.array_split(stream, 13))
    np.testing.assert_allclose(
        histogram.percentiles((1.0, 50.0, 99.0)), np.percentile(stream.astype(np.float64), (1, 50, 99)),
        # Sorted neighbours in the tails lie further apart than a bin is wide.
        atol=histogram.width + 1e-3 * spread,
    )  # fmt: skip
    assert histogram.width <= spread / 200


@pytest.mark.parametrize("level", [0.0, -7.3, 1e5])
def test_a_constant_is_its_own_percentile(level):
    histogram = streamed([np.full(9, level)] * 3)
    np.testing.assert_allclose(histogram.percentiles((1, 50, 99)), level, atol=histogram.width)
    assert histogram.width <= max(abs(level), 1.0) * 2.0**-22
