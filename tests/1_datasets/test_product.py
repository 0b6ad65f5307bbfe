"""Products on one grid: units, resolutions, quality layers, and what is declared against what the product says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import north_up, write_tiff

from equipoise.datasets.errors import SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.product import BandFile, Product, QualityFile, product_scene, with_quality
from equipoise.datasets.quality import Quality, QualityScheme
from equipoise.datasets.scene import Scene

FINE, COARSE, SIXTY = north_up(24, 36), north_up(12, 18, pixel=20.0), north_up(4, 6, pixel=60.0)


def _modality(*names: str, unit: Unit = Unit.REFLECTANCE, **settings) -> Modality:
    return Modality(name="eo", bands=tuple(Band(name=name, unit=unit, **settings) for name in names))


def _file(path: Path, name: str, **settings) -> BandFile:
    return BandFile(name=name, href=str(path), **{"unit": Unit.REFLECTANCE, "scale": 1e-4, "nodata": 0, **settings})


def _numbers(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(500, 6000, (1, *shape), dtype=np.uint16)


@pytest.fixture
def product(tmp_path) -> Product:
    red = write_tiff(tmp_path / "red.tif", _numbers((24, 36)), FINE)
    edge = write_tiff(tmp_path / "edge.tif", _numbers((12, 18), 1), COARSE)
    aerosol = write_tiff(tmp_path / "aerosol.tif", _numbers((4, 6), 2), SIXTY)
    return Product(
        kind="sentinel-2-l2a", path=tmp_path, acquired="2024-05-06T10:11:12Z",
        bands=(
            _file(red, "B04", common_name="red", offset=-0.1), _file(edge, "B05"), _file(aerosol, "B01"),
        ),
    )  # fmt: skip


def test_bands_of_three_pixel_sizes_come_on_the_finest_grid(product):
    scene = product_scene(product, _modality("B01", "B04", "B05"))
    assert scene.geobox == FINE
    assert scene.modality.band_names == ("B01", "B04", "B05")
    assert scene.acquired == "2024-05-06T10:11:12Z"
    values = scene.read()
    assert values.shape == (3, 24, 36)
    np.testing.assert_allclose(values[1], _numbers((24, 36))[0] * 1e-4 - 0.1, atol=2e-8)  # float32


def test_nearest_repeats_each_coarse_pixel_in_its_place(product):
    """By numpy: a 20 m pixel covers exactly two by two pixels of 10 m."""
    values = product_scene(product, _modality("B04", "B05", resampling="nearest")).read()
    expected = np.kron(_numbers((12, 18), 1)[0], np.ones((2, 2))) * 1e-4
    np.testing.assert_allclose(values[1], expected, rtol=1e-5)


def test_a_coarse_band_alone_keeps_its_own_grid(product):
    assert product_scene(product, _modality("B05")).geobox == COARSE


@given(rows=st.tuples(st.integers(0, 20), st.integers(1, 24)), cols=st.tuples(st.integers(0, 30), st.integers(1, 36)))
def test_a_window_equals_the_window_of_the_whole(product, rows, cols):
    scene = product_scene(product, _modality("B01", "B04", "B05"))
    roi = (slice(rows[0], rows[0] + rows[1]), slice(cols[0], cols[0] + cols[1]))
    np.testing.assert_array_equal(scene.read(roi), scene.read()[:, *roi])


def test_bands_go_by_common_name_and_in_any_case(product):
    by_common = product_scene(product, _modality("red")).read()
    np.testing.assert_array_equal(by_common, product_scene(product, _modality("b04")).read())


def test_an_unknown_band_is_refused_with_those_there_are(product):
    with pytest.raises(SceneError, match=r"found bands B04 \(red\), B05, B01; wanted 'nir'"):
        product_scene(product, _modality("nir"))


def test_what_is_declared_goes_before_what_the_product_says(product):
    own = product_scene(product, _modality("B04")).read()
    declared = product_scene(product, _modality("B04", offset=0.0)).read()
    np.testing.assert_allclose(declared - own, 0.1, atol=1e-6)


def test_digital_numbers_are_given_as_stored(product):
    raw = product_scene(product, _modality("B04", unit=Unit.DIGITAL_NUMBER)).read()
    np.testing.assert_array_equal(raw[0], _numbers((24, 36))[0])


def test_a_unit_that_the_product_denies_is_refused(product):
    with pytest.raises(SceneError, match=r"found band 'B04' in reflectance.*wanted kelvin"):
        product_scene(product, _modality("B04", unit=Unit.KELVIN))


def test_the_product_says_in_which_backscatter_unit_it_is(tmp_path):
    """Power, amplitude and dB are one quantity: a product that knows which it holds is believed."""
    decibels = np.full((1, 24, 36), -10.0, np.float32)
    path = write_tiff(tmp_path / "vv.tif", decibels, FINE)
    bands = (BandFile(name="VV", href=str(path), unit=Unit.DB),)
    product = Product(kind="rtc", path=path, bands=bands)
    scene = product_scene(product, Modality(name="sar", bands=(Band(name="VV", unit=Unit.LINEAR_POWER),)))
    np.testing.assert_allclose(scene.read(), 0.1, rtol=1e-5)
    assert scene.modality.bands[0].unit is Unit.DB


def test_radiance_becomes_kelvin_by_plancks_law(tmp_path):
    numbers = np.array([[[20_000, 25_000, 0]]], np.uint16)
    path = write_tiff(tmp_path / "b10.tif", numbers, north_up(1, 3, pixel=30.0))
    file = BandFile(
        name="B10", href=str(path), unit=Unit.KELVIN, scale=3.342e-4, offset=0.1, nodata=0, planck=(774.8853, 1321.0789)
    )
    scene = product_scene(Product(kind="l1", path=path, bands=(file,)), _modality("B10", unit=Unit.KELVIN))
    expected = 1321.0789 / np.log(774.8853 / (numbers[0, 0, :2] * 3.342e-4 + 0.1) + 1)
    np.testing.assert_allclose(scene.read()[0, 0, :2], expected, rtol=1e-5)
    assert np.isnan(scene.read()[0, 0, 2])


def test_a_hole_in_one_band_is_a_hole_in_all(product, tmp_path):
    numbers = _numbers((12, 18), 1)
    numbers[0, 3, 4] = 0
    edge = write_tiff(tmp_path / "hole.tif", numbers, COARSE)
    holed = replace(product, bands=(product.bands[0], _file(edge, "B05")))
    values = product_scene(holed, _modality("B04", "B05", resampling="nearest")).read()
    expected = np.zeros((24, 36), bool)
    expected[6:8, 8:10] = True
    np.testing.assert_array_equal(np.isnan(values), np.stack([expected, expected]))


def test_a_saturated_number_is_no_observation(product):
    numbers = _numbers((24, 36))[0]
    saturated = replace(product, bands=(replace(product.bands[0], saturated=float(numbers[5, 7])),))
    holes = np.isnan(product_scene(saturated, _modality("B04")).read()[0])
    np.testing.assert_array_equal(holes, numbers == numbers[5, 7])


# quality


@pytest.fixture
def clouded(product, tmp_path) -> Scene:
    """SCL at 20 m: the left third is cloud, one pixel shadow, one saturated."""
    classes = np.full((1, 12, 18), 4, np.uint8)
    classes[:, :, :6], classes[:, 5, 10], classes[:, 7, 12] = 9, 3, 1
    path = write_tiff(tmp_path / "scl.tif", classes, COARSE)
    layer = QualityFile(href=str(path), scheme=QualityScheme.SCL)
    return product_scene(replace(product, quality=layer), _modality("B04"))


def test_the_quality_layer_comes_on_the_scenes_grid(clouded):
    codes = clouded.read_quality()
    assert codes.dtype == np.uint8
    assert codes.shape == (24, 36)
    assert (codes[:, :12] == Quality.CLOUD).all()
    assert (codes[10:12, 20:22] == Quality.SHADOW).all()
    assert (codes == Quality.SHADOW).sum() == 4


def test_saturated_is_not_valid_and_clouds_are_until_they_are_masked(clouded):
    observed = np.isfinite(clouded.read()[0])
    assert not observed[14:16, 24:26].any()
    assert observed.sum() == 24 * 36 - 4
    masked = np.isfinite(clouded.without_clouds().read()[0])
    np.testing.assert_array_equal(masked, clouded.read_quality() == Quality.CLEAR)


def test_a_scene_without_a_quality_layer_knows_nothing_of_clouds(product):
    scene = product_scene(product, _modality("B04"))
    assert (scene.read_quality() == Quality.UNKNOWN).all()
    assert scene.without_clouds() is scene


def test_a_quality_layer_that_covers_a_part_is_unknown_elsewhere(product, tmp_path):
    path = write_tiff(tmp_path / "part.tif", np.zeros((1, 12, 9), np.uint8), north_up(12, 9, pixel=20.0))
    scene = with_quality(
        product_scene(product, _modality("B04")), QualityFile(href=str(path), scheme=QualityScheme.MASK)
    )  # fmt: skip
    codes = scene.read_quality()
    assert (codes[:, :18] == Quality.CLEAR).all()
    assert (codes[:, 18:] == Quality.UNKNOWN).all()
    assert np.isfinite(scene.read()).all()


# masks of GDAL


def test_an_internal_mask_is_honoured(tmp_path):
    path = write_tiff(tmp_path / "masked.tif", _numbers((24, 36)), FINE)
    hidden = np.zeros((24, 36), bool)
    hidden[4:9, 10:] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(~hidden)
    scene = product_scene(Product(kind="raster", path=path, bands=(_file(path, "B04", nodata=None),)), _modality("B04"))
    np.testing.assert_array_equal(np.isnan(scene.read()[0]), hidden)


def test_a_file_that_was_cut_short_is_one_clear_error(product, tmp_path):
    path = write_tiff(tmp_path / "short.tif", _numbers((240, 360)), north_up(240, 360), compress="deflate")
    path.write_bytes(path.read_bytes()[:-2000])
    cut = Product(kind="raster", path=path, bands=(_file(path, "B04"),))
    with pytest.raises(SceneError, match=r"short.tif: found .*; wanted"):
        product_scene(cut, _modality("B04")).read()
