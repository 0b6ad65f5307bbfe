"""Spatial splits: no layout leaks, planted leaks are refused, small and odd grids give what they can."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.datasets.errors import DatasetError, SplitError
from equipoise.datasets.leakage import check_leakage
from equipoise.datasets.splits import FREE, SPLITS, UNUSED, BlockSplit, Region, origins, split_blocks


def split_of(shape, *, block_size=64, buffer=8, validation=0.2, test=0.2, seed=0):
    rng = np.random.default_rng(seed)
    return split_blocks(shape, block_size=block_size, buffer=buffer, validation=validation, test=test, rng=rng)


def split_or_reject(layout):
    """Draw another layout where there is nothing to split."""
    try:
        return split_of(**layout)
    except SplitError:
        reject()


def windows_of(split, *, size, overlap):
    return [
        (region.split, row, col, size, size)
        for region in split.regions()
        for row, col in origins(region, size=size, overlap=overlap, shape=split.shape)
    ]


def painted(windows, shape, split):
    """Pixels of the grid that a split's patches touch."""
    out = np.zeros(shape, dtype=bool)
    for name, row, col, height, width in windows:
        if name == split:
            out[max(row, 0) : max(row + height, 0), max(col, 0) : max(col + width, 0)] = True
    return out


layouts = st.fixed_dictionaries(
    {
        "shape": st.tuples(*[st.integers(1, 400) | st.sampled_from([131, 257, 399])] * 2),
        "block_size": st.sampled_from([20, 50, 64, 128]),
        "buffer": st.sampled_from([0, 1, 8, 20]),
        "validation": st.sampled_from([0.1, 0.2, 0.4]),
        "test": st.sampled_from([0.1, 0.3, 0.5]),
        "seed": st.integers(0, 2**16),
    }
)


@given(layout=layouts, size=st.integers(12, 80), overlap_share=st.sampled_from([0.0, 0.5]))
@example(
    layout={"shape": (130, 256), "block_size": 64, "buffer": 20, "validation": 0.2, "test": 0.3, "seed": 0},
    size=32,
    overlap_share=0.0,
)
def test_no_layout_leaks(layout, size, overlap_share):
    """Told by drawing the patches, not by the check that the product itself makes."""
    split = split_or_reject(layout)
    windows = windows_of(split, size=size, overlap=int(size * overlap_share))
    check_leakage(windows, buffer=layout["buffer"])
    drawn = [painted(windows, layout["shape"], name) for name in SPLITS]
    for first, second in itertools.permutations(drawn, 2):
        grown = ndimage.maximum_filter(first, 2 * layout["buffer"] + 1, mode="constant", cval=0)
        assert not (second & grown).any()


@given(layout=layouts, size=st.integers(8, 80))
def test_every_patch_shows_some_of_its_own_ground(layout, size):
    """A patch may reach beyond the grid, but never beyond its region inside it, and never lies wholly outside."""
    split = split_or_reject(layout)
    rows, cols = split.shape
    for region in split.regions():
        for row, col in origins(region, size=size, overlap=0, shape=split.shape):
            top, left, bottom, right = max(row, 0), max(col, 0), min(row + size, rows), min(col + size, cols)
            assert top < bottom
            assert left < right
            assert region.top <= top
            assert region.left <= left
            assert bottom <= region.bottom
            assert right <= region.right


@given(layout=layouts)
def test_the_smaller_splits_keep_their_ground_and_regions_never_overlap(layout):
    split = split_or_reject(layout)
    seen = np.zeros(split.shape, dtype=int)
    blocks = itertools.product(*map(range, split.assignment.shape))
    for (row, col), region in zip(blocks, split.regions(), strict=True):
        assert region.split == SPLITS[split.assignment[row, col]]
        seen[max(region.top, 0) : max(region.bottom, 0), max(region.left, 0) : max(region.right, 0)] += 1
        if region.split == "test":
            block = layout["block_size"]
            assert (region.top, region.left) == (row * block, col * block)
            assert region.bottom == min((row + 1) * block, split.shape[0])
            assert region.right == min((col + 1) * block, split.shape[1])
    assert seen.max() <= 1
    if layout["buffer"] == 0:
        assert seen.min() == 1


def test_shares_are_those_asked_for_and_each_split_gets_a_block():
    split = split_of((1000, 1000), block_size=100, validation=0.15, test=0.25)
    assert np.bincount(split.assignment.ravel()).tolist() == [60, 15, 25]
    assert np.bincount(split_of((64, 192)).assignment.ravel()).tolist() == [1, 1, 1]
    assert split.assignment.dtype == np.int8


def test_equal_seeds_give_equal_splits_and_others_do_not():
    first, again, other = (split_of((640, 640), seed=seed).assignment for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("shape", [(64, 64), (10, 128), (1, 1)])
def test_a_grid_of_fewer_than_three_blocks_is_refused(shape):
    with pytest.raises(SplitError, match=rf"split blocks of 64 px on a grid of {shape[1]} x {shape[0]} px.*block_size"):
        split_of(shape)
    assert issubclass(SplitError, DatasetError)


def test_the_buffer_lies_on_the_side_of_the_larger_split():
    """Hand-made: train | validation over test | train, blocks of 10, buffer of 2."""
    split = BlockSplit(shape=(20, 20), block_size=10, buffer=2, assignment=np.array([[0, 1], [2, 0]], np.int8))
    assert list(split.regions()) == [
        Region(split="train", top=0, left=0, bottom=8, right=8),
        Region(split="validation", top=0, left=10, bottom=8, right=20),
        Region(split="test", top=10, left=0, bottom=20, right=10),
        Region(split="train", top=12, left=12, bottom=20, right=20),
    ]


@given(
    first=st.integers(0, 50), length=st.integers(1, 150), size=st.integers(1, 60),
    overlap_share=st.floats(0.0, 0.95), beyond=st.integers(1, 90),
)  # fmt: skip
def test_patches_cover_a_region_that_has_room(first, length, size, overlap_share, beyond):
    overlap = int(size * overlap_share)
    region = Region(split="train", top=first, left=0, bottom=first + length, right=size)
    rows = sorted(
        {row for row, _ in origins(region, size=size, overlap=overlap, shape=(first + length + beyond, 10**6))}
    )
    if length < size:
        # At the grid's upper edge a patch may stick out; in the middle there is no room for one.
        assert rows == ([first + length - size] if first == 0 else [])
        return
    assert rows[0] == first
    assert rows[-1] == first + length - size
    assert all(later - earlier <= size - overlap for earlier, later in itertools.pairwise(rows))


def test_a_small_region_at_the_grids_edge_gets_a_patch_that_reaches_beyond():
    region = Region(split="test", top=96, left=0, bottom=100, right=40)
    assert list(origins(region, size=32, overlap=0, shape=(100, 40))) == [(96, 0), (96, 8)]


def test_a_region_that_the_buffer_ate_gets_none():
    """Last row of blocks 2 px high, buffer 20: the region ends before it begins."""
    region = Region(split="train", top=148, left=0, bottom=130, right=64)
    assert list(origins(region, size=32, overlap=0, shape=(130, 64))) == []
    eaten = Region(split="train", top=0, left=0, bottom=-4, right=64)
    assert list(origins(eaten, size=32, overlap=0, shape=(130, 64))) == []


def test_a_buffer_wider_than_a_block_is_refused():
    """It would have to keep blocks apart that are not neighbours."""
    with pytest.raises(SplitError, match=r"buffer of 20 px around split blocks of 16 px.*block_size"):
        split_of((200, 200), block_size=16, buffer=20)
    split_of((200, 200), block_size=20, buffer=20)


def test_blocks_that_are_settled_stay_and_the_rest_makes_up_the_shares():
    given = np.full((4, 5), FREE, np.int8)
    given[0], given[3, :2] = SPLITS.index("test"), UNUSED
    rng = np.random.default_rng(0)
    split = split_blocks((80, 100), block_size=20, buffer=4, validation=0.2, test=0.2, rng=rng, given=given)
    assert (split.assignment[0] == SPLITS.index("test")).all()
    assert (split.assignment[3, :2] == -1).all()
    # 18 blocks: 4 for test, which are there already, and 4 for validation.
    assert np.bincount(split.assignment[split.assignment >= 0]).tolist() == [9, 4, 5]
    assert len(list(split.regions())) == 18
    assert len(list(split.regions(range(3, 4), range(1, 4)))) == 2
