"""Part two: train by every method, and see what is left when the sensors see worse."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from equipoise.models.information import coalition_information

from .conditions import CLEAR, CONDITIONS, Condition
from .cut import Cut, regular
from .imagery import Imagery
from .measures import accuracy, counts, flood_iou, shares
from .methods import Method
from .training import VALIDATION_SEED, Budget, fit

Found = Mapping[str, Any]

#: Of the network whose information is measured; no method is trained with it.
_INFORMATION_SEED = 100


def information(imagery: Imagery, budget: Budget) -> Found:
    """Measure on validation chips what each sensor tells, by a network that knows how to do without either."""
    network, figures = fit(imagery, "segmentation", "subset_sampling", seed=_INFORMATION_SEED, budget=budget)
    cut = regular(imagery, imagery.division.validation, "segmentation", seed=VALIDATION_SEED)
    found = coalition_information(network, cut.batches)
    if found.share is None:
        raise ValueError(
            "found no information in any sensor; wanted a network that learned something; raise the budget"
        )
    return {
        "share": found.share[0], "value": list(found.value), "accuracy": list(found.accuracy),
        "synergy": found.synergy, "seconds": figures["seconds"],
    }  # fmt: skip


def robustness(imagery: Imagery, method: str, train: Method, seed: int) -> Found:
    """Train by a method; count what is right of each test chip under every condition."""
    network, figures = train(seed)
    tables = {condition.name: counts(network, _test_cut(imagery, condition)) for condition in CONDITIONS}
    whole = {name: table.sum(axis=0) for name, table in tables.items()}
    return {
        "method": method, "seed": seed, "share": shares(network, _test_cut(imagery, CLEAR)).share,
        "accuracy": {name: float(accuracy(table)) for name, table in whole.items()},
        "flood_iou": {name: float(flood_iou(table)) for name, table in whole.items()},
        "seconds": figures["seconds"], "counts": {name: table.tolist() for name, table in tables.items()},
    }  # fmt: skip


@cache
def _test_cut(imagery: Imagery, condition: Condition) -> Cut:
    """Cut the test chips under a condition, once for all methods."""
    return regular(imagery, imagery.division.test, "segmentation", conditions=[condition])
