"""Speckle filters: closed forms on gamma speckle, formulas written out pixel by pixel, edges, holes, blocks."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.xr import wrap_xr
from strategies import north_up

from equipoise.datasets.errors import DatasetError, SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.scene import Scene
from equipoise.datasets.speckle import SpeckleFilter, filtered, gamma_map, lee, refined_lee

LOOKS = 4.4
FILTERS = [SpeckleFilter(kind="lee", size=5), SpeckleFilter(kind="gamma_map", size=5), SpeckleFilter()]
KINDS = [speckle.kind for speckle in FILTERS]


def speckled(truth: NDArray[np.float64], seed: int = 0, looks: float = LOOKS) -> NDArray[np.float32]:
    """``truth`` (y, x) under gamma speckle, as one band."""
    rng = np.random.default_rng(seed)
    return (truth * rng.gamma(looks, 1 / looks, truth.shape)).astype(np.float32)[None]


def equivalent_looks(layer: NDArray[np.float32]) -> float:
    values = layer.astype(np.float64)
    return float(values.mean() ** 2 / values.var())


def inner(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return image[0, 8:-8, 8:-8]


@pytest.mark.parametrize("rule", [lee, gamma_map])
@pytest.mark.parametrize("size", [3, 7])
def test_without_any_texture_the_looks_grow_by_the_pixels_of_the_window(rule, size):
    # Told of far fewer looks than there are, the filter sees no texture anywhere: a mean of size^2 independent values
    # of L looks has size^2 * L looks (variances of independent values add).
    noisy = speckled(np.full((700, 700), 0.1))
    smooth = inner(rule(noisy, size=size, looks=LOOKS / 50))
    # 468 000 values, 49 of which share pixels: the estimate of a variance errs by about sqrt(2 * 49 / 468 000) = 1.5 %.
    assert equivalent_looks(smooth) == pytest.approx(LOOKS * size**2, rel=0.05)


@pytest.mark.parametrize(
    ("speckle", "least", "bias"),
    # Gamma-MAP takes the mode of a skew distribution where chance looks like texture: a known small bias downwards.
    [(FILTERS[0], 8.0, 2e-3), (SpeckleFilter(kind="gamma_map", size=5), 5.0, 4e-2), (FILTERS[2], 10.0, 6e-3)],
    ids=KINDS,
)
def test_homogeneous_ground_gets_smoother_and_keeps_its_mean(speckle, least, bias):
    noisy = speckled(np.full((500, 500), 0.1))
    smooth = inner(speckle.apply(noisy))
    assert equivalent_looks(smooth) > least * LOOKS
    # The mean itself is only known to 1 / sqrt(4.4 * 234 256) = 0.1 %; the ratio on the same pixels is better.
    assert smooth.mean(dtype=float) / inner(noisy).mean(dtype=float) == pytest.approx(1, abs=bias)


@pytest.mark.parametrize("speckle", FILTERS, ids=KINDS)
def test_a_constant_image_stays_as_it_is(speckle):
    constant = np.full((2, 20, 23), 0.0312, np.float32)
    np.testing.assert_allclose(speckle.apply(constant), constant, rtol=1e-6)


@pytest.mark.parametrize("speckle", FILTERS, ids=KINDS)
def test_a_bright_target_stays(speckle):
    image = speckled(np.full((31, 31), 0.05))
    image[0, 15, 15] = 300.0
    assert speckle.apply(image)[0, 15, 15] == pytest.approx(300.0, rel=0.02)


def _written_out(image: NDArray[np.float32], size: int, looks: float, kind: str) -> NDArray[np.float64]:
    """Lee and Gamma-MAP as their papers print them, one pixel at a time."""
    reach, out = size // 2, np.full(image.shape, np.nan)
    for row, column in np.argwhere(np.isfinite(image)):
        part = image[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        part = part[np.isfinite(part)].astype(float)
        y, m, v = float(image[row, column]), part.mean(), part.var(ddof=1) if part.size > 1 else 0.0
        if kind == "lee":
            q = max(0.0, (v + m**2) / (1 / looks + 1) - m**2)
            out[row, column] = m + q / (m**2 / looks + q) * (y - m)
            continue
        ci, cu = np.sqrt(v) / m, 1 / np.sqrt(looks)
        if ci <= cu:
            out[row, column] = m
        elif ci >= np.sqrt(2) * cu:
            out[row, column] = y
        else:
            a = (1 + cu**2) / (ci**2 - cu**2)
            roots = np.roots([a, (looks + 1 - a) * m, -looks * m * y])
            (out[row, column],) = roots[roots > 0].real
    return out


@pytest.mark.parametrize("kind", ["lee", "gamma_map"])
def test_each_pixel_is_what_the_paper_says(kind):
    truth = np.where(np.indices((24, 27)).sum(axis=0) > 25, 0.3, 0.02)
    image = speckled(truth, seed=3)
    image[0, np.random.default_rng(4).random(truth.shape) < 0.15] = np.nan
    expected = _written_out(image[0], 5, LOOKS, kind)
    got = SpeckleFilter(kind=kind, size=5, looks=LOOKS).apply(image)[0]
    np.testing.assert_allclose(got, expected, rtol=2e-5)
    ci = np.nanstd(image) / np.nanmean(image)
    assert ci > np.sqrt(1 / LOOKS)  # all branches were taken


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 135])
def test_refined_lee_keeps_edges_that_lee_leaves_noisy_or_blurs(angle):
    rows, columns = np.indices((240, 240)) - 119.5
    across = columns * np.cos(np.radians(angle)) + rows * np.sin(np.radians(angle))
    truth = np.where(across > 0, 0.4, 0.05)
    noisy = speckled(truth, seed=angle)
    # On the edge itself the side of a pixel is a guess for every filter; what matters is that it stays one pixel wide.
    beside = ((np.abs(across) >= 1) & (np.abs(across) < 4))[8:-8, 8:-8]

    def error(image: NDArray[np.float32]) -> float:
        relative = (inner(image) - inner(truth[None])) / inner(truth[None])
        return float(np.sqrt(np.mean(relative[beside] ** 2)))

    plain, refined = lee(noisy, size=7, looks=LOOKS), refined_lee(noisy, looks=LOOKS)
    assert error(refined) < 0.7 * error(plain)
    assert error(refined) < 0.7 * error(noisy)


@pytest.mark.parametrize("speckle", FILTERS, ids=KINDS)
def test_holes_stay_holes_and_do_not_leak(speckle):
    image = speckled(np.full((40, 40), 0.1))
    holes = np.random.default_rng(1).random((40, 40)) < 0.4
    holes[:, 20:] = True
    image[0, holes] = np.nan
    out = speckle.apply(image)
    assert (np.isnan(out[0]) == holes).all()
    assert (out[0][~holes] > 0).all()
    # What lies under a hole is of no consequence.
    island = np.full((1, 9, 9), np.nan, np.float32)
    island[0, 4, 4] = 0.2
    assert speckle.apply(island)[0, 4, 4] == np.float32(0.2)


@given(seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3))
@settings(max_examples=20)
def test_filters_scale_with_the_power_and_do_not_know_left_from_right(seed, factor):
    image = speckled(np.full((17, 19), 0.1), seed)
    for speckle in FILTERS:
        out = speckle.apply(image)
        np.testing.assert_allclose(speckle.apply(image * np.float32(factor)), out * factor, rtol=1e-4)
        if speckle.kind != "refined_lee":  # ties between two edges are resolved in a fixed order
            np.testing.assert_allclose(speckle.apply(image[:, ::-1, ::-1])[:, ::-1, ::-1], out, rtol=1e-5)
            np.testing.assert_allclose(speckle.apply(image.swapaxes(1, 2)).swapaxes(1, 2), out, rtol=1e-5)


def _scene(image: NDArray[np.float32], chunks: tuple[int, int], unit: Unit = Unit.LINEAR_POWER) -> Scene:
    geobox = north_up(*image.shape[1:])
    data = wrap_xr(da.from_array(image, chunks=(1, *chunks)), geobox, axis=1, dims=("band", *geobox.dimensions))
    bands = tuple(Band(name=f"b{number}", unit=unit) for number in range(len(image)))
    return Scene(
        modality=Modality(name="sar", bands=bands), path=Path("sar.tif"), geobox=geobox,
        data=data.assign_coords(band=[band.name for band in bands]),
    )  # fmt: skip


@pytest.mark.parametrize("speckle", FILTERS, ids=KINDS)
def test_the_lazy_result_is_that_of_the_whole_whatever_the_blocks(speckle):
    image = np.concatenate([speckled(np.full((61, 83), 0.1), seed) for seed in (1, 2)])
    image[:, 30:34, 40:] = np.nan
    image[:, 5, 5] = 1e4  # bright targets must not leave rounding behind
    whole = speckle.apply(image)
    for chunks in ((61, 83), (16, 31), (7, 5), (2, 83)):
        scene = filtered(_scene(image, chunks), speckle)
        np.testing.assert_array_equal(scene.read(), whole)
        np.testing.assert_array_equal(scene.read((slice(10, 20), slice(3, 9))), whole[:, 10:20, 3:9])
    assert scene.data.dtype == np.float32
    assert list(scene.data.band.values) == ["b0", "b1"]
    assert scene.provenance["speckle"].startswith(speckle.kind)


def test_what_is_no_radar_is_refused():
    with pytest.raises(SceneError, match="no radar backscatter"):
        filtered(_scene(np.ones((1, 9, 9), np.float32), (9, 9), Unit.REFLECTANCE), SpeckleFilter())


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"kind": "frost"}, "wanted lee, refined_lee or gamma_map"),
        ({"kind": "lee", "size": 4}, "wanted an odd window"),
        ({"kind": "lee", "size": 1}, "wanted an odd window"),
        ({"kind": "refined_lee", "size": 9}, "the window of refined_lee"),
        ({"kind": "lee", "looks": 0.0}, "wanted a positive number"),
        ({"kind": "lee", "looks": float("nan")}, "wanted a positive number"),
    ],
)
def test_filters_that_make_no_sense_are_refused(given_options, message):
    with pytest.raises(DatasetError, match=message):
        SpeckleFilter(**given_options)
