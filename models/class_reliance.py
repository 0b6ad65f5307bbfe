"""Class reliance: which modality a network relies on for which class."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .bootstrap import Interval, Shares, intervals, resampled_means, shares_of
from .errors import require
from .evaluation import Batch, Observed, ThreeStepNetwork, target_of
from .exchanges import Exchanges, Level, Rate, exchanged
from .losses import labelled
from .scores import ScoreName, build_score, class_sums, place_scores
from .utilization_report import influence, plain


@dataclass(frozen=True, kw_only=True)
class ClassReliance:
    """Permutation reliance by true class.

    Every tuple of tuples has a row a class and a column a modality.

    Attributes
    ----------
    metric
        ``"class_reliance"``.
    score
        As asked for.
    modalities
        Names, in the order of the columns.
    reliance
        ``R_km``: rise of the expected score at places of class k when modality m comes from another sample; NaN where
        no such place was measured.
    reliance_interval
        95 % percentile bootstrap intervals over samples.
    share
        Per class ``[R_km]+ / sum_m [R_km]+``, or None where indeterminate.
    share_interval
        95 % intervals of the shares, or None where indeterminate.
    noise_floor
        Per class what ``sum_m [R_km]+`` must exceed; see :class:`~equipoise.models.bootstrap.Shares`.
    places
        Labelled places (pixels, or patches for classification) of each class.
    samples
        Samples that hold each class: a few say little, and their intervals are too narrow.
    rolls, bootstrap, seed, level
        As asked for.
    """

    metric: str
    score: str
    modalities: tuple[str, ...]
    reliance: tuple[tuple[float, ...], ...]
    reliance_interval: tuple[tuple[Interval, ...], ...]
    share: tuple[tuple[float, ...] | None, ...]
    share_interval: tuple[tuple[Interval, ...] | None, ...]
    noise_floor: tuple[float, ...]
    places: tuple[int, ...]
    samples: tuple[int, ...]
    rolls: int
    bootstrap: int
    seed: int
    level: Level

    @property
    def indeterminate(self) -> tuple[bool, ...]:
        """Per class whether nothing measurable is relied on."""
        return tuple(share is None for share in self.share)

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers for JSON; NaN becomes None."""
        return plain(asdict(self) | {"indeterminate": self.indeterminate})


def class_reliance(
    network: ThreeStepNetwork,
    batches: Iterable[Batch],
    *,
    score: ScoreName = "brier",
    level: Level = "feature",
    rolls: int = 3,
    bootstrap: int = 1000,
    seed: int = 0,
) -> ClassReliance:
    """Measure permutation reliance apart for each true class, at no more passes than without classes.

    ``R_km = E[b(f(pi_m x), y) - b(f(x), y) | y = k]``, the expectation over labelled places: where every sample has
    equally many of them, ``sum_k P(k) R_km`` is the reliance of
    :func:`~equipoise.models.utilization.permutation_reliance` by the same rolls. Donors are of any class.

    Parameters
    ----------
    network, batches, score, level, rolls, bootstrap, seed
        As in :func:`~equipoise.models.utilization.permutation_reliance`. Rolls stay within a batch.

    Returns
    -------
    ClassReliance
        A matrix class by modality, with intervals over samples.

    Raises
    ------
    ModelError
        There is no batch, only one sample in all, no labelled sample, or an option is out of range.
    """
    require(bootstrap >= 2, f"{bootstrap} bootstrap replicates", "at least 2", "correct it")
    build_score(score)
    generator = torch.Generator().manual_seed(seed)
    counts: list[Tensor] = []

    def yardstick(batch: Batch, inputs: Observed, logits: Tensor) -> Rate:  # noqa: ARG001 (the yardstick's signature)
        target = target_of(batch).to(logits.device)
        classes = logits.shape[1]
        counts.append(class_sums(labelled(logits, target), target, classes=classes).cpu())
        return lambda mixed: class_sums(place_scores(score, mixed, target), target, classes=classes)

    exchanges = exchanged(network, batches, yardstick=yardstick, level=level, rolls=rolls, generator=generator)
    return summarised_by_class(
        exchanges,
        torch.cat(counts),
        modalities=network.modalities,
        score=score,
        rolls=rolls,
        bootstrap=bootstrap,
        seed=seed,
        generator=generator,
        level=level,
    )


def summarised_by_class(
    exchanges: Exchanges,
    places: Tensor,
    *,
    modalities: tuple[str, ...],
    score: str,
    rolls: int,
    bootstrap: int,
    seed: int,
    generator: torch.Generator,
    level: Level = "feature",
) -> ClassReliance:
    """Average over the places of each class, bootstrap, and decide which shares can be told from noise.

    Parameters
    ----------
    exchanges
        A column a class: scores added up over the places of the class.
    places
        float64 (sample, class): labelled places.
    modalities, score, rolls, bootstrap, seed, level
        As in :class:`ClassReliance`.
    generator
        Source of the bootstrap draws.

    Returns
    -------
    ClassReliance
        The summary.

    Raises
    ------
    ModelError
        No place is labelled.
    """
    require(bool(places.any()), "no labelled place in any sample", "labelled samples", "check masks and splits")
    rows = [
        _of_class(exchanges, places, number, modalities=len(modalities), count=bootstrap, generator=generator)
        for number in range(places.shape[1])
    ]
    return ClassReliance(
        metric="class_reliance",
        score=score,
        modalities=modalities,
        reliance=tuple(tuple(row.tolist()) for row, _, _ in rows),
        reliance_interval=tuple(interval for _, interval, _ in rows),
        share=tuple(shares.share for _, _, shares in rows),
        share_interval=tuple(shares.share_interval for _, _, shares in rows),
        noise_floor=tuple(shares.noise_floor for _, _, shares in rows),
        places=tuple(int(total) for total in places.sum(dim=0)),
        samples=tuple((places > 0).sum(dim=0).tolist()),
        rolls=rolls,
        bootstrap=bootstrap,
        seed=seed,
        level=level,
    )


def _of_class(
    exchanges: Exchanges, places: Tensor, number: int, *, modalities: int, count: int, generator: torch.Generator
) -> tuple[Tensor, tuple[Interval, ...], Shares]:
    """Return the reliance of one class, float64 (modality,), its intervals, and its shares."""
    held = places[exchanges.receiver, number][:, None]
    rise = torch.cat([exchanges.rise[:, [number]], held], dim=1)
    amounts, parts = [], []
    for modality in range(modalities):
        received = exchanges.mean_by(exchanges.receiver, rise, modality=modality)
        donated = exchanges.mean_by(exchanges.donor, rise, modality=modality)
        total, size = received.nansum(dim=0)
        reliance = total / size
        mean_size = size / received[:, 1].isfinite().sum()
        # A mean over places is a quotient of sums over samples; this is each sample's part in it, to first order.
        first, second = (reliance + (part[:, :1] - reliance * part[:, 1:]) / mean_size for part in (received, donated))
        amounts.append(reliance)
        parts.append(influence(first, second))
    replicates = resampled_means(torch.cat(parts, dim=1), count=count, generator=generator)
    found = torch.stack(amounts)
    return found, intervals(replicates), shares_of(found, replicates)
