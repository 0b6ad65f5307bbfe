"""Reliability: the calibration error by hand, against torchmetrics, and batch by batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassCalibrationError

from equipoise.pipeline.reliability import Reliability


def _logits(*confidence):
    """Two classes, the first one with these probabilities."""
    told = torch.tensor(confidence, dtype=torch.float64)
    return torch.stack([told, 1 - told], dim=1).log().float()


def test_the_error_is_that_of_a_calculation_by_hand():
    meter = Reliability(bins=5)
    # Answers: class 0 with .9, .95 and .7; class 1 with .65. Bins of .2: two in the last, two in the fourth.
    meter.update(_logits(0.9, 0.95, 0.7, 0.35), torch.tensor([0, 1, 0, 1]))
    meter.update(_logits(0.5001), torch.tensor([255]))  # not labelled
    found = meter.summary()
    # Last bin: half are right, told .925; fourth: both are right, told .675.
    assert found["ece"] == pytest.approx(2 / 4 * abs(0.5 - 0.925) + 2 / 4 * abs(1 - 0.675))
    assert [item["count"] for item in found["bins"]] == [0, 0, 0, 2, 2]
    assert found["bins"][4]["accuracy"] == 0.5
    assert found["bins"][3]["confidence"] == pytest.approx(0.675)
    assert found["bins"][0] == {"from": 0.0, "to": pytest.approx(0.2), "count": 0, "confidence": None, "accuracy": None}
    assert found["norm"] == "l1"


@given(seed=st.integers(0, 1000), classes=st.integers(2, 5), scale=st.floats(0.1, 3))
def test_the_error_is_that_of_torchmetrics_in_pieces_and_whole(seed, classes, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(6, classes, 3, 4, generator=generator)
    target = torch.randint(0, classes, (6, 3, 4), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    meter = Reliability()
    for part, truth in zip(logits.split(2), target.split(2), strict=True):
        meter.update(part, truth)
    oracle = MulticlassCalibrationError(classes, n_bins=15, norm="l1", ignore_index=255)
    assert meter.summary()["ece"] == pytest.approx(float(oracle(logits, target)), abs=1e-5)


def test_full_confidence_is_in_the_last_bin_and_nothing_is_none():
    meter = Reliability()
    assert meter.summary()["ece"] is None
    meter.update(torch.tensor([[90.0, -90.0]]), torch.tensor([0]))
    assert meter.summary()["bins"][-1]["count"] == 1
    assert meter.summary()["ece"] == 0
