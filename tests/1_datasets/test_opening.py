"""Opening: what the user names is recognised, and clouds, speckle and quality files are handled as declared."""

from pathlib import Path

import numpy as np
import pytest
from fake_landsat import write_landsat
from fake_orbit import Geometry
from fake_sentinel1 import FakeGrd
from fake_sentinel2 import write_safe, zip_safe
from strategies import north_up, write_tiff

from equipoise.datasets.errors import SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.opening import Handling, family_of, open_scene
from equipoise.datasets.quality import Quality, QualityScheme
from equipoise.datasets.scene import check_scene
from equipoise.datasets.source import Source
from equipoise.datasets.speckle import SpeckleFilter

KEEP = Handling(clouds="keep")


def _modality(unit: Unit, *names: str) -> Modality:
    return Modality(name="m", bands=tuple(Band(name=name, unit=unit) for name in names))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_sentinel_2_product_gives_reflectance_with_clouds_masked(tmp_path, zipped):
    safe = write_safe(tmp_path, np.random.default_rng(0))
    path = zip_safe(safe) if zipped else safe.path
    scene = open_scene(path, _modality(Unit.REFLECTANCE, "red", "nir"))
    check_scene(scene)
    values, codes = scene.read(), scene.read_quality()
    clear = codes == Quality.CLEAR
    assert 0 < clear.mean() < 1
    np.testing.assert_allclose(values[0][clear], safe.truth["B04"][clear], atol=1e-6)
    assert np.isnan(values[:, ~clear]).all()
    kept = open_scene(path, _modality(Unit.REFLECTANCE, "B04"), handling=KEEP).read()[0]
    cloud = (codes == Quality.CLOUD) & np.isfinite(safe.truth["B04"])
    np.testing.assert_allclose(kept[cloud], safe.truth["B04"][cloud], atol=1e-6)


def test_the_metadata_file_stands_for_its_product(tmp_path):
    safe = write_safe(tmp_path, np.random.default_rng(0))
    scene = open_scene(safe.metadata, _modality(Unit.REFLECTANCE, "B8A"), handling=KEEP)
    assert scene.acquired is not None
    assert scene.provenance["kind"].startswith("sentinel-2")


def test_a_landsat_folder_gives_kelvin(tmp_path):
    product = write_landsat(tmp_path, np.random.default_rng(1), level=2)
    scene = open_scene(product.path, _modality(Unit.KELVIN, "lwir11"), handling=KEEP)
    check_scene(scene)
    seen = np.isfinite(scene.read()[0])
    truth = product.truth["ST_B10"]
    np.testing.assert_allclose(scene.read()[0][seen], truth[seen], atol=product.step["ST_B10"] + 1e-4)
    assert seen.mean() > 0.5


def test_two_sensors_of_a_landsat_product_cannot_share_a_unit(tmp_path):
    product = write_landsat(tmp_path, np.random.default_rng(1), level=2)
    with pytest.raises(SceneError, match="wanted reflectance"):
        open_scene(product.path, _modality(Unit.REFLECTANCE, "red", "lwir11"))


def test_a_sentinel_1_product_gives_power_and_the_speckle_filter_narrows_it(tmp_path):
    flat = FakeGrd(
        geometry=Geometry(shape=(120, 150)), truth=lambda easting, northing: 0.1 + 0 * (easting + northing), looks=4.4
    )  # fmt: skip
    path = flat.write(tmp_path)
    power = open_scene(path, _modality(Unit.DB, "VV")).read()[0]
    spread = np.nanstd(power) / np.nanmean(power)
    filtered = open_scene(
        path, _modality(Unit.DB, "VV"), handling=Handling(speckle=SpeckleFilter(kind="lee", size=7, looks=4.4))
    ).read()[0]
    assert np.nanmean(filtered) == pytest.approx(np.nanmean(power), rel=0.02)
    assert np.nanstd(filtered) / np.nanmean(filtered) < spread / 2
    np.testing.assert_array_equal(np.isfinite(filtered), np.isfinite(power))


def test_a_quality_file_beside_a_raster_masks_it(tmp_path):
    values = np.random.default_rng(0).uniform(0.05, 0.4, (1, 20, 20)).astype(np.float32)
    path = write_tiff(tmp_path / "red.tif", values, north_up(20, 20))
    classes = np.full((1, 10, 10), 4, np.uint8)
    classes[0, :4], classes[0, 5, 5] = 9, 3
    quality = write_tiff(tmp_path / "scl.tif", classes, north_up(10, 10, pixel=20.0))
    handling = Handling(quality=QualityScheme.SCL)
    source = Source(path=path, quality=quality)
    scene = open_scene(source, _modality(Unit.REFLECTANCE, "red"), handling=handling)
    expected = np.kron(np.isin(classes[0], (3, 9)), np.ones((2, 2), bool))
    np.testing.assert_array_equal(np.isnan(scene.read()[0]), expected)


def test_a_quality_file_that_is_not_there_is_named(tmp_path):
    path = write_tiff(tmp_path / "red.tif", np.ones((1, 4, 4), np.float32), north_up(4, 4))
    with pytest.raises(SceneError, match=r"scl\.tif: found no file; wanted a quality raster"):
        open_scene(Source(path=path, quality=tmp_path / "scl.tif"), _modality(Unit.REFLECTANCE, "red"))


def test_a_folder_that_is_no_product_is_refused_with_what_is_known(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(SceneError, match="found a folder or archive that is no product known here; wanted a Sentinel"):
        family_of(tmp_path)


def test_a_raster_is_a_raster(tmp_path):
    assert family_of(tmp_path / "a.tif") == ("raster", tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["nothing.SAFE", "nothing.zip", "nothing.tif"])
def test_what_is_not_there_is_one_clear_error(tmp_path, name):
    with pytest.raises(SceneError, match=r"found (no|nothing).*; wanted .*; correct the path"):
        open_scene(Path(tmp_path / name), _modality(Unit.REFLECTANCE, "red"))
