"""Terrain correction: planted ground under planted hills, tie points where it is flat, sarsen as a whole."""

import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_orbit import Geometry
from fake_sentinel1 import FakeGrd, centres, displacement
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from strategies import north_up, write_tiff

from equipoise.datasets.errors import SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.sentinel1 import open_sentinel1
from equipoise.datasets.terrain import terrain_corrected

FAKE = FakeGrd()
SMALL = Geometry(shape=(200, 250))


def radar(*names: str) -> Modality:
    return Modality(name="sar", bands=tuple(Band(name=name, unit=Unit.LINEAR_POWER) for name in names))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAKE.write(tmp_path_factory.mktemp("grd"))


def hill(easting: NDArray[np.float64], northing: NDArray[np.float64]) -> NDArray[np.float64]:
    return 300 + 200 * np.sin(2 * np.pi * easting / 3000) * np.cos(2 * np.pi * northing / 4000)


def _dem(path: Path, geobox: GeoBox, terrain) -> Path:
    box = geobox.boundingbox
    grid = north_up(300, 330, pixel=15.0, left=box.left - 600, top=box.top + 600, crs=str(geobox.crs))
    return write_tiff(path, terrain(*centres(grid))[None].astype(np.float32), grid)


def test_the_ground_is_found_under_hills(tmp_path):
    pytest.importorskip("sarsen")  # an optional extra
    fake = FakeGrd(geometry=SMALL, terrain=hill)
    path = fake.write(tmp_path)
    by_points = open_sentinel1(path, radar("VV"))
    scene = terrain_corrected(path, radar("VV"), _dem(tmp_path / "dem.tif", by_points.geobox, hill))
    truth = fake.expected(*centres(scene.geobox), "VV")
    assert np.hypot(*displacement(scene.read()[0], truth, 10.0)) < 3  # metres; tie points alone lie off by 450 m
    assert np.nanmedian(np.abs(scene.read()[0] / truth - 1)) < 0.02
    assert np.nanmedian(np.abs(by_points.read()[0] / truth - 1)) > 0.2
    # Heights above sea level, 45 m above the ellipsoid there.
    low = _dem(tmp_path / "low.tif", by_points.geobox, lambda *place: hill(*place) - 45)
    lifted = terrain_corrected(path, radar("VV"), low, geoid_height=45.0)
    np.testing.assert_allclose(lifted.read(), scene.read(), rtol=1e-3)


def test_where_it_is_flat_tie_points_and_elevations_agree(product, tmp_path):
    pytest.importorskip("sarsen")  # an optional extra
    modality = radar("VV", "VH")
    plain = open_sentinel1(product, modality)
    grid = north_up(
        80, 90, pixel=100.0, left=plain.geobox.affine.c - 900, top=plain.geobox.affine.f + 900, crs=FAKE.crs
    )
    level = write_tiff(tmp_path / "level.tif", np.zeros((1, *grid.shape), np.float32), grid)
    scene = terrain_corrected(product, modality, level)
    corrected = scene.read()
    both = np.isfinite(corrected) & np.isfinite(plain.read())
    assert both.sum() > 0.98 * np.isfinite(plain.read()).sum()
    np.testing.assert_allclose(corrected[both], plain.read()[both], rtol=0.02)
    assert "level.tif" in scene.provenance["geocoding"]
    # Coarse pixels are means, and blocks do not matter.
    coarse = terrain_corrected(product, modality, level, resolution=40.0)
    ratio = coarse.read() / open_sentinel1(product, modality, resolution=40.0).read()
    assert np.nanmedian(np.abs(ratio - 1)) < 5e-3
    np.testing.assert_allclose(coarse.read((slice(30, 50), slice(40, 60))), coarse.read()[:, 30:50, 40:60], rtol=1e-4)


def test_without_an_elevation_there_is_no_pixel(product, tmp_path):
    pytest.importorskip("sarsen")  # an optional extra
    plain = open_sentinel1(product, radar("VV"))
    heights = np.zeros((1, *plain.geobox.shape), np.float32)
    heights[:, :, :300] = -9999
    dem = write_tiff(tmp_path / "half.tif", heights, plain.geobox, nodata=-9999)
    seen = np.isfinite(terrain_corrected(product, radar("VV"), dem).read()[0])
    assert not seen[:, :299].any()
    assert seen[:, 301:].mean() > 0.5


def test_terrain_correction_is_that_of_sarsen_as_a_whole(tmp_path):
    sarsen = pytest.importorskip("sarsen")
    path = FakeGrd(geometry=SMALL, terrain=hill).write(tmp_path)
    geobox = open_sentinel1(path, radar("VV")).geobox
    dem = write_tiff(tmp_path / "dem.tif", hill(*centres(geobox))[None].astype(np.float32), geobox)
    ours = terrain_corrected(path, radar("VV"), dem, calibration="beta0", remove_noise=False).read()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sarsen's own, of its dependencies
        reader = sarsen.Sentinel1SarProduct(str(path), measurement_group="IW/VV")
        sarsen.terrain_correction(reader, str(dem), output_urlpath=str(tmp_path / "gtc.tif"), interp_method="linear")
    with rasterio.open(tmp_path / "gtc.tif") as file:
        theirs = file.read(1)[::-1]  # sarsen writes south-up
    seen = np.isfinite(ours) & np.isfinite(theirs)
    assert seen.sum() > 0.99 * np.isfinite(theirs).sum()
    np.testing.assert_allclose(ours[seen], theirs[seen], rtol=1e-3)


def test_what_cannot_be_used_is_refused(product, tmp_path):
    pytest.importorskip("sarsen")  # an optional extra
    with pytest.raises(SceneError, match="no elevation model that opens"):
        terrain_corrected(product, radar("VV"), tmp_path / "nothing.tif")
    bare = write_tiff(tmp_path / "bare.tif", np.zeros((1, 4, 4), np.float32), north_up(4, 4, crs=None))
    with pytest.raises(SceneError, match="found no CRS"):
        terrain_corrected(product, radar("VV"), bare)
    for number, (name, message) in enumerate({"orbit": "state vectors", "srgrCoefficients": "srgrCoeff"}.items()):
        change = {"s1a": lambda text, name=name: re.sub(rf"<{name}[ >].*?</{name}>", "", text)}
        damaged = replace(FAKE, geometry=SMALL, edit=change).write(tmp_path / str(number))
        with pytest.raises(SceneError, match=message):
            terrain_corrected(damaged, radar("VV"), bare)


def test_without_the_extra_it_is_said_what_to_install(product, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sarsen", None)
    with pytest.raises(SceneError, match="extra 'terrain'"):
        terrain_corrected(product, radar("VV"), tmp_path / "dem.tif")
