"""Checked maps: what was written is what the file holds, or nobody is told that there is a map."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from equipoise.pipeline.checked_map import BandTotals, checked_map, read_totals, verify_map
from equipoise.pipeline.errors import PipelineError

GRID = GeoBox((70, 50), Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633")


def _write(path, values, *, grid=GRID, rows=16, **options):
    names = [f"band {number}" for number in range(len(values))]
    defaults = {"dtype": str(values.dtype), "nodata": 255, "overview_resampling": "mode", "tags": {}}
    with checked_map(path, grid, descriptions=names, **{**defaults, **options}) as writer:
        for top in range(0, values.shape[1], rows):
            writer.write(values[:, top : top + rows])
    return writer.totals


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_rows_in_order_make_the_map(tmp_path, dtype):
    values = (np.random.default_rng(0).random((2, 70, 50)) * 200).astype(dtype)
    if dtype == "float32":
        values[:, :3] = np.nan
    totals = _write(tmp_path / "map.tif", values, scale=0.5)
    with rasterio.open(tmp_path / "map.tif") as source:
        np.testing.assert_array_equal(source.read(), values)
        assert (source.scales, source.descriptions) == ((0.5, 0.5), ("band 0", "band 1"))
    assert totals[1].count == np.isfinite(values[1]).sum()
    assert totals[1].total == pytest.approx(np.nansum(values[1], dtype=np.float64))


@given(seed=st.integers(0, 1000), cut=st.integers(1, 39))
def test_totals_do_not_depend_on_the_order(seed, cut):
    values = np.random.default_rng(seed).normal(0, 10, 40).astype(np.float32)
    first, second = BandTotals(), BandTotals()
    first.add(values)
    for part in (values[cut:][::-1], values[:cut]):
        second.add(part)
    assert first.difference(second) is None


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    values = np.ones((1, 70, 50), np.uint8)
    totals = _write(tmp_path / "map.tif", values)
    path = tmp_path / "map.tif"
    verify_map(path, GRID, descriptions=["band 0"], totals=totals)
    assert totals[0].difference(read_totals(path, 1)) is None
    counts = totals[0].histogram.copy()
    counts[1:3] = 3499, 1
    for wrong, words in (
        (replace(totals[0], histogram=counts), "found 3500 pixels of value 1; wanted 3499"),
        (replace(totals[0], highest=2.0), "found highest 1.0; wanted 2.0"),
        (replace(totals[0], total=3501.0), "found sum 3500.0; wanted 3501.0"),
    ):
        with pytest.raises(PipelineError, match=words):
            verify_map(path, GRID, totals=[wrong])
    with pytest.raises(PipelineError, match="found bands"):
        verify_map(path, GRID, descriptions=["other"])
    with pytest.raises(PipelineError, match="found grid"):
        verify_map(path, GRID.translate_pix(1, 0))
    with pytest.raises(PipelineError, match="found CRS"):
        verify_map(path, GeoBox(GRID.shape, GRID.affine, "EPSG:32632"))


def test_a_map_that_lacks_rows_is_refused(tmp_path):
    def lacking():
        with checked_map(
            tmp_path / "map.tif", GRID, descriptions=["a"], dtype="uint8", nodata=255, overview_resampling="mode",
            tags={},
        ) as writer:  # fmt: skip
            writer.write(np.ones((1, 60, 50), np.uint8))

    with pytest.raises(PipelineError, match="wanted 0"):
        lacking()
