"""Matching: planted sub-pixel shifts come back, and what cannot be matched says so."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.pipeline.matching import edge_strength, match_shift


def _ground(seed, size=160):
    """Fields with sharp borders, as the ground has: steps are what both sensors see."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), 5, mode="wrap")
    return ndimage.gaussian_filter(np.digitize(field / field.std(), [-0.8, 0, 0.8]).astype(float), 0.7, mode="wrap")


def _seen(ground, *, rows=0.0, cols=0.0, gain=1.0, noise=0.0, seed=0):
    """Bands (1, y, x) of the ground moved by (rows, cols), cut from the middle so that no border is invented."""
    moved = ndimage.fourier_shift(np.fft.fft2(ground), (rows, cols))
    image = gain * np.fft.ifft2(moved).real + np.random.default_rng(seed).normal(0, noise, ground.shape)
    return image[None, 16:-16, 16:-16].astype(np.float32)


@settings(max_examples=25)
@given(
    rows=st.floats(-7, 7),
    cols=st.floats(-7, 7),
    gain=st.sampled_from([1.0, -1.0, 0.2, 40.0]),
    noise=st.floats(0, 0.2),
    seed=st.integers(0, 1000),
)
def test_planted_shifts_are_recovered_within_a_third_of_a_pixel(rows, cols, gain, noise, seed):
    ground = _ground(seed)
    reference = _seen(ground, noise=noise, seed=1)
    # The other sensor may see bright what this one sees dark: edges do not care.
    moving = _seen(ground, rows=rows, cols=cols, gain=gain, noise=abs(gain) * noise, seed=2)
    match = match_shift(reference, moving, radius=10)
    assert (match.rows, match.cols) == (pytest.approx(rows, abs=0.3), pytest.approx(cols, abs=0.3))
    assert match.confidence > 0.2
    assert match.correlation > 0.3


def test_holes_do_not_pull_the_match():
    ground = _ground(3)
    reference, moving = _seen(ground), _seen(ground, rows=3.4, cols=-2.6)
    reference[:, :40, :40] = np.nan
    moving[:, 80:110, 60:] = np.nan
    match = match_shift(reference, moving, radius=8)
    assert (match.rows, match.cols) == (pytest.approx(3.4, abs=0.3), pytest.approx(-2.6, abs=0.3))


def test_unrelated_images_have_low_confidence():
    """Chance makes a lone peak now and then, so this holds for most pairs and not for each."""
    found = [match_shift(_seen(_ground(seed)), _seen(_ground(seed + 100)), radius=10) for seed in range(12)]
    assert np.median([match.confidence for match in found]) < 0.15
    assert max(match.correlation for match in found) < 0.25


def test_a_pattern_that_repeats_is_ambiguous():
    stripes = np.tile(np.sign(np.sin(np.arange(160) * 2 * np.pi / 16)), (160, 1))
    match = match_shift(_seen(stripes), _seen(stripes, noise=0.05), radius=20)
    assert match.confidence < 0.1


@pytest.mark.parametrize("rows", [-6, 6])
def test_a_shift_just_beyond_the_radius_is_not_believed(rows):
    """The best answer lies at the border of what was searched: the true one may lie beyond."""
    ground = _ground(5)
    match = match_shift(_seen(ground), _seen(ground, rows=rows), radius=5)
    assert match.confidence == 0


@pytest.mark.parametrize("which", ["reference", "moving"])
@pytest.mark.parametrize("content", ["constant", "nothing"])
def test_images_without_edges_match_nothing(which, content):
    empty = np.full((1, 96, 96), 3.0 if content == "constant" else np.nan, np.float32)
    full = _seen(_ground(0, size=128))
    pair = {"reference": full, "moving": full} | {which: empty}
    assert match_shift(pair["reference"], pair["moving"], radius=8) is None


@pytest.mark.parametrize("shape", [(1, 90), (90, 1), (16, 16), (19, 60)])
def test_images_too_small_to_search_match_nothing(shape):
    image = np.random.default_rng(0).random((1, *shape), np.float32)
    assert match_shift(image, image, radius=8) is None


def test_edges_are_normalised_and_empty_at_holes():
    image = np.concatenate([_seen(_ground(0)), 100 * _seen(_ground(0))])
    image[:, 50:60, 50:60] = np.nan
    edges = edge_strength(image)
    assert edges.dtype == np.float32
    assert (edges[50:60, 50:60] == 0).all()
    away = edges[np.abs(edges) > 0]
    assert (away.mean(), away.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    # Both bands show the same ground, one a hundred times stronger: they count alike.
    np.testing.assert_allclose(edges, edge_strength(image[:1]), atol=1e-3)
