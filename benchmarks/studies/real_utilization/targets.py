"""Part one: train to a share of the optical sensor, and see what arrives on chips of other places."""

from collections.abc import Mapping
from typing import Any

from equipoise.models.balancing import Utilization
from equipoise.models.share_checks import hack_alarm

from .batch import Task
from .cut import Cut, turned
from .imagery import Imagery
from .measures import accuracy, counts, flood_iou, shares
from .summary import WITHIN
from .training import VALIDATION_SEED, Budget, fit

Found = Mapping[str, Any]

TASKS: tuple[Task, ...] = ("segmentation", "classification")
#: Exchanges of each patch and modality when shares are measured: enough that other draws give the same to half a point.
ROLLS: dict[Task, int] = {"segmentation": 20, "classification": 20}
TARGETS = (0.2, 0.4, 0.5, 0.6, 0.8)


def to_target(imagery: Imagery, task: Task, target: float | None, seed: int, budget: Budget) -> Found:
    """Train to a target, None for plain training; say what arrived on validation and on test chips."""
    division = imagery.division
    if target is None:
        network, figures = fit(imagery, task, seed=seed, budget=budget)
    else:
        # A step has a few small patches: with a part of them, what it measures is mostly chance.
        wanted = Utilization(target={"eo": target}, tolerance=WITHIN, fraction=1.0)
        network, figures = fit(imagery, task, "mu_bounded", seed=seed, budget=budget, utilization=wanted)
    validation = turned(imagery, division.validation, task, turns=budget.turns, seed=VALIDATION_SEED)
    test = turned(imagery, division.test, task, turns=budget.turns)
    efforts = [value for name, value in figures.items() if name.startswith("effort")]
    return {
        "task": task, "target": target, "seed": seed,
        "validation": arrival(network, validation, rolls=ROLLS[task]),
        "test": arrival(network, test, rolls=ROLLS[task]),
        "effort": max(efforts, default=0.0), "epoch": figures["epoch"], "seconds": figures["seconds"],
    }  # fmt: skip


def arrival(network: Any, cut: Cut, *, rolls: int) -> Found:
    """Measure the optical share and what the network is worth on some patches."""
    found, table = shares(network, cut, rolls=rolls), counts(network, cut).sum(axis=0)
    alarm = hack_alarm(found.ce_share, found.share)
    return {
        "patches": len(cut.chip), "share": None if found.share is None else found.share[0],
        "interval": None if found.interval is None else found.interval[0],
        "ce_share": None if found.ce_share is None else found.ce_share[0],
        "hack_alarm": None if alarm is None else any(alarm),
        "accuracy": float(accuracy(table)), "flood_iou": float(flood_iou(table)),
    }  # fmt: skip
