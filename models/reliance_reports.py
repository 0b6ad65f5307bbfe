"""Reliance reports: several scores and the classes, from one series of exchanges."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .class_reliance import ClassReliance, summarised_by_class
from .errors import require
from .evaluation import Batch, Observed, ThreeStepNetwork, target_of
from .exchanges import Rate, exchanged
from .losses import labelled
from .scores import ScoreName, build_score, class_sums, place_scores
from .utilization import sample_means
from .utilization_report import UtilizationReport, summarised

#: ``watch(logits, target)``: sees the plain answer of each batch, on the network's device.
WatchPlain = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class RelianceReports:
    """Permutation reliance by several scores.

    Attributes
    ----------
    by_score
        As :func:`~equipoise.models.utilization.permutation_reliance` gives it for each score.
    classes
        As :func:`~equipoise.models.class_reliance.class_reliance` gives it by the first score; None unless asked for.
    """

    by_score: Mapping[ScoreName, UtilizationReport]
    classes: ClassReliance | None


def reliance_reports(
    network: ThreeStepNetwork,
    batches: Iterable[Batch],
    *,
    scores: Sequence[ScoreName] = ("brier",),
    by_class: bool = False,
    rolls: int = 3,
    bootstrap: int = 1000,
    seed: int = 0,
    watch: WatchPlain | None = None,
) -> RelianceReports:
    """Measure permutation reliance by several scores and by class at the cost of one.

    The figures are those of the single meters with the same seed: same rolls, same resamples.

    Parameters
    ----------
    network, batches, rolls, bootstrap, seed
        As in :func:`~equipoise.models.utilization.permutation_reliance`, against labels and at feature level.
    scores
        Names, at least one.
    by_class
        Whether the reliance by true class is wanted too.
    watch
        Is shown the plain answers, so that accuracy and the like need no passes of their own.

    Returns
    -------
    RelianceReports
        One report a score.

    Raises
    ------
    ModelError
        As the single meters.
    """
    require(bootstrap >= 2, f"{bootstrap} bootstrap replicates", "at least 2", "correct it")
    require(len(scores) >= 1, "no score", "at least one", "name it")
    for name in scores:
        build_score(name)
    places: list[Tensor] = []

    def yardstick(batch: Batch, inputs: Observed, logits: Tensor) -> Rate:  # noqa: ARG001 (the yardstick's signature)
        target = target_of(batch).to(logits.device)
        classes = logits.shape[1]
        places.append(class_sums(labelled(logits, target), target, classes=classes).cpu())
        if watch is not None:
            watch(logits, target)

        def rate(mixed: Tensor) -> Tensor:
            scored = [place_scores(name, mixed, target) for name in scores]
            sums = [class_sums(scored[0], target, classes=classes)] if by_class else []
            return torch.cat([*(sample_means(values) for values in scored), *sums], dim=1)

        return rate

    generator = torch.Generator().manual_seed(seed)
    exchanges = exchanged(network, batches, yardstick=yardstick, rolls=rolls, generator=generator)
    count = torch.cat(places)
    require(bool(count.any()), "no labelled place in any sample", "labelled samples", "check masks and splits")
    state = generator.get_state()  # each report resamples from here, as it does alone
    settings: dict[str, Any] = {"rolls": rolls, "bootstrap": bootstrap, "seed": seed}
    found = {}
    for column, name in enumerate(scores):
        generator.set_state(state)
        found[name] = summarised(
            exchanges.columns(column, column + 1), modalities=network.modalities, score=name, generator=generator,
            **settings,
        )  # fmt: skip
    generator.set_state(state)
    classes = None if not by_class else summarised_by_class(
        exchanges.columns(len(scores), exchanges.base.shape[1]), count, modalities=network.modalities,
        score=scores[0], generator=generator, **settings,
    )  # fmt: skip
    return RelianceReports(by_score=found, classes=classes)
