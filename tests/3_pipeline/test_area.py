"""Areas: a map is cut on the scene's own grid, and holds what was asked for and no more."""

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import Point, Polygon, box

from equipoise.pipeline.area import scene_area
from equipoise.pipeline.errors import PipelineError

GRID = GeoBox((80, 120), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), "EPSG:32633")
TURNED = GeoBox((80, 120), GRID.affine * Affine.rotation(30), "EPSG:32633")


def _around(col, row, *, grid=GRID, size=20):
    x, y = grid.affine * (col, row)
    return x, y, x + 10 * size, y + 10 * size


def test_without_a_wish_it_is_the_whole_scene():
    area = scene_area(GRID)
    assert (area.geobox, area.row, area.col, area.outline) == (GRID, 0, 0, None)
    assert area.inside(0, 0, height=80, width=120).all()


@given(left=st.integers(0, 119), top=st.integers(0, 79), width=st.integers(1, 200), height=st.integers(1, 200))
def test_bounds_on_pixel_edges_give_those_pixels(left, top, width, height):
    (west, north), (east, south) = (GRID.affine * (left, top), GRID.affine * (left + width, top + height))
    area = scene_area(GRID, bbox=(west, south, east, north))
    assert area.geobox == GRID[top : min(top + height, 80), left : min(left + width, 120)]
    assert (area.row, area.col) == (top, left)


def test_a_part_of_a_pixel_asks_for_all_of_it():
    area = scene_area(GRID, bbox=(500_101.0, 4_999_801.0, 500_119.0, 4_999_899.0))
    assert area.geobox == GRID[10:20, 10:12]


@pytest.mark.parametrize("grid", [GRID, TURNED])
def test_longitude_and_latitude_hold_all_that_was_asked_for(grid):
    x, y = grid.affine * (50, 40)
    lon, lat = Transformer.from_crs(grid.crs.proj, "EPSG:4326", always_xy=True).transform(x, y)
    area = scene_area(grid, bbox=(lon - 1e-3, lat - 5e-4, lon + 1e-3, lat + 5e-4))
    to_grid = Transformer.from_crs("EPSG:4326", grid.crs.proj, always_xy=True)
    for corner in ((-1e-3, -5e-4), (-1e-3, 5e-4), (1e-3, -5e-4), (1e-3, 5e-4)):
        col, row = ~area.geobox.affine * to_grid.transform(lon + corner[0], lat + corner[1])
        assert -1e-6 <= col <= area.geobox.shape[1] + 1e-6
        assert -1e-6 <= row <= area.geobox.shape[0] + 1e-6
    assert area.geobox.shape[0] < 40


def test_a_scene_elsewhere_has_none_of_it():
    assert scene_area(GRID, bbox=(0.0, 0.0, 100.0, 100.0)) is None
    assert scene_area(GRID, bbox=(600_000.0, 0.0, 700_000.0, 6_000_000.0)) is None


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857"])
def test_pixels_of_an_outline_are_those_whose_centre_it_holds(tmp_path, crs):
    corners = [GRID.affine * corner for corner in ((20.3, 10.2), (90.1, 30.7), (40.6, 70.9))]
    shape = Polygon(corners)
    gpd.GeoDataFrame(geometry=[shape], crs="EPSG:32633").to_crs(crs).to_file(tmp_path / "aoi.gpkg")
    area = scene_area(GRID, aoi=tmp_path / "aoi.gpkg")
    assert area.geobox == GRID[10:71, 20:91]
    found = area.inside(-3, -2, height=70, width=80)
    distance = np.empty(found.shape)
    truth = np.empty(found.shape, bool)
    for row, col in np.ndindex(*found.shape):
        point = Point(area.geobox.affine * (col - 2 + 0.5, row - 3 + 0.5))
        truth[row, col], distance[row, col] = shape.contains(point), shape.exterior.distance(point)
    clear = distance > 0.05  # m: the outline has been to another CRS and back
    np.testing.assert_array_equal(found[clear], truth[clear])
    assert clear.mean() > 0.98


def test_what_lies_beyond_the_map_is_not_inside():
    area = scene_area(GRID, bbox=_around(30, 50))
    found = area.inside(-5, -5, height=100, width=100)
    assert found.sum() == np.prod(area.geobox.shape)
    assert found[5:25, 5:25].all()


def test_several_polygons_with_a_hole_are_one_area(tmp_path):
    whole = box(*_around(10, 40, size=30))
    parts = [whole.difference(whole.buffer(-100)), box(*_around(80, 20, size=10))]
    gpd.GeoDataFrame(geometry=parts, crs="EPSG:32633").to_file(tmp_path / "aoi.gpkg")
    area = scene_area(GRID, aoi=tmp_path / "aoi.gpkg")
    found = area.inside(0, 0, height=area.geobox.shape[0], width=area.geobox.shape[1])
    assert abs(int(found.sum()) - (30 * 30 - 10 * 10 + 10 * 10)) < 5


def test_a_scene_without_a_position_cannot_be_cut():
    with pytest.raises(PipelineError, match="without a position"):
        scene_area(GeoBox((9, 9), Affine.identity(), None), bbox=(0.0, 0.0, 1.0, 1.0))
