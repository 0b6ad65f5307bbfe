"""Splits over several scenes: what shares ground or an event agrees, and no random layout leaks."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy.spatial import cKDTree
from strategies import north_up

from equipoise.datasets.block_plan import plan_blocks
from equipoise.datasets.errors import SplitError
from equipoise.datasets.leakage import check_scenes
from equipoise.datasets.split_scenes import draw_scenes
from equipoise.datasets.splits import SPLITS
from equipoise.datasets.stack import AlignedStack

SIZE = 8

#: On the border of two UTM zones.
PLACE = (12.0, 47.0)


def scene(name, grid=None, *, split="by_scene", group=None, moved=0.0):
    """A scene of 64 x 64 px of 10 m, ``moved`` px to the east."""
    grid = north_up(64, 64, left=500_000.0 + 10.0 * moved) if grid is None else grid
    return AlignedStack(name=name, geobox=grid, modalities=("eo",), present={}, split=split, group=group)


def draw(*stacks, buffer=4, validation=0.2, test=0.2, seed=0, chips=False):
    rng = np.random.default_rng(seed)
    drawn = draw_scenes(stacks, buffer=buffer, validation=validation, test=test, rng=rng, chips=chips)
    assert [stack.name for stack in drawn] == [stack.name for stack in stacks]
    return {stack.name: stack.split for stack in drawn}


def far(count, **options):
    return [scene(f"s{n}", moved=1000 * n, **options) for n in range(count)]


# whole scenes


def test_shares_are_those_asked_for():
    found = list(draw(*far(20), validation=0.15, test=0.25).values())
    assert [found.count(name) for name in SPLITS] == [12, 3, 5]


def test_development_scenes_are_never_tested():
    for seed in range(5):
        assert set(draw(*far(6, split="development"), seed=seed).values()) == {"train", "validation"}


def test_scenes_that_share_ground_are_drawn_together():
    """Two pairs, one that overlaps and one 3 px apart: always together; with a buffer of 2, the second pair is free."""
    pairs = [scene("a"), scene("b", moved=40), scene("c", moved=1000), scene("d", moved=1067)]
    apart = 0
    for seed in range(12):
        others = [scene(f"s{n}", moved=3000 + 1000 * n) for n in range(6)]
        found = draw(*pairs, *others, seed=seed)
        assert found["a"] == found["b"]
        assert found["c"] == found["d"]
        looser = draw(*pairs, *others, seed=seed, buffer=2)
        apart += looser["c"] != looser["d"]
    assert apart > 0


def test_scenes_of_one_event_are_drawn_together_wherever_they_are():
    groups = {f"s{n}": f"event {n // 3}" for n in range(12)}
    for seed in range(6):
        found = draw(*[replace(stack, group=groups[stack.name]) for stack in far(12)], seed=seed)
        assert set(found.values()) == set(SPLITS)
        assert len({(groups[name], split) for name, split in found.items()}) == 4
    assert draw(*[replace(stack, group="one") for stack in far(4, split="auto")])["s0"] in SPLITS


def test_a_large_unit_is_left_to_training():
    joined = [scene(f"j{n}", moved=60 * n) for n in range(10)]
    for seed in range(6):
        found = draw(*joined, *[scene(f"s{n}", moved=3000 + 1000 * n) for n in range(2)], seed=seed)
        assert {found[f"j{n}"] for n in range(10)} == {"train"}
        assert {found["s0"], found["s1"]} == {"validation", "test"}


def test_a_drawn_scene_follows_its_neighbour_of_a_given_split():
    found = draw(scene("a"), scene("b", moved=40, split="test"), scene("c", moved=80), *far(3)[1:])
    assert (found["a"], found["b"], found["c"]) == ("test", "test", "test")


def test_chips_are_drawn_whole_and_share_no_ground_without_a_position():
    chips = [scene(f"s{n}", north_up(16, 16, crs=None), split="auto") for n in range(10)]
    found = list(draw(*chips, chips=True).values())
    assert [found.count(name) for name in SPLITS] == [6, 2, 2]
    assert set(draw(*chips).values()) == {"auto"}


@pytest.mark.parametrize(
    ("stacks", "names"),
    [
        ([scene("a", split="train"), scene("b", moved=40), scene("c", moved=90, split="test")], "'a' .*'c' .*'b'"),
        ([scene("a", split="train", group="x"), scene("b", moved=900, split="test", group="x")], "'a' .*'b' .*'x'"),
        ([scene("a", split="development"), scene("b", moved=40, split="test")], "'a' .*'b' "),
    ],
)
def test_two_splits_for_what_belongs_together_are_refused(stacks, names):
    with pytest.raises(SplitError, match=names) as caught:
        draw(*stacks)
    assert "\n" not in str(caught.value)


def test_ten_thousand_chips_are_drawn_in_seconds():
    """A grid of chips 20 px apart: each is a unit of its own (1 s on one core; quadratic work would take minutes)."""
    chips = [
        scene(f"{row}_{col}", north_up(64, 64, left=3e5 + 840.0 * col, top=5e6 - 840.0 * row))
        for row in range(100)
        for col in range(100)
    ]
    found = list(draw(*chips, buffer=16).values())
    assert [found.count(name) for name in SPLITS] == [6000, 2000, 2000]


# blocks


def test_scenes_on_one_ground_agree_pixel_by_pixel():
    """Two scenes of one lattice, moved by whole pixels: where both see a place, it has one split."""
    grids = [north_up(200, 200), north_up(200, 200, left=500_370.0, top=5_300_000.0 - 530.0)]
    stacks = [scene(name, grid, split="auto") for name, grid in zip("ab", grids, strict=True)]
    rng = np.random.default_rng(1)
    plans = plan_blocks(stacks, [], block_size=40, buffer=4, validation=0.2, test=0.2, rng=rng)
    assert plans["a"] is plans["b"]
    painted = np.full((2, 300, 300), -1)
    for number, (name, grid, row, col) in enumerate((("a", grids[0], 0, 0), ("b", grids[1], 53, 37))):
        for split, top, left in plans[name].windows(grid, size=SIZE, overlap=0):
            rows, cols = (
                slice(start + max(first, 0), start + first + SIZE) for start, first in ((row, top), (col, left))
            )
            painted[number, rows, cols] = SPLITS.index(split)
    both = (painted[0] >= 0) & (painted[1] >= 0)
    assert both.sum() > 5000
    np.testing.assert_array_equal(painted[0][both], painted[1][both])


def test_scenes_apart_are_drawn_apart():
    stacks = [scene("a", split="auto"), scene("b", split="auto", moved=68), scene("c", split="auto", moved=132)]
    rng = np.random.default_rng(0)
    plans = plan_blocks(stacks, [], block_size=16, buffer=4, validation=0.2, test=0.2, rng=rng)
    assert plans["a"] is not plans["b"]
    assert plans["b"] is plans["c"]


def test_blocks_near_a_settled_scene_take_its_split():
    settled = [scene("t", north_up(20, 20, left=500_300.0, top=5_299_700.0), split="test")]
    stacks, rng = [scene("a", split="auto")], np.random.default_rng(0)
    plans = plan_blocks(stacks, settled, block_size=16, buffer=2, validation=0.1, test=0.1, rng=rng)
    assignment = plans["a"].split.assignment
    # Rows and columns 30 to 49: blocks 1 (16-31) to 3 (48-63).
    assert (assignment[1:, 1:] == SPLITS.index("test")).all()
    assert (assignment == SPLITS.index("test")).sum() == 9
    assert (assignment == SPLITS.index("validation")).sum() == 2


def test_a_block_that_two_settled_scenes_want_is_refused():
    settled = [scene("t", moved=-40, split="test"), scene("v", moved=40, split="train")]
    stacks, rng = [scene("a", split="auto")], np.random.default_rng(0)
    with pytest.raises(SplitError, match=r"'t' \(test\) and 'v' \(train\) within 4 px of one split block of 'a'"):
        plan_blocks(stacks, settled, block_size=64, buffer=4, validation=0.2, test=0.2, rng=rng)


# no layout leaks


@dataclass(frozen=True)
class Placed:
    """A scene some px from the common place: zone, pixel edge in m, angle in degrees, rows and columns, split."""

    east: float
    north: float
    zone: str
    pixel: float
    angle: float
    shape: tuple
    split: str
    group: str | None

    def stack(self, name):
        left, top = Transformer.from_crs("EPSG:4326", self.zone, always_xy=True).transform(*PLACE)
        affine = Affine.translation(left + 10 * self.east, top + 10 * self.north) * Affine.rotation(self.angle)
        grid = GeoBox(self.shape, affine * Affine.scale(self.pixel, -self.pixel), self.zone)
        return scene(name, grid, split=self.split, group=self.group)


placed = st.builds(
    Placed,
    east=st.floats(-120, 120) | st.integers(-120, 120),
    north=st.floats(-120, 120) | st.integers(-120, 120),
    zone=st.sampled_from(["EPSG:32632", "EPSG:32633"]),
    pixel=st.sampled_from([10.0, 10.0, 15.0, 20.0]),
    angle=st.just(0.0) | st.floats(-60, 60),
    shape=st.tuples(st.integers(6, 90), st.integers(6, 90)),
    split=st.sampled_from(["auto", "auto", "auto", "by_scene", "by_scene", "development", "train", "test"]),
    group=st.sampled_from([None, None, None, "flood", "fire"]),
)


def lay_out(stacks, *, buffer, seed, overlap):
    shares = {"buffer": buffer, "validation": 0.2, "test": 0.2, "rng": np.random.default_rng(seed)}
    stacks = draw_scenes(stacks, **shares)
    auto = [stack for stack in stacks if stack.split == "auto"]
    plans = plan_blocks(auto, [stack for stack in stacks if stack.split != "auto"], block_size=20, **shares)
    windows = {}
    for stack in stacks:
        rows, cols = stack.geobox.shape
        if stack.split == "auto":
            found = list(plans[stack.name].windows(stack.geobox, size=SIZE, overlap=overlap))
        else:
            found = [(stack.split, row, col) for row in range(0, rows, SIZE) for col in range(0, cols, SIZE)]
        windows[stack.name] = [(split, row, col, SIZE, SIZE) for split, row, col in found]
    return stacks, windows


def pixels(stack, windows, split):
    """Geocentric positions (n, 3) of the middles of a scene's pixels that a split's patches show."""
    shown = np.zeros(stack.geobox.shape, bool)
    for name, row, col, height, width in windows:
        if name == split:
            shown[max(row, 0) : max(row + height, 0), max(col, 0) : max(col + width, 0)] = True
    rows, cols = np.nonzero(shown)
    a, b, c, d, e, f = tuple(stack.geobox.affine)[:6]
    x, y = a * (cols + 0.5) + b * (rows + 0.5) + c, d * (cols + 0.5) + e * (rows + 0.5) + f
    to_degrees = Transformer.from_crs(str(stack.geobox.crs), "EPSG:4979", always_xy=True)
    geocentric = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    return np.stack(geocentric.transform(*to_degrees.transform(x, y, np.zeros(len(x)))), axis=1)


def room(stacks, windows, *, buffer):
    """Least distance of the middles of pixels of two splits beyond the buffer, in pixels, by enumeration.

    Squares that are ``buffer`` apart have middles at least half a pixel further on each side, and at most half a
    diagonal. The scale of UTM differs from 1 by up to 0.1 % in the zones and places that are drawn.
    """
    least = np.inf
    shown = {(stack.name, split): pixels(stack, windows[stack.name], split) for stack in stacks for split in SPLITS}
    size = {stack.name: np.sqrt(abs(stack.geobox.affine.determinant)) for stack in stacks}
    for (one, split), ours in shown.items():
        for (other, another), theirs in shown.items():
            if SPLITS.index(split) < SPLITS.index(another) and len(ours) and len(theirs):
                distance = cKDTree(ours).query(theirs)[0].min()
                needed = buffer * max(size[one], size[other]) * (1 - 2e-3)
                least = min(least, (distance - needed) / (size[one] + size[other]))
    return least


@settings(max_examples=60)
@given(
    scenes=st.lists(placed, min_size=1, max_size=5),
    buffer=st.sampled_from([0, 1, 4, 12]),
    seed=st.integers(0, 2**16),
    overlap=st.sampled_from([0, 4]),
)
@example(
    scenes=[
        Placed(0, 0, "EPSG:32632", 10.0, 0.0, (80, 80), "auto", None),
        Placed(30, -25.5, "EPSG:32633", 10.0, 0.0, (80, 80), "auto", None),
        Placed(-30, 25.5, "EPSG:32632", 20.0, 30.0, (60, 60), "auto", None),
    ],
    buffer=4, seed=1, overlap=0,
)  # fmt: skip
def test_no_layout_of_scenes_leaks(scenes, buffer, seed, overlap):
    """The oracle measures all pixels geocentrically. Only splits that the user gives can leak: then it is refused."""
    stacks = [item.stack(f"s{number}") for number, item in enumerate(scenes)]
    try:
        stacks, windows = lay_out(stacks, buffer=buffer, seed=seed, overlap=overlap)
    except SplitError:
        return  # too few blocks, or contradictory wishes
    by_group = {}
    for stack in stacks:
        if stack.group is not None:
            assert by_group.setdefault(stack.group, stack.split) == stack.split
    least = room(stacks, windows, buffer=buffer)
    refused = ""
    try:
        check_scenes(windows, {stack.name: stack.geobox for stack in stacks}, buffer=buffer)
    except SplitError as error:
        refused = str(error)
    if {"train", "test"} <= {item.split for item in scenes}:
        assert least < 0.75 if refused else least > 0.49
    else:
        assert refused == ""
        assert least > 0.49
