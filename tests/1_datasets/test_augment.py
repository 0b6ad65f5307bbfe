"""Augmentation: one geometry for all that a window holds, physical values throughout, nothing invalid bleeds."""

import pickle

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from strategies import north_up

from equipoise.datasets.augment import Augmentation, AugmentationError, pixel_size_m
from equipoise.datasets.degradation import DegradationError
from equipoise.datasets.degrade import DEGRADATIONS
from equipoise.datasets.degrade_sensor import Misregistration, Noise, Outage, Speckle, ThermalNoise
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.shared_geometry import albumentations
from equipoise.datasets.stack import StackWindow

A = albumentations()


SYMMETRIES = [
    lambda a, k=k, f=f: np.rot90(a[..., ::-1] if f else a, k, axes=(-2, -1)) for k in range(4) for f in (0, 1)
]

EO = Modality(
    name="eo",
    bands=(
        Band(name="red", unit=Unit.REFLECTANCE, resampling="cubic"),
        Band(name="nir", unit=Unit.REFLECTANCE),
        Band(name="class", unit=Unit.REFLECTANCE, resampling="nearest"),
    ),
)
SAR = Modality(name="sar", bands=(Band(name="VV", unit=Unit.DB, resampling="cubic"),))
IR = Modality(name="ir", bands=(Band(name="B10", unit=Unit.KELVIN),))
ALL = (EO, SAR, IR)


def window_of(height=48, width=48, *, seed=0, hole=True):
    """A window with a hole in ``eo``, without ``ir``, with labels and a cloud mask."""
    rng = np.random.default_rng(seed)
    eo = rng.uniform(0.05, 0.6, (3, height, width)).astype(np.float32)
    sar = rng.exponential(0.1, (1, height, width)).astype(np.float32)
    if hole:
        eo[:, 10:14, 20:23] = np.nan
    return StackWindow(
        image={"eo": eo, "sar": sar},
        valid={
            "eo": np.isfinite(eo).all(axis=0),
            "sar": np.ones((height, width), bool),
            "ir": np.zeros((height, width), bool),
        },
        labels=rng.integers(0, 5, (height, width)).astype(np.uint8),
        quality={"eo": rng.integers(0, 3, (height, width)).astype(np.uint8)},
    )


def assert_same(one, other):
    assert list(one.image) == list(other.image)
    for name in one.image:
        np.testing.assert_array_equal(one.image[name], other.image[name])
    for name in one.valid:
        np.testing.assert_array_equal(one.valid[name], other.valid[name])
    for name in one.quality:
        np.testing.assert_array_equal(one.quality[name], other.quality[name])
    np.testing.assert_array_equal(one.labels, other.labels)


EVERYTHING = {
    "eo": [Noise(sigma=0.01, probability=0.5), DEGRADATIONS["thick_cloud"](cover=0.2), Misregistration(metres=7)],
    "sar": [Speckle(looks=3, probability=0.5), DEGRADATIONS["stripe_loss"](share=0.1)],
    "ir": [ThermalNoise(netd_k=0.5)],
}


@pytest.mark.parametrize("kind", ["none", "d4", "affine"])
def test_the_same_seed_gives_the_same_window_whatever_came_before_and_after_pickling(kind):
    augment = Augmentation(ALL, geometry=kind, degradations=EVERYTHING)
    window, untouched = window_of(), window_of()
    first = [augment(window, seed=seed, pixel_m=10.0) for seed in range(6)]
    assert_same(window, untouched)
    copied = pickle.loads(pickle.dumps(augment))  # noqa: S301 - its own bytes: loader processes get them so
    for seed in reversed(range(6)):
        assert_same(copied(window, seed=seed, pixel_m=10.0), first[seed])
    assert not np.array_equal(first[0].image["eo"], first[1].image["eo"], equal_nan=True)


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 20), width=st.integers(1, 20))
def test_a_symmetry_moves_everything_alike(seed, height, width):
    window = window_of(height, width, hole=False)
    turned = D4(window, seed=seed)
    arrays = [(window.image[n], turned.image[n]) for n in ("eo", "sar")]
    arrays += [(window.labels, turned.labels), (window.quality["eo"], turned.quality["eo"])]
    assert any(all(np.array_equal(s(one), other) for one, other in arrays) for s in SYMMETRIES)
    assert turned.labels.dtype == turned.quality["eo"].dtype == np.uint8
    assert turned.valid["sar"].all()
    assert not turned.valid["ir"].any()


D4 = Augmentation(ALL, geometry="d4")
AFFINE = Augmentation(ALL, geometry="affine")


@given(seed=st.integers(0, 2**32 - 1))
def test_an_affine_move_is_shared_by_all_resampling_rules_labels_and_quality(seed):
    rows, columns = np.indices((64, 64)).astype(np.float32)
    ramp = 100 + rows + 3 * columns
    window = StackWindow(
        image={"eo": np.stack([ramp, ramp, ramp]), "sar": ramp[None].copy()},
        valid={"eo": np.ones((64, 64), bool), "sar": np.ones((64, 64), bool), "ir": np.zeros((64, 64), bool)},
        labels=(rows * 2).astype(np.uint8),
        quality={"eo": (columns * 2).astype(np.uint8)},
    )
    moved = AFFINE(window, seed=seed)
    cubic, linear, nearest = moved.image["eo"]
    both = np.isfinite(cubic) & np.isfinite(linear)
    assert both.mean() > 0.5
    assert (np.isfinite(cubic) <= np.isfinite(linear)).all()
    # OpenCV's weights are tables of 1/32 px: both rules reproduce a ramp of 3 a pixel to 3/32.
    np.testing.assert_allclose(cubic[both], linear[both], atol=0.2)
    # The nearest pixel is at most half a pixel away in both directions: (1 + 3) / 2, and the table.
    assert np.nanmax(np.abs(nearest - linear)) <= 2.2
    inside = np.isfinite(nearest)
    assert np.array_equal(moved.labels != 255, inside)
    assert np.array_equal(moved.quality["eo"] != 255, inside)
    from_codes = 100 + moved.labels / 2.0 + moved.quality["eo"] * 1.5
    np.testing.assert_array_equal(from_codes[inside], nearest[inside])
    np.testing.assert_array_equal(moved.valid["eo"], np.isfinite(moved.image["eo"]).all(axis=0))
    assert not moved.valid["ir"].any()


def test_cubic_resampling_gives_no_negative_power():
    power = np.zeros((1, 32, 32), np.float32)
    power[:, ::4, ::4] = 100.0
    window = StackWindow(image={"sar": power}, valid={"sar": np.ones((32, 32), bool)}, labels=None)
    for seed in range(10):
        assert np.nanmin(AFFINE(window, seed=seed).image["sar"]) >= 0


def test_a_degradation_comes_as_often_as_its_probability_and_alike_in_any_company():
    window = window_of(8, 8, hole=False)
    alone = Augmentation(ALL, geometry="none", degradations={"sar": [Speckle(looks=4, probability=0.3)]})
    company = Augmentation(
        ALL, geometry="none", degradations={"eo": [Noise(sigma=0.1)], "sar": [Speckle(looks=4, probability=0.3)]}
    )
    hits = 0
    for seed in range(500):
        got = alone(window, seed=seed)
        hits += not np.array_equal(got.image["sar"], window.image["sar"])
        np.testing.assert_array_equal(got.image["sar"], company(window, seed=seed).image["sar"])
        np.testing.assert_array_equal(got.image["eo"], window.image["eo"])
    assert hits == pytest.approx(150, abs=4 * np.sqrt(500 * 0.3 * 0.7))


def test_an_outage_may_take_any_sensor_but_the_last():
    window = window_of(8, 8, hole=False)
    augment = Augmentation(ALL, geometry="none", degradations={"eo": [Outage()], "sar": [Outage()]})
    left = [name for seed in range(100) for name, mask in augment(window, seed=seed).valid.items() if mask.any()]
    assert len(left) == 100
    assert left.count("eo") == pytest.approx(50, abs=20)  # four standard deviations
    assert set(left) == {"eo", "sar"}


def test_lost_pixels_are_not_valid_and_labels_stay():
    window = window_of()
    got = Augmentation(ALL, geometry="none", degradations=EVERYTHING)(window, seed=1, pixel_m=10.0)
    for name in ("eo", "sar"):
        np.testing.assert_array_equal(got.valid[name], np.isfinite(got.image[name]).all(axis=0))
        assert (got.valid[name] <= window.valid[name]).mean() > 0.9
    np.testing.assert_array_equal(got.labels, window.labels)
    np.testing.assert_array_equal(got.quality["eo"], window.quality["eo"])


@pytest.mark.parametrize("kind", ["none", "d4", "affine"])
def test_a_pixel_that_was_masked_stays_masked_whatever_value_it_holds(kind):
    window = window_of(hole=False)
    window.valid["eo"][:, :30] = False
    got = Augmentation(ALL, geometry=kind)(window, seed=4)
    assert 0.2 < got.valid["eo"].mean() < 0.45  # 18 of 48 columns; rotated, scaled by up to 1.1 and shifted by 5 %
    assert got.valid["sar"].mean() > 0.7


def test_two_sensors_do_not_share_their_noise():
    twins = tuple(Modality(name=name, bands=EO.bands[:1]) for name in ("one", "two"))
    flat = {name: np.zeros((1, 64, 64), np.float32) for name in ("one", "two")}
    window = StackWindow(image=flat, valid={name: np.ones((64, 64), bool) for name in flat}, labels=None)
    noisy = {name: [Noise(sigma=1.0), Noise(sigma=1.0)] for name in flat}
    got = Augmentation(twins, geometry="none", degradations=noisy)(window, seed=1).image
    # Two draws of variance 1 in each; correlations of 4096 values have a standard error of 1/64.
    assert got["one"].var() == pytest.approx(2, rel=0.15)
    assert abs(np.corrcoef(got["one"].ravel(), got["two"].ravel())[0, 1]) < 5 / 64


def test_a_transform_of_pixel_values_runs_on_valid_pixels_only():
    window = window_of()
    window.image["eo"][:, window.valid["eo"]] = 3.5
    got = Augmentation(ALL, geometry="none", photometry={"eo": A.Blur(blur_limit=(5, 5), p=1.0)})(window, seed=1)
    np.testing.assert_allclose(got.image["eo"][:, window.valid["eo"]], 3.5, rtol=1e-6)
    np.testing.assert_array_equal(got.valid["eo"], window.valid["eo"])
    np.testing.assert_array_equal(got.image["sar"], window.image["sar"])
    fewer = Augmentation(ALL, geometry="none", photometry={"eo": A.ToGray(num_output_channels=1, p=1.0)})
    with pytest.raises(AugmentationError, match=r"shape \(3, 48, 48\) into \(1, 48, 48\)"):
        fewer(window, seed=1)


def test_the_condition_says_which_degradation_took_effect():
    """Oracle: what each degradation alone does to the window under the same seed."""
    half = {"probability": 0.5}
    kinds = {
        "ir": [ThermalNoise(netd_k=1)],  # the window has no such sensor
        "sar": [Speckle(looks=3), DEGRADATIONS["gain_drift"](fraction=0.2, **half)],
        "eo": [Outage(**half), Noise(sigma=0.1, **half)],
    }
    augment, window, seen = Augmentation(ALL, geometry="none", degradations=kinds), window_of(), set()
    for seed in range(60):
        got = augment(window, seed=seed)
        out = not np.isfinite(got.image["eo"]).any()
        noisy = not out and not np.array_equal(got.image["eo"], window.image["eo"], equal_nan=True)
        only_speckle = Augmentation(ALL, geometry="none", degradations={"sar": kinds["sar"][:1]})(window, seed=seed)
        drifted = not np.array_equal(got.image["sar"], only_speckle.image["sar"])
        # In the order of the modalities: outage 1, noise 2, speckle 3, drift 4, thermal noise 5, several 6.
        found = [number for number, met in ((1, out), (2, noisy), (4, drifted)) if met]
        assert got.condition == (6 if len(found) > 1 else found[0] if found else 3)
        seen.add(got.condition)
    assert seen == {1, 2, 3, 4, 6}
    assert Augmentation(ALL, geometry="d4")(window, seed=0).condition == 0


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"geometry": "cubic"}, "'cubic'; wanted one of"), ({"degradations": {"dem": [Outage()]}}, "'dem'"),
        ({"degradations": {"sar": [ThermalNoise(netd_k=1)]}}, "ThermalNoise on band 'VV' in linear_power"),
        ({"degradations": {"ir": [Speckle(looks=1)]}}, "Speckle on band 'B10' in kelvin"),
        ({"photometry": {"eo": A.GaussNoise()}}, "GaussNoise"), ({"photometry": {"eo": A.D4()}}, "D4"),
        ({"photometry": {"dem": A.Blur()}}, "'dem'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_when_it_is_declared(settings, match):
    with pytest.raises((AugmentationError, DegradationError), match=match) as caught:
        Augmentation(ALL, **settings)
    assert "\n" not in str(caught.value)


def test_metres_want_a_pixel_size():
    augment = Augmentation(ALL, geometry="none", degradations={"eo": [Misregistration(metres=5)]})
    with pytest.raises(AugmentationError, match="pixel_m"):
        augment(window_of(), seed=0)


def test_the_pixel_size_is_in_metres_whatever_the_grid():
    assert pixel_size_m(north_up(10, 10, pixel=30.0)) == pytest.approx(30)
    turned = Affine.translation(5e5, 5e6) * Affine.rotation(33) * Affine.scale(10, -10)
    assert pixel_size_m(GeoBox((5, 7), turned, "EPSG:32633")) == pytest.approx(10)
    degrees = GeoBox((2, 2), Affine(1e-4, 0, 10, 0, -1e-4, 60), "EPSG:4326")  # half as wide at 60 degrees north
    assert pixel_size_m(degrees) == pytest.approx(11.132 * np.sqrt(0.5), rel=1e-3)
    feet = GeoBox((5, 5), Affine(10, 0, 2e6, 0, -10, 5e5), "EPSG:2263")
    assert pixel_size_m(feet) == pytest.approx(3.048, rel=1e-5)
    assert pixel_size_m(north_up(5, 5, crs=None)) is None
