"""Views for matching: the bands whose edges other sensors see, without clouds, on pixels fine enough."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from fake_pairs import in_memory
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from strategies import north_up

from equipoise.datasets.displacement import Displacement
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.quality import Quality
from equipoise.datasets.source_positions import pixel_ratio
from equipoise.datasets.warp import warp
from equipoise.pipeline.matching_view import FINEST_RATIO, MOST_BANDS, matching_bands, matching_grid, view_of

GRID = north_up(30, 40)

SENTINEL2 = ("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "nir09", "swir16",
             "swir22")  # fmt: skip


def modality(*names, unit=Unit.REFLECTANCE):
    return Modality(name="m", bands=tuple(Band(name=name, unit=unit) for name in names))


def chosen(*names, unit=Unit.REFLECTANCE):
    return [names[position] for position in matching_bands(modality(*names, unit=unit))]


def scene(count=1, *, unit=Unit.REFLECTANCE, names=None, grid=GRID):
    values = np.random.default_rng(0).uniform(0.1, 1, (count, *grid.shape))
    return in_memory("m", values, grid, unit=unit, bands=names)


# which bands


@pytest.mark.parametrize("names", [
    ("red", "nir"), ("nir", "red"), ("B08", "B04"), ("nir", "green", "NIR08", "rededge1"), ("B8A", "B11"),
    ("coastal", "swir16"), SENTINEL2,
])  # fmt: skip
def test_what_only_vegetation_shows_is_not_matched(names):
    found = chosen(*names)
    assert found
    assert not {"nir", "nir08", "b08", "b8a", "rededge1", "coastal"} & {name.lower() for name in found}


@pytest.mark.parametrize("names", [("nir",), ("B08",), ("rededge1", "nir")])
def test_where_there_is_nothing_else_near_infrared_is_matched(names):
    assert chosen(*names) == list(names)


def test_of_many_bands_the_visible_ones_are_taken():
    assert chosen(*SENTINEL2) == ["blue", "green", "red"]
    assert chosen("B02", "B03", "B04", "B08", "B11") == ["B02", "B03", "B04"]


def test_of_many_bands_that_are_not_known_some_are_taken_from_end_to_end():
    assert chosen(*(f"band_{number}" for number in range(1, 13))) == ["band_1", "band_7", "band_12"]


@pytest.mark.parametrize("unit", [Unit.KELVIN, Unit.DB, Unit.LINEAR_POWER])
def test_names_of_optical_bands_say_nothing_of_radar_and_thermal(unit):
    assert chosen("B10", unit=unit) == ["B10"]
    assert chosen("B5", "b10", unit=unit) == ["B5", "b10"]


@given(names=st.lists(st.sampled_from([*SENTINEL2, "VV", "B10", "lwir", "x"]), min_size=1, max_size=20))
def test_a_few_bands_in_order_and_each_once(names):
    found = matching_bands(modality(*names))
    assert 1 <= len(found) <= MOST_BANDS
    assert found == sorted(set(found))
    shared = [n for n, name in enumerate(names) if n in found or name in ("blue", "green", "red", "VV", "lwir", "x")]
    if len(found) == MOST_BANDS and not {"red", "green", "blue"} <= set(
        names
    ):  # the first and the last that may be taken are
        assert (found[0], found[-1]) == (shared[0], shared[-1])


# what is seen


def test_a_view_holds_the_chosen_bands_in_network_units():
    optical = scene(2, names=("nir", "red"))
    np.testing.assert_array_equal(view_of(optical)(GRID, None), optical.read()[1:])
    radar = scene(2, unit=Unit.LINEAR_POWER)
    np.testing.assert_allclose(view_of(radar)(GRID, None), 10 * np.log10(radar.read()), rtol=1e-5)


def test_clouds_are_not_seen():
    clear = scene(2)
    codes = np.full(GRID.shape, Quality.CLEAR, np.uint8)
    codes[3:6, 4:9], codes[10:12, 20:] = Quality.CLOUD, Quality.SHADOW
    cloudy = replace(
        clear, quality=xr.DataArray(codes, dims=clear.data.dims[1:], coords=clear.data[0].drop_vars("band").coords)
    )
    seen = view_of(cloudy)(GRID, None)
    hidden = np.isin(codes, [Quality.CLOUD, Quality.SHADOW])
    np.testing.assert_array_equal(np.isnan(seen), np.broadcast_to(hidden, seen.shape))
    np.testing.assert_array_equal(seen[:, ~hidden], clear.read()[:, ~hidden])


def test_a_view_is_on_any_part_of_any_grid():
    one = scene()
    view = view_of(one)
    np.testing.assert_array_equal(view(GRID[5:20, 10:33], None), one.read()[:, 5:20, 10:33])
    around = view(GRID.pad(3), None)
    np.testing.assert_array_equal(around[:, 3:-3, 3:-3], one.read())
    assert np.isnan(around).mean() == pytest.approx(1 - 30 * 40 / (36 * 46))
    half = GeoBox((15, 20), GRID.affine * Affine.scale(2), GRID.crs)
    np.testing.assert_allclose(
        view(half, None)[0], one.read()[0].reshape(15, 2, 20, 2).mean(axis=(1, 3)), rtol=1e-5
    )  # fmt: skip


def test_a_displacement_is_undone_and_what_is_placed_is_where_it_belongs():
    one = scene()
    shift = Displacement.constant(GRID, east=20.0, north=-10.0)
    expected = warp(one, GRID, displacement=shift)
    np.testing.assert_array_equal(view_of(one)(GRID, shift), expected)
    np.testing.assert_array_equal(view_of(one, shift)(GRID, None), expected)
    # 20 m east and 10 m south, on pixels of 10 m.
    np.testing.assert_array_equal(expected[0, 1:, 2:], one.read()[0, :-1, :-2])


# on which grid


@given(pixel=st.floats(0.5, 400), fine=st.sampled_from([1.0, 10.0, 30.0]))
def test_grids_are_coarser_only_where_pixels_are_much_larger(pixel, fine):
    grid = north_up(1000, 800, pixel=fine)
    coarse = in_memory("m", np.zeros((20, 20)), north_up(20, 20, pixel=pixel))
    found = matching_grid(grid, coarse)
    if pixel / fine <= FINEST_RATIO * 0.999:
        assert found == grid
    elif pixel / fine >= FINEST_RATIO * 1.001:
        assert 1 / pixel_ratio(coarse.geobox, found) == pytest.approx(FINEST_RATIO, rel=0.05)
        np.testing.assert_allclose(found.extent.boundingbox, grid.extent.boundingbox, atol=pixel / FINEST_RATIO)
    assert found.crs == grid.crs
