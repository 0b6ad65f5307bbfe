"""Layout of blocks: they cover the image, lie inside it, stay few, and each is read once."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import north_up

from equipoise.pipeline.block_layout import MOST_BLOCKS, TOGETHER, layouts

EDGES = st.sampled_from([1, 2, 3, 7, 19, 20, 21, 61, 127, 319, 320, 641, 1009, 10_980]) | st.integers(1, 2500)


def blocks_of(layout):
    return np.stack(np.meshgrid(layout.rows, layout.cols, indexing="ij"), axis=-1).reshape(-1, 2)


@given(height=EDGES, width=EDGES, radius_px=st.floats(0, 60), pixel=st.sampled_from([0.5, 10.0, 30.0]))
@example(height=1, width=1, radius_px=25.0, pixel=10.0)
@settings(max_examples=150)
def test_blocks_lie_inside_the_image_and_cover_it(height, width, radius_px, pixel):
    levels = layouts(north_up(height, width, pixel=pixel), radius_m=radius_px * pixel)
    assert levels
    zooms = [layout.zoom for layout in levels]
    assert zooms == sorted(zooms, reverse=True)
    # The first level looks as far as was asked for, or until nothing but a block would be left in common.
    farthest = min(height, width) // levels[0].zoom - levels[0].size
    assert levels[0].radius * levels[0].zoom >= min(radius_px, farthest * levels[0].zoom)
    for layout in levels:
        assert layout.size >= 1
        assert layout.radius >= 1
        for edge, starts in ((height // layout.zoom, layout.rows), (width // layout.zoom, layout.cols)):
            assert 1 <= len(starts) <= MOST_BLOCKS
            assert starts[0] == 0
            assert starts[-1] + layout.size == edge  # no block reaches beyond it, and none of it is left out
            steps = np.diff(starts)
            assert (steps >= 0).all()
            if len(starts) < MOST_BLOCKS:  # else the image is so large that blocks may lie apart
                assert (steps <= layout.size).all()


@given(height=EDGES, width=EDGES)
@settings(max_examples=100)
def test_every_block_is_in_one_group_and_groups_are_small(height, width):
    for layout in layouts(north_up(height, width), radius_m=100):
        groups = list(layout.groups())
        found = np.concatenate(groups)
        np.testing.assert_array_equal(found[np.lexsort(found.T[::-1])], blocks_of(layout))
        for group in groups:
            extent = np.ptp(group, axis=0) + layout.size
            assert extent.max() <= max(TOGETHER, layout.size)


@pytest.mark.parametrize("edge", [257, 500, 1009])
def test_neighbours_are_read_together(edge):
    """Otherwise each pixel would be read as often as blocks overlap."""
    for layout in layouts(north_up(edge, edge), radius_m=100):
        groups = list(layout.groups())
        read = sum(int(np.prod(np.ptp(group, axis=0) + layout.size)) for group in groups)
        assert read < 2 * (edge / layout.zoom) ** 2
        assert read <= layout.size**2 * len(blocks_of(layout))


def test_blocks_that_lie_apart_are_read_alone():
    finest = layouts(north_up(20_000, 20_000), radius_m=100)[-1]
    assert (np.diff(finest.rows) > finest.size).all()
    assert all(len(group) == 1 for group in finest.groups())


@given(edge=st.integers(100, 3000))
@settings(max_examples=30)
def test_blocks_are_many_enough_for_a_field(edge):
    for layout in layouts(north_up(edge, edge), radius_m=100):
        assert min(len(layout.rows), len(layout.cols)) >= 2


@pytest.mark.parametrize("pixel", [0.5, 10.0])
def test_details_come_from_the_number_of_pixels_and_not_from_their_size(pixel):
    layout = layouts(north_up(1000, 700, pixel=pixel), radius_m=20 * pixel)
    other = layouts(north_up(1000, 700, pixel=30.0), radius_m=600)
    assert [(one.zoom, one.size, one.radius) for one in layout] == [(one.zoom, one.size, one.radius) for one in other]


def test_south_up_grids_are_searched_as_far():
    upright = layouts(north_up(300, 300), radius_m=200)
    turned = layouts(north_up(300, 300).flipy().flipx(), radius_m=200)
    assert [one.radius for one in upright] == [one.radius for one in turned]
