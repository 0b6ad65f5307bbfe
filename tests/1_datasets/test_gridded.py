"""Acquisitions onto a grid: closed forms and rasterio as oracles; what files lack or hide does not come in as data."""

from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from rasterio.control import GroundControlPoint
from rasterio.warp import Resampling, reproject
from shapely.geometry import box
from strategies import north_up, write_tiff

from equipoise.datasets.asset_rasters import LocalBand, file_values
from equipoise.datasets.catalog_items import CatalogError
from equipoise.datasets.gridded import LocalItem, area_grid, load_rows
from equipoise.datasets.modality import Band, Unit
from equipoise.datasets.quality import Quality, QualityScheme

GRID = north_up(96, 128, left=500_000.0, top=5_300_000.0)
WHEN = datetime(2021, 7, 10, tzinfo=UTC)


def _item(path, *, unit=Unit.REFLECTANCE, scale=1e-4, offset=0.0, nodata=None, quality=None, index=1, name="a"):
    band = Band(name="red", unit=unit, scale=scale, offset=offset, nodata=nodata)
    return LocalItem(
        id=name, acquired=WHEN, bands=(LocalBand(path=path, index=index, band=band),),
        quality=None if quality is None else (quality, 1, QualityScheme.SCL),
    )  # fmt: skip


def _load(items, geobox, scratch, **options):
    parts = list(load_rows(items, geobox, scratch=scratch, **options))
    codes = None if parts[0][2] is None else np.concatenate([part[2] for part in parts])
    return np.concatenate([part[1] for part in parts], axis=1), codes


@pytest.fixture
def counts():
    return np.random.default_rng(0).integers(1, 9000, GRID.shape).astype(np.uint16)


def test_on_its_own_grid_every_pixel_is_scale_times_count_plus_offset(tmp_path, counts):
    counts[:10] = 0
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID, nodata=0)
    part = GRID[4:70, 8:100]
    found, codes = _load([_item(path, offset=-0.1)], part, tmp_path / "s")
    wanted = np.where(counts == 0, np.nan, counts * np.float32(1e-4) + np.float32(-0.1))[4:70, 8:100]
    np.testing.assert_allclose(found[0], wanted, rtol=1e-6)
    assert codes is None


@pytest.mark.parametrize("nodata", [None, 0])
def test_zeros_are_no_data_whether_the_file_says_so_or_not(tmp_path, counts, nodata):
    counts[:, :40] = 0
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID, nodata=nodata)
    shifted = GeoBox(GRID.shape, GRID.affine * Affine.translation(0.5, 0.5), GRID.crs)
    found, _ = _load([_item(path)], shifted, tmp_path / "s")
    # Were zeros averaged in, pixels beside them would be darker than every count of their neighbourhood.
    assert np.nanmin(found) >= counts[counts > 0].min() * 1e-4 * 0.999
    assert np.isnan(found[0, :, :38]).all()


def test_the_users_nodata_goes_before_the_files(tmp_path, counts):
    counts[:, :40] = 7777
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID, nodata=0)
    found, _ = _load([_item(path, nodata=7777)], GRID, tmp_path / "s")
    assert np.isnan(found[0, :, :40]).all()


def test_larger_pixels_are_means(tmp_path, counts):
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID, nodata=0)
    found, _ = _load([_item(path)], GRID.zoom_out(4), tmp_path / "s")
    wanted = counts.reshape(24, 4, 32, 4).mean(axis=(1, 3)) * 1e-4
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5)


@pytest.mark.parametrize("unit", [Unit.LINEAR_POWER, Unit.DB, Unit.AMPLITUDE])
def test_radar_is_averaged_in_linear_power_whatever_the_file_holds(tmp_path, unit):
    power = np.random.default_rng(0).gamma(4.0, 0.03, GRID.shape).astype(np.float32)
    stored = {Unit.LINEAR_POWER: power, Unit.DB: 10 * np.log10(power), Unit.AMPLITUDE: np.sqrt(power)}[unit]
    path = write_tiff(tmp_path / "a.tif", stored.astype(np.float32)[None], GRID)
    found, _ = _load([_item(path, unit=unit, scale=1.0)], GRID.zoom_out(4), tmp_path / "s")
    np.testing.assert_allclose(found[0], power.reshape(24, 4, 32, 4).mean(axis=(1, 3)), rtol=1e-4)


def test_power_that_is_declared_as_decibels_is_refused(tmp_path):
    power = np.random.default_rng(0).gamma(4.0, 0.03, GRID.shape).astype(np.float32)
    path = write_tiff(tmp_path / "a.tif", power[None], GRID)
    with pytest.raises(CatalogError, match="is declared as db"):
        _load([_item(path, unit=Unit.DB, scale=1.0)], GRID, tmp_path / "s")


def test_another_projection_agrees_with_rasterio(tmp_path):
    rows, cols = np.mgrid[: GRID.shape[0], : GRID.shape[1]]
    smooth = (3000 + 1500 * np.sin(rows / 9) + 1000 * np.cos(cols / 7)).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", smooth[None], GRID, nodata=0)
    other = GeoBox.from_bbox(GRID.extent.to_crs("EPSG:32632").boundingbox, "EPSG:32632", resolution=10)
    found, _ = _load([_item(path)], other, tmp_path / "s")
    wanted = np.full(other.shape, np.nan, dtype=np.float32)
    reproject(
        smooth.astype(np.float32), wanted, src_transform=GRID.affine, src_crs="EPSG:32633", src_nodata=0,
        dst_transform=other.affine, dst_crs="EPSG:32632", dst_nodata=np.nan, resampling=Resampling.bilinear,
    )  # fmt: skip
    both = np.isfinite(found[0]) & np.isfinite(wanted)
    assert both.mean() > 0.8
    assert (np.isfinite(found[0]) != np.isfinite(wanted)).mean() < 0.01
    # The file is integer, so GDAL rounds neither; its approximate transformer is good to an eighth of a pixel.
    assert np.abs(found[0] - wanted * 1e-4)[both].max() < 0.25 * 250e-4


@pytest.mark.parametrize("rows", [17, 64, 4096])
def test_rows_at_once_make_no_difference(tmp_path, counts, rows):
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID, nodata=0)
    shifted = GeoBox(GRID.shape, GRID.affine * Affine.translation(0.3, 0.3), GRID.crs)
    whole, _ = _load([_item(path)], shifted, tmp_path / "s")
    found, _ = _load([_item(path)], shifted, tmp_path / f"s{rows}", rows=rows)
    np.testing.assert_array_equal(found, whole)


def test_a_band_of_a_file_of_several(tmp_path, counts):
    path = write_tiff(tmp_path / "a.tif", np.stack([counts, counts // 2 + 1]), GRID, nodata=0)
    found, _ = _load([_item(path, index=2)], GRID, tmp_path / "s")
    np.testing.assert_allclose(found[0], (counts // 2 + 1) * 1e-4, rtol=1e-6)


def test_an_internal_mask_counts(tmp_path, counts):
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID)
    usable = np.ones(GRID.shape, dtype=bool)
    usable[20:40] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(usable)
    found, _ = _load([_item(path)], GRID, tmp_path / "s")
    np.testing.assert_array_equal(np.isfinite(found[0]), usable)


def test_items_of_one_pass_keep_their_own_offsets_and_the_first_goes_first(tmp_path, counts):
    left, right = counts.copy(), counts + 1000
    left[:, 80:], right[:, :40] = 0, 0
    first = write_tiff(tmp_path / "a.tif", left[None], GRID, nodata=0)
    second = write_tiff(tmp_path / "b.tif", right[None].astype(np.uint16), GRID, nodata=0)
    found, _ = _load([_item(first), _item(second, offset=-0.1, name="b")], GRID, tmp_path / "s")
    np.testing.assert_allclose(found[0], counts * 1e-4, atol=2e-7)


def test_quality_is_decoded_and_what_is_unusable_is_not_valid(tmp_path, counts):
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID, nodata=0)
    classes = np.full((48, 64), 4, dtype=np.uint8)
    classes[:10], classes[10:20], classes[20:30] = 9, 3, 1
    scl = write_tiff(tmp_path / "scl.tif", classes[None], GRID.zoom_out(2), nodata=0)
    found, codes = _load([_item(path, quality=scl)], GRID, tmp_path / "s")
    by_row = {5: Quality.CLOUD, 30: Quality.SHADOW, 50: Quality.UNUSABLE, 80: Quality.CLEAR}
    assert {row: Quality(int(codes[row, 9])) for row in by_row} == by_row
    np.testing.assert_array_equal(np.isnan(found[0]), codes == Quality.UNUSABLE)


def test_beyond_the_files_there_is_nothing(tmp_path, counts):
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID, nodata=0)
    scl = write_tiff(tmp_path / "scl.tif", np.full((1, 48, 64), 4, np.uint8), GRID.zoom_out(2), nodata=0)
    found, codes = _load([_item(path, quality=scl)], GRID.pad(16), tmp_path / "s")
    assert np.isfinite(found[0]).sum() == counts.size
    assert (codes[np.isnan(found[0])] == Quality.UNUSABLE).all()
    elsewhere = GeoBox(GRID.shape, Affine.translation(9e4, 0) * GRID.affine, GRID.crs)
    assert np.isnan(_load([_item(path)], elsewhere, tmp_path / "t")[0]).all()


def test_a_virtual_raster_in_disguise_is_not_opened(tmp_path):
    (tmp_path / "a.tif").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"/>')
    with pytest.raises(CatalogError, match="found neither GeoTIFF nor JPEG 2000"):
        file_values(tmp_path / "a.tif", 1)


def test_a_truncated_raster_is_one_line(tmp_path, counts):
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID, nodata=0, compress="deflate", tiled=True)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CatalogError, match="found ") as caught:
        _load([_item(path)], GRID, tmp_path / "s")
    assert "\n" not in str(caught.value)


def test_radar_geometry_is_refused_with_what_to_do(tmp_path):
    corners = [GroundControlPoint(r, c, 15 + c / 1e3, 48 - r / 1e3) for r, c in ((0, 0), (0, 9), (9, 0), (9, 9))]
    with rasterio.open(
        tmp_path / "a.tif",
        "w",
        driver="GTiff",
        width=9,
        height=9,
        count=1,
        dtype="uint16",
        gcps=corners,
        crs="EPSG:4326",
    ) as file:
        file.write(np.ones((1, 9, 9), np.uint16))
    with pytest.raises(CatalogError, match=r"radar geometry.*sentinel-1-rtc"):
        file_values(tmp_path / "a.tif", 1)


def test_a_band_that_the_file_lacks_is_refused(tmp_path, counts):
    path = write_tiff(tmp_path / "a.tif", counts[None], GRID)
    assert file_values(path, 1).is_integer
    with pytest.raises(CatalogError, match="wanted band 2"):
        file_values(path, 2)


@settings(max_examples=30)  # each reprojects an outline of a thousand points
@given(
    west=st.floats(-179, 178), south=st.floats(-79, 82), width=st.floats(0.001, 0.5), height=st.floats(0.001, 0.3),
    resolution=st.sampled_from([10.0, 20.0, 30.0, 3.0]),
)  # fmt: skip
def test_the_grid_holds_the_area_in_its_zone_at_multiples_of_the_pixel(west, south, width, height, resolution):
    area = box(west, south, west + width, south + height)
    grid = area_grid(area, resolution=resolution)
    zone = int((area.centroid.x + 180) // 6) + 1
    exception = area.centroid.y >= 56  # zones of Norway and Svalbard
    assert grid.crs.to_epsg() == (32600 if area.centroid.y >= 0 else 32700) + zone or exception
    assert (grid.resolution.x, grid.resolution.y) == (resolution, -resolution)
    assert grid.affine.c % resolution == pytest.approx(0, abs=1e-6) or grid.affine.c % resolution > resolution - 1e-6
    outline = Geometry(area, "EPSG:4326").to_crs(grid.crs, resolution=0.01)
    assert grid.extent.buffer(0.01 * resolution).contains(outline)


@pytest.mark.parametrize("area", [box(0, 0, 7, 1), box(0, 83, 1, 85), box(0, -81, 1, -79)])
def test_an_area_beyond_one_zone_is_refused(area):
    with pytest.raises(CatalogError, match="cut it into parts"):
        area_grid(area, resolution=10.0)


@pytest.mark.parametrize("resolution", [0.001, 1e-320])
def test_a_grid_of_too_many_pixels_is_refused_at_once(resolution):
    with pytest.raises(CatalogError, match=r"in pixels of .* m, .* of them; wanted at most 1e\+10; give a larger"):
        area_grid(box(15.0, 47.8, 15.02, 47.81), resolution=resolution)
