"""Registration: planted shifts, turns and bends between two sensors come back, from coarse to fine."""

import numpy as np
import pytest
from affine import Affine
from fake_pairs import as_radar, bent, blots, ground, in_memory, places_of, seen, shifted, turned
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from strategies import geoboxes, north_up

from equipoise.pipeline.displacement_fit import Prior, conditioned
from equipoise.pipeline.matching_view import view_of
from equipoise.pipeline.registration import displacement_of, lattice_over, register

EDGE = 240
GRID = north_up(EDGE, EDGE)


def pair(displaced, *, seed=0, shape=GRID.shape, speckle=0.3):
    """An optical image, and a radar image of the same displaced ground."""
    rng = np.random.default_rng(seed)
    fields = ground(rng, tuple(shape))
    return seen(fields), as_radar(seen(fields, displaced), rng, speckle=speckle)


def registered_levels(reference, moving, grid=GRID, *, radius_m=150.0, moving_grid=None):
    views = view_of(in_memory("eo", reference, grid)), view_of(in_memory("sar", moving, moving_grid or grid))
    return register(*views, grid, radius_m=radius_m)


def errors(fit, displaced, shape):
    places = places_of(shape)
    return np.hypot(*(fit.at(places) - displaced(places)).T)


# against planted truth


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "displaced", "within_px"),
    [
        ("shift", shifted(3.4, -5.7), 0.15),
        ("shift", shifted(0.0, 0.0), 0.15),
        ("shift", shifted(-12.6, 8.1), 0.15),
        ("affine", turned(0.5, GRID.shape, rows=2.2, cols=1.3), 0.3),
        ("affine", turned(-0.7, GRID.shape), 0.3),
    ],
    ids=["shift", "none", "far", "turned", "turned back"],
)
def test_planted_shifts_and_turns_are_found_and_named(kind, displaced, within_px, seed):
    finest = registered_levels(*pair(displaced, seed=seed))[-1]
    assert finest.fit.prior.kind == kind
    assert errors(finest.fit, displaced, GRID.shape).max() < within_px


def test_a_planted_bend_is_found_and_named():
    """Half a wave over the image: errors remain beyond the middles of the outermost blocks."""
    shape = (448, 448)
    displaced = bent(4, shape)
    finest = registered_levels(*pair(displaced, shape=shape), north_up(*shape))[-1]
    assert finest.fit.prior.kind == "field"
    error = errors(finest.fit, displaced, shape).reshape(shape)
    assert np.median(error) < 0.3
    assert error[80:-80, 80:-80].max() < 0.6


@pytest.mark.parametrize("seed", range(3))
def test_speckle_of_one_look_leaves_a_shift_within_a_third_of_a_pixel(seed):
    displaced = shifted(2.6, 4.3)
    finest = registered_levels(*pair(displaced, seed=seed, speckle=1.0))[-1]
    assert errors(finest.fit, displaced, GRID.shape).max() < 0.35


@pytest.mark.parametrize("shape", [(200, 331), (331, 200), (61, 400), (101, 103)])
def test_images_of_any_shape_are_registered(shape):
    displaced = shifted(3.3, -2.8)
    finest = registered_levels(*pair(displaced, shape=shape), north_up(*shape))[-1]
    assert errors(finest.fit, displaced, shape).max() < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_holes_and_wedges_do_not_break_it(seed):
    """A swath's edge through each image, and clouds over them, not the same ones."""
    displaced = shifted(-4.2, 5.7)
    reference, moving = pair(displaced, seed=seed)
    rng = np.random.default_rng(100 + seed)
    rows, cols = places_of(GRID.shape).T.reshape(2, *GRID.shape)
    reference[(rows + 0.5 * cols < 0.2 * EDGE) | blots(rng, GRID.shape, 0.3, size=20)] = np.nan
    moving[(rows - 0.3 * cols > 0.8 * EDGE) | blots(rng, GRID.shape, 0.15, size=20)] = np.nan
    finest = registered_levels(reference, moving)[-1]
    assert errors(finest.fit, displaced, GRID.shape).max() < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_a_turn_is_found_with_a_third_of_either_image_gone(seed):
    shape = (320, 320)
    displaced = turned(0.5, shape, rows=3.0)
    reference, moving = pair(displaced, seed=seed, shape=shape)
    rng = np.random.default_rng(200 + seed)
    reference[blots(rng, shape, 0.3, size=24)] = np.nan
    moving[blots(rng, shape, 0.3, size=24)] = np.nan
    finest = registered_levels(reference, moving, north_up(*shape))[-1]
    assert finest.fit.prior.kind != "shift"
    assert np.median(errors(finest.fit, displaced, shape)) < 0.3


@pytest.mark.parametrize("seed", range(3))
def test_holes_at_one_place_in_both_images_do_not_hold_it_there(seed):
    """Land masked as the same pixels in both: the borders of holes are no edges."""
    displaced = shifted(5.3, -4.6)
    reference, moving = pair(displaced, seed=seed)
    holes = blots(np.random.default_rng(seed), GRID.shape, 0.25, size=14)
    reference[holes] = moving[holes] = np.nan
    finest = registered_levels(reference, moving)[-1]
    assert errors(finest.fit, displaced, GRID.shape).max() < 0.3


def test_single_bands_may_say_nothing():
    """A constant band and one of noise beside the one that shows the ground."""
    displaced = shifted(3.4, -5.7)
    reference, moving = pair(displaced)
    rng = np.random.default_rng(0)
    reference = np.stack([np.full_like(reference, 7), reference, rng.standard_normal(GRID.shape)])
    finest = registered_levels(reference, moving)[-1]
    assert errors(finest.fit, displaced, GRID.shape).max() < 0.3


# laws


@pytest.mark.parametrize(("east", "north"), [(40.0, -30.0), (-13.0, 27.0), (0.0, 5.0)])
def test_a_file_that_lies_farther_off_is_moved_by_that_much_more(east, north):
    """Whole pixels leave the answer exactly, parts of pixels but for interpolation."""
    reference, moving = pair(turned(0.4, GRID.shape, rows=1.5, cols=-2.0))
    away = GeoBox(GRID.shape, Affine.translation(east, north) * GRID.affine, GRID.crs)
    places = places_of(GRID.shape)[::97]
    plain = registered_levels(reference, moving)[-1].fit.at(places)
    farther = registered_levels(reference, moving, moving_grid=away)[-1].fit.at(places)
    np.testing.assert_allclose(farther - plain, np.tile([-north / 10, east / 10], (len(places), 1)), atol=0.15)


def test_from_the_other_image_the_way_is_back():
    reference, moving = pair(shifted(4.4, -3.3))
    there, back = (registered_levels(*images)[-1].fit for images in ((reference, moving), (moving, reference)))
    places = places_of(GRID.shape)[::97]
    np.testing.assert_allclose(there.at(places), -back.at(places), atol=0.1)


@given(seed=st.integers(0, 999), gain=st.sampled_from([-30.0, 0.01, 5.0]), offset=st.floats(-1, 1))
@settings(max_examples=4)
def test_contrast_does_not_matter(seed, gain, offset):
    reference, moving = pair(shifted(1.4, 2.3), seed=seed, shape=(120, 120))
    grid = north_up(120, 120)
    places = places_of((120, 120))[::97]
    plain = registered_levels(reference, moving, grid)[-1].fit.at(places)
    other = registered_levels(gain * (reference + offset), moving, grid)[-1].fit.at(places)
    np.testing.assert_allclose(other, plain, atol=0.02)


def test_the_same_pair_gives_the_same_answer_whatever_the_threads_do():
    reference, moving = pair(shifted(1.4, 2.3))
    one, other = (registered_levels(reference, moving)[-1] for _ in range(2))
    np.testing.assert_array_equal(one.peaks.shift, other.peaks.shift)
    np.testing.assert_array_equal(one.fit.at(one.fit.places), other.fit.at(one.fit.places))
    assert one.fit.evidence == other.fit.evidence


# what a level says


def test_levels_go_from_coarse_to_fine_and_agree():
    shape, displaced = (400, 328), shifted(3.4, -5.7)
    levels = registered_levels(*pair(displaced, shape=shape), north_up(*shape))
    zooms = [level.layout.zoom for level in levels]
    assert zooms == sorted(zooms, reverse=True)
    assert len(set(zooms)) > 1
    for level in levels:
        count = len(level.fit.places)
        assert level.peaks.shift.shape == (count, 2)
        assert level.peaks.covariance.shape == (count, 2, 2)
        assert level.weight.shape == level.lead.shape == level.peaks.lead.shape == (count,)
        assert (level.fit.places > 0).all()
        assert (level.fit.places < shape).all()
        # In pixels of the grid on all levels: blocks lie evenly about its middle.
        np.testing.assert_allclose(level.fit.places.min(axis=0) + level.fit.places.max(axis=0), np.array(shape) - 1)
        np.testing.assert_allclose(np.median(level.peaks.shift, axis=0), [3.4, -5.7], atol=0.25 * level.layout.zoom)
        assert level.lead.mean() > 4


def test_blocks_that_contradict_the_others_are_trusted_less():
    """A corner of the moving image lies five pixels off all else: half a town was mapped from another orbit."""
    displaced = shifted(3.4, -5.7)
    reference, moving = pair(displaced)
    moving[:110, :110] = pair(shifted(6.9, -8.7))[1][:110, :110]
    finest = registered_levels(reference, moving)[-1]
    wrong = (finest.fit.places < 60).all(axis=1)
    right = (finest.fit.places > 130).any(axis=1)
    assert wrong.any()
    assert finest.weight[wrong].max() < 0.6 * np.median(finest.weight[right])
    away = errors(finest.fit, displaced, GRID.shape).reshape(GRID.shape)[130:, 130:]
    assert np.median(away) < 0.4


# from pixels to the ground


@given(geobox=geoboxes(largest=40), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_a_fit_becomes_the_correction_that_undoes_it(geobox, seed):
    """Exactly for affine maps, whatever the grid's angle: what was found at p + d(p) is brought to p."""
    rng = np.random.default_rng(seed)
    shape = np.array(geobox.shape, float)
    places = rng.uniform(0, 1, (9, 2)) * shape
    matrix, shift = rng.normal(0, 0.01, (2, 2)), rng.uniform(-5, 5, 2)
    fit = conditioned(
        Prior(linear=0.02), places, places @ matrix.T + shift, np.tile(1e-4 * np.eye(2), (9, 1, 1)),
        middle=(shape - 1) / 2,
    )  # fmt: skip
    correction = displacement_of(fit, geobox)
    assert correction.lattice.crs == geobox.crs
    everywhere = places_of(geobox.shape)
    moved = everywhere + fit.at(everywhere)
    claimed = np.array(geobox.affine * (moved[:, 1] + 0.5, moved[:, 0] + 0.5))
    true = np.array(geobox.affine * (everywhere[:, 1] + 0.5, everywhere[:, 0] + 0.5))
    expected = (true - claimed).reshape(2, *geobox.shape)
    pixel = np.hypot(geobox.affine.a, geobox.affine.d)
    np.testing.assert_allclose(np.stack(correction.at(geobox)), expected, atol=1e-3 * pixel)


@given(geobox=geoboxes(largest=64), nodes=st.integers(2, 40))
@settings(max_examples=50)
def test_lattices_reach_the_edges_of_the_grid(geobox, nodes):
    lattice, places = lattice_over(geobox, nodes)
    assert lattice.crs == geobox.crs
    assert max(lattice.shape) <= nodes + 1
    height, width = geobox.shape
    np.testing.assert_allclose(places.min(axis=0), -0.5)
    assert (places.max(axis=0) >= (height - 0.5 - 1e-9, width - 0.5 - 1e-9)).all()
    # The lattice's pixel centres are those places.
    x, y = lattice.affine * (places_of(lattice.shape)[:, ::-1] + 0.5).T
    expected = geobox.affine * (places[:, ::-1] + 0.5).T
    np.testing.assert_allclose((x, y), expected, rtol=1e-9)


# odd cases


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (2, 300), (7, 5), (13, 13), (3, 999)])
def test_images_too_small_have_nothing_in_common(shape):
    assert registered_levels(*pair(shifted(0, 0), shape=shape), north_up(*shape)) == []


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("content", ["nothing", "constant", "one corner"])
def test_images_without_edges_have_nothing_in_common(which, content):
    images = list(pair(shifted(0, 0)))
    empty = {"nothing": np.nan, "constant": 4.0, "one corner": np.nan}[content]
    corner = images[which][:40, :40].copy()
    images[which] = np.full(GRID.shape, empty)
    if content == "one corner":
        images[which][:40, :40] = corner
    assert registered_levels(*images) == []
