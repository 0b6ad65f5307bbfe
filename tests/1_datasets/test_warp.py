"""Warping: compared with rasterio's own warp, with constants, and with planted shifts."""

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.warp import Resampling
from scipy import ndimage
from strategies import geoboxes, north_up, write_tiff

from equipoise.datasets.errors import SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.opening import open_scene
from equipoise.datasets.warp import moved, warp, warp_bands

GRID = north_up(48, 40)


def scene_of(path, values, geobox, *, unit=Unit.DIGITAL_NUMBER, resampling="bilinear", nodata=np.nan, chip=False):
    bands = tuple(Band(name=f"b{n}", unit=unit, resampling=resampling) for n in range(len(values)))
    write_tiff(path, values, geobox, nodata=nodata)
    return open_scene(path, Modality(name="m", bands=bands), georeferenced=not chip)


def texture(geobox, *, seed=0, smooth=2.0):
    """Smooth noise around 100: interpolation hardly changes it, a shift does."""
    noise = np.random.default_rng(seed).normal(size=geobox.shape)
    return (100 + 10 * ndimage.gaussian_filter(noise, smooth) / 0.1).astype(np.float32)[None]


def oracle(values, source, target):
    """Bilinear interpolation at the exact place of each target pixel, by scipy and pyproj; NaN near the border."""
    rows, cols = np.mgrid[: target.shape[0], : target.shape[1]] + 0.5
    places = target.affine * (cols, rows)
    if target.crs != source.crs:
        places = Transformer.from_crs(str(target.crs), str(source.crs), always_xy=True).transform(*places)
    cols, rows = ~source.affine * places
    return np.stack(
        [ndimage.map_coordinates(band.astype(float), (rows - 0.5, cols - 0.5), order=1, cval=np.nan) for band in values]
    )


def whole_file(values, source, target, rule):
    """GDAL's warp of the whole file at the same kernel size: windowing must not change a pixel."""
    out = np.full((len(values), *target.shape), np.nan, np.float32)
    rasterio.warp.reproject(
        values, out, src_transform=source.affine, src_crs=source.crs.to_wkt(), dst_transform=target.affine,
        dst_crs=target.crs.to_wkt(), src_nodata=np.nan, dst_nodata=np.nan, resampling=rule, XSCALE=1, YSCALE=1,
    )  # fmt: skip
    return out


SHIFTED = north_up(30, 20, left=500_052.5, top=5_299_913.7)
TURNED = GeoBox((30, 30), Affine.translation(500_080, 5_299_900) * Affine.rotation(25) * Affine.scale(9, -9), GRID.crs)
TARGETS = {
    "shifted": SHIFTED,
    "rotated": TURNED,
    "other zone": GRID.to_crs("EPSG:32632"),
    "geographic": GRID.to_crs("EPSG:4326"),
}


# against an independent truth


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_equals_interpolation_at_the_exact_places(tmp_path, target):
    values = np.concatenate([texture(GRID, seed=1), texture(GRID, seed=2)])
    ours = warp(scene_of(tmp_path / "a.tif", values, GRID), target)
    expected = oracle(values, GRID, target)
    inside = np.isfinite(expected)
    assert inside.mean() > 0.3
    assert np.isfinite(ours[inside]).all()
    # GDAL interpolates the way between two systems in between: a few hundredths of a pixel.
    np.testing.assert_allclose(ours[inside], expected[inside], atol=0.3 if target.crs != GRID.crs else 0.01)


@pytest.mark.parametrize("rule", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("target", [SHIFTED, TURNED], ids=["shifted", "rotated"])
def test_reading_only_what_is_needed_changes_no_pixel(tmp_path, target, rule):
    values = np.concatenate([texture(GRID, seed=1), texture(GRID, seed=2)])
    values[:, 25:, 18:] = np.nan
    ours = warp(scene_of(tmp_path / "a.tif", values, GRID, resampling=rule), target)
    expected = whole_file(values, GRID, target, Resampling[rule])
    assert 0.2 < np.isfinite(expected).mean() < 1
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(expected))
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_larger_pixels_are_the_mean_of_what_they_cover(tmp_path):
    values = texture(GRID, smooth=0.5)
    coarse = GeoBox((24, 20), GRID.affine * Affine.scale(2), GRID.crs)
    ours = warp(scene_of(tmp_path / "a.tif", values, GRID, resampling="nearest"), coarse)
    np.testing.assert_allclose(ours[0], values[0].reshape(24, 2, 20, 2).mean(axis=(1, 3)), rtol=1e-5)


@pytest.mark.parametrize("unit", [Unit.DB, Unit.AMPLITUDE, Unit.LINEAR_POWER])
def test_backscatter_is_averaged_in_linear_power(tmp_path, unit):
    power = np.random.default_rng(5).gamma(1.0, 0.1, GRID.shape).astype(np.float32)[None] + np.float32(1e-3)
    stored = {Unit.DB: 10 * np.log10(power), Unit.AMPLITUDE: np.sqrt(power), Unit.LINEAR_POWER: power}[unit]
    coarse = GeoBox((24, 20), GRID.affine * Affine.scale(2), GRID.crs)
    ours = warp(scene_of(tmp_path / "a.tif", stored.astype(np.float32), GRID, unit=unit), coarse)
    blocks = power[0].astype(np.float64).reshape(24, 2, 20, 2)
    np.testing.assert_allclose(ours[0], blocks.mean(axis=(1, 3)), rtol=1e-4)
    mean_of_decibels = 10 ** np.log10(blocks).mean(axis=(1, 3))
    assert (ours[0] > 1.1 * mean_of_decibels).mean() > 0.8  # speckle: the mean of decibels is about 2.5 dB too low


def test_equal_grids_give_equal_pixels(tmp_path):
    values = texture(GRID, smooth=0.1)
    for rule in ("nearest", "bilinear", "cubic"):
        np.testing.assert_allclose(
            warp(scene_of(tmp_path / "a.tif", values, GRID, resampling=rule), GRID), values, rtol=1e-6
        )


# laws


@settings(max_examples=30)
@given(target=geoboxes(largest=31, zones=("EPSG:32633",)), level=st.floats(0.125, 400.0, width=32))
def test_a_constant_stays_the_constant(tmp_path_factory, target, level):
    """Whatever the target's pixel size, angle and position; beyond the source nothing is invented."""
    source = GeoBox((40, 40), target.affine * Affine.translation(-3.3, -4.7) * Affine.scale(0.8), target.crs)
    values = np.full((1, 40, 40), level, np.float32)
    out = warp(scene_of(tmp_path_factory.mktemp("w") / "a.tif", values, source), target)
    assert np.isfinite(out).any()
    np.testing.assert_allclose(out[np.isfinite(out)], np.float32(level), rtol=1e-5)


@pytest.mark.parametrize("pixel", [4.0, 10.0, 13.0, 20.0, 35.0])
@pytest.mark.parametrize("rule", ["nearest", "bilinear", "cubic"])
def test_nodata_never_leaks_into_valid_pixels(tmp_path, pixel, rule):
    values = np.full((1, *GRID.shape), -9999.0, np.float32)
    values[:, 3:, :22] = 5.0
    scene = scene_of(tmp_path / "a.tif", values, GRID, resampling=rule, nodata=-9999.0)
    out = warp(scene, north_up(20, 20, pixel=pixel, left=500_175.0 - 2 * pixel, top=5_299_985.0))
    assert set(np.unique(out[np.isfinite(out)])) == {np.float32(5)}
    assert np.isnan(out).any()


def test_a_hole_stays_about_as_large_as_it_was(tmp_path):
    values = texture(GRID)
    values[:, 20:30, 10:20] = np.nan
    out = warp(scene_of(tmp_path / "a.tif", values, GRID), moved(GRID, east=3.0, north=-3.0))
    assert 81 <= np.isnan(out[0, 15:35, 5:25]).sum() <= 121


# positions


@pytest.mark.parametrize(("east", "north"), [(10.0, -20.0), (-30.0, 10.0)])
def test_a_correction_is_added_to_the_position_that_the_file_claims(tmp_path, east, north):
    """By whole pixels: what the file puts at x belongs to x + east."""
    values = texture(GRID)
    out = warp(scene_of(tmp_path / "a.tif", values, GRID, resampling="nearest"), GRID, east=east, north=north)
    cols, rows = round(east / 10), round(-north / 10)
    expected = np.full_like(values, np.nan)
    inside = (slice(max(rows, 0), 48 + min(rows, 0)), slice(max(cols, 0), 40 + min(cols, 0)))
    origin = (slice(max(-rows, 0), 48 + min(-rows, 0)), slice(max(-cols, 0), 40 + min(-cols, 0)))
    expected[:, *inside] = values[:, *origin]
    np.testing.assert_array_equal(out, expected)


@settings(max_examples=20)
@given(east=st.floats(-60.0, 60.0), north=st.floats(-60.0, 60.0), angle=st.sampled_from([0.0, 0.6, 40.0]))
def test_a_planted_shift_is_taken_back(tmp_path_factory, east, north, angle):
    """A file whose georeferencing is off by a known vector lands where its pixels were taken."""
    true = GeoBox(
        (90, 90), Affine.translation(499_800, 5_300_300) * Affine.rotation(angle) * Affine.scale(10, -10), GRID.crs
    )
    claimed = moved(true, east=-east, north=-north)
    values = texture(true, smooth=3.0)
    path = tmp_path_factory.mktemp("w") / "a.tif"
    corrected = warp(scene_of(path, values, claimed), GRID, east=east, north=north)
    at_truth = oracle(values, true, GRID)
    both = np.isfinite(corrected) & np.isfinite(at_truth)
    assert both.mean() > 0.3
    np.testing.assert_allclose(corrected[both], at_truth[both], atol=0.01)


def test_the_embedded_shifts_are_recovered(embedded_scene):
    """Clear, cloudless structure: the radar's edges fit the truth better corrected than not."""
    with rasterio.open(embedded_scene.labels) as file:
        grid = GeoBox(file.shape, file.transform, file.crs)
        forest = np.isin(file.read(1), [embedded_scene.class_names.index("forest")])
        flooded = np.isin(file.read(1), [embedded_scene.class_names.index("flooded_forest")])
    sar = Modality(name="sar", bands=tuple(Band(name=name, unit=Unit.LINEAR_POWER) for name in ("VV", "VH")))
    scene = open_scene(embedded_scene.paths["sar"], sar)
    east, north = embedded_scene.true_shift_m["sar"]
    contrast = []
    for factor in (-1.0, 0.0, 1.0):
        power = warp(scene, grid, east=factor * east, north=factor * north)[0]
        contrast.append(np.nanmean(power[flooded]) / np.nanmean(power[forest]))
    assert contrast[2] > contrast[1] > contrast[0]


@given(geobox=geoboxes(), east=st.floats(-500.0, 500.0), north=st.floats(-500.0, 500.0))
def test_moving_moves_every_pixel_and_moving_back_restores(geobox, east, north):
    there = moved(geobox, east=east, north=north)
    assert (there.shape, there.crs) == (geobox.shape, geobox.crs)
    corner = np.array(geobox.affine * (geobox.shape[1], geobox.shape[0]))
    np.testing.assert_allclose(
        there.affine * (geobox.shape[1], geobox.shape[0]), corner + np.array([east, north]), atol=1e-6
    )
    np.testing.assert_allclose(moved(there, east=-east, north=-north).affine[:6], geobox.affine[:6], atol=1e-6)


# edges


def test_no_overlap_is_all_nodata(tmp_path):
    scene = scene_of(tmp_path / "a.tif", texture(GRID), GRID)
    out = warp(scene, north_up(9, 9, left=700_000.0))
    assert out.shape == (1, 9, 9)
    assert np.isnan(out).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (41, 1)])
def test_thin_targets_and_sources(tmp_path, shape):
    values = texture(GRID)
    scene = scene_of(tmp_path / "a.tif", values, GRID)
    np.testing.assert_allclose(warp(scene, GRID[: shape[0], : shape[1]]), values[:, : shape[0], : shape[1]], rtol=1e-6)
    thin = scene_of(
        tmp_path / "b.tif", values[:, : shape[0], : shape[1]], GRID[: shape[0], : shape[1]], resampling="nearest"
    )
    out = warp(thin, GRID)
    np.testing.assert_array_equal(out[:, : shape[0], : shape[1]], values[:, : shape[0], : shape[1]])
    assert np.isfinite(out).sum() == shape[0] * shape[1]


@pytest.mark.parametrize("rows", [1, 7, 48, 1000])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_some_rows_at_a_time_equal_all_at_once(tmp_path, rows, scale):
    values = texture(GRID)
    values[:, 12:20, :9] = np.nan
    scene = scene_of(tmp_path / "a.tif", values, GRID)
    target = GeoBox((24, 20), GRID.affine * Affine.translation(0.3, -0.4) * Affine.scale(scale), GRID.crs)
    parts = list(warp_bands(scene, target, east=4.0, north=7.0, rows=rows))
    assert [row for row, _ in parts] == list(range(0, 24, rows))
    whole = warp(scene, target, east=4.0, north=7.0)
    np.testing.assert_allclose(np.concatenate([part for _, part in parts], axis=1), whole, rtol=1e-5)


def test_chips_without_a_position_are_taken_pixel_by_pixel(tmp_path):
    chip = GeoBox((48, 40), Affine.identity(), None)
    values = texture(GRID)
    scene = scene_of(tmp_path / "a.tif", values, chip, chip=True)
    np.testing.assert_array_equal(warp(scene, chip), values)
    np.testing.assert_array_equal(warp(scene, GRID), values)
    ((row, rows),) = warp_bands(scene, chip)
    assert row == 0
    np.testing.assert_array_equal(rows, values)
    with pytest.raises(SceneError, match=r"found 40 x 48 px without a position; wanted the 20 x 10 px"):
        warp(scene, GeoBox((10, 20), Affine.identity(), None))
