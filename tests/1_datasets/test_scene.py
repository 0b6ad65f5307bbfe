"""Opening a user's file: units, nodata and grid are taken as declared, and what cannot be right is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from hypothesis import given
from odc.geo.geobox import GeoBox
from strategies import geoboxes, north_up, write_tiff

from equipoise.datasets.errors import DatasetError, SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.opening import open_scene
from equipoise.datasets.scene import check_scene

GRID = north_up(6, 8)


def modality(unit: Unit, *, bands: int = 1, **declared: object) -> Modality:
    return Modality(name="m", bands=tuple(Band(name=f"b{n}", unit=unit, **declared) for n in range(1, bands + 1)))


def ramp(bands: int = 1, *, dtype: str = "float32", grid: GeoBox = GRID) -> np.ndarray:
    """Values 1, 2, 3, ...: none is zero and all differ."""
    return np.arange(1, 1 + bands * grid.shape[0] * grid.shape[1], dtype=dtype).reshape(bands, *grid.shape)


def random_like(unit: Unit, grid: GeoBox) -> np.ndarray:
    low, high = {Unit.LINEAR_POWER: (1e-3, 0.5), Unit.AMPLITUDE: (0.03, 0.7), Unit.DB: (-25.0, -2.0)}.get(unit, (1, 9))
    return np.random.default_rng(3).uniform(low, high, (1, *grid.shape)).astype(np.float32)


# what is read


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_pixels_equal_those_that_rasterio_reads(tmp_path, dtype):
    path = write_tiff(tmp_path / "a.tif", ramp(2, dtype=dtype), GRID)
    scene = open_scene(path, modality(Unit.DIGITAL_NUMBER, bands=2))
    assert scene.data.dtype == np.float32
    assert scene.data.dims == ("band", "y", "x")
    assert list(scene.data.band.values) == ["b1", "b2"]
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(scene.read(), file.read().astype(np.float32))
        np.testing.assert_array_equal(scene.read((slice(1, 4), slice(2, 7))), file.read()[:, 1:4, 2:7])


def test_opening_reads_no_pixel_and_a_window_reads_its_blocks_alone(tmp_path):
    """The end of the file is cut off: what needs only its beginning works."""
    grid = north_up(2100, 1050)
    path = truncated(cloud_optimized(tmp_path / "a.tif", ramp(grid=grid), grid), keep=0.95)
    scene = open_scene(path, modality(Unit.DIGITAL_NUMBER))
    np.testing.assert_array_equal(scene.read((slice(0, 3), slice(0, 3))), ramp(grid=grid)[:, :3, :3])
    with pytest.raises(SceneError, match="cannot be read"):
        scene.read()


@given(geobox=geoboxes(largest=20))
def test_any_grid_is_kept_and_pixels_go_to_the_world_and_back(geobox, tmp_path_factory):
    path = write_tiff(tmp_path_factory.mktemp("grid") / "a.tif", ramp(grid=geobox), geobox)
    scene = open_scene(path, modality(Unit.DIGITAL_NUMBER))
    assert scene.geobox == geobox
    with rasterio.open(path) as file:
        assert scene.geobox.affine == file.transform
        row, col = geobox.shape[0] - 1, geobox.shape[1] - 1
        east, north = scene.geobox.affine * (col + 0.5, row + 0.5)
        assert file.xy(row, col) == pytest.approx((east, north))
    np.testing.assert_allclose(~scene.geobox.affine * (east, north), (col + 0.5, row + 0.5), atol=1e-4)


def test_a_rotated_grid_stays_rotated(tmp_path):
    turned = GeoBox(GRID.shape, GRID.affine * Affine.rotation(31.0), GRID.crs)
    scene = open_scene(write_tiff(tmp_path / "a.tif", ramp(grid=turned), turned), modality(Unit.DIGITAL_NUMBER))
    assert scene.geobox == turned
    assert not scene.geobox.axis_aligned
    np.testing.assert_array_equal(scene.read(), ramp())


def test_bands_are_chosen_by_their_index(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp(4), GRID)
    chosen = Modality(
        name="m",
        bands=(
            Band(name="nir", unit=Unit.DIGITAL_NUMBER, index=4),
            Band(name="red", unit=Unit.DIGITAL_NUMBER, index=2),
        ),
    )
    np.testing.assert_array_equal(open_scene(path, chosen).read(), ramp(4)[[3, 1]])


def test_a_virtual_raster_opens_as_its_source(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp(), GRID)
    rasterio.shutil.copy(path, tmp_path / "a.vrt", driver="VRT")
    np.testing.assert_array_equal(open_scene(tmp_path / "a.vrt", modality(Unit.DIGITAL_NUMBER)).read(), ramp())


@pytest.mark.parametrize(
    ("tags", "acquired"),
    [
        ({}, None),
        ({"ACQ_DATE": "2024-05-06"}, "2024-05-06"),
        ({"datetime": "2024-05-06T10:11:12.000000000"}, "2024-05-06T10:11:12"),
        ({"TIFFTAG_DATETIME": "2024:05:06 10:11:12"}, None),  # when the file was made, not when the ground was seen
    ],
)
def test_the_acquisition_time_is_what_the_file_states(tmp_path, tags, acquired):
    path = write_tiff(tmp_path / "a.tif", ramp(), GRID, tags=tags)
    assert open_scene(path, modality(Unit.DIGITAL_NUMBER)).acquired == acquired


# units


@pytest.mark.parametrize("unit", [Unit.LINEAR_POWER, Unit.AMPLITUDE, Unit.DB])
def test_backscatter_arrives_in_linear_power(tmp_path, unit):
    stored = random_like(unit, GRID)
    scene = open_scene(write_tiff(tmp_path / "a.tif", stored, GRID), modality(unit))
    power = {Unit.LINEAR_POWER: stored, Unit.AMPLITUDE: stored**2.0, Unit.DB: 10.0 ** (stored / 10.0)}[unit]
    np.testing.assert_allclose(scene.read(), power, rtol=1e-5)
    check_scene(scene)


def test_scale_and_offset_are_applied_but_not_to_nodata(tmp_path):
    stored = ramp(dtype="uint16") * 100
    stored[0, 0, 0] = 0
    path = write_tiff(tmp_path / "a.tif", stored, GRID, nodata=0)
    read = open_scene(path, modality(Unit.REFLECTANCE, scale=1e-4, offset=-0.1)).read()
    assert np.isnan(read[0, 0, 0])
    np.testing.assert_allclose(read[0, 1:], stored[0, 1:] * 1e-4 - 0.1, atol=1e-6)


@pytest.mark.parametrize(
    ("declared", "values", "advice"),
    [
        (Unit.LINEAR_POWER, (-20.0, -5.0), "unit: db"),
        (Unit.AMPLITUDE, (-20.0, -5.0), "unit: db"),
        (Unit.DB, (0.01, 0.4), "linear_power"),
        (Unit.DB, (200.0, 900.0), "amplitude"),
        (Unit.KELVIN, (14000.0, 16000.0), "scale and offset"),
        (Unit.REFLECTANCE, (300.0, 4000.0), "scale: 0.0001"),
    ],
    ids=["db as power", "db as amplitude", "power as db", "counts as db", "unscaled kelvin", "unscaled reflectance"],
)
def test_implausible_units_are_refused(tmp_path, declared, values, advice):
    stored = np.random.default_rng(0).uniform(*values, (1, *GRID.shape)).astype(np.float32)
    scene = open_scene(write_tiff(tmp_path / "a.tif", stored, GRID), modality(declared))
    with pytest.raises(SceneError, match=rf"a\.tif: band 'b1' is declared as {declared}.*{advice}"):
        check_scene(scene)


def test_the_embedded_scene_is_plausible(embedded_scene):
    """The declarations of its user: eo in counts, sar in power, ir in kelvin."""
    for name, declared in {
        "eo": modality(Unit.REFLECTANCE, bands=4, scale=1e-4),
        "sar": modality(Unit.LINEAR_POWER, bands=2),
        "ir": modality(Unit.KELVIN),
    }.items():
        scene = open_scene(embedded_scene.paths[name], declared)
        check_scene(scene)
        with rasterio.open(embedded_scene.paths[name]) as file:
            unseen = (file.read() == file.nodata).any(axis=0)
        np.testing.assert_array_equal(scene.valid.values, ~unseen)


# nodata


def test_nodata_in_one_band_takes_the_pixel_from_all(tmp_path):
    stored = ramp(2)
    stored[1, 2, 3] = -9999.0
    scene = open_scene(
        write_tiff(tmp_path / "a.tif", stored, GRID, nodata=-9999.0), modality(Unit.DIGITAL_NUMBER, bands=2)
    )
    assert np.isnan(scene.read()[:, 2, 3]).all()
    assert np.isnan(scene.read()).sum() == 2
    assert not scene.valid.values[2, 3]
    assert scene.valid.values.sum() == GRID.shape[0] * GRID.shape[1] - 1


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_not_valid_whatever_the_nodata_value(tmp_path, hole):
    stored = ramp()
    stored[0, 1, 1] = hole
    for nodata in (None, -9999.0, np.nan):
        scene = open_scene(write_tiff(tmp_path / "a.tif", stored, GRID, nodata=nodata), modality(Unit.DIGITAL_NUMBER))
        assert np.isnan(scene.read()).sum() == 1
        assert not scene.valid.values[1, 1]


def test_without_a_nodata_value_zero_in_every_band_is_fill(tmp_path):
    stored = ramp(2, dtype="uint16")
    stored[:, 0, :] = 0
    stored[0, 3, 3] = 0
    scene = open_scene(write_tiff(tmp_path / "a.tif", stored, GRID), modality(Unit.DIGITAL_NUMBER, bands=2))
    invalid = np.zeros(GRID.shape, bool)
    invalid[0] = True
    np.testing.assert_array_equal(~scene.valid.values, invalid)
    assert scene.read()[0, 3, 3] == 0


def test_with_a_nodata_value_zero_is_an_observation(tmp_path):
    stored = ramp()
    stored[0, 0, 0], stored[0, 1, 1] = 0, -9999
    scene = open_scene(write_tiff(tmp_path / "a.tif", stored, GRID, nodata=-9999), modality(Unit.DIGITAL_NUMBER))
    assert scene.read()[0, 0, 0] == 0
    assert np.isnan(scene.read()).sum() == 1


@pytest.mark.parametrize("unit", [Unit.LINEAR_POWER, Unit.AMPLITUDE])
def test_no_surface_returns_no_power_at_all(tmp_path, unit):
    stored = np.concatenate([random_like(unit, GRID)] * 2)
    stored[1, 4, 4] = 0
    scene = open_scene(write_tiff(tmp_path / "a.tif", stored, GRID, nodata=-1), modality(unit, bands=2))
    assert np.isnan(scene.read()[:, 4, 4]).all()
    assert scene.valid.values.sum() == GRID.shape[0] * GRID.shape[1] - 1


def test_zero_decibels_are_an_observation_where_nodata_is_declared(tmp_path):
    stored = random_like(Unit.DB, GRID)
    stored[0, 2, 2] = 0
    scene = open_scene(write_tiff(tmp_path / "a.tif", stored, GRID, nodata=-9999), modality(Unit.DB))
    assert scene.read()[0, 2, 2] == 1


@pytest.mark.parametrize("fill", [-9999.0, -999.0])
def test_decibels_of_undeclared_fill_are_not_an_observation(tmp_path, fill):
    stored = random_like(Unit.DB, GRID)
    stored[0, 2, 3] = fill
    scene = open_scene(write_tiff(tmp_path / "a.tif", stored, GRID), modality(Unit.DB))
    assert np.argwhere(np.isnan(scene.read()[0])).tolist() == [[2, 3]]


def test_a_declared_nodata_value_replaces_the_files(tmp_path):
    stored = ramp()
    path = write_tiff(tmp_path / "a.tif", stored, GRID, nodata=stored[0, 0, 0])
    read = open_scene(path, modality(Unit.DIGITAL_NUMBER, nodata=float(stored[0, 5, 5]))).read()
    assert np.isnan(read[0, 5, 5])
    assert read[0, 0, 0] == stored[0, 0, 0]


def test_nodata_that_float32_cannot_hold_is_found_all_the_same(tmp_path):
    lowest = -1.7976931348623157e308
    stored = ramp(dtype="float64")
    stored[0, 1, 2] = lowest
    read = open_scene(write_tiff(tmp_path / "a.tif", stored, GRID, nodata=lowest), modality(Unit.DIGITAL_NUMBER)).read()
    assert np.isnan(read[0, 1, 2])
    assert np.isnan(read).sum() == 1


def test_a_scene_without_any_valid_pixel_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.full((1, *GRID.shape), -9999.0, np.float32), GRID, nodata=-9999.0)
    with pytest.raises(SceneError, match="no valid pixel"):
        check_scene(open_scene(path, modality(Unit.KELVIN)))


def test_a_hole_in_the_middle_is_no_reason_to_refuse(tmp_path):
    grid = north_up(400, 400)
    stored = np.full((1, *grid.shape), 290.0, np.float32)
    stored[:, 50:350, 50:350] = -9999
    check_scene(open_scene(write_tiff(tmp_path / "a.tif", stored, grid, nodata=-9999), modality(Unit.KELVIN)))


# refusals


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SceneError, match=r"nowhere\.tif: found no file"):
        open_scene(tmp_path / "nowhere.tif", modality(Unit.KELVIN))
    assert issubclass(SceneError, DatasetError)


@pytest.mark.parametrize("content", [b"", b"no raster", b"II*\x00\xff\xff\xff\x7f"])
def test_what_is_no_raster_is_refused(tmp_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"a\.tif: found a file that does not open as a raster"):
        open_scene(path, modality(Unit.KELVIN))


def test_a_file_without_crs_is_refused_unless_it_is_declared_a_chip(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp(), GeoBox(GRID.shape, GRID.affine, None))
    with pytest.raises(SceneError, match=r"found no CRS.*georeferenced: false"):
        open_scene(path, modality(Unit.DIGITAL_NUMBER))
    bare = write_tiff(tmp_path / "chip.tif", ramp(), GeoBox(GRID.shape, Affine.identity(), None))
    chip = open_scene(bare, modality(Unit.DIGITAL_NUMBER), georeferenced=False)
    assert chip.geobox.crs is None
    np.testing.assert_array_equal(chip.read(), ramp())


def test_a_png_is_a_chip(tmp_path):
    with rasterio.open(write_tiff(tmp_path / "a.tif", ramp(3, dtype="uint8"), GRID)) as source:
        rasterio.shutil.copy(source, tmp_path / "a.png", driver="PNG")
    (tmp_path / "a.png.aux.xml").unlink(missing_ok=True)
    chip = open_scene(tmp_path / "a.png", modality(Unit.DIGITAL_NUMBER, bands=3), georeferenced=False)
    np.testing.assert_array_equal(chip.read(), ramp(3, dtype="uint8"))


def test_another_number_of_bands_is_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp(3), GRID)
    with pytest.raises(SceneError, match=r"found 3 bands; wanted 2 for modality 'm' \(b1, b2\)"):
        open_scene(path, modality(Unit.DIGITAL_NUMBER, bands=2))
    with pytest.raises(SceneError, match="found 3 bands; wanted index 9"):
        open_scene(path, modality(Unit.DIGITAL_NUMBER, index=9))


def test_a_truncated_file_is_one_line_and_not_a_traceback(tmp_path):
    grid = north_up(600, 600)
    noise = np.random.default_rng(0).uniform(280, 300, (1, *grid.shape)).astype(np.float32)
    late_header = truncated(write_tiff(tmp_path / "late.tif", noise, grid, tiled=True), keep=0.6)
    with pytest.raises(SceneError, match=r"late\.tif: found a file that does not open") as caught:
        open_scene(late_header, modality(Unit.KELVIN))
    assert "\n" not in str(caught.value)
    early_header = truncated(cloud_optimized(tmp_path / "early.tif", noise, grid), keep=0.6)
    with pytest.raises(SceneError, match=r"early\.tif: found pixel data that cannot be read .*again") as caught:
        check_scene(open_scene(early_header, modality(Unit.KELVIN)))
    assert "\n" not in str(caught.value)


def test_damage_beyond_an_empty_middle_is_a_scene_error_too(tmp_path):
    grid = north_up(1600, 256)
    stored = np.full((1, *grid.shape), -9999.0, np.float32)
    path = truncated(cloud_optimized(tmp_path / "a.tif", stored, grid, nodata=-9999.0), keep=0.9)
    with pytest.raises(SceneError, match="cannot be read"):
        check_scene(open_scene(path, modality(Unit.KELVIN)))


def cloud_optimized(path: Path, values: np.ndarray, grid: GeoBox, *, nodata: float | None = None) -> Path:
    """Write with the header in front, uncompressed, so that a cut takes pixels and nothing else."""
    plain = write_tiff(path.with_suffix(".plain.tif"), values, grid, nodata=nodata)
    rasterio.shutil.copy(plain, path, driver="COG", compress="none", overviews="none", blocksize=256)
    return path


def truncated(path: Path, *, keep: float) -> Path:
    os.truncate(path, int(path.stat().st_size * keep))
    return path
