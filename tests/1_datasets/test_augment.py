"""Augmentation: one symmetry of the square for all modalities and masks, and never another value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.datasets.augment import SharedGeometry


@pytest.fixture(scope="module")
def geometry():
    return SharedGeometry()


def marked(bands, size, *, shift=0.0):
    """Every pixel knows where it came from, in every band: ``band + 10 (row size + col)``, plus an offset."""
    places = np.arange(size * size, dtype=np.float32).reshape(size, size) * 10
    return np.stack([places + band + np.float32(shift) for band in range(bands)])


SYMMETRIES = [
    lambda a, k=k, f=f: np.rot90(a[..., ::-1] if f else a, k, axes=(-2, -1)) for k in range(4) for f in (0, 1)
]


@given(
    seed=st.integers(0, 2**31 - 1), size=st.integers(1, 17), bands=st.lists(st.integers(1, 13), min_size=1, max_size=4)
)
def test_all_arrays_make_the_same_move_and_keep_their_values(geometry, seed, size, bands):
    arrays = {f"m{n}": marked(count, size, shift=1e5 * n) for n, count in enumerate(bands)}
    turned = geometry(arrays, seed=seed)
    assert list(turned) == list(arrays)
    fitting = [s for s in SYMMETRIES if all(np.array_equal(s(arrays[name]), turned[name]) for name in arrays)]
    assert fitting
    for name, array in arrays.items():
        assert turned[name].shape == array.shape
        assert turned[name].dtype == np.float32


def test_all_eight_symmetries_occur_about_equally_often(geometry):
    array = {"m": marked(1, 3)}
    counts = np.zeros(8, int)
    for seed in range(400):
        turned = geometry(array, seed=seed)["m"]
        counts[[np.array_equal(s(array["m"]), turned) for s in SYMMETRIES]] += 1
    assert counts.sum() == 400
    assert counts.min() > 20  # 50 expected, standard deviation 6.6


def test_physical_values_are_not_clipped(geometry):
    extreme = {"sar": np.array([[[-31.5, 1e6], [np.nan, -0.0]]], np.float32)}
    turned = geometry(extreme, seed=5)["sar"]
    np.testing.assert_array_equal(np.sort(turned.ravel()), np.sort(extreme["sar"].ravel()))


def test_the_same_seed_gives_the_same_move_whatever_came_before(geometry):
    array = {"m": marked(2, 5)}
    first = [geometry(array, seed=seed)["m"] for seed in range(20)]
    backwards = [SharedGeometry()(array, seed=seed)["m"] for seed in reversed(range(20))]
    for one, other in zip(first, reversed(backwards), strict=True):
        np.testing.assert_array_equal(one, other)


def test_inputs_and_global_randomness_are_left_alone(geometry):
    array = marked(1, 4)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what is watched
    turned = geometry({"m": array}, seed=3)["m"]
    turned += 1
    np.testing.assert_array_equal(array, marked(1, 4))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002 - as above
