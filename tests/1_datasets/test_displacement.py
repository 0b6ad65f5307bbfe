"""Displacement fields: exact where they are constant or affine, constant beyond their nodes."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from strategies import geoboxes, north_up

from equipoise.datasets.displacement import Displacement
from equipoise.datasets.errors import SceneError

METRES = st.floats(-500, 500, width=32, allow_subnormal=False)


def centres(geobox):
    rows, cols = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
    return geobox.affine * (cols, rows)


@given(geobox=geoboxes(), east=METRES, north=METRES)
def test_a_constant_is_the_constant_everywhere(geobox, east, north):
    field = Displacement.constant(geobox, east=east, north=north)
    for grid in (geobox, geobox.pad(70)):
        at_east, at_north = field.at(grid)
        assert at_east.dtype == at_north.dtype == np.float32
        assert at_east.shape == at_north.shape == tuple(grid.shape)
        assert (at_east == np.float32(east)).all()
        assert (at_north == np.float32(north)).all()
    assert field.is_constant
    assert field.is_zero == (east == 0 and north == 0)
    np.testing.assert_allclose(field.largest, np.hypot(east, north), rtol=1e-6, atol=1e-30)


@given(geobox=geoboxes(), angle=st.floats(-60, 60), slopes=st.tuples(*[st.floats(-0.05, 0.05)] * 4))
def test_an_affine_field_is_exact_inside_whatever_the_angles(geobox, angle, slopes):
    """Any lattice that reaches beyond the grid, turned against it or not."""
    diagonal = 2 * np.hypot(*geobox.shape) + 4
    middle = Affine.translation(*(geobox.affine * (geobox.shape[1] / 2, geobox.shape[0] / 2)))
    scale = diagonal * np.hypot(geobox.affine.a, geobox.affine.d) / 6
    affine = middle * Affine.rotation(angle) * Affine.scale(scale, -scale) * Affine.translation(-4.5, -5.5)
    lattice = GeoBox((11, 9), affine, geobox.crs)
    left, top = geobox.affine * (0, 0)

    def field(x, y):
        return 3 + slopes[0] * (x - left) + slopes[1] * (y - top), -2 + slopes[2] * (x - left) + slopes[3] * (y - top)

    east, north = field(*centres(lattice))
    made = Displacement(lattice=lattice, east=east, north=north)
    for found, wanted in zip(made.at(geobox), field(*centres(geobox)), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6 * (1 + made.largest))


def test_beyond_the_outermost_nodes_it_is_constant():
    lattice = north_up(2, 2, pixel=100.0)
    field = Displacement(lattice=lattice, east=np.array([[1, 3], [5, 7]]), north=np.zeros((2, 2)))
    east, _ = field.at(north_up(4, 4, pixel=50.0).pad(3))
    np.testing.assert_array_equal(east[:4, :4], 1)
    np.testing.assert_array_equal(east[:4, -4:], 3)
    np.testing.assert_array_equal(east[-4:, -4:], 7)
    np.testing.assert_array_equal(east[4], [2, 2, 2, 2, 2.5, 3.5, 4, 4, 4, 4])
    assert field.largest == 7
    assert not field.is_constant


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_lattices_of_one_line(shape):
    lattice = north_up(*shape, pixel=40.0)
    values = np.arange(4, dtype=np.float32)[: max(shape)].reshape(shape)
    field = Displacement(lattice=lattice, east=values, north=-values)
    np.testing.assert_array_equal(field.at(lattice)[0], values)
    np.testing.assert_array_equal(field.at(lattice)[1], -values)


def test_another_crs_is_refused():
    field = Displacement.constant(north_up(5, 5), east=1, north=0)
    with pytest.raises(SceneError, match=r"found a grid in EPSG:32632; wanted EPSG:32633"):
        field.at(north_up(5, 5, crs="EPSG:32632"))


@pytest.mark.parametrize("east", [np.zeros((3, 2)), np.full((2, 2), np.nan)], ids=["shape", "not finite"])
def test_what_is_no_field_on_the_lattice_is_refused(east):
    with pytest.raises(SceneError, match=r"found `east` of shape .* wanted a number at each of the 2 x 2 nodes"):
        Displacement(lattice=north_up(2, 2), east=east, north=np.zeros((2, 2)))
