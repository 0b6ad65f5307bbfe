"""Streaming statistics equal numpy's over everything at once, whatever the windows and their order."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import valid_masks

from equipoise.datasets.errors import DatasetError
from equipoise.datasets.statistics import (
    PERCENTILES,
    BandStatistics,
    RunningStatistics,
    statistics_from_dict,
    statistics_to_dict,
)


def streamed(image, valid, windows):
    running = RunningStatistics(bands=len(image))
    for window in windows:
        running.update(image[:, *window], valid[*window])
    return running.result()


def cut(shape, rows, cols):
    return [
        (slice(row, row + rows), slice(col, col + cols))
        for row in range(0, shape[0], rows)
        for col in range(0, shape[1], cols)
    ]


def field(shape, *, seed, level=0.0, spread=1.0):
    return np.random.default_rng(seed).normal(level, spread, shape).astype(np.float32)


@given(
    seed=st.integers(0, 2**16),
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    order=st.randoms(use_true_random=False),
    level=st.sampled_from([-20.0, 0.0, 290.0, 3e4]),
    spread=st.sampled_from([0.01, 1.0, 50.0]),
    valid=valid_masks((31, 23)),
)
def test_equal_numpy_whatever_the_windows_and_their_order(seed, rows, cols, order, level, spread, valid):
    image = field((2, 31, 23), seed=seed, level=level, spread=spread)
    image[:, ~valid] = np.nan
    windows = cut((31, 23), rows, cols)
    order.shuffle(windows)
    if not valid.any():
        with pytest.raises(DatasetError, match="no valid pixel"):
            streamed(image, valid, windows)
        return
    result = streamed(image, valid, windows)
    values = image[:, valid].astype(np.float64)
    assert result.count == valid.sum()
    np.testing.assert_allclose(result.mean, values.mean(axis=1), rtol=1e-6, atol=1e-12)
    deviation = values.std(axis=1)
    np.testing.assert_allclose(result.std, np.where(deviation > 0, deviation, 1.0), rtol=1e-6)
    # Order statistics on both sides of the share bound what any rule of interpolation gives.
    ordered, places = np.sort(values, axis=1), np.array(PERCENTILES) / 100 * (values.shape[1] - 1)
    width = np.array(result.resolution)[:, None]
    assert (np.array(result.percentiles) >= ordered[:, np.floor(places).astype(int)] - width).all()
    assert (np.array(result.percentiles) <= ordered[:, np.ceil(places).astype(int)] + width).all()


def test_a_large_level_does_not_drown_a_small_spread():
    """Where the naive sum of squares has no digit left: kelvin in millikelvin, a deviation of a thousandth."""
    image = (np.random.default_rng(0).normal(0.0, 1.0, (1, 200, 200)) + 3e5).astype(np.float32)
    values = image.astype(np.float64)
    result = streamed(image, np.ones((200, 200), bool), cut((200, 200), 7, 13))
    np.testing.assert_allclose(result.std, [values.std()], rtol=1e-9)


def test_values_that_are_not_valid_do_not_count():
    image = field((3, 20, 20), seed=1)
    valid = np.zeros((20, 20), bool)
    valid[5:9, 3:] = True
    before = streamed(image, valid, cut((20, 20), 20, 20))
    image[:, ~valid] = -9999.0
    assert streamed(image, valid, cut((20, 20), 6, 6)).count == before.count
    np.testing.assert_allclose(streamed(image, valid, cut((20, 20), 6, 6)).mean, before.mean, rtol=1e-12)


@given(level=st.floats(-1e5, 1e5, width=32), rows=st.integers(1, 20))
def test_a_constant_band_has_deviation_one_and_normalises_to_zero(level, rows):
    image = np.full((1, 20, 20), level, np.float32)
    result = streamed(image, np.ones((20, 20), bool), cut((20, 20), rows, 3))
    assert result.std == (1.0,)
    np.testing.assert_allclose(result.mean, [level], rtol=1e-12)
    np.testing.assert_array_equal(result.normalise(image), 0.0)


def test_an_update_without_valid_pixels_changes_nothing():
    running = RunningStatistics(bands=2)
    running.update(field((2, 4, 4), seed=0), np.ones((4, 4), bool))
    before = running.result()
    running.update(np.full((2, 4, 4), np.nan, np.float32), np.zeros((4, 4), bool))
    assert running.result() == before


def test_normalised_training_pixels_have_mean_zero_and_deviation_one():
    image = field((2, 50, 50), seed=4, level=7.0, spread=3.0)
    valid = np.ones((50, 50), bool)
    normalised = streamed(image, valid, cut((50, 50), 9, 9)).normalise(image)
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised.mean(axis=(1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(axis=(1, 2)), 1.0, rtol=1e-5)


def test_a_hole_becomes_zero():
    statistics = BandStatistics(mean=(5.0,), std=(2.0,), count=1)
    np.testing.assert_array_equal(statistics.normalise(np.array([[[np.nan, 9.0]]], np.float32)), [[[0.0, 2.0]]])


def test_statistics_survive_json_exactly():
    statistics = {
        "sar": BandStatistics(mean=(-10.1, 1 / 3), std=(2.0, 1e-9), count=7),
        "eo": BandStatistics(
            mean=(0.1,), std=(0.2,), count=10**12, percentiles=((0.01, 0.1, 0.7),), resolution=(2.0**-13,)
        ),
    }
    again = statistics_from_dict(json.loads(json.dumps(statistics_to_dict(statistics))))
    assert again == statistics
    assert list(again) == ["sar", "eo"]
    assert list(statistics_to_dict(statistics)["sar"]) == ["mean", "std", "count"]


def test_a_model_from_before_percentiles_were_kept_can_be_read():
    old = statistics_from_dict({"eo": {"mean": [0.0], "std": [1.0], "count": 1}})
    assert old == {"eo": BandStatistics(mean=(0.0,), std=(1.0,), count=1)}


@pytest.mark.parametrize(
    "record",
    [
        {"eo": {"mean": [0.0], "std": [1.0]}},
        {"eo": {"mean": ["high"], "std": [1.0], "count": 1}},
        {"eo": {"mean": 0.0, "std": 1.0, "count": 1}},
        {"eo": None},
        {"eo": {"mean": [0.0], "std": [1.0], "count": 1, "percentiles": [0.5], "resolution": [1]}},
        {"eo": {"mean": [0.0], "std": [1.0], "count": 1, "percentiles": [["low"]], "resolution": [1]}},
    ],
)
def test_damaged_records_are_one_clear_error(record):
    with pytest.raises(DatasetError, match="wanted mean, std and count"):
        statistics_from_dict(record)
