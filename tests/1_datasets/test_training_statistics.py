"""Training statistics: every valid pixel of the training patches counts once, in float64, whatever the windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import InventedStack, north_up, valid_masks

from equipoise.datasets import training_statistics as module
from equipoise.datasets.errors import DatasetError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.patches import PatchIndex, footprint
from equipoise.datasets.training_statistics import covered, scene_statistics, training_statistics

SHAPE = (50, 70)
GRID = north_up(*SHAPE)
MODALITIES = (
    Modality(name="eo", bands=tuple(Band(name=name, unit=Unit.REFLECTANCE) for name in ("red", "nir"))),
    Modality(name="sar", bands=(Band(name="VV", unit=Unit.LINEAR_POWER),)),
)

boxes = hnp.arrays(
    np.int64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.integers(1, 60)
).map(lambda found: found - [20, 20, 0, 0])  # fmt: skip


@given(boxes=boxes, edge=st.integers(1, 80))
def test_windows_cover_the_union_of_the_boxes_once(boxes, edge):
    expected = np.zeros(SHAPE, int)
    for row, col, height, width in boxes:
        expected[max(row, 0) : max(row + height, 0), max(col, 0) : max(col + width, 0)] = 1
    seen = np.zeros(SHAPE, int)
    for row, col, shown in covered(boxes, SHAPE, edge=edge):
        assert shown.any()
        assert max(shown.shape) <= edge
        seen[row : row + shown.shape[0], col : col + shown.shape[1]] += shown
    np.testing.assert_array_equal(seen, expected)


def stack_of(folder, *, name="a", seed=0, valid=None, absent=()):
    rng = np.random.default_rng(seed)
    image = {"eo": rng.normal(0.2, 0.1, (2, *SHAPE)), "sar": rng.gamma(4.4, 0.02, (1, *SHAPE))}
    image = {key: values.astype(np.float32) for key, values in image.items() if key not in absent}
    if valid is not None:
        image["eo"][:, ~valid] = np.nan
    made = InventedStack(geobox=GRID, modalities=("eo", "sar"), image=image, labels=None)
    return image, made.write(folder, name=name)


def index_of(*windows):
    rows = [
        {
            "scene": scene, "row": row, "col": col, "height": size, "width": size, "split": split, "label": 255,
            "valid_eo": 1.0, "valid_sar": 1.0, "geometry": footprint(GRID),
        }
        for scene, split, row, col, size in windows
    ]  # fmt: skip
    return PatchIndex.from_rows(rows, modalities=("eo", "sar"), georeferenced=True)


@settings(max_examples=30)
@given(
    valid=valid_masks(SHAPE), edge=st.sampled_from([7, 16, 64, 512]), size=st.sampled_from([8, 20, 33]),
    places=st.lists(st.tuples(st.integers(-10, 45), st.integers(-10, 65)), min_size=1, max_size=8),
)  # fmt: skip
def test_equal_a_float64_reference_whatever_the_chunking(tmp_path_factory, valid, edge, size, places):
    """Overlapping patches, patches beyond the grid, holes; test patches are not looked at."""
    image, stack = stack_of(tmp_path_factory.mktemp("s"), valid=valid)
    shown = np.zeros(SHAPE, bool)
    for row, col in places:
        shown[max(row, 0) : max(row + size, 0), max(col, 0) : max(col + size, 0)] = True
    index = index_of(*[("a", "train", row, col, size) for row, col in places], ("a", "test", 0, 0, 33))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW", edge)
        if not (shown & valid).any():
            with pytest.raises(DatasetError, match="no valid pixel"):
                training_statistics(index, {"a": stack}, MODALITIES)
            return
        found = training_statistics(index, {"a": stack}, MODALITIES)
    decibels = 10 * np.log10(image["sar"].astype(np.float64))
    for name, values in (("eo", image["eo"][:, shown & valid].astype(np.float64)), ("sar", decibels[:, shown])):
        assert found[name].count == values.shape[1]
        np.testing.assert_allclose(found[name].mean, values.mean(axis=1), rtol=1e-6)
        deviation = values.std(axis=1)
        np.testing.assert_allclose(found[name].std, np.where(deviation > 0, deviation, 1.0), rtol=1e-6)


def test_scenes_add_up_and_a_missing_sensor_counts_nothing(tmp_path):
    first, a = stack_of(tmp_path / "a", name="a", seed=1)
    second, b = stack_of(tmp_path / "b", name="b", seed=2, absent=("sar",))
    index = index_of(("a", "train", 0, 0, 20), ("b", "train", 10, 10, 30), ("b", "train", 12, 10, 30))
    found = training_statistics(index, {"a": a, "b": b}, MODALITIES)
    both = np.concatenate([first["eo"][:, :20, :20].reshape(2, -1), second["eo"][:, 10:42, 10:40].reshape(2, -1)], 1)
    assert found["eo"].count == both.shape[1] == 400 + 32 * 30
    np.testing.assert_allclose(found["eo"].mean, both.astype(np.float64).mean(axis=1), rtol=1e-6)
    assert found["sar"].count == 400


def test_a_scenes_own_statistics_are_over_all_its_pixels(tmp_path):
    image, stack = stack_of(tmp_path, absent=("sar",))
    found = scene_statistics(stack, MODALITIES)
    assert list(found) == ["eo"]
    assert found["eo"].count == 3500
    np.testing.assert_allclose(found["eo"].std, image["eo"].astype(np.float64).std(axis=(1, 2)), rtol=1e-6)
