"""The figure of maps: it shows the part that was observed, and tiles lie on their pixels."""

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from equipoise.pipeline.map_figure import PixelBox, map_figure, observed_box
from equipoise.pipeline.scene_options import ClassOptions

LEGEND = (ClassOptions(value=0, name="water", color="#2b6cb0"),)


def _layer(values: np.ndarray, *, pixel: float = 10.0) -> xr.DataArray:
    grid = GeoBox(values.shape, Affine(pixel, 0, 500_000, 0, -pixel, 5_000_000), "EPSG:32633")
    return wrap_xr(values, grid)


def _classes(rows: slice, cols: slice, *, shape: tuple[int, int] = (40, 60)) -> xr.DataArray:
    values = np.full(shape, 255, dtype=np.uint8)
    values[rows, cols] = 0
    return _layer(values)


def test_the_box_is_what_was_observed():
    found = observed_box(_classes(slice(5, 12), slice(20, 60)))
    assert found == PixelBox(top=5, left=20, bottom=12, right=60)
    assert (found.height, found.width) == (7, 40)
    assert observed_box(_classes(slice(0, 0), slice(0, 0))) == PixelBox(top=0, left=0, bottom=40, right=60)


@pytest.mark.parametrize("most", [60, 31, 7])
def test_the_box_of_a_thinned_map_holds_all_that_was_observed(most):
    step = -(-60 // most)
    for first in range(12):
        box = observed_box(_classes(slice(first, 33), slice(first, 60 - first)), most=most)
        assert box.top <= first <= box.top + step
        assert box.left <= first <= box.left + step
        assert box.bottom >= 33
        assert box.right >= 60 - first


def test_pictures_show_the_observed_part_with_tiles_on_their_pixels():
    classes = _classes(slice(8, 24), slice(16, 48))
    confidence = _layer(np.where(classes == 0, 0.7, np.nan).astype(np.float32))
    tiles = np.full((2, 5, 8), 0.5, dtype=np.float32)
    grid = _layer(tiles[0], pixel=80.0).odc.geobox
    reliance = wrap_xr(tiles, grid, axis=1, dims=("modality", "y", "x")).assign_coords(modality=["eo", "sar"])
    left, middle, right, *_ = map_figure(classes, confidence, reliance, legend=LEGEND).axes
    for axes in (left, middle, right):
        assert axes.get_xlim() == (16, 48)
        assert axes.get_ylim() == (24, 8)
    assert left.images[0].get_extent() == [0, 60, 40, 0]
    assert right.images[0].get_extent() == [0, 64, 40, 0], "8 tiles of 8 px reach over 60 px"
