"""Mosaic laws: windows cut from an image and blended give the image, each row exactly once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.pipeline.mosaic import RowBlender, WindowGrid, blend_profile


@st.composite
def grids(draw, *, most=70):
    overlap = 2 * draw(st.integers(0, 6))
    tile = draw(st.integers(max(2 * overlap, 2), 40))
    # One row or column, primes, exact multiples and sizes far below a window all occur.
    size = st.one_of(st.sampled_from([1, 2, 7, 13, 31, 61]), st.integers(1, most))
    halo = draw(st.integers(0, overlap // 2))
    return WindowGrid(rows=draw(size), cols=draw(size), tile=tile, overlap=overlap, halo=halo)


def _cut(image, row, col, tile):
    """A window that may reach beyond the image, whose outermost pixels it then repeats."""
    rows = np.clip(np.arange(row, row + tile), 0, image.shape[1] - 1)
    cols = np.clip(np.arange(col, col + tile), 0, image.shape[2] - 1)
    return image[:, rows[:, None], cols]


def _blended(grid, image):
    blender, parts = RowBlender(grid, channels=len(image)), []
    for row in range(grid.row_count):
        for top, left in grid.origins(row):
            blender.add(left, _cut(image, top, left, grid.tile))
        values, covered = blender.finish(row)
        assert covered.all()
        parts.append(values.copy())
    return np.concatenate(parts, axis=1)


@given(grid=grids(), value=st.floats(-100, 100, width=32))
def test_a_constant_stays_constant(grid, value):
    image = np.full((2, grid.rows, grid.cols), value, np.float32)
    np.testing.assert_allclose(_blended(grid, image), image, rtol=1e-5, atol=1e-5)


@given(grid=grids())
def test_a_ramp_stays_a_ramp(grid):
    rows, cols = np.mgrid[0 : grid.rows, 0 : grid.cols].astype(np.float32)
    image = np.stack([rows / grid.rows, cols / grid.cols])
    np.testing.assert_allclose(_blended(grid, image), image, atol=1e-5)


@given(grid=grids(), seed=st.integers(0, 2**32 - 1))
def test_windows_cut_from_an_image_give_the_image(grid, seed):
    image = np.random.default_rng(seed).random((3, grid.rows, grid.cols), np.float32)
    np.testing.assert_allclose(_blended(grid, image), image, atol=1e-5)


@given(grid=grids(most=300))
def test_every_row_is_finished_exactly_once_and_in_order(grid):
    following = 0
    for row in range(grid.row_count):
        first, last = grid.finished_rows(row)
        assert first == following
        assert last >= first
        following = last
    assert following == grid.rows


@given(grid=grids(most=300))
def test_cores_tile_the_scene(grid):
    starts = [list(grid.origins(row)) for row in range(grid.row_count)]
    tops = [row[0][0] + grid.margin for row in starts]
    lefts = [left + grid.margin for _, left in starts[0]]
    assert tops == list(range(0, grid.rows, grid.stride))
    assert lefts == list(range(0, grid.cols, grid.stride))
    assert all([left for _, left in row] == [left for _, left in starts[0]] for row in starts)


@given(overlap=st.integers(0, 40).map(lambda half: 2 * half), data=st.data())
def test_the_weights_of_neighbours_sum_to_one(overlap, data):
    tile = data.draw(st.integers(max(2 * overlap, 1), 2 * overlap + 50))
    halo = data.draw(st.integers(0, overlap // 2))
    profile = blend_profile(tile, overlap, halo)
    assert profile.shape == (tile,)
    assert (profile[halo : tile - halo] > 0).all()
    assert (profile[:halo] == 0).all()
    assert (profile[tile - halo :] == 0).all()
    stride = tile - overlap
    total = np.zeros(stride * 3 + overlap)
    for number in range(3):
        total[number * stride : number * stride + tile] += profile
    inside = total[overlap : len(total) - overlap]
    np.testing.assert_allclose(inside, 1, atol=1e-6)


@pytest.mark.parametrize("axis", ["rows", "cols"])
def test_windows_that_disagree_are_blended_without_a_seam(axis):
    """Two windows that answer 0 and 1: no step between neighbouring pixels is as large as the disagreement."""
    grid = WindowGrid(rows=112 if axis == "rows" else 64, cols=112 if axis == "cols" else 64, tile=64, overlap=16)
    blender, parts = RowBlender(grid, channels=1), []
    for row in range(grid.row_count):
        for top, left in grid.origins(row):
            second = (top if axis == "rows" else left) > 0
            blender.add(left, np.full((1, 64, 64), float(second), np.float32))
        parts.append(blender.finish(row)[0].copy())
    profile = np.concatenate(parts, axis=1)[0].mean(axis=1 if axis == "rows" else 0)
    assert profile[0] == 0
    assert profile.max() == pytest.approx(1, abs=1e-5)
    assert np.abs(np.diff(profile)).max() < 0.15


def test_what_no_window_covers_is_reported():
    grid = WindowGrid(rows=20, cols=48, tile=16, overlap=0)
    blender = RowBlender(grid, channels=1)
    blender.add(16, np.ones((1, 16, 16), np.float32))
    values, covered = blender.finish(0)
    assert covered[:, 16:32].all()
    assert not covered[:, :16].any()
    assert not covered[:, 32:].any()
    assert (values[0][~covered] == 0).all()


@given(grid=grids(), seed=st.integers(0, 2**32 - 1))
def test_what_is_said_in_the_halo_counts_for_nothing(grid, seed):
    """Windows whose answers are wrong there, and there only, still give the image."""
    rng = np.random.default_rng(seed)
    image = rng.random((1, grid.rows, grid.cols), np.float32)
    inner = np.zeros((grid.tile, grid.tile), bool)
    inner[grid.halo : grid.tile - grid.halo, grid.halo : grid.tile - grid.halo] = True
    blender, parts = RowBlender(grid, channels=1), []
    for row in range(grid.row_count):
        for top, left in grid.origins(row):
            wrong = rng.normal(0, 1000, (1, grid.tile, grid.tile)).astype(np.float32)
            blender.add(left, np.where(inner, _cut(image, top, left, grid.tile), wrong))
        parts.append(blender.finish(row)[0].copy())
    np.testing.assert_allclose(np.concatenate(parts, axis=1), image, atol=1e-5)


def test_only_what_was_seen_is_seen():
    grid = WindowGrid(rows=20, cols=32, tile=16, overlap=0)
    blender = RowBlender(grid, channels=1)
    seen = np.zeros((16, 16), bool)
    seen[3:5, 2:9] = True
    blender.add(16, np.ones((1, 16, 16), np.float32), seen=seen)
    found = blender.finish(0)[1]
    np.testing.assert_array_equal(found[:, 16:], seen)
    assert not found[:, :16].any()
