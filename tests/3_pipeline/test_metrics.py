"""Metrics against scikit-learn, planted truth against a hand-made scene, and the lines people read."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from sklearn import metrics as oracle

from equipoise.pipeline.metrics import majority, subset_summary, summarise
from equipoise.pipeline.planted import planted_shares
from equipoise.pipeline.summary import summary


@st.composite
def labellings(draw):
    classes = draw(st.integers(2, 5))
    labels = st.lists(st.integers(0, classes - 1), min_size=1, max_size=60)
    truth = draw(labels)
    return classes, truth, draw(st.lists(st.integers(0, classes - 1), min_size=len(truth), max_size=len(truth)))


@given(case=labellings())
def test_figures_agree_with_scikit_learn(case):
    classes, truth, predicted = case
    numbers = list(range(classes))
    confusion = oracle.confusion_matrix(truth, predicted, labels=numbers)
    found = summarise(confusion, names=[f"c{number}" for number in numbers])
    occurs = sorted(set(truth))
    scores = {"labels": occurs, "average": "macro", "zero_division": 0}
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(truth, predicted))
    assert found["mean_iou"] == pytest.approx(oracle.jaccard_score(truth, predicted, **scores))
    assert found["mean_f1"] == pytest.approx(oracle.f1_score(truth, predicted, **scores))
    assert found["count"] == len(truth)
    assert found["confusion"] == confusion.tolist()
    single = oracle.jaccard_score(truth, predicted, labels=numbers, average=None, zero_division=0)
    for number in numbers:
        seen = number in truth or number in predicted
        assert found["iou"][f"c{number}"] == (pytest.approx(single[number]) if seen else None)


def test_nothing_measured_is_none_and_not_zero():
    found = summarise(np.zeros((2, 2), np.int64), names=["a", "b"])
    assert (found["mean_iou"], found["accuracy"], found["mean_f1"], found["count"]) == (None, None, None, 0)
    assert found["iou"] == {"a": None, "b": None}


@given(case=labellings(), data=st.data())
def test_majority_is_the_matrix_of_one_constant_answer(case, data):
    classes, truth, predicted = case
    constant = data.draw(st.integers(0, classes - 1))
    numbers = list(range(classes))
    found = majority(oracle.confusion_matrix(truth, predicted, labels=numbers), predicted=constant)
    np.testing.assert_array_equal(found, oracle.confusion_matrix(truth, [constant] * len(truth), labels=numbers))


@given(
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    offset=st.integers(-50, 0),
)
def test_scores_that_add_up_are_monotone_and_the_worst_is_the_weakest_sensor(weights, offset):
    scores = {
        "+".join(name for name, present in zip("abcd", bits, strict=False) if present): offset
        + sum(weight for weight, present in zip(weights, bits, strict=True) if present)
        for bits in np.ndindex((2,) * len(weights)) if any(bits)
    }  # fmt: skip
    found = subset_summary(scores)
    count = len(weights)
    # Subsets of m without one of their members, the empty one left out: m 2^(m-1) - m.
    assert found["monotonicity"]["pairs"] == count * 2 ** (count - 1) - count
    assert found["monotonicity"]["share"] == (1 if count > 1 else None)
    assert found["monotonicity"]["largest_violation"] is None
    assert found["worst"]["score"] == offset + min(weights)
    # Each sensor is in 2^(m-1) of the 2^m - 1 subsets.
    assert found["mean"] == pytest.approx(offset + sum(weights) * 2 ** (count - 1) / (2**count - 1))


def test_the_largest_violation_of_monotonicity_is_named():
    scores = {"eo": 0.9, "sar": 0.5, "ir": 0.4, "eo+sar": 0.7, "eo+ir": 0.9, "sar+ir": 0.6, "eo+sar+ir": 0.65}
    found = subset_summary(scores)
    assert found["worst"] == {"subset": "ir", "score": 0.4}
    # eo -> eo+sar (.2), eo+sar -> all (.05) and eo+ir -> all (.25) fall; eo -> eo+ir stays.
    assert found["monotonicity"]["share"] == pytest.approx(6 / 9)
    assert found["monotonicity"]["largest_violation"] == {
        "smaller": "eo+ir", "larger": "eo+sar+ir", "by": pytest.approx(0.25),
    }  # fmt: skip
    assert subset_summary({"eo": None})["mean"] is None


GRID = GeoBox((4, 6), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), "EPSG:32633")


def _raster(path, values, grid, *, nodata):
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[1], width=values.shape[2], count=len(values),
        dtype=values.dtype, crs=str(grid.crs), transform=grid.affine, nodata=nodata,
    ) as writer:  # fmt: skip
        writer.write(values)
    return path


def test_planted_shares_count_each_planted_pixel_once(tmp_path):
    planted = np.full((4, 6), 255, np.uint8)
    planted[:, :3] = 0  # three columns of the left tiles
    planted[:2, 4] = 1  # in the undefined tile
    planted[3, 4] = 1
    shares = np.array([[[0.9, 0.2, np.nan], [0.5, 0.4, 0.3]], [[0.1, 0.8, np.nan], [0.5, 0.6, 0.7]]], np.float32)
    coarse = GeoBox((2, 3), GRID.affine * Affine.scale(2), GRID.crs)
    found = planted_shares(
        _raster(tmp_path / "reliance.tif", shares, coarse, nodata=float("nan")),
        _raster(tmp_path / "informative.tif", planted[None], GRID, nodata=255), GRID, modalities=("eo", "sar"), tile=2,
    )  # fmt: skip
    # eo: 4 pixels each of .9 and .5, 2 each of .2 and .4; sar: one pixel of .7.
    assert found == {"eo": pytest.approx((4 * 0.9 + 4 * 0.5 + 2 * 0.2 + 2 * 0.4) / 12), "sar": pytest.approx(0.7)}


REGISTRATION = {"east": 1.0, "north": 2.0, "correlation": 0.5, "confidence": 0.6}


def _registered(*notes):
    names = ("eo", "sar", "ir")
    return {
        name: {**REGISTRATION, "applied": "kept" not in note, "note": note}
        for name, note in zip(names, notes, strict=False)
    }


def _verdict(name, wanted, share, verdict, interval):
    return {
        "modality": name, "wanted": wanted, "share": share, "nearest": share, "interval": interval, "verdict": verdict,
        "arrived": verdict == "arrived",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "figures", "line"),
    [
        (
            "coregister",
            {"registrations": {"a": _registered("reference", "moved 3.0 m", "kept")}, "missing": {}},
            "sar moved 3.0 m; ir kept",
        ),
        (
            "coregister",
            {
                "registrations": {name: _registered("reference", "kept") for name in "abcd"},
                "missing": {"a": {"ir": "no file"}, "b": {"ir": "no file", "eo": "no file"}},
            },
            "4 scenes, 4 positions kept as given, 3 modalities missing",
        ),
        ("tile", {"patches": {"train": 9, "test": 2, "validation": 1}}, "2 test, 9 train, 1 validation patches"),
        (
            "train",
            {"utilization": {"share": [0.25, 0.75], "modalities": ["eo", "sar"]}, "best_score": 0.5, "best_epoch": 4},
            "best validation score 0.500 (epoch 5); utilization eo 25%, sar 75%",
        ),
        (
            "train",
            {"utilization": {"share": None, "modalities": ["eo", "sar"]}, "best_score": 0.5, "best_epoch": 0},
            "best validation score 0.500 (epoch 1); utilization indeterminate",
        ),
        (
            "evaluate",
            {
                "fusion": {"mean_iou": 0.75},
                "majority": {"mean_iou": None},
                "single": {"eo": {"mean_iou": 0.5}},
                "targets": [
                    _verdict("eo", [0.5, 0.5], 0.511, "arrived", [0.49, 0.53]),
                    _verdict("sar", [0.2, 0.4], 0.45, "undecided", [0.39, 0.5]),
                    _verdict("ir", [0.3, 0.3], 0.1, "missed", [0.05, 0.15]),
                    _verdict("dem", [0.3, 0.3], None, "undecided", None),
                ],
            },
            "test mIoU 0.750, majority -, eo alone 0.500, eo wanted 50%: arrived, 51% (49% to 53%), "
            "sar wanted 20% to 40%: undecided; found 45% (39% to 50%), nearest share found: 45%, "
            "ir wanted 30%: missed; nearest share found: 10% (5% to 15%), "
            "dem wanted 30%: undecided; indeterminate, no reliance above the noise",
        ),
        ("predict", {"chips": 5, "reliance": {"eo": 0.25, "sar": None}}, "5 chips; mean reliance eo 0.250, sar -"),
        (
            "predict",
            {"scenes": {"a": {"reliance": {"eo": 1.0}, "planted": {"eo": 0.5}}}},
            "1 scene(s); mean reliance eo 1.000; where planted eo 0.500",
        ),
        ("predict", {"scenes": {"a": {}, "b": {}}}, "2 scene(s)"),
        ("report", {}, "one self-contained page"),
    ],
)
def test_summaries_are_one_line(stage, figures, line):
    assert summary(stage, figures) == line
