"""Warping: compared with rasterio's own warp, with constants, and with planted shifts."""

import threading

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

from equipoise.datasets.displacement import Displacement
from equipoise.datasets.errors import SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.opening import Handling, open_scene
from equipoise.datasets.quality import QualityScheme
from equipoise.datasets.source import Source
from equipoise.datasets.source_positions import SourcePositions
from equipoise.datasets.warp import warp, warp_bands, warp_quality

GRID = north_up(48, 40)


def scene_of(path, values, geobox, *, unit=Unit.DIGITAL_NUMBER, resampling="bilinear", nodata=np.nan, chip=False):
    bands = tuple(Band(name=f"b{n}", unit=unit, resampling=resampling) for n in range(len(values)))
    write_tiff(path, values, geobox, nodata=nodata)
    return open_scene(path, Modality(name="m", bands=bands), georeferenced=not chip)


def moved(geobox, *, east, north):
    return GeoBox(geobox.shape, Affine.translation(east, north) * geobox.affine, geobox.crs)


def by(geobox, east, north):
    return Displacement.constant(geobox, east=east, north=north)


def texture(geobox, *, seed=0, smooth=2.0):
    """Smooth noise around 100: interpolation hardly changes it, a shift does."""
    noise = np.random.default_rng(seed).normal(size=geobox.shape)
    return (100 + 10 * ndimage.gaussian_filter(noise, smooth) / 0.1).astype(np.float32)[None]


def exact_positions(source, target, displacement=None):
    """Source rows and columns of every target pixel, 0 = centre of the first: pyproj at each of them."""
    rows, cols = np.mgrid[: target.shape[0], : target.shape[1]] + 0.5
    x, y = target.affine * (cols, rows)
    if displacement is not None:
        east, north = displacement(x, y)
        x, y = x - east, y - north
    if target.crs != source.crs:
        x, y = Transformer.from_crs(str(target.crs), str(source.crs), always_xy=True).transform(x, y)
    cols, rows = ~source.affine * (x, y)
    return rows - 0.5, cols - 0.5


def oracle(values, source, target):
    """Bilinear interpolation at the exact place of each target pixel, by scipy and pyproj; NaN near the border."""
    places = exact_positions(source, target)
    return np.stack([ndimage.map_coordinates(band.astype(float), places, order=1, cval=np.nan) for band in values])


def whole_file(values, source, target, rule):
    """GDAL's warp of the whole file at the same kernel size: windowing must not change a pixel."""
    out = np.full((len(values), *target.shape), np.nan, np.float32)
    rasterio.warp.reproject(
        values, out, src_transform=source.affine, src_crs=source.crs.to_wkt(), dst_transform=target.affine,
        dst_crs=target.crs.to_wkt(), src_nodata=np.nan, dst_nodata=np.nan, resampling=rule, XSCALE=1, YSCALE=1,
    )  # fmt: skip
    return out


def all_taps_valid(valid, source, target, rule):
    """Whether every source pixel that has a weight is there and valid."""
    count = {"nearest": 1, "bilinear": 2, "cubic": 4, "lanczos": 6}[rule]
    rows, cols = exact_positions(source, target)
    framed = np.pad(valid, 8)
    out = np.ones(target.shape, bool)
    for row in range(count):
        for col in range(count):
            ways = [place + (tap - count // 2 + (count > 1)) for place, tap in ((rows, row), (cols, col))]
            ways = [np.floor(way + (1e-3 if count > 1 else 0.5)).astype(int) for way in ways]
            weighty = np.ones(target.shape, bool)
            for place, way in zip((rows, cols), ways, strict=True):
                at_pixel = abs(place - np.round(place)) < 1e-3
                weighty &= ~at_pixel | (way == np.round(place)) | (count == 1)
            ways = [np.clip(way + 8, 0, size - 1) for way, size in zip(ways, framed.shape, strict=True)]
            out &= framed[*ways] | ~weighty
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
    np.testing.assert_allclose(ours[inside], expected[inside], atol=0.01)


@pytest.mark.parametrize("rule", ["nearest", "bilinear", "cubic", "lanczos"])
@pytest.mark.parametrize("target", [SHIFTED, TURNED], ids=["shifted", "rotated"])
def test_reading_only_what_is_needed_changes_no_pixel(tmp_path, target, rule):
    values = np.concatenate([texture(GRID, seed=1), texture(GRID, seed=2)])
    values[:, 25:, 18:] = np.nan
    ours = warp(scene_of(tmp_path / "a.tif", values, GRID, resampling=rule), target)
    expected = whole_file(values, GRID, target, Resampling[rule])
    valid = all_taps_valid(np.isfinite(values[0]), GRID, target, rule)
    assert 0.2 < valid.mean() < 1
    np.testing.assert_array_equal(np.isfinite(ours), np.stack([valid] * 2))
    # GDAL also gives what a part of the kernel says, where its middle is valid: we do not.
    assert np.isfinite(expected)[np.isfinite(ours)].all()
    np.testing.assert_allclose(ours[:, valid], expected[:, valid], rtol=1e-4)


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
    assert np.isfinite(out).any()
    np.testing.assert_allclose(out[np.isfinite(out)], 5, rtol=1e-6)  # weights add up to one but for their rounding
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
    out = warp(
        scene_of(tmp_path / "a.tif", values, GRID, resampling="nearest"), GRID, displacement=by(GRID, east, north)
    )
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
    corrected = warp(scene_of(path, values, claimed), GRID, displacement=by(GRID, east, north))
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
        power = warp(scene, grid, displacement=by(grid, factor * east, factor * north))[0]
        contrast.append(np.nanmean(power[flooded]) / np.nanmean(power[forest]))
    assert contrast[2] > contrast[1] > contrast[0]


# displacement fields, against pyproj at every pixel


def waves(rows, cols):
    """An analytic picture: long waves, so that kernels follow them."""
    return 100 + 20 * np.sin(rows / 5.1 + cols / 9.7) + 12 * np.cos(cols / 6.3 - rows / 13.0)


SOURCE = north_up(220, 200)
PICTURE = waves(*np.mgrid[:220, :200]).astype(np.float32)[None]
#: Largest error of each kernel on these waves; a twentieth of a pixel would be 0.3, two thousandths 0.01.
KERNEL_ERRORS = {"bilinear": 0.2, "cubic": 0.01, "lanczos": 0.15}
FIELD_TARGETS = {
    "same grid": SOURCE,
    "finer": GeoBox((300, 280), SOURCE.affine * Affine.translation(20.3, 15.1) * Affine.scale(0.6), SOURCE.crs),
    "turned": GeoBox((150, 140), SOURCE.affine * Affine.translation(60, 20) * Affine.rotation(20), SOURCE.crs),
    "other zone": SOURCE.to_crs("EPSG:32632"),
    "geographic": SOURCE.to_crs("EPSG:4326"),
}


def field_on(target, *, nodes=9, metres=40.0, turned=0.0):
    """A bilinear field and the function that it is: an odd lattice over a part of the target."""
    step = Affine.scale(target.shape[1] / (nodes + 1.3), target.shape[0] / (nodes + 1.7))
    lattice = GeoBox((nodes, nodes), target.affine * Affine.translation(7.3, 5.9) * Affine.rotation(turned) * step,
                     target.crs)  # fmt: skip
    unit = metres / (111_000 if target.crs.geographic else 1)
    rng = np.random.default_rng(11)
    smooth = [ndimage.gaussian_filter(rng.normal(size=(nodes, nodes)), 1.0) * 2 * unit for _ in range(2)]
    field = Displacement(lattice=lattice, east=smooth[0], north=smooth[1])

    def between(x, y):
        cols, rows = ~lattice.affine * (x, y)
        places = np.clip(rows - 0.5, 0, nodes - 1), np.clip(cols - 0.5, 0, nodes - 1)
        return [ndimage.map_coordinates(part.astype(float), places, order=1, mode="nearest")
                for part in (field.east, field.north)]  # fmt: skip

    return field, between


@pytest.mark.parametrize("target", FIELD_TARGETS.values(), ids=FIELD_TARGETS)
@pytest.mark.parametrize("turned", [0.0, 10.0], ids=["parallel", "lattice turned"])
def test_positions_equal_the_exact_ones(target, turned):
    field, between = field_on(target, turned=turned)
    positions = SourcePositions.of(SOURCE, target, field)
    found = positions.at(slice(0, target.shape[0]), slice(0, target.shape[1]))
    for ours, exact in zip(found, exact_positions(SOURCE, target, between), strict=True):
        np.testing.assert_allclose(ours, exact, atol=0.002)


@pytest.mark.parametrize("pixel", [1.0, 300.0, 5000.0])
def test_positions_are_refined_until_they_are_exact(pixel):
    """A few large pixels hold much curvature."""
    source = north_up(180, 180, pixel=pixel, left=500_000 - 90 * pixel, top=5_300_000 + 90 * pixel)
    target = source.to_crs("EPSG:4326")
    found = SourcePositions.of(source, target).at(slice(0, target.shape[0]), slice(0, target.shape[1]))
    for ours, exact in zip(found, exact_positions(source, target), strict=True):
        np.testing.assert_allclose(ours, exact, atol=0.002)


@pytest.mark.parametrize("target", FIELD_TARGETS.values(), ids=FIELD_TARGETS)
@pytest.mark.parametrize("rule", KERNEL_ERRORS)
def test_fields_and_reprojection_are_one_resampling(tmp_path, target, rule):
    field, between = field_on(target)
    ours = warp(scene_of(tmp_path / "a.tif", PICTURE, SOURCE, resampling=rule), target, displacement=field)[0]
    expected = waves(*exact_positions(SOURCE, target, between))
    valid = np.isfinite(ours)
    assert valid.mean() > 0.6
    np.testing.assert_allclose(ours[valid], expected[valid], atol=KERNEL_ERRORS[rule])


@pytest.mark.parametrize("rule", KERNEL_ERRORS)
def test_an_affine_field_turns_and_stretches(tmp_path, rule):
    lattice = north_up(4, 4, pixel=1000.0, left=499_000.0, top=5_300_900.0)
    x, y = lattice.affine * (np.mgrid[:4, :4][::-1] + 0.5)

    def field(x, y):
        return 4 + 0.01 * (x - 500_000) - 0.02 * (y - 5_299_000), -7 + 0.015 * (x - 500_000) + 0.005 * (y - 5_299_000)

    made = Displacement(lattice=lattice, east=field(x, y)[0], north=field(x, y)[1])
    target = SOURCE.pad(-15)
    ours = warp(scene_of(tmp_path / "a.tif", PICTURE, SOURCE, resampling=rule), target, displacement=made)[0]
    expected = waves(*exact_positions(SOURCE, target, field))
    assert np.isfinite(ours).mean() > 0.95
    np.testing.assert_allclose(ours[np.isfinite(ours)], expected[np.isfinite(ours)], atol=KERNEL_ERRORS[rule])


@pytest.mark.parametrize("rule", ["bilinear", "cubic", "lanczos"])
def test_kernels_leave_a_ramp_where_it_is(tmp_path, rule):
    """What a kernel adds to the error of position: cubic kernels of another constant move ramps by 0.05 px."""
    ramp = (np.mgrid[:60, :60][1]).astype(np.float32)[None] + 1
    source = north_up(60, 60)
    for part in (0.1, 0.25, 0.4, 0.7):
        ours = warp(scene_of(tmp_path / "a.tif", ramp, source, resampling=rule), source,
                    displacement=by(source, 10 * part, 0.0))  # fmt: skip
        valid = np.isfinite(ours)
        np.testing.assert_allclose((ours - ramp + part)[valid], 0, atol=0.02 if rule == "lanczos" else 0.001)


@pytest.mark.parametrize("rule", ["nearest", "bilinear", "cubic", "lanczos"])
@pytest.mark.parametrize("whole", [True, False])
def test_nodata_spreads_as_far_as_the_kernel(tmp_path, rule, whole):
    values = PICTURE.copy()
    values[:, 100, 90] = np.nan
    shift = 10.0 if whole else 13.0
    out = warp(scene_of(tmp_path / "a.tif", values, SOURCE, resampling=rule), SOURCE, displacement=by(SOURCE, shift, 0))
    size = 1 if whole else {"nearest": 1, "bilinear": 2, "cubic": 4, "lanczos": 6}[rule]
    assert np.isnan(out[0, 50:150, 50:150]).sum() == size  # along the row alone: nothing moves in the other direction
    bad = exact_positions(SOURCE, SOURCE, lambda x, y: (np.full_like(x, shift), 0 * y))
    assert np.isnan(out[0, 100, np.abs(bad[1][100] - 90) < size / 2 - 1e-3]).all()


def test_each_band_has_its_own_rule_and_its_own_holes(tmp_path):
    values = np.concatenate([PICTURE, PICTURE])
    bands = tuple(Band(name=f"b{n}", unit=Unit.DIGITAL_NUMBER, resampling=rule) for n, rule in enumerate(KERNEL_ERRORS))
    write_tiff(tmp_path / "a.tif", np.concatenate([values, PICTURE]), SOURCE, nodata=np.nan)
    scene = open_scene(tmp_path / "a.tif", Modality(name="m", bands=bands))
    together = warp(scene, SOURCE, displacement=by(SOURCE, 3, 4))
    for number, rule in enumerate(KERNEL_ERRORS):
        alone = warp(scene_of(tmp_path / "b.tif", PICTURE, SOURCE, resampling=rule), SOURCE,
                     displacement=by(SOURCE, 3, 4))  # fmt: skip
        np.testing.assert_array_equal(together[number], alone[0])


@pytest.mark.parametrize("pixels", [2.0, 2.5, 3.0])
@pytest.mark.parametrize("moved_by", [0.0, 3.7])
def test_means_equal_those_of_gdal(tmp_path, pixels, moved_by):
    power = np.random.default_rng(5).gamma(1.0, 0.1, SOURCE.shape).astype(np.float32)[None] + np.float32(1e-3)
    power[:, 60:75, 60:90] = np.nan
    place = Affine.translation(0.3, 0.45) * Affine.scale(pixels)
    target = GeoBox((70, 66), SOURCE.affine * place, SOURCE.crs)
    claimed = moved(target, east=-moved_by, north=moved_by)
    scene = scene_of(tmp_path / "a.tif", power, SOURCE, unit=Unit.LINEAR_POWER)
    ours = warp(scene, target, displacement=by(target, moved_by, -moved_by))
    expected = whole_file(power, SOURCE, claimed, Resampling.average)
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(expected))
    assert np.isnan(ours).any()
    # Of a target pixel that reaches beyond the source, GDAL counts the outermost source pixels as if they did too.
    np.testing.assert_allclose(ours[:, 1:, 1:], expected[:, 1:, 1:], rtol=1e-4)


def test_the_total_power_is_kept_where_pixels_become_larger(tmp_path):
    power = np.random.default_rng(6).gamma(1.0, 0.1, (120, 120)).astype(np.float32)[None]
    source = north_up(120, 120)
    for pixels in (2, 3, 2.5):
        target = GeoBox((int(120 / pixels),) * 2, source.affine * Affine.scale(pixels), source.crs)
        ours = warp(scene_of(tmp_path / "a.tif", power, source, unit=Unit.LINEAR_POWER), target)
        np.testing.assert_allclose(ours.sum(dtype=float) * pixels**2, power.sum(dtype=float), rtol=1e-5)


def test_turned_means_stay_means(tmp_path):
    """A turned pixel is as large as an upright one: speckle is averaged as much, and what is smooth stays."""
    noise = np.random.default_rng(7).normal(size=SOURCE.shape).astype(np.float32)[None]
    target = GeoBox(
        (40, 40), SOURCE.affine * Affine.translation(80, 20) * Affine.rotation(30) * Affine.scale(3), GRID.crs
    )
    ours = warp(scene_of(tmp_path / "a.tif", noise + 50, SOURCE), target)
    np.testing.assert_allclose(np.nanmean(ours), 50, atol=0.05)
    assert 0.25 < np.nanstd(ours) < 0.4  # nine pixels: 0.33


@pytest.mark.parametrize("rule", ["nearest", "bilinear", "cubic"])
def test_what_a_field_takes_from_beyond_the_source_is_not_valid(tmp_path, rule):
    field, between = field_on(SOURCE, metres=400.0)
    ours = warp(scene_of(tmp_path / "a.tif", PICTURE, SOURCE, resampling=rule), SOURCE, displacement=field)[0]
    margin = {"nearest": -0.5, "bilinear": 0.0, "cubic": 1.0}[rule]
    rows, cols = exact_positions(SOURCE, SOURCE, between)
    depth = np.minimum.reduce([rows - margin, 219 - margin - rows, cols - margin, 199 - margin - cols])
    assert 0.02 < (depth < 0).mean() < 0.9
    assert np.isfinite(ours[depth > 0.005]).all()
    at_a_pixel = (np.abs(rows - np.round(rows)) < 0.002) | (np.abs(cols - np.round(cols)) < 0.002)  # needs no other
    assert np.isnan(ours[(depth < -0.005) & ~at_a_pixel]).all()


@pytest.mark.parametrize("target", FIELD_TARGETS.values(), ids=FIELD_TARGETS)
@pytest.mark.parametrize("rows", [13, 64])
def test_bands_of_a_field_equal_one_call(tmp_path, target, rows):
    values = PICTURE.copy()
    values[:, 40:50, 30:90] = np.nan
    field, _ = field_on(target)
    scene = scene_of(tmp_path / "a.tif", values, SOURCE)
    parts = list(warp_bands(scene, target, displacement=field, rows=rows))
    assert [row for row, _ in parts] == list(range(0, target.shape[0], rows))
    whole = warp(scene, target, displacement=field)
    joined = np.concatenate([part for _, part in parts], axis=1)
    both = np.isfinite(joined) & np.isfinite(whole)
    assert (np.isfinite(joined) != np.isfinite(whole)).mean() < 1e-3  # places at the very edge of a kernel
    np.testing.assert_allclose(joined[both], whole[both], atol=0.005)


def test_windows_that_are_read_in_parts_change_nothing(tmp_path, monkeypatch):
    values = PICTURE.copy()
    values[:, 40:50, 30:90] = np.nan
    scene = scene_of(tmp_path / "a.tif", values, SOURCE)
    for target in FIELD_TARGETS.values():
        field, _ = field_on(target)
        whole = warp(scene, target, displacement=field)
        with monkeypatch.context() as patch:
            patch.setattr("equipoise.datasets.windowed_warp.MOST_VALUES", 2000)
            np.testing.assert_array_equal(warp(scene, target, displacement=field), whole)


def test_bands_that_are_not_used_up_leave_no_thread(tmp_path):
    scene = scene_of(tmp_path / "a.tif", PICTURE, SOURCE)
    bands = warp_bands(scene, SOURCE, displacement=by(SOURCE, 3, 4), rows=8)
    next(bands)
    bands.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("warp")]


def test_quality_codes_follow_the_field(tmp_path):
    field, between = field_on(SOURCE)
    codes = np.random.default_rng(3).integers(0, 4, SOURCE.shape).astype(np.uint8)
    write_tiff(tmp_path / "q.tif", codes[None], SOURCE, nodata=None)
    write_tiff(tmp_path / "a.tif", PICTURE, SOURCE, nodata=np.nan)
    source = Source(path=tmp_path / "a.tif", quality=tmp_path / "q.tif")
    modality = Modality(name="m", bands=(Band(name="b", unit=Unit.DIGITAL_NUMBER),))
    scene = open_scene(source, modality, handling=Handling(quality=QualityScheme.CODES, clouds="keep"))
    ours = warp_quality(scene, SOURCE, displacement=field)
    assert ours.dtype == np.uint8
    rows, cols = exact_positions(SOURCE, SOURCE, between)
    clear = np.abs(rows % 1 - 0.5) > 0.005  # not at the border of two pixels
    clear &= np.abs(cols % 1 - 0.5) > 0.005
    framed = np.pad(codes, 40, constant_values=255)
    expected = framed[np.round(rows).astype(int) + 40, np.round(cols).astype(int) + 40]
    np.testing.assert_array_equal(ours[clear], expected[clear])
    np.testing.assert_array_equal(warp_quality(scene, SOURCE), codes)
    assert (warp_quality(scene, north_up(9, 9, left=700_000.0)) == 255).all()


def test_a_source_across_the_antimeridian(tmp_path):
    """Longitudes beyond 180 degrees, as files have them there, and a target on either side."""
    source = GeoBox((60, 80), Affine(0.001, 0, 179.96, 0, -0.001, 10.03), "EPSG:4326")
    values = waves(*np.mgrid[:60, :80]).astype(np.float32)[None]
    scene = scene_of(tmp_path / "a.tif", values, source, resampling="cubic")
    for zone in ("EPSG:32660", "EPSG:32601"):
        ours = warp(scene, source.to_crs(zone))
        assert np.isfinite(ours).mean() > 0.6


def test_a_field_of_another_crs_is_refused(tmp_path):
    scene = scene_of(tmp_path / "a.tif", PICTURE, SOURCE)
    with pytest.raises(SceneError, match="found a grid in EPSG:32633; wanted EPSG:32632"):
        warp(scene, SOURCE, displacement=by(TARGETS["other zone"], 1, 1))


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
    parts = list(warp_bands(scene, target, displacement=by(target, 4.0, 7.0), rows=rows))
    assert [row for row, _ in parts] == list(range(0, 24, rows))
    whole = warp(scene, target, displacement=by(target, 4.0, 7.0))
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
    np.testing.assert_array_equal(warp(scene, chip, displacement=by(chip, 0, 0)), values)
    with pytest.raises(SceneError, match=r"found a displacement of up to 5 for pixels without a position"):
        warp(scene, chip, displacement=by(chip, 3, 4))
