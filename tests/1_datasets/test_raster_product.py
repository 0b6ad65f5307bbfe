"""Plain rasters, band sets and cubes: what their headers say."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from strategies import north_up, write_tiff

from equipoise.datasets.errors import SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.product import product_scene
from equipoise.datasets.raster_product import acquisition_time, band_set, raster_product
from equipoise.datasets.source import Source

GRID = north_up(5, 7)


def _modality(*names: str, unit: Unit = Unit.DIGITAL_NUMBER, **settings) -> Modality:
    return Modality(name="eo", bands=tuple(Band(name=name, unit=unit, **settings) for name in names))


def _constant(path: Path, *values: int, dtype=np.uint16, **settings) -> Path:
    block = np.stack([np.full(tuple(GRID.shape), value, dtype) for value in values])
    return write_tiff(path, block, GRID, **settings)


def _describe(path: Path, *names: str) -> Path:
    with rasterio.open(path, "r+") as file:
        file.descriptions = names
    return path


def _read(path: Path, modality: Modality) -> list[float]:
    scene = product_scene(raster_product(path, modality), modality)
    return [float(value) for value in scene.read()[:, 0, 0]]


def test_bands_are_found_by_the_names_in_the_file(tmp_path):
    path = _describe(_constant(tmp_path / "a.tif", 2, 3, 4, 8), "B02", "B03", "B04", "B08")
    assert _read(path, _modality("B08", "B03")) == [8, 3]
    assert _read(path, _modality("b04")) == [4]


def test_names_that_the_file_does_not_hold_go_by_position(tmp_path):
    path = _describe(_constant(tmp_path / "a.tif", 2, 3), "B02", "B03")
    assert _read(path, _modality("blue", "green")) == [2, 3]


def test_half_the_names_are_no_names(tmp_path):
    """By position B03 would be given out as B02: only a complete match goes by name, and the count is checked."""
    path = _describe(_constant(tmp_path / "a.tif", 2, 3, 4), "B02", "B03", "B04")
    with pytest.raises(SceneError, match="found 3 bands; wanted 2"):
        raster_product(path, _modality("B03", "nir"))


def test_an_explicit_index_goes_before_names(tmp_path):
    path = _describe(_constant(tmp_path / "a.tif", 2, 3), "red", "nir")
    assert _read(path, _modality("red", index=2)) == [3]
    with pytest.raises(SceneError, match="wanted index 3"):
        _read(path, _modality("red", index=3))


def test_scale_and_offset_of_the_header_are_applied_once(tmp_path):
    path = _constant(tmp_path / "a.tif", 3000)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1e-4,), (-0.1,)
    assert _read(path, _modality("red", unit=Unit.REFLECTANCE)) == pytest.approx([0.2])
    assert _read(path, _modality("red", unit=Unit.REFLECTANCE, scale=1e-4)) == pytest.approx([0.2])
    assert _read(path, _modality("red", unit=Unit.REFLECTANCE, scale=1e-4, offset=0.0)) == pytest.approx([0.3])
    assert _read(path, _modality("red")) == [3000]


def test_alpha_is_a_mask_and_no_band(tmp_path):
    values = np.full((4, *GRID.shape), 90, np.uint8)
    values[3] = 255
    values[3, 2:, 3:] = 0
    path = write_tiff(tmp_path / "rgba.tif", values, GRID, photometric="RGB")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    modality = _modality("red", "green", "blue")
    scene = product_scene(raster_product(path, modality), modality)
    np.testing.assert_array_equal(np.isfinite(scene.read()).all(axis=0), values[3] > 0)


@pytest.mark.parametrize("names", [("red", "green", "blue", "nir"), ("green", "nir")])
def test_near_infrared_that_gdal_calls_alpha_is_data(tmp_path, names):
    """Four 8-bit bands get colours red, green, blue, alpha from GDAL unless it is told otherwise."""
    values = np.full((4, *GRID.shape), 90, np.uint8)
    values[3, 2:, 3:] = 0
    path = write_tiff(tmp_path / "rgbn.tif", values, GRID)
    with rasterio.open(path) as file:
        assert file.colorinterp[3] is ColorInterp.alpha
    indices = dict.fromkeys(names) if len(names) == 4 else {"green": 2, "nir": 4}
    bands = tuple(Band(name=name, unit=Unit.DIGITAL_NUMBER, index=indices[name]) for name in names)
    modality = Modality(name="eo", bands=bands)
    scene = product_scene(raster_product(path, modality), modality)
    np.testing.assert_array_equal(scene.read()[-1], values[3])


def test_zeros_are_fill_unless_a_nodata_value_is_declared(tmp_path):
    values = np.arange(35, dtype=np.int16).reshape(1, 5, 7)
    path = write_tiff(tmp_path / "a.tif", values, GRID)
    for nodata, holes in ((None, 1), (-9999, 0), (34, 1)):
        modality = _modality("height", nodata=nodata)
        scene = product_scene(raster_product(path, modality), modality)
        assert np.isnan(scene.read()).sum() == holes


def test_the_users_nodata_replaces_the_files(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.arange(35, dtype=np.int16).reshape(1, 5, 7), GRID, nodata=3)
    modality = _modality("height", nodata=5)
    values = product_scene(raster_product(path, modality), modality).read()
    assert np.isnan(values[0, 0, 5])
    assert values[0, 0, 3] == 3


# one file a band


def test_one_file_a_band(tmp_path):
    files = {name: _constant(tmp_path / f"{name}.tif", number) for name, number in (("B02", 2), ("B04", 4))}
    modality = _modality("B04", "B02")
    scene = product_scene(band_set(Source(bands=files), modality), modality)
    assert [float(value) for value in scene.read()[:, 0, 0]] == [4, 2]


def test_a_band_without_a_file_is_named(tmp_path):
    files = {"B02": _constant(tmp_path / "B02.tif", 2)}
    with pytest.raises(SceneError, match="found files of bands B02; wanted one of band 'B08'"):
        band_set(Source(bands=files), _modality("B02", "B08"))


def test_a_file_of_several_bands_is_no_band(tmp_path):
    files = {"B02": _constant(tmp_path / "B02.tif", 2, 3)}
    with pytest.raises(SceneError, match="found 2 bands; wanted 1"):
        band_set(Source(bands=files), _modality("B02"))


# dates


@pytest.mark.parametrize(
    ("name", "acquired"),
    [
        ("S2B_MSIL2A_20200223T032739_N9999_R018_T48QUE_20230924T183543/B04.tif", "2020-02-23T03:27:39+00:00"),
        ("S1A_IW_GRDH_1SDV_20201107T135241_20201107T135306_035143_041A16_322B.tif", "2020-11-07T13:52:41+00:00"),
        ("LC08_L2SP_020039_20150804_20200908_02_T1_SR_B4.TIF", "2015-08-04"),
        ("scene_20200101.tif", None),  # a date in a name of one's own is not guessed at
    ],
)
def test_official_product_names_carry_the_time(name, acquired):
    assert acquisition_time({}, Path("/somewhere") / name) == acquired


def test_a_tag_goes_before_a_name():
    path = Path("LC08_L2SP_020039_20150804_20200908_02_T1_SR_B4.TIF")
    assert acquisition_time({"ACQ_DATE": "2016-01-02"}, path) == "2016-01-02"


@pytest.mark.real
def test_a_cube_of_several_dates_gives_the_date_that_is_asked_for(data_folder):
    path = next((data_folder / "A_open/worldcereal").rglob("*.nc"))
    modality = _modality("S2-L2A-B08@2021-05-01", unit=Unit.REFLECTANCE, scale=1e-4, nodata=65535)
    scene = product_scene(raster_product(path, modality), modality)
    assert scene.acquired == "2021-05-01"
    assert scene.geobox.crs.to_epsg() == 32631
    assert 0.2 < float(np.nanmean(scene.read())) < 0.6
