"""Matching: scores are the masked correlation of the definition, and whole shifts peak where they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.pipeline.matching import ScoreSurfaces, score_surfaces
from equipoise.pipeline.structure import Structure, structure

SIZE, RADIUS = 12, 3
CORNERS = np.array([[0, 0], [4, 9], [14, 10]])
SHAPE = (26, 24)


def invented(seed, valid, *, common=0.0, shared=None):
    """Structure of noise, 0 where not valid, some of it common to all pixels and some to another image."""
    rng = np.random.default_rng(seed)
    channels = common + rng.standard_normal((3, *valid.shape)) + (0 if shared is None else 2 * shared.channels)
    return Structure(channels=(channels * valid).astype(np.float32), weight=valid.astype(np.float32))


def mask(seed, share):
    return np.random.default_rng(seed).random(SHAPE) < share


def by_definition(reference, moving, corner, *, size, radius):
    """Scores and covers at every shift, pixel by pixel in float64: no Fourier transform, no padding."""
    height, width = reference.weight.shape

    def cut(structure, rows, cols):
        """Valid pixels of a window as {(row, col): channels}; beyond the image there are none."""
        return {
            (row, col): structure.channels[:, row, col].astype(float)
            for row in rows if 0 <= row < height
            for col in cols if 0 <= col < width and structure.weight[row, col]
        }  # fmt: skip

    row, col = corner
    block = cut(reference, range(row, row + size), range(col, col + size))
    window = cut(moving, range(row - radius, row + size + radius), range(col - radius, col + size + radius))
    for pixels in (block, window):
        mean = np.mean(list(pixels.values()), axis=0)
        pixels.update({place: value - mean for place, value in pixels.items()})
    mean_square = [np.mean([value @ value for value in pixels.values()]) for pixels in (block, window)]
    edge = 2 * radius + 1
    scores, covers = np.zeros((edge, edge)), np.zeros((edge, edge))
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            pairs = [(value, window.get((r + down, c + right))) for (r, c), value in block.items()]
            products = [one @ other for one, other in pairs if other is not None]
            covers[down + radius, right + radius] = len(products)
            scores[down + radius, right + radius] = sum(products) / max(len(products), 1)
    return scores / np.sqrt(np.prod(mean_square)), covers


# against an independent truth


@given(seed=st.integers(0, 999), shares=st.tuples(*[st.sampled_from([1.0, 0.9, 0.7])] * 2), common=st.floats(-3, 3))
@settings(max_examples=12)
def test_scores_are_the_masked_correlation_by_its_definition(seed, shares, common):
    reference = invented(seed, mask(seed, shares[0]), common=common)
    moving = invented(seed + 1, mask(seed + 1, shares[1]), common=-common, shared=reference)
    found = score_surfaces(reference, moving, CORNERS, size=SIZE, radius=RADIUS)
    assert len(found) == len(CORNERS)
    assert found.radius == RADIUS
    for corner, surface in zip(CORNERS, found.scores, strict=True):
        expected, covers = by_definition(reference, moving, corner, size=SIZE, radius=RADIUS)
        well = covers > covers.max() / 2  # what covers little is not believed for all that it says
        assert well.mean() > 0.5
        np.testing.assert_allclose(surface[well], expected[well], atol=1e-4)
        assert (np.abs(surface[~well]) <= np.abs(expected[~well]) + 1e-4).all()


def test_shifts_at_which_little_is_covered_do_not_win_by_chance():
    """The moving image has a few columns only at one end of the search."""
    valid = np.ones((40, 60), bool)
    seen = valid.copy()
    seen[:, 33:] = False
    reference, moving = invented(0, valid), invented(1, seen)
    (surface,) = score_surfaces(reference, moving, np.array([[10, 18]]), size=20, radius=10).scores
    assert np.abs(surface[:, -3:]).max() < 3 * np.abs(surface[:, :10]).max()


@given(seed=st.integers(0, 999), shares=st.floats(0.8, 1))
@settings(max_examples=15)
def test_centres_are_the_middle_of_what_is_valid(seed, shares):
    valid = mask(seed, shares)
    valid[:10, :5] = False
    found = score_surfaces(invented(0, valid), invented(1, np.ones(SHAPE, bool)), CORNERS, size=SIZE, radius=RADIUS)
    blocks = [valid[row : row + SIZE, col : col + SIZE] for row, col in CORNERS]
    expected = [ndimage.center_of_mass(block) + corner for block, corner in zip(blocks, CORNERS, strict=True)]
    np.testing.assert_allclose(found.centres, expected, atol=1e-4)


# laws


@given(rows=st.integers(-RADIUS, RADIUS), cols=st.integers(-RADIUS, RADIUS), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_a_whole_shift_peaks_where_it_is(rows, cols, seed):
    everywhere = np.ones(SHAPE, bool)
    reference = invented(seed, everywhere)
    moving = Structure(channels=np.roll(reference.channels, (rows, cols), (1, 2)), weight=reference.weight)
    inside = np.array([[5, 5], [7, 9]])
    found = score_surfaces(reference, moving, inside, size=SIZE, radius=RADIUS)
    for surface in found.scores:
        peak = np.unravel_index(surface.argmax(), surface.shape)
        assert (peak[0] - RADIUS, peak[1] - RADIUS) == (rows, cols)
        assert surface.max() == pytest.approx(1, abs=0.15)


@given(seed=st.integers(0, 99), move=st.sampled_from(["transpose", "upside down", "mirror"]))
@settings(max_examples=15)
def test_mirrored_images_have_mirrored_surfaces(seed, move):
    mirrored = {
        "transpose": lambda image: image.swapaxes(-2, -1),
        "upside down": lambda image: image[..., ::-1, :],
        "mirror": lambda image: image[..., ::-1],
    }[move]
    pair = [invented(seed, mask(seed, 0.9)), invented(seed + 1, mask(seed + 1, 0.9))]
    row, col = 3, 8
    corner = {
        "transpose": (col, row), "upside down": (SHAPE[0] - SIZE - row, col), "mirror": (row, SHAPE[1] - SIZE - col),
    }[move]  # fmt: skip
    found = score_surfaces(*pair, np.array([[row, col]]), size=SIZE, radius=RADIUS)
    turned = [Structure(channels=mirrored(one.channels), weight=mirrored(one.weight)) for one in pair]
    other = score_surfaces(*turned, np.array([corner]), size=SIZE, radius=RADIUS)
    np.testing.assert_allclose(other.scores[0], mirrored(found.scores[0]), atol=1e-5)


@given(seed=st.integers(0, 99), factor=st.floats(0.1, 1000))
@settings(max_examples=10)
def test_how_strong_edges_are_does_not_matter(seed, factor):
    reference, moving = invented(seed, mask(0, 0.9)), invented(seed + 1, mask(1, 0.9))
    louder = Structure(channels=moving.channels * np.float32(factor), weight=moving.weight)
    plain, loud = (score_surfaces(reference, one, CORNERS, size=SIZE, radius=RADIUS) for one in (moving, louder))
    np.testing.assert_allclose(loud.scores, plain.scores, atol=1e-5)


@given(seed=st.integers(0, 99))
@settings(max_examples=10)
def test_blocks_are_scored_each_by_itself(seed):
    reference, moving = invented(seed, mask(0, 0.9)), invented(seed + 1, mask(1, 0.9))
    whole = score_surfaces(reference, moving, CORNERS, size=SIZE, radius=RADIUS)
    parts = [score_surfaces(reference, moving, corner[None], size=SIZE, radius=RADIUS) for corner in CORNERS]
    joined = ScoreSurfaces.joined(parts)
    np.testing.assert_array_equal(joined.scores, whole.scores)
    np.testing.assert_array_equal(joined.centres, whole.centres)


@pytest.mark.parametrize("which", [0, 1])
def test_what_lies_under_nodata_counts_nowhere(which):
    """From the pixels on: one band has a hole, the other has anything there."""
    rng = np.random.default_rng(0)
    pair = [ndimage.gaussian_filter(rng.standard_normal((2, 60, 60)), (0, 1, 1)).astype(np.float32) for _ in range(2)]
    pair[which][0, 20:30, 15:40] = np.nan
    corners = np.array([[0, 0], [10, 20], [25, 25]])
    found = score_surfaces(*map(structure, pair), corners, size=30, radius=8)
    pair[which][1, 20:30, 15:40] = -1e4
    changed = score_surfaces(*map(structure, pair), corners, size=30, radius=8)
    np.testing.assert_array_equal(changed.scores, found.scores)
    np.testing.assert_array_equal(changed.centres, found.centres)


# odd cases


@pytest.mark.parametrize("which", ["reference", "moving"])
@pytest.mark.parametrize(("rows", "left"), [(0, 0), (1, 0), (12, 1)])
def test_blocks_of_which_little_is_covered_are_left_out(which, rows, left):
    """The second of two blocks has as many valid rows; so much of it must be there that it says something."""
    everywhere = np.ones((12, 24), bool)
    part = everywhere.copy()
    part[rows:, 12 - RADIUS :] = False
    pair = {"reference": everywhere, "moving": everywhere} | {which: part}
    found = score_surfaces(
        invented(0, pair["reference"]), invented(1, pair["moving"]), np.array([[0, 12]]), size=SIZE, radius=RADIUS
    )
    assert len(found) == left
    assert found.scores.shape == (left, 2 * RADIUS + 1, 2 * RADIUS + 1)
    assert found.centres.shape == (left, 2)
    assert found.radius == RADIUS


@pytest.mark.parametrize("which", ["reference", "moving"])
@pytest.mark.parametrize("value", [3.0, 293.15, -1e4, np.nan])
def test_images_without_edges_match_nothing(which, value):
    rng = np.random.default_rng(0)
    full = structure(rng.standard_normal((1, 40, 40)).astype(np.float32))
    empty = structure(np.full((1, 40, 40), value, np.float32))
    pair = {"reference": full, "moving": full} | {which: empty}
    assert len(score_surfaces(pair["reference"], pair["moving"], np.array([[5, 5], [12, 9]]), size=20, radius=4)) == 0


def test_without_blocks_there_are_no_surfaces():
    reference = invented(0, np.ones(SHAPE, bool))
    found = score_surfaces(reference, reference, np.empty((0, 2), np.intp), size=SIZE, radius=RADIUS)
    assert len(found) == 0
    assert found.radius == RADIUS
