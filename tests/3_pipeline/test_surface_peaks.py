"""Peaks: found to a hundredth of a pixel where the surface is known, and as sure as they are right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.pipeline.matching import ScoreSurfaces
from equipoise.pipeline.surface_peaks import LEAST_VARIANCE, PEAK_RADIUS, SurfacePeaks

RADIUS = 8
TICKS = np.arange(-RADIUS, RADIUS + 1)


def surfaces(scores):
    scores = np.asarray(scores, np.float32)
    return ScoreSurfaces(scores=scores, centres=np.zeros((len(scores), 2)))


def bump(row, col, *, width=2.0, height=1.0, lean=0.0, long=1.0):
    """A Gaussian at a sub-pixel place, ``long`` times as wide along the columns and leaning by ``lean``."""
    down, right = np.meshgrid(TICKS - row, (TICKS - col) / long, indexing="ij")
    return height * np.exp(-(down**2 + right**2 - 2 * lean * down * right) / (2 * width**2))


def noise(rng, count, *, deviation=0.1, smooth=1.5):
    """Noise as smooth as peaks are: it comes out of the same correlation."""
    raw = ndimage.gaussian_filter(rng.standard_normal((count, 49, 49)), (0, smooth, smooth))
    return deviation * raw[:, 16 : 16 + len(TICKS), 16 : 16 + len(TICKS)] * 2 * smooth * np.sqrt(np.pi)


def anywhere(count):
    """No expectation: a very wide one."""
    return {"expected": np.zeros((count, 2)), "variance": np.full(count, 1e6)}


def slopes_of(search, shift, *, step=0.01):
    """Gradient (2,) and curvature (2, 2) of the only surface at a shift, by differences of its values."""
    ways = [np.array([step, 0]), np.array([0, step])]

    def value(place):
        return search.lead_at(place[None])[0]

    gradient = np.array([(value(shift + way) - value(shift - way)) / (2 * step) for way in ways])
    curvature = np.array([
        [
            (value(shift + a + b) - value(shift + a - b) - value(shift - a + b) + value(shift - a - b)) / (4 * step**2)
            for b in ways
        ]
        for a in ways
    ])  # fmt: skip
    return gradient, curvature


# against an independent truth


@given(
    row=st.floats(-4, 4), col=st.floats(-4, 4), width=st.floats(1.7, 2.3), long=st.floats(1, 1.4),
    lean=st.floats(-0.3, 0.3), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40)
def test_peaks_of_known_surfaces_are_found(row, col, width, long, lean, seed):
    known = bump(row, col, width=width, long=long, lean=lean) + noise(np.random.default_rng(seed), 1, deviation=1e-3)
    found = SurfacePeaks(surfaces(known)).near(**anywhere(1))
    np.testing.assert_allclose(found.shift, [[row, col]], atol=0.02)
    assert found.lead[0] > 3


@given(row=st.floats(-6.9, 6.9), col=st.floats(-6.9, 6.9), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_between_whole_shifts_scores_are_those_of_the_cubic_spline(row, col, seed):
    scores = noise(np.random.default_rng(seed), 3)
    expected = [
        ndimage.map_coordinates(one, [[row + RADIUS], [col + RADIUS]], order=3, mode="mirror")[0]
        for one in scores.astype(np.float32).astype(float)
    ]
    flat = scores.reshape(3, -1)
    middle = np.median(flat, axis=1)
    spread = 1.4826 * np.median(np.abs(flat - middle[:, None]), axis=1)
    found = SurfacePeaks(surfaces(scores)).lead_at(np.tile([row, col], (3, 1)))
    np.testing.assert_allclose(found, (expected - middle) / spread, atol=1e-4)


@given(seed=st.integers(0, 99))
@settings(max_examples=20)
def test_a_peak_is_flat_and_its_covariance_is_the_slopes_noise_over_the_curvature(seed):
    rng = np.random.default_rng(seed)
    place = rng.uniform(-4, 4, 2)
    scores = bump(*place, long=1.4, lean=0.3) + noise(rng, 1, deviation=0.03)
    search = SurfacePeaks(surfaces(scores))
    found = search.near(**anywhere(1))
    gradient, curvature = slopes_of(search, found.shift[0])
    np.testing.assert_allclose(np.linalg.solve(curvature, gradient), 0, atol=0.02)  # the step that is left, px
    lead = (scores[0] - np.median(scores)) / (1.4826 * np.median(np.abs(scores - np.median(scores))))
    down, right = np.gradient(lead)
    away = np.hypot(*np.meshgrid(TICKS - found.shift[0, 0], TICKS - found.shift[0, 1], indexing="ij")) > PEAK_RADIUS
    slopes = np.stack([down[away], right[away]])
    expected = np.linalg.inv(curvature) @ (slopes @ slopes.T / away.sum()) @ np.linalg.inv(curvature)
    # Curvature is that of one of Newton's steps before the last: nearly the peak's.
    np.testing.assert_allclose(found.covariance[0] - LEAST_VARIANCE * np.eye(2), expected, rtol=0.2, atol=2e-3)
    assert np.linalg.eigvalsh(found.covariance[0]).min() >= LEAST_VARIANCE * (1 - 1e-9)


@pytest.mark.parametrize("deviation", [0.1, 0.2])
def test_peaks_are_as_far_off_as_their_covariance_says(deviation):
    """The squared error over the covariance is 2 on average, in two dimensions."""
    rng = np.random.default_rng(0)
    count = 400
    places = rng.uniform(-3, 3, (count, 2))
    scores = np.stack([bump(*place, width=1.6, long=1.4) for place in places]) + noise(rng, count, deviation=deviation)
    found = SurfacePeaks(surfaces(scores)).near(places, np.ones(count))
    error = found.shift - places
    assert np.hypot(*error.T).mean() > deviation / 4  # there is something to say
    squared = np.einsum("ni,nij,nj->n", error, np.linalg.inv(found.covariance), error)
    assert 1 < squared.mean() < 4
    # And the errors are larger along the columns, where the peaks are wider.
    assert (found.covariance[:, 1, 1] > found.covariance[:, 0, 0]).mean() > 0.8
    assert error[:, 1].std() > error[:, 0].std()


def test_the_lead_of_pure_noise_is_that_of_chance():
    rng = np.random.default_rng(0)
    search = SurfacePeaks(surfaces(noise(rng, 300, smooth=1.0)))
    lead = search.lead_at(rng.integers(-6, 7, (300, 2)).astype(float))
    assert abs(lead.mean()) < 0.25
    assert lead.std() == pytest.approx(1, abs=0.25)


# what is expected


@given(row=st.floats(2, 5), col=st.floats(-5, 5), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_of_two_like_peaks_the_expected_one_is_taken(row, col, seed):
    """A surface and its mirror image: no other thing tells them apart."""
    place = np.array([row, col])
    half = bump(*place, width=1.5) + noise(np.random.default_rng(seed), 1, deviation=0.03)
    search = SurfacePeaks(surfaces(half + half[:, ::-1, ::-1]))
    for meant in (place, -place):
        found = search.near(meant[None] + [[0.7, -0.7]], np.array([4.0]))
        np.testing.assert_allclose(found.shift[0], meant, atol=0.5)


def test_an_expectation_does_not_move_a_peak_that_stands_alone():
    scores = bump(4.3, -3.6) + noise(np.random.default_rng(0), 1, deviation=0.01)
    search = SurfacePeaks(surfaces(scores))
    plain = search.near(**anywhere(1)).shift
    for expected in ([0.0, 0.0], [2.0, -5.0], [100.0, 100.0]):
        np.testing.assert_allclose(search.near(np.array([expected]), np.array([100.0])).shift, plain, atol=1e-2)


def test_the_sum_finds_what_no_surface_shows_alone():
    rng = np.random.default_rng(3)
    scores = bump(5, -3) + noise(rng, 60, deviation=1.0)
    search = SurfacePeaks(surfaces(scores))
    assert np.hypot(*(search.total() - [5, -3])) <= 1
    alone = search.near(**anywhere(60)).shift
    assert (np.hypot(*(alone - [5, -3]).T) < 1.5).mean() < 0.5


# laws


@given(seed=st.integers(0, 99), gain=st.floats(0.01, 100), offset=st.floats(-1, 1))
@settings(max_examples=15)
def test_gain_and_offset_of_scores_do_not_matter(seed, gain, offset):
    scores = bump(1.3, -2.2) + noise(np.random.default_rng(seed), 1)
    plain = SurfacePeaks(surfaces(scores)).near(**anywhere(1))
    other = SurfacePeaks(surfaces(gain * (scores + offset))).near(**anywhere(1))
    for name in ("shift", "covariance", "lead"):
        np.testing.assert_allclose(getattr(other, name), getattr(plain, name), rtol=1e-2, atol=1e-3)


@given(seed=st.integers(0, 99))
@settings(max_examples=15)
def test_rows_and_columns_are_treated_alike(seed):
    rng = np.random.default_rng(seed)
    scores, expected = bump(*rng.uniform(-4, 4, 2)) + noise(rng, 2), rng.uniform(-2, 2, (2, 2))
    plain = SurfacePeaks(surfaces(scores)).near(expected, np.array([9.0, 30.0]))
    other = SurfacePeaks(surfaces(scores.swapaxes(1, 2))).near(expected[:, ::-1], np.array([9.0, 30.0]))
    np.testing.assert_allclose(other.shift, plain.shift[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(other.covariance, plain.covariance[:, ::-1, ::-1], rtol=1e-5)


# odd cases


@pytest.mark.parametrize("content", ["noise", "ramp", "constant", "peak beyond"])
@pytest.mark.parametrize("radius", [2, 8])
def test_what_has_no_peak_gives_a_place_within_the_search_that_is_doubtful(content, radius):
    ticks = np.arange(-radius, radius + 1)
    rows, cols = np.meshgrid(ticks, ticks, indexing="ij")
    scores = {
        "noise": np.random.default_rng(0).standard_normal((len(ticks), len(ticks))),
        "ramp": rows + 0.5 * cols,
        "constant": np.full(rows.shape, 0.25),
        "peak beyond": np.exp(-((rows - 2 * radius) ** 2) / 8 - cols**2 / 8),
    }[content]
    found = SurfacePeaks(surfaces(scores[None])).near(**anywhere(1))
    assert np.isfinite(found.shift).all()
    assert np.isfinite(found.covariance).all()
    assert np.isfinite(found.lead).all()
    assert np.abs(found.shift).max() <= radius
    if content == "ramp":
        assert np.trace(found.covariance[0]) > 100


def test_far_more_doubt_where_there_is_no_peak():
    clear = surfaces(bump(0.3, 0.4)[None] + noise(np.random.default_rng(0), 1, deviation=0.05))
    blurred = surfaces(ndimage.gaussian_filter(noise(np.random.default_rng(1), 1, deviation=1.0), (0, 2, 2)))
    sure, unsure = (np.trace(SurfacePeaks(one).near(**anywhere(1)).covariance[0]) for one in (clear, blurred))
    assert unsure > 4 * sure
