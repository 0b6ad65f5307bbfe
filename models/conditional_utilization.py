"""Conditional utilization: how much accuracy a network owes to one modality, given all others."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .bootstrap import Interval, intervals, resampled_sums
from .errors import require
from .evaluation import Batch, ThreeStepNetwork, encoded, evaluating, observed, present, target_of
from .features import Features
from .losses import labelled
from .utilization_report import plain

FeatureMeans = Mapping[str, list[Tensor]]
"""Per modality and scale float64 (channel,): what its features are on average."""


@dataclass(frozen=True, kw_only=True)
class ConditionalUtilization:
    """Conditional utilization rates of a network on a set of samples.

    Attributes
    ----------
    metric
        ``"conditional_utilization_rate"``; other meters are other numbers.
    modalities
        Names, in the order of every tuple below.
    accuracy
        ``A(f)``: share of labelled places that the network gets right with everything present.
    accuracy_without
        ``A(f')`` with each modality replaced by its mean, over the samples that have it; None where there is none.
    rate
        ``u(m | rest)``, at most 1 and negative where the modality misleads; None where nothing is right with it.
    rate_interval
        95 % percentile bootstrap interval over samples, or None.
    samples
        Number of samples with a label.
    present
        Per modality the number of them that have it.
    bootstrap, seed
        As asked for.
    """

    metric: str
    modalities: tuple[str, ...]
    accuracy: float
    accuracy_without: tuple[float | None, ...]
    rate: tuple[float | None, ...]
    rate_interval: tuple[Interval | None, ...]
    samples: int
    present: tuple[int, ...]
    bootstrap: int
    seed: int

    @property
    def imbalance(self) -> float | None:
        """Largest minus smallest rate, ``|d_util|`` of the paper for two modalities; None where a rate is undefined."""
        rates = [rate for rate in self.rate if rate is not None]
        return max(rates) - min(rates) if len(rates) == len(self.rate) else None

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers for JSON; NaN becomes None."""
        return plain(asdict(self))


@torch.no_grad()
def feature_means(network: ThreeStepNetwork, batches: Iterable[Batch]) -> dict[str, list[Tensor]]:
    """Average each modality's own features over the samples that have it and over their usable cells.

    Parameters
    ----------
    network
        Put into evaluation mode and back.
    batches
        Dicts with ``image`` and where present ``valid`` and ``available``; of the training data, to follow the paper.

    Returns
    -------
    dict
        Per modality and scale float64 (channel,) on the CPU; 0 for a modality that no sample has.

    Raises
    ------
    ModelError
        There is no batch.
    """
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    with evaluating(network):
        for batch in batches:
            inputs = observed(network, batch)
            features = encoded(network, inputs)
            for column, name in enumerate(network.modalities):
                pairs = zip(features.maps[name], features.shares[name], strict=True)
                new = [_weighted(*pair, here=inputs.available[:, column]) for pair in pairs]
                old = found.get(name)
                found[name] = new if old is None else [(a + c, b + d) for (a, b), (c, d) in zip(old, new, strict=True)]
    require(bool(found), "no batch", "at least one", "check the split")
    # A modality that no sample has is 0 / 0; its mean is never read.
    return {name: [total / size.clamp_min(1e-12) for total, size in scales] for name, scales in found.items()}


@torch.no_grad()
def conditional_utilization_rate(
    network: ThreeStepNetwork,
    batches: Iterable[Batch],
    *,
    means: FeatureMeans | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> ConditionalUtilization:
    """Measure what part of the accuracy goes when one modality says the same about every sample.

    ``u(m | rest) = (A(f) - A(f')) / A(f)``, where ``f'`` sees the mean of modality m's own features in their place:
    after Wu, Jastrzebski, Cho, Geras (ICML 2022), who cut the flow between two branches by the training mean of a
    squeezed gate. Ours: any number of modalities, means per channel of the feature maps, one shared decoder. Two
    modalities that repeat each other both get 0; see :func:`~equipoise.models.information.coalition_information`.
    Every sample is measured by itself, so that grouping into batches changes nothing but rounding.

    Parameters
    ----------
    network
        A trained network; it is put into evaluation mode and back.
    batches
        Dicts with ``image``, ``mask`` or ``label``, and where present ``valid`` and ``available``; read twice without
        ``means``, so that a list or a loader is needed.
    means
        As :func:`feature_means` returns them for the training data; None takes those of these batches.
    bootstrap
        Number of bootstrap replicates over samples, at least 2.
    seed
        Of the bootstrap.

    Returns
    -------
    ConditionalUtilization
        Rates with their intervals.

    Raises
    ------
    ModelError
        There is no batch, fewer than 2 labelled samples, or batches that can be read only once and no ``means``.
    """
    require(bootstrap >= 2, f"{bootstrap} bootstrap replicates", "at least 2", "correct it")
    if means is None:
        require(
            iter(batches) is not batches, "batches that can be read only once", "a list or a loader",
            "give those, or the means of feature_means",
        )  # fmt: skip
        means = feature_means(network, batches)
    with evaluating(network):
        parts = [_hits(network, batch, means) for batch in batches]
    require(bool(parts), "no batch", "at least one", "check the split")
    hits, places, there = (torch.cat(columns) for columns in zip(*parts, strict=True))
    known = places > 0
    count = int(known.sum())
    require(count >= 2, f"{count} labelled samples", "at least 2, to know how they vary", "check masks and splits")
    return _summary(
        hits[known], places[known], there[known], modalities=network.modalities, bootstrap=bootstrap, seed=seed
    )


def _hits(network: ThreeStepNetwork, batch: Batch, means: FeatureMeans) -> tuple[Tensor, Tensor, Tensor]:
    """Return hits of the network and without each modality (sample, 1 + M), places (sample,), presence (sample, M)."""
    inputs = observed(network, batch)
    features = encoded(network, inputs)
    target = target_of(batch).to(inputs.available.device)
    hits = []
    for seen in (features, *(_flattened(features, name, means[name]) for name in network.modalities)):
        logits = network.decode(network.fuse(seen, inputs.available), size=features.size)
        valid = labelled(logits, target).reshape(len(target), -1)
        right = (logits.argmax(dim=1) == target).reshape(len(target), -1)
        hits.append((right & valid).sum(dim=1))
    there = present(features, inputs.available, modalities=network.modalities)
    return torch.stack(hits, dim=1).double().cpu(), valid.sum(dim=1).double().cpu(), there.cpu()


def _flattened(features: Features, modality: str, means: list[Tensor]) -> Features:
    """Put a modality's mean in the place of its features; what is usable of it stays so."""
    maps = [
        mean.to(feature)[:, None, None].expand_as(feature)
        for feature, mean in zip(features.maps[modality], means, strict=True)
    ]
    return replace(features, maps={**features.maps, modality: maps})


def _weighted(feature: Tensor, share: Tensor, *, here: Tensor) -> tuple[Tensor, Tensor]:
    """Add up a map (batch, channel, y, x) over samples and cells by their valid share, float64 (channel,) and ()."""
    weight = share.double() * here[:, None, None, None]
    # Absent data may be anything, and 0 times infinity is not 0.
    total = (feature.double().where(weight > 0, 0) * weight).sum(dim=(0, 2, 3))
    return total.cpu(), weight.sum().cpu()


def _summary(
    hits: Tensor, places: Tensor, there: Tensor, *, modalities: tuple[str, ...], bootstrap: int, seed: int
) -> ConditionalUtilization:
    """Compare over the samples that have each modality: the others cannot lose it."""
    full, without, size = hits[:, :1] * there, hits[:, 1:] * there, places[:, None] * there
    columns = torch.cat([full, without], dim=1)
    sums = resampled_sums(columns, count=bootstrap, generator=torch.Generator().manual_seed(seed))
    known, lost = sums.chunk(2, dim=1)
    found = intervals(1 - lost / known)
    rates = (1 - without.sum(dim=0) / full.sum(dim=0)).tolist()
    defined = (full.sum(dim=0) > 0).tolist()
    return ConditionalUtilization(
        metric="conditional_utilization_rate",
        modalities=modalities,
        accuracy=float(hits[:, 0].sum() / places.sum()),
        accuracy_without=tuple(
            float(a / b) if b > 0 else None for a, b in zip(without.sum(dim=0), size.sum(dim=0), strict=True)
        ),
        rate=tuple(rate if known_rate else None for rate, known_rate in zip(rates, defined, strict=True)),
        rate_interval=tuple(pair if known_rate else None for pair, known_rate in zip(found, defined, strict=True)),
        samples=len(hits),
        present=tuple(there.sum(dim=0).tolist()),
        bootstrap=bootstrap,
        seed=seed,
    )
