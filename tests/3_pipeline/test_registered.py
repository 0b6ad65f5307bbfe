"""What a registration gives: the right correction with an honest circle, and a reason where there is none."""

import numpy as np
import pytest
from affine import Affine
from fake_pairs import as_radar, ground, in_memory, places_of, seen, shifted, turned
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import stats
from strategies import north_up

from equipoise.pipeline.acceptance import ACCEPTED, CHANCE, CHANCE_LEVELS, CHANCE_SPREAD, judged
from equipoise.pipeline.block_layout import layouts
from equipoise.pipeline.displacement_fit import Prior, conditioned
from equipoise.pipeline.matching_view import view_of
from equipoise.pipeline.registered import CIRCLE90, NotRegistrable, interpolated, registered, within_a_pixel
from equipoise.pipeline.registration import Level
from equipoise.pipeline.surface_peaks import Peaks

EDGE = 224
GRID = north_up(EDGE, EDGE)
TURN = turned(0.5, GRID.shape, rows=2.2, cols=-1.3)


def pair(displaced, *, seed=0, other=None, speckle=0.3):
    """An optical image, and a radar image of the same displaced ground, or of that of another seed."""
    rng = np.random.default_rng(seed)
    fields = ground(rng, tuple(GRID.shape))
    moved = fields if other is None else ground(np.random.default_rng(other), tuple(GRID.shape))
    return seen(fields), as_radar(seen(moved, displaced), rng, speckle=speckle)


def found_between(reference, moving, *, grid=GRID, radius_m=150.0, **more):
    return registered(
        view_of(in_memory("eo", reference, grid)), view_of(in_memory("sar", moving, grid)), grid, radius_m=radius_m,
        **more,
    )  # fmt: skip


def errors_m(found, displaced, grid=GRID):
    """Length of the error of the correction at every pixel, m."""
    moved = displaced(places_of(grid.shape)).T.reshape(2, *grid.shape)
    a, b, _, d, e, _ = tuple(grid.affine)[:6]
    east, north = found.displacement.at(grid)
    return np.hypot(east + a * moved[1] + b * moved[0], north + d * moved[1] + e * moved[0])


# against planted truth


@pytest.mark.parametrize(
    ("kind", "displaced"), [("shift", shifted(3.4, -5.7)), ("affine", TURN)], ids=["shift", "turn"]
)
def test_the_correction_undoes_what_was_planted_and_the_circle_holds_it(kind, displaced):
    inside, radii = [], []
    for seed in range(4):
        found = found_between(*pair(displaced, seed=seed, speckle=0.5))
        assert found.kind == kind
        error = errors_m(found, displaced)
        assert error.max() < 5
        radius = interpolated(found.layer.grid, found.layer.radius90, GRID)
        inside.append((error <= radius).mean())
        radii.append(np.median(radius))
    assert np.mean(inside) > 0.8
    assert max(radii) < 8  # an honest circle that holds everything would be no use


@pytest.mark.parametrize("affine", [
    Affine(10, 0, 5e5, 0, 10, 5e6), Affine(-10, 0, 5e5, 0, -10, 5e6), Affine(0, 10, 5e5, 10, 0, 5e6),
    Affine.translation(5e5, 5e6) * Affine.rotation(30) * Affine.scale(10, -10), Affine(1000, 0, 5e5, 0, -1000, 5e6),
    Affine(0.25, 0, 5e5, 0, -0.25, 5e6),
], ids=["south up", "mirrored", "axes swapped", "rotated", "a kilometre", "25 cm"])  # fmt: skip
def test_corrections_are_right_on_any_grid(affine):
    grid, displaced = GeoBox(GRID.shape, affine, GRID.crs), shifted(3.4, -5.7)
    pixel = np.hypot(affine.a, affine.d)
    found = found_between(*pair(displaced), grid=grid, radius_m=15 * pixel)
    assert errors_m(found, displaced, grid).max() < 0.2 * pixel
    left, top = affine * (0, 0)
    assert (np.abs(found.blocks.x - left) < 2 * EDGE * pixel).all()
    assert (np.abs(found.blocks.y - top) < 2 * EDGE * pixel).all()


# the layer


def test_the_layer_says_of_each_place_how_sure_it_is():
    found = found_between(*pair(TURN))
    layer = found.layer
    np.testing.assert_array_equal(layer.east, found.displacement.east)
    np.testing.assert_array_equal(layer.north, found.displacement.north)
    assert layer.grid == found.displacement.lattice
    assert layer.grid.crs == GRID.crs
    # A circle of 90 % and the probability to be within a pixel of 10 m are two points of one distribution.
    deviation = layer.radius90 / stats.rayleigh.ppf(0.9)
    np.testing.assert_allclose(layer.confidence, stats.rayleigh(scale=deviation).cdf(10.0), atol=1e-4)
    middle = tuple(edge // 2 for edge in layer.grid.shape)
    assert layer.radius90[middle] < layer.radius90[0, 0]
    assert layer.radius90[middle] < layer.radius90[-1, -1]


def test_a_pixel_is_that_of_the_coarser_image_where_it_is_given():
    images = pair(shifted(1.0, 2.0), speckle=1.0)
    finer, coarser = (found_between(*images, pixel_m=pixel).layer for pixel in (3.0, 30.0))
    np.testing.assert_array_equal(finer.radius90, coarser.radius90)
    assert (finer.confidence < coarser.confidence).all()
    expected = stats.rayleigh(scale=finer.radius90 / CIRCLE90).cdf(3.0)
    np.testing.assert_allclose(finer.confidence, expected, atol=1e-4)


@given(deviation=st.floats(0, 50))
def test_within_a_pixel_is_the_probability_of_a_short_error(deviation):
    found = within_a_pixel(np.array([[deviation]], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, stats.rayleigh(scale=max(deviation, 1e-9)).cdf(1.0), atol=1e-5)


# single blocks


def test_blocks_add_up_to_the_correction():
    displaced = shifted(3.4, -5.7)
    found = found_between(*pair(displaced))
    blocks = found.blocks
    assert len(blocks.x) > 8
    assert (blocks.x > GRID.extent.boundingbox.left).all()
    assert (blocks.x < GRID.extent.boundingbox.right).all()
    assert (blocks.y > GRID.extent.boundingbox.bottom).all()
    assert (blocks.y < GRID.extent.boundingbox.top).all()
    applied = np.stack(found.displacement.at_places(blocks.x, blocks.y), axis=1)
    np.testing.assert_allclose(blocks.before - blocks.after, applied, atol=1e-3)
    np.testing.assert_allclose(np.median(blocks.before, axis=0), [57, 34], atol=3)
    assert (blocks.radius90 > 0).all()
    assert (blocks.weight > 0).all()
    assert blocks.rmse(blocks.before) == pytest.approx(np.hypot(57, 34), abs=3)
    assert blocks.rmse(blocks.after) < 5


def test_the_mean_square_is_taken_by_trust():
    found = found_between(*pair(shifted(0, 0))).blocks
    residual = np.random.default_rng(0).normal(size=found.after.shape)
    expected = np.sqrt(np.average((residual**2).sum(axis=1), weights=found.weight))
    assert found.rmse(residual) == pytest.approx(expected)


# what cannot be registered


@pytest.mark.parametrize("seed", range(8))
def test_two_different_places_are_refused_with_their_verdict(seed):
    with pytest.raises(NotRegistrable, match="pairs of different places; wanted fewer") as refusal:
        found_between(*pair(shifted(0, 0), seed=seed, other=500 + seed))
    verdict = refusal.value.verdict
    assert refusal.value.reason == str(refusal.value)
    assert not verdict.accepted
    assert verdict.log10_false_alarms >= ACCEPTED
    assert verdict.lead < 3


def test_true_pairs_are_far_from_chance():
    for seed in range(3):
        verdict = found_between(*pair(shifted(3.4, -5.7), seed=seed)).verdict
        assert verdict.accepted
        assert verdict.log10_false_alarms < -20
        assert verdict.lead > 4


def test_a_shift_far_beyond_what_is_looked_for_is_chance():
    with pytest.raises(NotRegistrable, match="pairs of different places") as refusal:
        found_between(*pair(shifted(30.0, 0.0)), radius_m=150)
    assert not refusal.value.verdict.accepted


def test_a_shift_just_beyond_what_is_looked_for_is_named():
    """It is no chance, but farther than the user says that the position can be wrong."""
    with pytest.raises(
        NotRegistrable, match=r"best agreement 1[67]\d m away; wanted it within 150 m; raise max"
    ) as refusal:
        found_between(*pair(shifted(17.0, 0.0)), radius_m=150)
    assert refusal.value.verdict.accepted


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("content", [np.nan, 0.0, 293.15])
def test_images_without_content_are_refused_without_a_verdict(which, content):
    images = list(pair(shifted(0, 0)))
    images[which] = np.full(GRID.shape, content)
    with pytest.raises(NotRegistrable, match="too little common area with edges") as refusal:
        found_between(*images)
    assert refusal.value.verdict is None


def test_images_of_two_halves_are_refused():
    reference, moving = pair(shifted(0, 0))
    reference[:, EDGE // 2 - 10 :] = np.nan
    moving[:, : EDGE // 2 + 10] = np.nan
    with pytest.raises(NotRegistrable, match="too little common area"):
        found_between(reference, moving)


def test_one_speckle_is_no_ground():
    """Both images are noise of their own: nothing is common, though all of it has edges."""
    rng = np.random.default_rng(0)
    for _ in range(4):
        with pytest.raises(NotRegistrable, match="pairs of different places"):
            found_between(*rng.standard_normal((2, *GRID.shape)))


# the verdict


def level(*, lead, rows=0.0, cols=0.0):
    """A level whose four blocks lead by that much, at one shift."""
    places = np.array([[10.0, 10.0], [10.0, 90.0], [90.0, 10.0], [90.0, 90.0]])
    shift, covariance = np.tile([rows, cols], (4, 1)), np.tile(0.01 * np.eye(2), (4, 1, 1))
    return Level(
        layout=layouts(GRID, radius_m=150)[-1], weight=np.ones(4), lead=np.asarray(lead) * np.ones(4),
        peaks=Peaks(shift=shift, covariance=covariance, lead=np.ones(4)),
        fit=conditioned(Prior(linear=0), places, shift, covariance, middle=np.array([50.0, 50.0])),
    )  # fmt: skip


@given(lead=st.floats(-1, 12), other=st.floats(-1, 12), count=st.integers(1, 4))
@settings(max_examples=30)
def test_false_alarms_are_the_tail_of_chance(lead, other, count):
    """At the far end of what was searched, position is no evidence, and the score decides alone."""
    levels = [level(lead=lead if number else other, rows=15) for number in range(count)]
    verdict = judged(levels, radius_px=15)
    mean = np.mean([lead if number else other for number in range(count)])
    assert verdict.lead == pytest.approx(mean)
    spread = CHANCE_SPREAD * np.sqrt(CHANCE_LEVELS / count)
    assert verdict.log10_false_alarms == pytest.approx(
        stats.norm.logsf((mean - CHANCE) / spread) / np.log(10), abs=1e-6
    )
    assert verdict.accepted == (verdict.log10_false_alarms < ACCEPTED)


@given(distance=st.floats(0, 15), lead=st.floats(0, 8), radius=st.floats(15, 40))
@settings(max_examples=30)
def test_chance_comes_as_near_as_the_circle_is_of_all_that_was_searched(distance, lead, radius):
    near, far = (
        judged([level(lead=lead, cols=cols)], radius_px=radius).log10_false_alarms for cols in (distance, radius)
    )
    assert near - far == pytest.approx(np.log10(((distance + 1) / (radius + 1)) ** 2), abs=1e-4)


def test_what_leads_more_is_less_a_chance():
    alarms = [judged([level(lead=lead)] * 2, radius_px=25).log10_false_alarms for lead in (0.5, 1.3, 2, 3, 6, 40)]
    assert (np.diff(alarms) < 0).all()
    assert np.isfinite(alarms).all()
    assert judged([level(lead=[0, 2, 4, 6])], radius_px=25).lead == pytest.approx(3)
