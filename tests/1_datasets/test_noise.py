"""Noise of tiles: known deviations come back, and surfaces are no noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.datasets.noise import tile_noise
from equipoise.datasets.statistics import RunningStatistics


@pytest.mark.parametrize("deviation", [0.02, 1.0, 30.0])
def test_a_known_deviation_comes_back_on_any_slope(deviation):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    slope = 5 * deviation * (y + 2 * x) / 10
    image = np.stack([slope, slope[::-1]]) + rng.normal(0, deviation, (2, 96, 128))
    found = tile_noise(image.astype(np.float32), np.ones((96, 128), dtype=bool), tile=32)
    assert found.shape == (2, 3, 4)
    np.testing.assert_allclose(found.mean(), deviation, rtol=0.03)
    np.testing.assert_allclose(found, deviation, rtol=0.2)


def test_surfaces_and_straight_edges_are_no_noise():
    y, x = np.mgrid[:64, :64]
    image = np.stack([np.full((64, 64), 7.0), 3.0 * y - x, np.where(x < 20, 0.0, 100.0), np.where(y < 9, 5.0, 1.0)])
    found = tile_noise(image.astype(np.float32), np.ones((64, 64), dtype=bool), tile=32)
    np.testing.assert_allclose(found, 0, atol=1e-4)


def test_what_is_not_valid_is_not_looked_at():
    rng = np.random.default_rng(1)
    image = rng.normal(0, 1, (1, 64, 64)).astype(np.float32)
    valid = np.ones((64, 64), dtype=bool)
    valid[:8, :8], valid[:, 48:] = False, False
    broken = image.copy()
    broken[:, ~valid] = np.nan
    found, wanted = (tile_noise(item, valid, tile=32) for item in (broken, image))
    np.testing.assert_array_equal(found, wanted)
    assert np.isfinite(found[0, :, 0]).all()
    assert np.isnan(found[0, :, 1]).all()  # 15 of 32 columns have neighbours on both sides: less than half


@given(rows=st.integers(1, 40), cols=st.integers(1, 40), tile=st.sampled_from([8, 16, 32]))
def test_any_size_will_do(rows, cols, tile):
    found = tile_noise(np.ones((2, rows, cols), dtype=np.float32), np.ones((rows, cols), dtype=bool), tile=tile)
    assert found.shape == (2, rows // tile, cols // tile)
    assert np.isnan(found).all() or (found[np.isfinite(found)] == 0).all()


def test_statistics_keep_the_noise_of_whole_tiles():
    rng = np.random.default_rng(2)
    running = RunningStatistics(bands=2)
    for _ in range(4):
        image = rng.normal(0, 1, (2, 128, 128)).astype(np.float32) * np.float32([[[1]], [[10]]])
        running.update(image, np.ones((128, 128), dtype=bool))
    (low, middle, high), (_, ten, _) = running.result().noise
    assert 0.7 < low < 0.95 < middle < 1.05 < high < 1.3
    assert 9.5 < ten < 10.5


def test_statistics_of_less_than_a_tile_know_no_noise():
    running = RunningStatistics(bands=1)
    running.update(np.ones((1, 20, 20), dtype=np.float32), np.ones((20, 20), dtype=bool))
    assert running.result().noise is None
