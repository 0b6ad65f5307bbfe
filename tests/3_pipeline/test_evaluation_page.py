"""The evaluation in the report: sentences of the checks, and pictures of what cannot be told."""

import io

import matplotlib as mpl
import pytest

from equipoise.pipeline import evaluation_figures as figures
from equipoise.pipeline.evaluation_page import flag_words, subset_words
from equipoise.pipeline.metrics import subset_summary


def _used(*, alarm, unused):
    return {"brier": {"modalities": ["eo", "sar"]}, "hack_alarm": alarm, "unused": unused}


def test_flags_are_said_in_words():
    excess = {"modalities": ["eo", "sar"], "excess": [-0.2, 0.2], "interval": [[-0.3, -0.1], [0.1, 0.3]],
              "flagged": [False, True]}  # fmt: skip
    alarm, unused = flag_words(_used(alarm=[True, False], unused=excess))
    assert alarm.startswith("Hack alarm for eo:")
    assert unused.startswith("Unused information in sar: it has 0.20 (0.10 to 0.30) more")
    quiet = flag_words(_used(alarm=[False, False], unused=excess | {"flagged": [False, False]}))
    assert [line.split()[0] for line in quiet] == ["No", "No"]
    assert all("cannot be told" in line for line in flag_words(_used(alarm=None, unused=None)))


def test_subsets_are_summed_up_in_words():
    text = subset_words(subset_summary({"eo": 0.5, "sar": 0.25, "eo+sar": 0.4}), label="accuracy")
    assert text == (
        "Mean over subsets: accuracy 0.383. Worst: sar (0.250). One modality more does not lower the score in 50% of 2 "
        "pairs; at most it loses 0.100, eo to eo+sar."
    )
    assert subset_words(subset_summary({"eo": 0.5}), label="accuracy").endswith("Worst: eo (0.500).")


def _condition(share):
    shares = {"share": share, "share_interval": None if share is None else [[0.1, 0.6], [0.4, 0.9]]}
    figure = {"mean": None if share is None else 0.5, "spread": None}
    return {"strength": 0.5, "accuracy": figure, "mean_iou": figure, "reliance": shares, "information": shares}


@pytest.mark.parametrize("share", [None, [0.3, 0.7], [0.95, 0.05]])
def test_pictures_are_drawn_with_and_without_shares(share):
    family = {"modality": "eo", "kind": "noise", "axis": "sigma", "seen_in_training": True}
    curves = {"clear": _condition([0.4, 0.6]), "families": [family | {"conditions": [_condition(share)]}]}
    record = {"modalities": ["eo", "sar"], **_condition(share)["reliance"]}
    classes = {"modalities": ["eo", "sar"], "share": [share], "share_interval": [record["share_interval"]]}
    bins = [{"from": 0.0, "to": 0.5, "count": 0, "confidence": None, "accuracy": None},
            {"from": 0.5, "to": 1.0, "count": 7, "confidence": 0.75, "accuracy": 1.0}]  # fmt: skip
    for picture in (
        figures.robustness_curves(curves, measures=("mean_iou", "accuracy")),
        figures.response_curves(curves, modalities=("eo", "sar")),
        figures.share_bars(record, record, modalities=("eo", "sar")),
        figures.class_heat_map(classes, names=["dry"]),
        figures.reliability_diagram({"bins": bins}),
    ):
        assert min(mpl.image.imread(io.BytesIO(picture)).shape[:2]) > 50
