"""Shared geometry: one symmetry or small move for all arrays, values kept, nothing invalid bleeds into valid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from equipoise.datasets.shared_geometry import SharedGeometry, SmallAffine


@pytest.fixture(scope="module")
def geometry():
    return SharedGeometry()


def marked(bands, height, width, *, shift=0.0):
    """Every pixel knows where it came from, in every band: ``band + 10 (row width + col)``, plus an offset."""
    places = np.arange(height * width, dtype=np.float32).reshape(height, width) * 10
    return np.stack([places + band + np.float32(shift) for band in range(bands)])


SYMMETRIES = [
    lambda a, k=k, f=f: np.rot90(a[..., ::-1] if f else a, k, axes=(-2, -1)) for k in range(4) for f in (0, 1)
]


@given(
    seed=st.integers(0, 2**32 - 1), height=st.integers(1, 17), width=st.integers(1, 17) | st.none(),
    bands=st.lists(st.integers(1, 13), min_size=1, max_size=4),
)  # fmt: skip
def test_all_arrays_make_the_same_move_and_keep_their_values(geometry, seed, height, width, bands):
    shape = (height, height if width is None else width)
    arrays = {f"m{n}": marked(count, *shape, shift=1e5 * n) for n, count in enumerate(bands)}
    turned = geometry(arrays, seed=seed)
    assert list(turned) == list(arrays)
    fitting = [s for s in SYMMETRIES if all(np.array_equal(s(arrays[name]), turned[name]) for name in arrays)]
    assert fitting
    for name, array in arrays.items():
        assert turned[name].shape == array.shape
        assert turned[name].dtype == np.float32


@pytest.mark.parametrize(("height", "width", "moves"), [(3, 3, 8), (3, 4, 4)])
def test_all_symmetries_of_the_window_occur_about_equally_often(geometry, height, width, moves):
    array = {"m": marked(1, height, width)}
    counts = np.zeros(8, int)
    for seed in range(400):
        turned = geometry(array, seed=seed)["m"]
        counts[[np.array_equal(s(array["m"]), turned) for s in SYMMETRIES]] += 1
    assert counts.sum() == 400
    assert (counts > 0).sum() == moves
    assert counts[counts > 0].min() > 400 / moves * 0.4  # 50 expected of eight, standard deviation 6.6


def test_physical_values_are_not_clipped(geometry):
    extreme = {"sar": np.array([[[-31.5, 1e6], [np.nan, -0.0]]], np.float32)}
    turned = geometry(extreme, seed=5)["sar"]
    np.testing.assert_array_equal(np.sort(turned.ravel()), np.sort(extreme["sar"].ravel()))


def test_more_bands_than_opencv_takes_at_once_stay_in_step(geometry):
    array = marked(300, 5, 5)  # OpenCV 5 takes 128
    turned = geometry({"hyperspectral": array}, seed=3)["hyperspectral"]
    np.testing.assert_array_equal(turned - turned[0], array - array[0])
    assert any(np.array_equal(s(array), turned) for s in SYMMETRIES)


def test_the_same_seed_gives_the_same_move_whatever_came_before(geometry):
    array = {"m": marked(2, 5, 5)}
    first = [geometry(array, seed=seed)["m"] for seed in range(20)]
    backwards = [SharedGeometry()(array, seed=seed)["m"] for seed in reversed(range(20))]
    for one, other in zip(first, reversed(backwards), strict=True):
        np.testing.assert_array_equal(one, other)


def test_inputs_and_global_randomness_are_left_alone(geometry):
    array = marked(1, 4, 4)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what is watched
    turned = geometry({"m": array}, seed=3)["m"]
    turned += 1
    np.testing.assert_array_equal(array, marked(1, 4, 4))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002 - as above


@pytest.mark.parametrize("rule", ["nearest", "bilinear", "cubic"])
def test_what_is_not_valid_never_bleeds(rule):
    rng = np.random.default_rng(2)
    small = SmallAffine(rotation_deg=10, scale=0.1, shift=0.05)
    values = rng.uniform(200, 350, (5, 40, 56)).astype(np.float32)
    values[rng.random(values.shape) < 0.04] = np.nan
    for seed in range(20):
        moved, whole = (
            small.image(np.where(np.isnan(values), fill, values), rules=[rule] * 5, seed=seed)
            for fill in (np.float32(np.nan), np.float32(1e6))
        )
        # Where a hole has no influence, it does not matter what is in it; and everywhere else the result is NaN.
        held = np.isfinite(moved)
        np.testing.assert_array_equal(moved[held], whole[held])
        assert held.any()
        spoilt = np.isfinite(whole) & (np.abs(whole - 275) > 5000)
        assert np.isnan(moved[spoilt]).all()
        # And not more is lost than the rule's support: 1, 4 or 16 pixels around each hole.
        lost = (np.isfinite(whole) & ~held).sum() / np.isnan(values).sum()
        assert lost < {"nearest": 1, "bilinear": 4, "cubic": 16}[rule] * 1.3


def test_a_moved_image_is_the_original_at_the_inverse_positions():
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(80, 80)), 5).astype(np.float32)[None]
    rows, columns = np.indices((80, 80)).astype(np.float32)
    stacked = np.concatenate([rows[None], columns[None], smooth])
    for seed in range(10):
        row, col, got = SmallAffine(rotation_deg=10, scale=0.1, shift=0.05).image(
            stacked, rules=["bilinear"] * 3, seed=seed
        )
        held = np.isfinite(got)
        wanted = ndimage.map_coordinates(smooth[0], [row[held], col[held]], order=1)
        np.testing.assert_allclose(got[held], wanted, atol=float(np.ptp(smooth)) * 2e-3)


def test_angle_scale_and_shifts_fill_their_ranges_independently():
    small = SmallAffine(rotation_deg=10, scale=0.1, shift=0.05)
    places = np.stack(np.indices((101, 101))).astype(np.float32)
    drawn = []
    for seed in range(200):
        row, col = small.image(places, rules=["bilinear"] * 2, seed=seed)
        down, right = (float(a[50, 60] - a[50, 40]) / 20 for a in (row, col))
        drawn.append((np.degrees(np.arctan2(down, right)), np.hypot(down, right), row[50, 50] - 50, col[50, 50] - 50))
    low, high = np.min(drawn, axis=0), np.max(drawn, axis=0)
    np.testing.assert_allclose(low, [-10, 1 / 1.1, -5, -5], atol=0.6)  # 200 draws, and whole pixels of the middle
    np.testing.assert_allclose(high, [10, 1 / 0.9, 5, 5], atol=0.6)
    assert np.abs(np.corrcoef(np.transpose(drawn)) - np.eye(4)).max() < 0.25  # three and a half standard errors
