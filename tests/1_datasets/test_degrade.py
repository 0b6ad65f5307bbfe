"""Degradations: each does what its formula or its statistic says, keeps NaN, and repeats from its seed."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.datasets.degradation import DegradationError
from equipoise.datasets.degrade import DEGRADATIONS
from equipoise.datasets.degrade_sensor import (
    GainDrift,
    Misregistration,
    Noise,
    Outage,
    Speckle,
    StripeLoss,
    ThermalNoise,
)
from equipoise.datasets.degrade_sky import Haze, ThickCloud, ThinCloud, cloud_albedo, veiled
from equipoise.datasets.fractal import fractal_field
from equipoise.datasets.modality import Band, Modality, Unit

#: One of each, at a middling strength, in the unit that it is for.
EXAMPLES = {
    "speckle": (Speckle(looks=4), Unit.LINEAR_POWER),
    "noise": (Noise(sigma=0.02), Unit.REFLECTANCE),
    "haze": (Haze(optical_depth=0.3), Unit.REFLECTANCE),
    "thin_cloud": (ThinCloud(optical_depth=2, cover=0.4), Unit.REFLECTANCE),
    "thick_cloud": (ThickCloud(cover=0.2), Unit.REFLECTANCE),
    "thermal_noise": (ThermalNoise(netd_k=0.5), Unit.KELVIN),
    "gain_drift": (GainDrift(fraction=0.1), Unit.REFLECTANCE),
    "stripe_loss": (StripeLoss(share=0.2), Unit.LINEAR_POWER),
    "misregistration": (Misregistration(metres=13), Unit.KELVIN),
    "outage": (Outage(), Unit.REFLECTANCE),
}
OTHERS = {
    Unit.REFLECTANCE: Unit.KELVIN,
    Unit.KELVIN: Unit.LINEAR_POWER,
    Unit.LINEAR_POWER: Unit.REFLECTANCE,
}


def rng(seed=0):
    return np.random.default_rng(seed)


def flat(value, bands=2, size=256):
    return np.full((bands, size, size), value, np.float32)


def ground(size=256, seed=1):
    """Ground with detail at all scales, reflectance about 0.05 to 0.35."""
    field = fractal_field((size, size), rng=rng(seed), longest=64, shortest=6, slope=1.2)
    return (0.2 + 0.04 * field)[None].astype(np.float32)


def modality(unit, bands=2):
    return Modality(name="m", bands=tuple(Band(name=f"b{n}", unit=unit) for n in range(bands)))


def test_every_name_has_an_example():
    assert set(EXAMPLES) == set(DEGRADATIONS)
    assert {name: type(item) for name, (item, _) in EXAMPLES.items()} == dict(DEGRADATIONS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_any_image_keeps_its_shape_its_nan_and_its_input(name):
    item, unit = EXAMPLES[name]
    for shape in ((2, 64, 48), (1, 1, 7), (3, 5, 1), (1, 1, 1), (2, 13, 31)):
        image = rng(3).uniform(0.01, 0.5, shape).astype(np.float32) * (600 if unit is Unit.KELVIN else 1)
        image[:, rng(4).random(shape[1:]) < 0.1] = np.nan
        before = image.copy()
        first, again = (item(image, pixel_m=10.0, rng=rng(5)) for _ in range(2))
        np.testing.assert_array_equal(image, before)
        np.testing.assert_array_equal(first, again)
        assert first.shape == shape
        assert first.dtype == np.float32
        if name != "misregistration":  # it moves the holes with the pixels
            assert np.isnan(first[np.isnan(image)]).all()
        assert not np.isinf(first).any()
        if unit is Unit.LINEAR_POWER:
            assert (first[np.isfinite(first)] >= 0).all()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_degradation_fits_its_unit_and_no_other(name):
    item, unit = EXAMPLES[name]
    item.refuse_misfit(modality(unit))
    if item.units != frozenset(Unit):
        with pytest.raises(DegradationError, match=type(item).__name__):
            item.refuse_misfit(modality(OTHERS[unit]))


def test_backscatter_declared_in_db_may_get_speckle():
    Speckle(looks=2).refuse_misfit(modality(Unit.DB))


@pytest.mark.parametrize(
    ("kind", "strengths"),
    [
        ("speckle", {"looks": 0}), ("noise", {"sigma": -0.1}), ("noise", {"sigma": float("nan")}),
        ("haze", {"optical_depth": -1}), ("thin_cloud", {"optical_depth": 1, "cover": 1.2}),
        ("thick_cloud", {"cover": 0.2, "sun_elevation_deg": 0}), ("gain_drift", {"fraction": 1}),
        ("stripe_loss", {"share": -0.1}), ("misregistration", {"metres": float("inf")}),
        ("outage", {"probability": 1.5}),
    ],
)  # fmt: skip
def test_impossible_strengths_are_refused_by_name(kind, strengths):
    with pytest.raises(DegradationError, match=f"{DEGRADATIONS[kind].__name__}: found {list(strengths)[-1]}"):
        DEGRADATIONS[kind](**strengths)


def test_an_image_without_bands_is_refused():
    with pytest.raises(DegradationError, match="band, y, x"):
        Outage()(np.zeros((4, 4), np.float32), pixel_m=10.0, rng=rng())


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_speckle_has_mean_one_and_variance_one_over_looks(looks):
    got = Speckle(looks=looks)(flat(0.1), pixel_m=10.0, rng=rng()) / 0.1
    n = got.size
    # Five standard errors: of a mean sqrt(v/n); of a gamma variance v * sqrt((2 + 6/L)/n) (its excess is 6/L).
    assert got.mean(dtype=np.float64) == pytest.approx(1, abs=5 * np.sqrt(1 / looks / n))
    assert got.var(dtype=np.float64) == pytest.approx(1 / looks, rel=5 * np.sqrt((2 + 6 / looks) / n))
    assert np.corrcoef(got[0].ravel(), got[1].ravel())[0, 1] == pytest.approx(0, abs=5 / np.sqrt(n / 2))


@pytest.mark.parametrize(
    ("item", "level", "sigma"), [(Noise(sigma=0.03), 0.01, 0.03), (ThermalNoise(netd_k=0.4), 290.0, 0.4)]
)
def test_noise_has_its_standard_deviation_and_is_not_cut_off(item, level, sigma):
    added = item(flat(level), pixel_m=10.0, rng=rng()).astype(np.float64) - np.float32(level)
    n = added.size
    assert added.mean() == pytest.approx(0, abs=5 * sigma / np.sqrt(n))
    assert added.std() == pytest.approx(sigma, rel=5 / np.sqrt(2 * n) + 1e-4)  # and float32 near 290 K
    assert added.min() < -3.5 * sigma  # 131072 normal values: without it, something clips
    for one, other in ((added[0], added[1]), (added[:, 1:], added[:, :-1]), (added[:, :, 1:], added[:, :, :-1])):
        assert (one * other).mean() / sigma**2 == pytest.approx(0, abs=5 / np.sqrt(one.size))  # white


def test_haze_follows_its_formula_in_grey_and_in_colour():
    image = rng(1).uniform(0, 1.4, (3, 16, 16)).astype(np.float32)
    passed = np.exp(-2 * 0.4)
    grey = Haze(optical_depth=0.4, path_reflectance=0.25)(image, pixel_m=10.0, rng=rng())
    np.testing.assert_allclose(grey, image * passed + 0.25 * (1 - passed), rtol=1e-6, atol=1e-7)
    blue, green, nir = Haze(optical_depth=0.4, wavelengths_nm=(490, 550, 860), angstrom=1.3)(
        np.zeros((3, 4, 4), np.float32), pixel_m=10.0, rng=rng()
    )
    assert green[0, 0] == pytest.approx(0.3 * (1 - passed), rel=1e-5)
    assert nir[0, 0] == pytest.approx(0.3 * (1 - np.exp(-0.8 * (860 / 550) ** -1.3)), rel=1e-5)
    assert blue[0, 0] > green[0, 0] > nir[0, 0]


def test_haze_wants_one_wavelength_a_band():
    haze = Haze(optical_depth=0.4, wavelengths_nm=(490, 550))
    haze.refuse_misfit(modality(Unit.REFLECTANCE, bands=2))
    with pytest.raises(DegradationError, match="wavelengths"):
        haze.refuse_misfit(modality(Unit.REFLECTANCE, bands=3))
    with pytest.raises(DegradationError, match="wavelengths"):
        haze(flat(0.1, bands=3, size=4), pixel_m=10.0, rng=rng())


@given(rho=st.floats(0, 1), tau=st.floats(0, 200))
def test_light_between_ground_and_cloud_is_conserved(rho, tau):
    albedo = cloud_albedo(np.array([[tau]], np.float32))
    white, black, some = (float(veiled(np.full((1, 1, 1), v, np.float32), albedo).item()) for v in (1, 0, rho))
    assert white == pytest.approx(1, rel=1e-5)
    assert black == pytest.approx(0.13 * tau / (1 + 0.13 * tau), rel=2e-3)  # the paper's rounded coefficient
    assert black - 1e-6 <= some <= 1 + 1e-6
    assert some >= rho - 1e-5  # a layer that absorbs nothing never darkens
    # The sum of all reflections, term by term, is the closed form.
    a, series = float(albedo.item()), float(albedo.item())
    for order in range(400):
        series += (1 - a) ** 2 * rho * (a * rho) ** order
    if a * rho < 0.97:
        assert some == pytest.approx(series, rel=1e-4)


@pytest.mark.parametrize("cover", [0.0, 0.1, 0.35, 0.8, 1.0])
@pytest.mark.parametrize("shape", [(128, 128), (31, 70), (1, 50)])
def test_clouds_cover_the_wanted_share_to_one_pixel(cover, shape):
    dark = np.zeros((1, *shape), np.float32)
    for item in (ThinCloud(optical_depth=2, cover=cover), ThickCloud(cover=cover)):
        clouded = item(dark, pixel_m=10.0, rng=rng(3))[0] > 0
        # The pixel on the edge of a thin cloud has depth 0.
        assert abs(clouded.sum() - cover * dark.size) <= 2


@pytest.mark.parametrize("depth", [0.5, 3.0, 20.0])
def test_the_mean_optical_depth_of_the_clouded_pixels_is_the_wanted_one(depth):
    dark = np.zeros((1, 128, 128), np.float32)
    for item in (ThinCloud(optical_depth=depth, cover=0.3), ThickCloud(optical_depth=depth, cover=0.3)):
        albedo = item(dark, pixel_m=10.0, rng=rng(3))[0].astype(np.float64)
        tau = albedo / (1 - albedo) / (np.sqrt(3) * 0.15 / 2)
        assert tau[albedo > 0].mean() == pytest.approx(depth, rel=1e-3)  # one edge pixel of about 5000 has depth 0


def test_thick_cloud_hides_the_ground_and_thin_cloud_does_not():
    image = ground()
    thick, thin = ThickCloud(cover=1.0, optical_depth=60), ThinCloud(optical_depth=1, cover=1.0)
    for item, least, most in ((thick, 0, 0.1), (thin, 0.6, 0.9)):
        clear_part = item(image, pixel_m=10.0, rng=rng(3)) - item(image * 0 + image.mean(), pixel_m=10.0, rng=rng(3))
        assert least <= clear_part.std() / image.std() <= most


@pytest.mark.parametrize(("azimuth", "elevation", "pixel"), [(135, 45, 10), (90, 30, 10), (200, 60, 30), (0, 50, 20)])
def test_the_shadow_lies_away_from_the_sun_by_height_over_tangent(azimuth, elevation, pixel):
    item = ThickCloud(
        cover=0.12, sun_azimuth_deg=azimuth, sun_elevation_deg=elevation, cloud_height_m=400, optical_depth=200
    )
    seen = item(flat(0.3, bands=1, size=256), pixel_m=pixel, rng=rng(8))[0]
    cloud, shadow = seen > 0.31, seen < 0.29
    assert seen.min() == pytest.approx(0.3 * 0.3, rel=1e-4)
    reach = 400 / np.tan(np.deg2rad(elevation)) / pixel
    wanted = (reach * np.cos(np.deg2rad(azimuth)), -reach * np.sin(np.deg2rad(azimuth)))
    assert item.shadow_shift_px(pixel) == pytest.approx(wanted, abs=1e-9)
    # Each inner pixel of a cloud shades the place of its shadow, unless cloud is there too; and each shaded place whose
    # sunward place is in the image has cloud there, to within one pixel for the rounding.
    down, right = (round(part) for part in wanted)
    inner = ndimage.binary_erosion(cloud, np.ones((3, 3)), border_value=0)
    near = ndimage.binary_dilation(cloud, np.ones((3, 3)))
    for places, displaced, expected in ((inner, (down, right), shadow | cloud), (shadow, (-down, -right), near)):
        at = np.argwhere(places) + displaced
        at = at[((at >= 1) & (at < 255)).all(axis=1)]  # clouds just outside the image are not seen
        assert len(at) > 500
        assert expected[tuple(at.T)].all()


def test_no_shadow_where_shaded_ground_gets_all_light():
    seen = ThickCloud(cover=0.3, shadow_light=1.0)(flat(0.3, bands=1), pixel_m=10.0, rng=rng(8))
    assert seen.min() == pytest.approx(0.3, rel=1e-6)


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_gain_drift_peaks_at_its_fraction_and_is_smooth(along):
    gain = GainDrift(fraction=0.2, along=along)(flat(2.0, bands=3), pixel_m=10.0, rng=rng()) / 2 - 1
    if along == "columns":
        gain = gain.transpose(0, 2, 1)
    assert np.ptp(gain, axis=2).max() < 1e-6  # one gain a line
    line = gain[:, :, 0]
    np.testing.assert_allclose(np.abs(line).max(axis=1), 0.2, rtol=1e-5)
    # Bernstein: the slope of a cosine polynomial of degree 3 is at most 3 times its largest value; 5 % for sampling.
    assert np.abs(np.diff(line, axis=1)).max() <= 1.05 * 0.2 * 3 * np.pi / 256
    assert np.ptp(line, axis=0).max() > 0.02  # every band drifts on its own


@pytest.mark.parametrize(("along", "axis"), [("rows", 1), ("columns", 2)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_stripe_loss_takes_whole_lines_of_every_band(share, along, axis):
    got = StripeLoss(share=share, along=along)(flat(1.0, bands=3, size=40), pixel_m=10.0, rng=rng())
    lost = np.isnan(got)
    lines = lost.all(axis=(0, 3 - axis))
    assert lines.sum() == round(share * 40)
    assert lost.sum() == lines.sum() * 3 * 40


@pytest.mark.parametrize(("metres", "direction"), [(23.7, 60), (8.0, 200), (61.0, 315), (10.0, 90), (4.0, None)])
def test_misregistration_is_recovered_by_correlation(metres, direction):
    image, pixel = ground(), 10.0
    moved = Misregistration(metres=metres, direction_deg=direction)(image, pixel_m=pixel, rng=rng(2))
    inner = (0, slice(32, -32), slice(32, -32))
    down, right = measured_shift(image[inner], moved[inner])
    # 0.1 px: bilinear sampling has no bias, and the ground is smooth over the windows' edges that do not match.
    assert np.hypot(down, right) * pixel == pytest.approx(metres, abs=0.1 * pixel)
    if direction is not None:
        angle = np.deg2rad(direction)
        wanted = np.array([-metres * np.cos(angle), metres * np.sin(angle)]) / pixel
        np.testing.assert_allclose([down, right], wanted, atol=0.1)


def measured_shift(reference, moved):
    """Shift of the content in pixels (down, right): least squares on the phase of the cross spectrum, windowed."""
    window = np.hanning(reference.shape[0])[:, None] * np.hanning(reference.shape[1])
    start = np.array(np.unravel_index(np.argmax(correlation(reference, moved, window)), reference.shape))
    whole = (start + np.array(reference.shape) // 2) % reference.shape - np.array(reference.shape) // 2
    spectra = [np.fft.fft2((a - a.mean()) * window) for a in (np.roll(reference, whole, axis=(0, 1)), moved)]
    cross = spectra[1] * np.conj(spectra[0])
    rows, columns = np.meshgrid(*(np.fft.fftfreq(n) for n in reference.shape), indexing="ij")
    low = (np.hypot(rows, columns) < 0.15) & (np.hypot(rows, columns) > 0)
    weight = np.sqrt(np.abs(cross[low]))
    design = -2 * np.pi * np.stack([rows[low], columns[low]], axis=1)
    part = np.linalg.lstsq(design * weight[:, None], np.angle(cross[low]) * weight, rcond=None)[0]
    return whole + part


def correlation(reference, moved, window):
    spectra = [np.fft.fft2((a - a.mean()) * window) for a in (reference, moved)]
    return np.fft.ifft2(spectra[1] * np.conj(spectra[0])).real


def test_misregistration_by_whole_pixels_only_moves_and_a_hole_costs_only_its_neighbours():
    image = ground(64)
    image[0, 30, 40] = np.nan
    right = Misregistration(metres=30, direction_deg=90)(image, pixel_m=10.0, rng=rng())
    np.testing.assert_array_equal(right[:, :, 3:], image[:, :, :-3])
    assert np.isnan(right[:, :, :3]).all()
    half = Misregistration(metres=5, direction_deg=180)(image, pixel_m=10.0, rng=rng())
    assert np.argwhere(np.isnan(half[0, 1:])).tolist() == [[29, 40], [30, 40]]
    np.testing.assert_allclose(half[0, 10, :], (image[0, 10] + image[0, 9]) / 2, rtol=1e-6)
    assert np.isnan(Misregistration(metres=1e5)(image, pixel_m=10.0, rng=rng())).all()


def test_outage_leaves_nothing():
    assert np.isnan(Outage()(flat(0.3), pixel_m=10.0, rng=rng())).all()


def test_degradations_are_values():
    assert Speckle(looks=4) == Speckle(looks=4)
    assert hash(Haze(optical_depth=0.1)) == hash(Haze(optical_depth=0.1))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Noise(sigma=0.1).sigma = 0.2
