"""Units: what a file's numbers mean, how they are converted, and which declarations are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from equipoise.datasets.modality import DB_LIMIT, POWER_FLOOR, Band, Modality, Unit, implausible_unit

DECIBELS = np.array([-30.0, -17.5, -8.0, 0.0, 6.0])
POWER = 10.0 ** (DECIBELS / 10.0)


@pytest.mark.parametrize(
    ("unit", "stored"),
    [(Unit.DB, DECIBELS), (Unit.LINEAR_POWER, POWER), (Unit.AMPLITUDE, np.sqrt(POWER))],
)
def test_every_backscatter_unit_comes_to_the_same_power_and_decibels(unit, stored):
    band = Band(name="VV", unit=unit)
    working = band.to_working(stored.astype(np.float32))
    assert working.dtype == np.float32
    np.testing.assert_allclose(working, POWER, rtol=1e-5)
    network = band.to_network(working)
    assert network.dtype == np.float32
    np.testing.assert_allclose(network, DECIBELS, atol=1e-4)
    assert (band.working_unit, band.network_unit) == (Unit.LINEAR_POWER, Unit.DB)


@pytest.mark.parametrize("unit", [Unit.REFLECTANCE, Unit.KELVIN, Unit.DIGITAL_NUMBER])
def test_other_units_are_only_scaled(unit):
    band = Band(name="x", unit=unit, scale=1e-4, offset=-0.1)
    stored = np.array([1000.0, 4000.0, np.nan], dtype=np.float32)
    working = band.to_working(stored)
    np.testing.assert_allclose(working, [0.0, 0.3, np.nan], atol=1e-7)
    np.testing.assert_array_equal(band.to_network(working), working)
    assert not band.is_backscatter
    assert band.working_unit is band.network_unit is unit


def test_scale_and_offset_come_before_the_unit():
    decibels = Band(name="VV", unit=Unit.DB, scale=0.1, offset=-50.0).to_working(np.array([400.0], np.float32))
    np.testing.assert_allclose(decibels, [10**-1.0], rtol=1e-5)
    amplitude = Band(name="VV", unit=Unit.AMPLITUDE, scale=0.001).to_working(np.array([300.0], np.float32))
    np.testing.assert_allclose(amplitude, [0.09], rtol=1e-6)


def test_no_power_is_the_floor_and_a_hole_stays_a_hole():
    network = Band(name="VV", unit=Unit.LINEAR_POWER).to_network(np.array([0.0, 1e-9, np.nan], np.float32))
    np.testing.assert_allclose(network, [-50.0, -50.0, np.nan], atol=1e-4)
    assert pytest.approx(-50.0) == 10 * np.log10(POWER_FLOOR)


@given(hnp.arrays(np.float32, (3, 2, 2), elements=st.floats(-45.0, 20.0, width=32)))
def test_decibels_survive_the_way_through_power(decibels):
    modality = Modality(name="sar", bands=tuple(Band(name=name, unit=Unit.DB) for name in "abc"))
    working = np.stack([band.to_working(layer) for band, layer in zip(modality.bands, decibels, strict=True)])
    np.testing.assert_allclose(modality.to_network(working), decibels, atol=2e-4)


def test_a_modality_converts_band_by_band():
    modality = Modality(
        name="mixed", bands=(Band(name="VV", unit=Unit.LINEAR_POWER), Band(name="angle", unit=Unit.DIGITAL_NUMBER))
    )
    assert modality.band_names == ("VV", "angle")
    network = modality.to_network(np.full((2, 1, 1), 0.1, np.float32))
    np.testing.assert_allclose(network[:, 0, 0], [-10.0, 0.1], rtol=1e-6)
    with pytest.raises(ValueError, match="zip"):
        modality.to_network(np.zeros((3, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("unit", "values", "advice"),
    [
        (Unit.LINEAR_POWER, DECIBELS, "unit: db"),
        (Unit.AMPLITUDE, DECIBELS, "unit: db"),
        (Unit.DB, POWER, "linear_power"),
        (Unit.DB, [-1.0, 120.0, 180.0], "scale"),
        (Unit.KELVIN, [14000.0, 15000.0], "scale and offset"),
        (Unit.KELVIN, [12.0, 31.0], "150 to 400 K"),
        (Unit.REFLECTANCE, [300.0, 2800.0], "scale: 0.0001"),
        (Unit.REFLECTANCE, DECIBELS, "exchanged"),
        (Unit.REFLECTANCE, np.multiply(DECIBELS, 1e-4), "exchanged"),
        (Unit.DB, [200.0, 300.0], "exchanged"),
    ],
)
def test_units_that_physics_rules_out_are_told_with_a_remedy(unit, values, advice):
    reason = implausible_unit(unit, np.asarray(values, np.float32))
    assert reason is not None
    assert advice in reason
    assert f"{min(values):.4g}" in reason


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        (Unit.LINEAR_POWER, POWER),
        (Unit.AMPLITUDE, np.sqrt(POWER)),
        (Unit.DB, DECIBELS),
        (Unit.KELVIN, [252.0, 301.0]),
        (Unit.REFLECTANCE, [-0.02, 0.3, 1.4]),
        (Unit.DIGITAL_NUMBER, [-1e6, 1e6]),
        (Unit.KELVIN, []),
        (Unit.KELVIN, [np.nan, 300.0, np.inf]),
    ],
)
def test_plausible_and_empty_samples_pass(unit, values):
    assert implausible_unit(unit, np.asarray(values, np.float32)) is None


def test_decibels_that_became_no_power_are_not_told_as_if_the_file_held_them():
    reason = implausible_unit(Unit.DB, np.array([90.0, DB_LIMIT, DB_LIMIT], np.float32))
    assert reason.startswith("values 90 to 350 or more, median 350 or more;")


def test_a_band_is_a_frozen_value():
    assert Band(name="VV", unit=Unit.DB) == Band(name="VV", unit=Unit.DB)
    assert len({Band(name="VV", unit=Unit.DB), Band(name="VV", unit=Unit.DB)}) == 1
    with pytest.raises(AttributeError):
        Band(name="VV", unit=Unit.DB).scale = 2.0
