"""The synthetic scene as a catalog: found by a search, with the values and clouds of its files."""

from datetime import UTC, datetime

import numpy as np
import pystac
import pytest
import rasterio
from shapely.geometry import box

from equipoise.datasets.catalog import search_items
from equipoise.datasets.synthetic import write_scene
from equipoise.datasets.synthetic_catalog import write_catalog

WORLD = box(-180, -80, 180, 80)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = write_scene(tmp_path_factory.mktemp("catalog"), size=128)
    assert write_catalog(made, day="2024-07-10") == made.folder
    return made


def _found(scene, collection: str):
    (item,) = search_items(
        str(scene.folder), area=WORLD, start=datetime(2024, 7, 10, tzinfo=UTC), end=datetime(2024, 7, 11, tzinfo=UTC),
        collections=[collection],
    )  # fmt: skip
    return item


def test_both_sensors_are_found_where_the_scene_lies(scene):
    optical, radar = _found(scene, "sentinel-2-l2a"), _found(scene, "sentinel-1-rtc")
    with rasterio.open(scene.paths["eo"]) as source:
        west, south, east, north = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    assert optical.footprint.bounds == pytest.approx((west, south, east, north), abs=1e-4)
    assert radar.footprint.equals(optical.footprint)
    assert [band.name for band in optical.assets["image"].bands] == ["blue", "green", "red", "nir"]
    assert {band.scale for band in optical.assets["image"].bands} == {1e-4}
    assert [band.name for band in radar.assets["image"].bands] == ["vv", "vh"]


def test_clouds_are_those_of_the_scene(scene):
    with rasterio.open(scene.clouds) as source:
        clouds = source.read(1)
    with rasterio.open(scene.folder / "scl.tif") as source:
        classes = source.read(1)
    for code, meaning in {0: 4, 1: 10, 2: 9, 3: 3, 255: 0}.items():
        np.testing.assert_array_equal(classes == meaning, clouds == code)
    assert _found(scene, "sentinel-2-l2a").cloud == pytest.approx(np.isin(clouds, (1, 2, 3)).mean())


def test_other_programs_read_it(scene):
    catalog = pystac.Catalog.from_file(scene.folder / "catalog.json")
    assert {item.id for item in catalog.get_items(recursive=True)} == {"optical", "radar"}
