"""Modality gap: how far apart two modalities' features lie where they saw the same place, scale by scale."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import require
from .evaluation import Batch, ThreeStepNetwork, encoded, evaluating, observed
from .features import Features
from .losses import IGNORE
from .utilization_report import plain

#: Cells of a sample and scale that are looked at: those of one sample are alike, more of them tell little.
CELLS = 8

#: Directions along which distributions are compared.
DIRECTIONS = 64

#: Vectors of a modality that are compared each with each.
COMPARED = 1024


@dataclass(frozen=True, kw_only=True)
class ModalityGap:
    """How the features of modalities lie to each other; vectors have length 1.

    A gap is a property of features, no fault: fusion weights can undo any of it, and training that closes it has cost
    accuracy elsewhere (Yaras et al. 2024). Read it beside scores.

    Attributes
    ----------
    metric
        ``"modality_gap"``.
    modalities
        Names, in the order of ``uniformity``.
    pairs
        Names of two modalities, in the order of the other tuples.
    strides
        Pixels a cell, of each scale, in the order of the inner tuples.
    centroid
        Distance between the means of both modalities' vectors, 0 to 2 (Liang et al., NeurIPS 2022).
    alignment
        Mean squared distance between both vectors of a place, 0 (the same) to 4 (Wang and Isola, ICML 2020).
    uniformity
        Logarithm of the mean of ``exp(-2 d^2)`` over pairs of places, from -4 (spread out) to 0 (all alike; same
        source).
    transport
        Per pair and class, at the coarsest scale: sliced Wasserstein distance of order 2 between both modalities'
        vectors of that class; after Ramesh and Koh (2022), who transport between whole modality spaces. NaN where a
        class has fewer than four cells.
    transport_floor
        The same between two halves, drawn at random, of the first modality's vectors of that class: what chance gives
        with half as many cells, and so somewhat more than it gives with all.
    cells
        Per pair and scale the cells that both saw.
    """

    metric: str
    modalities: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    strides: tuple[int, ...]
    centroid: tuple[tuple[float, ...], ...]
    alignment: tuple[tuple[float, ...], ...]
    uniformity: tuple[tuple[float, ...], ...]
    transport: tuple[tuple[float, ...], ...]
    transport_floor: tuple[tuple[float, ...], ...]
    cells: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return lists and numbers for JSON; NaN becomes None."""
        return plain(asdict(self))


class ModalityGapMeter:
    """Collects features batch by batch; in training, of each validation epoch.

    Parameters
    ----------
    modalities
        Names, in the order of the network's.
    classes
        Number of classes; 0: classes are not told apart.
    seed
        Of the choice of cells and directions.
    """

    def __init__(self, modalities: tuple[str, ...], *, classes: int = 0, seed: int = 0) -> None:
        self.modalities, self.classes, self.seed = modalities, classes, seed
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._generator = torch.Generator().manual_seed(self.seed)
        self._kept: dict[tuple[str, str], list[list[Tensor]]] = {pair: [] for pair in combinations(self.modalities, 2)}
        self._labels: dict[tuple[str, str], list[Tensor]] = {pair: [] for pair in self._kept}
        self._strides: tuple[int, ...] = ()
        self._batches = 0

    @torch.no_grad()
    def update(self, features: Features, available: Tensor, target: Tensor | None = None) -> None:
        """Look at a batch.

        Parameters
        ----------
        features
            From the network's ``encode``.
        available
            bool (batch, modality).
        target
            int64 (batch, y, x) or (batch,), 255 = not labelled; None: classes are not told apart.
        """
        self._batches += 1
        if not self._kept:  # one modality has no gap
            return
        sizes = [share.shape[-1] for share in features.shares[self.modalities[0]]]
        self._strides = _strides(sizes, width=features.size[1])
        for (first, second), kept in self._kept.items():
            both = available[:, [self.modalities.index(first), self.modalities.index(second)]].all(dim=1)
            row = []
            for level in range(len(sizes)):
                seen = features.shares[first][level].minimum(features.shares[second][level])[:, 0] > 0.5
                places = self._chosen(seen & both.to(seen.device)[:, None, None])
                row.append(torch.stack([_vectors(features.maps[name][level], places) for name in (first, second)]))
            kept.append(row)
            self._labels[first, second].append(_labels(target, places, stride=self._strides[-1]))

    def compute(self) -> ModalityGap:
        """Return what was found.

        Raises
        ------
        ModelError
            If there was no batch.
        """
        require(self._batches > 0, "no batch", "at least one", "check the split")
        found = {
            pair: [torch.cat(level, dim=1) for level in zip(*kept, strict=True)] for pair, kept in self._kept.items()
        }
        transports = [self._transports(vectors[-1], torch.cat(self._labels[pair])) for pair, vectors in found.items()]
        return ModalityGap(
            metric="modality_gap", modalities=self.modalities, pairs=tuple(found), strides=self._strides,
            centroid=tuple(tuple(_centroid(level) for level in vectors) for vectors in found.values()),
            alignment=tuple(tuple(_alignment(level) for level in vectors) for vectors in found.values()),
            uniformity=tuple(self._uniformities(found, name) for name in self.modalities),
            transport=tuple(tuple(value for value, _ in row) for row in transports),
            transport_floor=tuple(tuple(floor for _, floor in row) for row in transports),
            cells=tuple(tuple(level.shape[1] for level in vectors) for vectors in found.values()),
        )  # fmt: skip

    def _chosen(self, seen: Tensor) -> Tensor:
        """Choose cells, int64 (cell, 3): sample, row, column, at most :data:`CELLS` a sample on average."""
        places = seen.nonzero()
        order = torch.randperm(len(places), generator=self._generator)[: CELLS * len(seen)]
        return places[order.to(places.device)]

    def _uniformities(self, found: dict[tuple[str, str], list[Tensor]], name: str) -> tuple[float, ...]:
        pair = next((pair for pair in found if name in pair), None)
        if pair is None:
            return ()
        return tuple(_uniformity(level[pair.index(name)]) for level in found[pair])

    def _transports(self, vectors: Tensor, labels: Tensor) -> list[tuple[float, float]]:
        generator = torch.Generator().manual_seed(self.seed)
        directions = F.normalize(torch.randn(DIRECTIONS, vectors.shape[-1], generator=generator), dim=1)
        found = []
        for number in range(self.classes):
            first, second = vectors[:, labels == number]
            half = len(first) // 2
            mixed = first[torch.randperm(len(first), generator=generator)]  # samples lie one after the other
            if half < 2:
                found.append((float("nan"), float("nan")))
                continue
            floor = sliced_wasserstein(mixed[:half], mixed[half : 2 * half], directions)
            found.append((sliced_wasserstein(first, second, directions), floor))
        return found


class CentroidGaps:
    """The centroid gap at the coarsest scale alone, as sums: for each validation epoch of a training.

    Parameters
    ----------
    modalities
        Names, in the order of the network's.
    """

    def __init__(self, modalities: tuple[str, ...]) -> None:
        self.modalities = modalities
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sums: dict[tuple[str, str], tuple[Tensor, int]] = {}

    @torch.no_grad()
    def update(self, features: Features, available: Tensor) -> None:
        """Look at a batch, as :meth:`ModalityGapMeter.update` does, at all cells that both saw."""
        for first, second in combinations(self.modalities, 2):
            both = available[:, [self.modalities.index(first), self.modalities.index(second)]].all(dim=1)
            seen = features.shares[first][-1].minimum(features.shares[second][-1])[:, 0] > 0.5
            places = (seen & both.to(seen.device)[:, None, None]).nonzero()
            if len(places) == 0:
                continue
            found = torch.stack([_vectors(features.maps[name][-1], places).sum(dim=0) for name in (first, second)])
            total, count = self._sums.get((first, second), (torch.zeros_like(found), 0))
            self._sums[first, second] = (total + found, count + len(places))

    def compute(self) -> dict[tuple[str, str], float]:
        """Return the distance of the means by pair, of the pairs that saw a place in common."""
        return {pair: float((total[0] - total[1]).norm() / count) for pair, (total, count) in self._sums.items()}


def modality_gap(
    network: ThreeStepNetwork, batches: Iterable[Batch], *, classes: int = 0, seed: int = 0
) -> ModalityGap:
    """Measure the gaps between the modalities of a trained network.

    Parameters
    ----------
    network
        Put into evaluation mode and back.
    batches
        Dicts with ``image``, ``mask`` or ``label``, and where present ``valid`` and ``available``.
    classes, seed
        As for :class:`ModalityGapMeter`.

    Raises
    ------
    ModelError
        There is no batch.
    """
    meter = ModalityGapMeter(network.modalities, classes=classes, seed=seed)
    with evaluating(network), torch.no_grad():
        for batch in batches:
            inputs = observed(network, batch)
            meter.update(encoded(network, inputs), inputs.available, batch.get("mask", batch.get("label")))
    return meter.compute()


def sliced_wasserstein(first: Tensor, second: Tensor, directions: Tensor) -> float:
    """Return the sliced Wasserstein distance of order 2 between two sets of as many points.

    Parameters
    ----------
    first, second
        float (point, dimension).
    directions
        float (direction, dimension), of length 1.
    """
    ordered = [(points @ directions.T).sort(dim=0).values for points in (first, second)]
    return float((ordered[0] - ordered[1]).square().mean().sqrt())


def _vectors(map_: Tensor, places: Tensor) -> Tensor:
    """Return the features of cells, float32 (cell, channel) on the CPU, of length 1."""
    sample, row, column = places.unbind(dim=1)
    return F.normalize(map_[sample, :, row, column].float(), dim=1).cpu()


def _strides(sizes: list[int], *, width: int) -> tuple[int, ...]:
    """Return the pixels a cell of each scale; the first of several is the full-resolution stem."""
    if len(sizes) == 1:  # classification: the coarsest scale alone, of an image that was padded to whole cells
        return (2 ** round(math.log2(max(1.0, width / sizes[0]))),)
    return tuple(sizes[0] // size for size in sizes)


def _labels(target: Tensor | None, places: Tensor, *, stride: int) -> Tensor:
    """Return the label in the middle of each cell, int64 (cell,); 255 where there is none."""
    if target is None:
        return torch.full((len(places),), IGNORE)
    sample, row, column = places.cpu().unbind(dim=1)
    target = target.cpu()
    if target.ndim == 1:
        return target[sample]
    middle = [place * stride + stride // 2 for place in (row, column)]
    inside = (middle[0] < target.shape[-2]) & (middle[1] < target.shape[-1])
    rows, columns = (place.clamp_max(length - 1) for place, length in zip(middle, target.shape[-2:], strict=True))
    return torch.where(inside, target[sample, rows, columns], IGNORE)


def _centroid(vectors: Tensor) -> float:
    return float((vectors[0].mean(dim=0) - vectors[1].mean(dim=0)).norm())


def _alignment(vectors: Tensor) -> float:
    return float((vectors[0] - vectors[1]).square().sum(dim=1).mean())


def _uniformity(vectors: Tensor) -> float:
    distances = torch.pdist(vectors[:COMPARED])
    return float((-2 * distances.square()).exp().mean().log())
