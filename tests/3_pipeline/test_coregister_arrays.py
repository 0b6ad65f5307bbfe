"""Co-registration of xarray images."""

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from fake_pairs import ground, seen
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from equipoise.pipeline import coregister
from equipoise.pipeline.errors import AlignmentError
from equipoise.pipeline.registered import NotRegistrable

EDGE = 300
GRID = GeoBox((EDGE, EDGE), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), "EPSG:32633")


def _ground(seed):
    """Fields of four kinds in irregular outlines, 0 to 1."""
    return (seen(ground(np.random.default_rng(seed), (EDGE, EDGE))) - 1) / 3


def _image(values, grid=GRID):
    return wrap_xr(values.astype(np.float32), grid)


def _moved(east, north, scale=1.0):
    shape = tuple(round(edge / scale) for edge in GRID.shape)
    return GeoBox(shape, Affine.translation(-east, -north) * GRID.affine * Affine.scale(scale), GRID.crs)


def test_an_image_is_brought_onto_another():
    found = coregister(_image(_ground(0)), _image(3 - _ground(0), _moved(27.0, 13.0)))
    assert (found.registration.east, found.registration.north) == (pytest.approx(27, abs=1), pytest.approx(13, abs=1))
    assert found.registration.kind == "shift"
    assert found.data.odc.geobox == GRID
    assert found.data.dims == ("band", "y", "x")
    assert (found.confidence > 0.9).all()
    seen = np.isfinite(found.data.values[0])
    assert np.abs(found.data.values[0] - (3 - _ground(0)))[seen].mean() < 0.02


def test_decibels_are_resampled_in_power_and_stay_decibels():
    radar = 10 * np.log10(0.05 + 0.3 * _ground(0))
    found = coregister(_image(_ground(0)), _image(radar, _moved(27.0, 13.0)), moving_unit="db")
    seen = np.isfinite(found.data.values[0])
    assert np.abs(found.data.values[0] - radar)[seen].mean() < 0.2


def test_holes_of_integers_are_told_by_their_nodata():
    values = (1000 * _ground(0) + 100).astype(np.int16)
    values[100:140, 60:150] = -1
    image = wrap_xr(values, GRID, nodata=-1)
    found = coregister(_image(_ground(0)), image)
    assert np.isnan(found.data.values[0, 110:130, 80:140]).all()
    assert found.registration.largest < 2


def test_bands_come_first_whatever_they_are_called():
    values = np.stack([_ground(0), 2 * _ground(0)])
    image = xr.concat([_image(layer, _moved(20.0, 0.0)) for layer in values], dim="channel")
    found = coregister(_image(_ground(0)), image)
    assert found.data.shape == (2, EDGE, EDGE)
    assert found.registration.east == pytest.approx(20, abs=1)


def test_another_place_is_refused_or_kept():
    here, there = _image(_ground(0)), _image(_ground(5))
    with pytest.raises(NotRegistrable, match="chance"):
        coregister(here, there)
    kept = coregister(here, there, on_failure="keep")
    assert (kept.confidence == 0).all()
    np.testing.assert_allclose(kept.data.values[0], there.values)


def test_an_array_without_a_position_is_refused():
    with pytest.raises(AlignmentError, match="without a position"):
        coregister(_image(_ground(0)), xr.DataArray(_ground(0).astype(np.float32), dims=("y", "x")))
