"""Places: the oracle scene and the flood chips behind one face."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from utilization import networks as oracle

from equipoise.models.balancing.distillation import CrossModalDistillation
from equipoise.models.baselines import SinglesEnsemble
from equipoise.models.transfer import begin_with, take_decision_layers
from oracle.conditions import HELD_OUT_FAMILIES, named
from oracle.loader import oracle_loader
from oracle.scene import OracleScene
from real_utilization import training as real
from real_utilization.conditions import CONDITIONS, HELD_OUT
from real_utilization.cut import regular
from real_utilization.imagery import Imagery

from .counting import Batch
from .recipes import Recipe

Batches = Iterable[tuple[Batch, NDArray[np.int64]]]

#: Strategy, seed and options -> trained network and seconds.
Fit = Callable[..., tuple[Any, float]]

#: Batches of 128 patches of the oracle scene (fewer under each degradation), and patches that are resampled together.
ORACLE_BATCHES, DEGRADED_BATCHES, TOGETHER = {"validation": 8, "test": 12}, 3, 16
_SEEDS = {"validation": 880, "test": 881}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where recipes are trained and measured.

    Attributes
    ----------
    name, modalities
        Of the table.
    held_out
        Names of degradations that no training shows.
    train
        Recipe and seed -> network and seconds.
    batches
        Split (``validation`` or ``test``) and condition -> batches with the unit of each sample.
    units
        Split -> number of units.
    """

    name: str
    modalities: tuple[str, ...]
    held_out: tuple[str, ...]
    train: Callable[[Recipe, int], tuple[Any, float]]
    batches: Callable[[str, str], Batches]
    units: Callable[[str], int]


def trained(fit: Fit, modalities: tuple[str, ...], recipe: Recipe, seed: int) -> tuple[Any, float]:
    """Train by a recipe; return the network and the seconds that all of it took."""
    if recipe.kind == "ensemble":
        singles = [fit("joint", seed, only=name) for name in modalities]
        return SinglesEnsemble([network for network, _ in singles]), sum(seconds for _, seconds in singles)
    begin, before = None, 0.0
    if recipe.kind == "distilled":
        begin, before = taught(fit, modalities, seed)
    network, seconds = fit(
        recipe.strategies, seed, changes=recipe.changes, baseline=recipe.baseline, begin=begin
    )  # fmt: skip
    return network, before + seconds


def taught(fit: Fit, modalities: tuple[str, ...], seed: int) -> tuple[Callable[[Any], None], float]:
    """Let the optical network teach the others; return what lets a fusion network begin with them, and the seconds."""
    teacher, seconds = fit("joint", seed, only="eo")
    singles = {"eo": teacher}
    for name in modalities:
        if name != "eo":
            lesson = CrossModalDistillation(teacher, batch_modalities=modalities)
            begin = partial(take_decision_layers, source=teacher)
            singles[name], more = fit(lesson, seed, only=name, begin=begin)
            seconds += more
    return partial(begin_with, singles=singles, decision="eo"), seconds


def oracle_place(*, steps: int, epochs: int, held_out: Sequence[str] | None = None) -> Place:
    """Return the oracle scene: EO, SAR and IR, 64 cells a patch, no patch seen twice."""
    scene = OracleScene(task="segmentation", cells=8, cell_px=2)
    budget = oracle.Budget(steps=steps, epochs=epochs)

    def fit(strategy: Any, seed: int, **options: Any) -> tuple[Any, float]:
        network, figures = oracle.fit(scene, strategy, seed=seed, budget=budget, **options)
        return network, figures["seconds"]

    def batches(split: str, condition: str) -> Batches:
        count = ORACLE_BATCHES[split] if condition == "clear" else DEGRADED_BATCHES
        loader = oracle_loader(scene, condition, count=count, batch_size=128, seed=_SEEDS[split])
        for number, batch in enumerate(loader):
            yield batch, (number * 128 + np.arange(128)) // TOGETHER

    return Place(
        name="oracle", modalities=scene.modalities, held_out=tuple(held_out or named(*HELD_OUT_FAMILIES)),
        train=partial(trained, fit, scene.modalities), batches=batches,
        units=lambda split: ORACLE_BATCHES[split] * 128 // TOGETHER,
    )  # fmt: skip


def real_place(imagery: Imagery, *, steps: int, epochs: int, held_out: Sequence[str] | None = None) -> Place:
    """Return the flood chips: Sentinel-2 and Sentinel-1, before and after; units are chips."""
    budget = real.Budget(steps=steps, epochs=epochs)
    conditions = {item.name: item for item in CONDITIONS}
    chips = {"validation": imagery.division.validation, "test": imagery.division.test}

    def fit(strategy: Any, seed: int, **options: Any) -> tuple[Any, float]:
        network, figures = real.fit(imagery, "segmentation", strategy, seed=seed, budget=budget, **options)
        return network, figures["seconds"]

    @cache
    def batches(split: str, condition: str) -> list[tuple[Batch, NDArray[np.int64]]]:
        cut = regular(imagery, chips[split], "segmentation", conditions=[conditions[condition]], seed=_SEEDS[split])
        units = np.searchsorted(np.asarray(chips[split]), cut.chip)
        ends = np.cumsum([len(batch["mask"]) for batch in cut.batches])
        return list(zip(cut.batches, np.split(units, ends[:-1]), strict=True))

    return Place(
        name="floods", modalities=real.MODALITIES, train=partial(trained, fit, real.MODALITIES), batches=batches,
        held_out=tuple(held_out or (name for names in HELD_OUT.values() for name in names)),
        units=lambda split: len(chips[split]),
    )  # fmt: skip
