"""Utilization after training: whether a target arrived is said as it is, and joint meters are the single ones."""

import pytest
import torch

from equipoise.models.class_reliance import class_reliance
from equipoise.models.information import coalition_information
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.utilization import permutation_reliance
from equipoise.pipeline.stage_options import EvaluateOptions
from equipoise.pipeline.utilization import arrival, judged_by, measured_utilization
from equipoise.pipeline.utilization_options import UtilizationOptions

WANTED = UtilizationOptions(target={"eo": 0.5, "sar": (0.2, 0.4), "ir": "free"}, tolerance=0.02)


def _measured(share, *, width=0.0):
    interval = None if share is None else [[value - width, value + width] for value in share]
    return {"modalities": ["eo", "sar", "ir"], "score": "brier", "share": share, "share_interval": interval}


@pytest.mark.parametrize(
    ("share", "misses", "arrived"),
    [
        ([0.51, 0.3, 0.19], [0.01, 0.0], [True, True]),
        ([0.52, 0.2, 0.28], [0.02, 0.0], [True, True]),
        ([0.53, 0.17, 0.3], [0.03, 0.03], [False, False]),
        ([0.4, 0.41, 0.19], [0.1, 0.01], [False, False]),
        (None, [None, None], [False, False]),
    ],
)
def test_a_share_has_arrived_within_the_tolerance_of_a_point_and_inside_a_range(share, misses, arrived):
    found = arrival(WANTED, _measured(share))
    assert [item["modality"] for item in found] == ["eo", "sar"]
    assert [item["arrived"] for item in found] == arrived
    assert [item["miss"] for item in found] == [None if miss is None else pytest.approx(miss) for miss in misses]
    assert [item["nearest"] for item in found] == ([None] * 2 if share is None else share[:2])


@pytest.mark.parametrize(
    ("share", "width", "verdicts"),
    [
        ([0.51, 0.3, 0.19], 0.2, ["arrived", "arrived"]),
        ([0.56, 0.45, 0.0], 0.03, ["missed", "missed"]),
        ([0.56, 0.45, 0.0], 0.05, ["undecided", "undecided"]),  # .51 is within the tolerance; .40 is in the range
        ([0.44, 0.15, 0.41], 0.045, ["undecided", "missed"]),
        ([0.1, 0.5, 0.4], 0.01, ["missed", "missed"]),
        (None, 0.0, ["undecided", "undecided"]),
    ],
)
def test_the_interval_decides_between_undecided_and_missed(share, width, verdicts):
    found = arrival(WANTED, _measured(share, width=width))
    assert [item["verdict"] for item in found] == verdicts
    assert all(item["arrived"] == (item["verdict"] == "arrived") for item in found)


def test_targets_are_judged_by_a_bounded_score():
    scores = {
        metric: judged_by(UtilizationOptions(metric=metric)) for metric in ("brier", "clipped_ce", "cross_entropy")
    }
    assert scores == {"brier": "brier", "clipped_ce": "clipped_ce", "cross_entropy": "brier"}


def test_meters_that_share_their_passes_give_what_each_gives_alone():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(2, 1), classes=3, task="segmentation", depth=2,
                       encoder="resnet18", decoder_channels=(8, 8))  # fmt: skip
    network = FusionUNet(spec)
    batches = [
        {
            "image": {"eo": torch.randn(4, 2, 16, 16, generator=generator), "sar": torch.randn(4, 1, 16, 16)},
            "available": torch.rand(4, 2, generator=generator) < 0.8,
            "mask": torch.randint(0, 3, (4, 16, 16), generator=generator),
        }
        for _ in range(2)
    ]
    options, prior, seen = EvaluateOptions(rolls=2, bootstrap=100), (0.5, 0.25, 0.25), []
    found = measured_utilization(
        network, lambda: batches, prior=prior, options=options, seed=3, also=("brier", "clipped_ce"),
        watch=lambda position, logits, target: seen.append((position, len(logits), len(target))),
    )  # fmt: skip
    alone = {"rolls": 2, "bootstrap": 100, "seed": 3}
    for score in ("brier", "cross_entropy", "clipped_ce"):
        assert found[score] == permutation_reliance(network, batches, score=score, **alone).to_dict()
    assert found["classes"] == class_reliance(network, batches, **alone).to_dict()
    whole = coalition_information(network, batches, prior=prior, bootstrap=100, seed=3).to_dict()
    assert found["information"] == whole
    assert seen == [(position, 4, 4) for _ in range(2) for position in range(4)]
