"""Structure: directions of edges as geometry wants them, whatever the contrast, and nothing near holes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from strategies import valid_masks

from equipoise.pipeline.structure import MARGIN, structure

SHAPE = (48, 40)


def textured(seed, *, bands=1, shape=SHAPE):
    noise = np.random.default_rng(seed).standard_normal((bands, *shape))
    return (100 + 10 * ndimage.gaussian_filter(noise, (0, 1.5, 1.5))).astype(np.float32)


def near(valid, pixels):
    """Pixels in a square around a hole; beyond the image lies no hole."""
    return ndimage.maximum_filter(~valid, 2 * pixels + 1, mode="constant", cval=False)


# against an independent truth


@given(angle=st.floats(0, 360), slope=st.floats(0.1, 100))
@settings(max_examples=20)
def test_the_direction_of_a_ramp_is_that_of_its_slope(angle, slope):
    y, x = np.mgrid[:80, :80]
    toward = np.deg2rad(angle)
    ramp = slope * (np.cos(toward) * x + np.sin(toward) * y)
    cosine, sine, _ = structure(ramp[None].astype(np.float32)).channels[:, 30:50, 30:50]
    length = np.hypot(cosine, sine)
    np.testing.assert_allclose(cosine / length, np.cos(2 * toward), atol=1e-3)
    np.testing.assert_allclose(sine / length, np.sin(2 * toward), atol=1e-3)


def test_the_strength_of_edges_is_that_over_their_neighbourhood():
    """One edge in a plain: there is more than around it, and elsewhere less or nothing."""
    image = np.zeros((1, 200, 60), np.float32)
    image[:, 100:] = 1
    strength = structure(image).channels[2, :, 30]
    assert strength.argmax() in (99, 100)
    assert strength[99] > 0.2
    assert (strength[[85, 115]] < 0).all()
    np.testing.assert_allclose(strength[[20, 180]], 0, atol=1e-6)


# laws


@given(
    seed=st.integers(0, 99),
    gains=st.lists(st.floats(0.05, 50).flatmap(lambda gain: st.sampled_from([gain, -gain])), min_size=2, max_size=2),
    offset=st.floats(-10, 10),
)
@settings(max_examples=30)
def test_contrast_gain_and_offset_of_bands_do_not_matter(seed, gains, offset):
    bands = textured(seed, bands=2)
    bands[1, 10:20, 5:9] = np.nan
    gain = np.array(gains, np.float32)[:, None, None]
    other = structure(gain * (bands + np.float32(offset)))
    plain = structure(bands)
    np.testing.assert_array_equal(other.weight, plain.weight)
    np.testing.assert_allclose(other.channels, plain.channels, atol=2e-3)


@given(seed=st.integers(0, 99), holes=valid_masks(SHAPE))
@settings(max_examples=20)
def test_turned_and_mirrored_images_have_turned_and_mirrored_structure(seed, holes):
    """Twice the angle: a quarter turn reverses both channels of direction, a mirror that of the diagonals."""
    bands = np.where(holes, textured(seed, bands=2), np.float32(np.nan))
    plain = structure(bands)
    moves = {
        "quarter turn": (lambda image: np.rot90(image, axes=(-2, -1)), (-1, -1, 1)),
        "mirror": (lambda image: image[..., ::-1], (1, -1, 1)),
        "transpose": (lambda image: image.swapaxes(-2, -1), (-1, 1, 1)),
    }
    for move, signs in moves.values():
        found = structure(np.ascontiguousarray(move(bands)))
        np.testing.assert_array_equal(found.weight, move(plain.weight))
        expected = np.array(signs, np.float32)[:, None, None] * move(plain.channels)
        np.testing.assert_allclose(found.channels, expected, atol=1e-4)


@given(seed=st.integers(0, 99), order=st.permutations(range(3)))
@settings(max_examples=15)
def test_the_order_of_bands_does_not_matter(seed, order):
    bands = textured(seed, bands=3)
    np.testing.assert_allclose(structure(bands[order]).channels, structure(bands).channels, atol=1e-5)


@given(seed=st.integers(0, 99), level=st.floats(-1e4, 1e4, width=32))
@settings(max_examples=30)
def test_a_constant_band_adds_nothing(seed, level):
    bands = textured(seed)
    both = np.concatenate([bands, np.full_like(bands, level)])
    np.testing.assert_array_equal(structure(both).channels, structure(bands).channels)


@given(seed=st.integers(0, 99), valid=valid_masks(SHAPE))
@settings(max_examples=30)
def test_there_is_nothing_in_and_near_holes(seed, valid):
    """A pixel that one band lacks is a hole; what other bands have there does not matter."""
    bands = textured(seed, bands=2)
    bands[0, ~valid] = np.nan
    found = structure(bands)
    np.testing.assert_array_equal(found.weight, ~near(valid, MARGIN))
    assert (found.channels[:, found.weight == 0] == 0).all()
    assert found.channels.dtype == found.weight.dtype == np.float32
    changed = bands.copy()
    changed[1, ~valid] = 1e6
    np.testing.assert_array_equal(structure(changed).channels, found.channels)


@given(seed=st.integers(0, 99), tail=st.sampled_from([0.1, 1.0, 3.0]), targets=st.integers(0, 5))
@settings(max_examples=20)
def test_no_target_is_so_bright_that_it_counts_alone(seed, tail, targets):
    rng = np.random.default_rng(seed)
    image = rng.lognormal(0, tail, (1, *SHAPE)).astype(np.float32)
    image[0, rng.integers(0, SHAPE[0], targets), rng.integers(0, SHAPE[1], targets)] *= np.float32(1e6)
    length = np.sqrt((structure(image).channels ** 2).sum(axis=0))
    assert np.isfinite(length).all()
    assert length.max() < 1


# odd cases


@pytest.mark.parametrize("value", [0.0, -20.0, 293.15, np.nan])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (30, 30)])
def test_images_without_content_have_no_structure(shape, value):
    found = structure(np.full((2, *shape), value, np.float32))
    assert found.channels.shape == (3, *shape)
    np.testing.assert_allclose(found.channels, 0, atol=1e-6)  # rounding in blurs of nothing
    assert (found.weight == float(np.isfinite(value))).all()


@pytest.mark.parametrize("rounding", [0.0, 1e-5, 3e-5, 1e-4])
def test_edges_beside_a_plain_count_whatever_rounding_leaves_of_the_plain(rounding):
    """Most of a thermal image is water of one temperature, but for the rounding of float32."""
    rng = np.random.default_rng(0)
    image = 293.15 + rounding * rng.standard_normal((100, 100))
    image[:, 70:] += textured(1, shape=(100, 30))[0] - 100
    channels = structure(image[None].astype(np.float32)).channels
    assert np.abs(channels[:2, :, 74:]).mean() > 0.1
