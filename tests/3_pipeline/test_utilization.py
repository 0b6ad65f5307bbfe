"""Utilization after training: whether a target arrived is said as it is."""

import pytest

from equipoise.pipeline.utilization import arrival
from equipoise.pipeline.utilization_options import UtilizationOptions

WANTED = UtilizationOptions(target={"eo": 0.5, "sar": (0.2, 0.4), "ir": "free"}, tolerance=0.02)


@pytest.mark.parametrize(
    ("share", "misses", "arrived"),
    [
        ([0.51, 0.3, 0.19], [0.01, 0.0], [True, True]),
        ([0.53, 0.17, 0.3], [0.03, 0.03], [False, False]),
        ([0.4, 0.41, 0.19], [0.1, 0.01], [False, False]),
        (None, [None, None], [False, False]),
    ],
)
def test_a_share_has_arrived_within_the_tolerance_of_a_point_and_inside_a_range(share, misses, arrived):
    found = arrival(WANTED, {"modalities": ["eo", "sar", "ir"], "share": share})
    assert [item["modality"] for item in found] == ["eo", "sar"]
    assert [item["arrived"] for item in found] == arrived
    assert [item["miss"] for item in found] == [None if miss is None else pytest.approx(miss) for miss in misses]
