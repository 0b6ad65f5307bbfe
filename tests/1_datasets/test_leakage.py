"""The leakage check refuses exactly what is too close: on one grid, between grids, across zones."""

import itertools
import tracemalloc

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from strategies import north_up

from equipoise.datasets.errors import SplitError
from equipoise.datasets.leakage import check_leakage, check_scenes

# on one grid


@given(
    row=st.integers(-20, 20), col=st.integers(-20, 20), buffer=st.integers(0, 12),
    height=st.integers(1, 15), width=st.integers(1, 15),
)  # fmt: skip
def test_the_check_refuses_exactly_the_pairs_that_are_too_close(row, col, buffer, height, width):
    """Oracle: the least distance between any two pixels, by enumeration."""
    ours = np.array(list(itertools.product(range(10), range(8))))
    theirs = np.array(list(itertools.product(range(row, row + height), range(col, col + width))))
    unused = (
        np.abs(ours[:, None] - theirs[None]).max(axis=2).min() - 1
    )  # pixels that lie between; -1 where they overlap
    windows = [("train", 0, 0, 10, 8), ("test", row, col, height, width)]
    if unused < buffer:
        with pytest.raises(SplitError, match=rf"within {buffer} px.*`tile.buffer`"):
            check_leakage(windows, buffer=buffer)
    else:
        check_leakage(windows, buffer=buffer)


def test_a_planted_leak_is_named():
    windows = [("train", row, 0, 16, 16) for row in range(0, 160, 16)] + [("validation", 96, 20, 16, 16)]
    with pytest.raises(SplitError, match=r"row 80, column 0 .* validation patch at row 96, column 20"):
        check_leakage(windows, buffer=8)
    check_leakage(windows, buffer=4)


def test_a_dense_cover_takes_little_memory():
    """40 000 patches with 94 % overlap: their pairs within one split would take 2.4 GB."""
    windows = [("train", row, col, 128, 128) for row in range(0, 1600, 8) for col in range(0, 1600, 8)]
    tracemalloc.start()
    check_leakage([*windows, ("test", 0, 1800, 128, 128)], buffer=16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    with pytest.raises(SplitError, match="column 1720"):
        check_leakage([*windows, ("test", 0, 1720, 128, 128)], buffer=16)


def test_patches_of_one_split_may_overlap_and_none_at_all_leak_nothing():
    check_leakage([("train", 0, 0, 32, 32), ("train", 5, 5, 32, 32)], buffer=100)
    check_leakage([], buffer=8)


# between scenes


def two(moved, *, second="test", buffer=0, size=16, **grid):
    grids = {"a": north_up(64, 64), "b": north_up(64, 64, left=500_000.0 + 10.0 * moved, **grid)}
    windows = {"a": [("train", 0, 64 - size, size, size)], "b": [(second, 0, 0, size, size)]}
    check_scenes(windows, grids, buffer=buffer)


@pytest.mark.parametrize(
    ("moved", "split", "buffer", "leaks"),
    [
        (63.5, "test", 0, True), (63.5, "train", 0, False), (64.0, "test", 0, False),
        (64.0, "test", 1, True), (67.9, "validation", 4, True), (68.0, "validation", 4, False),
    ],
)  # fmt: skip
def test_ground_that_two_scenes_share_belongs_to_one_split(moved, split, buffer, leaks):
    if leaks:
        with pytest.raises(SplitError, match=r"train patch of scene 'a'.*patch of scene 'b'.*give overlapping scenes"):
            two(moved, second=split, buffer=buffer)
    else:
        two(moved, second=split, buffer=buffer)


def test_the_buffer_is_that_of_the_larger_pixels():
    grids = {"fine": north_up(64, 64, pixel=10.0), "coarse": north_up(8, 8, pixel=80.0, left=500_000.0 + 640 + 200)}
    windows = {"fine": [("train", 0, 32, 32, 32)], "coarse": [("test", 0, 0, 4, 4)]}
    check_scenes(windows, grids, buffer=2)
    with pytest.raises(SplitError, match="within 3 px"):
        check_scenes(windows, grids, buffer=3)


@pytest.mark.parametrize(("gap_m", "leaks"), [(-5.0, True), (155.0, True), (165.0, False)])
@pytest.mark.parametrize(
    ("zones", "place"),
    [
        (("EPSG:32632", "EPSG:32633"), (11.99, 47.0)),
        (("EPSG:32660", "EPSG:32601"), (179.995, -12.0)),  # over the antimeridian
        (("EPSG:32633", "EPSG:3035"), (15.3, 52.0)),
        (("EPSG:32633", "EPSG:3995"), (15.3, 83.9)),  # polar stereographic
    ],
)
def test_the_gap_between_two_zones_is_measured_on_the_ground(zones, place, gap_m, leaks):
    """Corners are placed with pyproj alone; the grids of two zones are turned against each other."""
    here = Transformer.from_crs("EPSG:4326", zones[0], always_xy=True).transform(*place)
    around = f"+proj=aeqd +lon_0={place[0]} +lat_0={place[1]} +datum=WGS84"
    left = Transformer.from_crs(zones[0], around, always_xy=True).transform(here[0] + 320.0, here[1])
    start = Transformer.from_crs(around, zones[1], always_xy=True).transform(left[0] + gap_m, left[1])
    towards = Transformer.from_crs(around, zones[1], always_xy=True).transform(left[0] + gap_m + 1, left[1])
    east = np.subtract(towards, start)  # the way on is straight ahead, whatever the projection
    affine = Affine(10 * east[0], 10 * east[1], start[0], 10 * east[1], -10 * east[0], start[1])
    grids = {
        "a": GeoBox((1, 32), Affine(10, 0, here[0], 0, -10, here[1]), zones[0]),
        "b": GeoBox((1, 32), affine, zones[1]),
    }
    windows = {"a": [("test", 0, 0, 1, 32)], "b": [("train", 0, 0, 1, 32)]}
    if leaks:
        with pytest.raises(SplitError, match=r"test patch of scene 'a'.*train patch of scene 'b'"):
            check_scenes(windows, grids, buffer=16)
    else:
        check_scenes(windows, grids, buffer=16)


def test_what_lies_beyond_a_scene_is_no_ground():
    """A patch that reaches over the edge of its scene shows nothing there."""
    grids = {"a": north_up(16, 20), "b": north_up(64, 64, left=500_300.0)}
    windows = {"a": [("train", 0, 16, 16, 16)], "b": [("test", 0, 0, 16, 16)]}
    check_scenes(windows, grids, buffer=10)


def test_chips_without_a_position_share_no_ground():
    grids = {name: north_up(16, 16, crs=None) for name in "ab"}
    windows = {"a": [("train", 0, 0, 16, 16)], "b": [("test", 0, 0, 16, 16)]}
    check_scenes(windows, grids, buffer=16)
    check_scenes({}, {}, buffer=16)


def test_many_patches_are_checked_in_seconds():
    """Two scenes in two zones, patches overlapping by half: 14 000 of them (0.5 s on one core; 57 000 take 2 s)."""
    grids = {
        "west": north_up(5490, 5490, left=640_000.0, crs="EPSG:32632"),
        "east": north_up(5490, 5490, left=200_000.0, crs="EPSG:32633"),
    }
    starts = range(0, 5490 - 127, 64)
    windows = {name: [("train", row, col, 128, 128) for row in starts for col in starts] for name in grids}
    windows["east"] = [window for window in windows["east"] if window[1] > 200]
    check_scenes(windows, grids, buffer=16)
    windows["east"].append(("test", 0, 0, 128, 128))
    with pytest.raises(SplitError, match=r"scene 'west' .* test patch of scene 'east' \(row 0, column 0\)"):
        check_scenes(windows, grids, buffer=16)
