"""Chunk layout: chunks tile a scene, and each has the windows of the whole that weigh on its pixels; bands are cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from equipoise.pipeline.band_crop import BandCrop
from equipoise.pipeline.batch.chunk_layout import ChunkLayout
from equipoise.pipeline.map_files import Band
from equipoise.pipeline.mosaic import WindowGrid, blend_profile
from equipoise.pipeline.stage_options import PredictOptions


@st.composite
def options(draw: st.DrawFn) -> PredictOptions:
    """Windows of every kind that the options allow: any halo, any tile of reliance that divides the stride."""
    tile = draw(st.integers(32, 160))
    overlap = 2 * draw(st.integers(0, tile // 4))
    stride = tile - overlap
    divisors = [size for size in range(8, stride + 1) if stride % size == 0]
    halo = draw(st.none() | st.sampled_from([0, overlap // 2]) | st.integers(0, overlap // 2))
    return PredictOptions(tile=tile, overlap=overlap, halo=halo, reliance_tile=draw(st.sampled_from(divisors)))


def _windows(length: int, chosen: PredictOptions) -> dict[int, tuple[int, int]]:
    """Origin of each window along a side -> first and one past the last pixel where its weight is not zero."""
    grid = WindowGrid(
        rows=length, cols=length, tile=chosen.tile, overlap=chosen.overlap, halo=chosen.chosen_halo
    )  # fmt: skip
    weighty = np.flatnonzero(blend_profile(chosen.tile, chosen.overlap, chosen.chosen_halo))
    return {col: (col + weighty[0], col + weighty[-1] + 1) for _, col in grid.origins(0)}


MANY = {
    "chosen": options(),
    "edge": st.integers(1, 600),
    "length": st.integers(1, 900) | st.sampled_from([1, 2, 31, 32, 33, 127, 128, 129]),
}


@given(**MANY)
def test_cuts_tile_the_length_on_the_lattice_of_reliance(chosen, edge, length):
    layout = ChunkLayout.of(chosen, edge=edge)
    cuts = layout.cuts(length)
    pixels = [pixel for start, end, _, _ in cuts for pixel in range(start, end)]
    assert pixels == list(range(length))
    assert all(start % chosen.reliance_tile == 0 for start, *_ in cuts)
    assert all(end - start <= layout.edge for start, end, _, _ in cuts)
    assert all(end - start == layout.edge for start, end, _, _ in cuts[1:-1])
    assert all(start - before >= 0 and end + after <= length for start, end, before, after in cuts)


@settings(max_examples=200)
@given(**MANY)
@example(chosen=PredictOptions(tile=96, overlap=48, halo=24, reliance_tile=48), edge=48, length=500)
@example(chosen=PredictOptions(tile=96, overlap=48, halo=0, reliance_tile=48), edge=48, length=500)
@example(chosen=PredictOptions(tile=96, overlap=32, halo=0, reliance_tile=16), edge=64, length=64)
@example(chosen=PredictOptions(tile=96, overlap=0, reliance_tile=32), edge=96, length=97)
def test_a_chunk_has_the_windows_that_weigh_on_it_and_on_the_same_lattice(chosen, edge, length):
    layout, whole = ChunkLayout.of(chosen, edge=edge), _windows(length, chosen)
    for start, end, before, after in layout.cuts(length):
        shift = start - before
        own = {origin + shift for origin in _windows(end + after - shift, chosen)}
        wanted = {origin for origin, (first, last) in whole.items() if first < end and last > start}
        assert wanted <= own <= set(whole)
        assert shift % layout.stride == 0
        # Memory and time: one row of windows more on each side at most.
        assert len(own - wanted) <= 2


@given(chosen=options(), edge=st.integers(1, 600))
def test_an_edge_is_the_nearest_number_of_whole_windows(chosen, edge):
    layout = ChunkLayout.of(chosen, edge=edge)
    assert layout.stride == chosen.tile - chosen.overlap
    assert layout.edge % layout.stride == 0
    assert abs(layout.edge - edge) <= max(layout.stride / 2, layout.stride - edge)
    assert layout.margin == chosen.overlap // 2
    assert {layout.lead % chosen.reliance_tile, layout.trail % chosen.reliance_tile} == {0}
    assert 0 < min(layout.lead, layout.trail) <= max(layout.lead, layout.trail) <= layout.stride


@given(chosen=options(), edge=st.integers(1, 400), column=st.integers(0, 50))
def test_chunks_of_an_endless_lattice_have_the_windows_of_each_other(chosen, edge, column):
    """The world grid: every chunk has its lead and trail, and neighbours agree on where windows are."""
    layout = ChunkLayout.of(chosen, edge=edge)
    weighty = np.flatnonzero(blend_profile(chosen.tile, chosen.overlap, chosen.chosen_halo))
    start = column * layout.edge
    own = {origin + start - layout.lead for origin in _windows(layout.lead + layout.edge + layout.trail, chosen)}
    first = -layout.lead - layout.margin - 20 * layout.stride
    lattice = range(first, start + 2 * layout.edge + 999, layout.stride)
    wanted = {
        origin for origin in lattice
        if origin + weighty[0] < start + layout.edge and origin + weighty[-1] + 1 > start
    }  # fmt: skip
    assert wanted <= own <= set(lattice)


def test_half_a_window_more_costs_one_row_of_windows_and_not_two():
    halves = ChunkLayout.of(PredictOptions(tile=256, overlap=64, reliance_tile=32), edge=2048)
    assert (halves.edge, halves.lead, halves.trail, halves.shift) == (2112, 96, 96, 96)
    whole = ChunkLayout.of(PredictOptions(tile=256, overlap=64, reliance_tile=192), edge=2048)
    assert (whole.edge, whole.lead, whole.trail, whole.shift) == (2112, 192, 192, 0)


def _bands(grid: WindowGrid, tile: int, rng: np.random.Generator) -> tuple[Band, list[Band]]:
    """Maps of a whole scene with numbers in them, and the rows that each row of windows finishes."""
    rows, cols, high, wide = grid.rows, grid.cols, -(-grid.rows // tile), -(-grid.cols // tile)
    whole = Band(
        classes=rng.integers(0, 255, (rows, cols), dtype=np.uint8),
        confidence=rng.random((rows, cols), dtype=np.float32),
        reliance=rng.random((2, high, wide), dtype=np.float32),
        probability=rng.integers(0, 255, (3, rows, cols), dtype=np.uint8),
        contribution=rng.random((3, high, wide), dtype=np.float32),
    )
    parts, tiles = [], grid.stride // tile
    for row in range(grid.row_count):
        first, last = grid.finished_rows(row)
        parts.append(
            Band(
                classes=whole.classes[first:last], confidence=whole.confidence[first:last],
                reliance=whole.reliance[:, row * tiles : (row + 1) * tiles],
                probability=whole.probability[:, first:last],
                contribution=whole.contribution[:, row * tiles : (row + 1) * tiles],
            )
        )  # fmt: skip
    return whole, parts


@given(chosen=options(), data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_bands_cut_row_by_row_are_the_whole_cut_once(chosen, data, seed):
    tile = chosen.reliance_tile
    rows, cols = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    grid = WindowGrid(rows=rows, cols=cols, tile=chosen.tile, overlap=chosen.overlap, halo=chosen.chosen_halo)
    top, left = (tile * data.draw(st.integers(0, (length - 1) // tile)) for length in (rows, cols))
    bottom, right = data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, cols))
    whole, parts = _bands(grid, tile, np.random.default_rng(seed))
    crop = BandCrop(grid, kept=(slice(top, bottom), slice(left, right)), tile=tile)
    cut = [crop(row, band) for row, band in enumerate(parts)]
    tiles = (slice(None), slice(top // tile, -(-bottom // tile)), slice(left // tile, -(-right // tile)))
    pixels = (slice(None), slice(top, bottom), slice(left, right))
    for name in ("classes", "confidence"):
        joined = np.concatenate([getattr(band, name) for band in cut])
        np.testing.assert_array_equal(joined, getattr(whole, name)[pixels[1:]])
    np.testing.assert_array_equal(np.concatenate([band.probability for band in cut], axis=1), whole.probability[pixels])
    for name in ("reliance", "contribution"):
        joined = np.concatenate([getattr(band, name) for band in cut], axis=1)
        np.testing.assert_array_equal(joined, getattr(whole, name)[tiles])


@pytest.mark.parametrize("with_more", [False, True])
def test_nothing_is_cut_where_all_is_kept(with_more):
    grid = WindowGrid(rows=70, cols=50, tile=48, overlap=16)
    _, parts = _bands(grid, 16, np.random.default_rng(0))
    band = parts[1] if with_more else replace(parts[1], probability=None, contribution=None)
    assert BandCrop(grid, kept=None, tile=16)(1, band) is band
    cut = BandCrop(grid, kept=(slice(0, 70), slice(0, 50)), tile=16)(1, band)
    assert (cut.probability is not None, cut.contribution is not None) == (with_more, with_more)
    np.testing.assert_array_equal(cut.classes, band.classes)
    np.testing.assert_array_equal(cut.reliance, band.reliance)
