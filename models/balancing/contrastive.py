"""Contrastive pre-training: what two modalities say of one place is brought together before any label is read."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import require
from .strategy import Step, Strategy

#: Width of the vectors that are compared.
_WIDTH = 64

#: Cells of a batch and pair that are compared each with each: the cost grows with their square.
_CELLS = 256


class Contrastive(Strategy):
    """For the first part of the training the loss compares modalities; then training is ordinary.

    The loss of the first part is a symmetric InfoNCE (van den Oord et al., 2018; Radford et al., ICML 2021) between
    each two modalities, on vectors of length 1 from a small projection a modality: the mean of the deepest features of
    a sample against those of the other samples, and, for segmentation, at most 256 cells against each other (ours). Its
    temperature falls along a cosine, since it decides how far apart modalities end (Yaras et al., 2024, on the
    temperature of contrastive training; this schedule is ours). No label is read.

    Parameters
    ----------
    pretraining
        Share of the training that the first part takes, 0 to 1; the change comes with an epoch.
    temperature
        First and last temperature, both above 0.

    Raises
    ------
    ModelError
        A number is out of range.
    """

    needs_encoders = True
    trained: Tensor

    def __init__(self, pretraining: float = 0.3, *, temperature: tuple[float, float] = (0.5, 0.07)) -> None:
        super().__init__()
        require(0 <= pretraining <= 1, f"pretraining {pretraining}", "a share of 0 to 1", "correct it")
        require(min(temperature) > 0, f"temperatures {temperature}", "numbers above 0", "correct them")
        self.pretraining = self.warm_up = pretraining
        self.temperature = temperature
        self.projections = nn.ModuleList()
        self.register_buffer("trained", torch.zeros((), dtype=torch.bool))

    def attach(self, network: Any) -> None:
        """Build a projection for each modality."""
        width = network.spec.widths[max(network.spec.widths)]
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Linear(width, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH)) for _ in network.modalities
        )

    def begin_epoch(self, network: Any, *, progress: float) -> None:  # noqa: ARG002
        """Note whether the first part is over."""
        self.trained.fill_(progress >= self.pretraining)

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Return the contrast in the first part, the task's loss afterwards."""
        if bool(self.trained):
            return loss
        tau = scheduled(step.progress, until=self.pretraining, ends=self.temperature)
        with torch.autocast(step.logits.device.type, enabled=False):
            found = [info_nce(one, other, tau) for one, other in self._pairs(step)]
        # Without a pair there is nothing to learn, and still something to go back through.
        return torch.stack(found).mean() if found else step.logits.sum() * 0

    def observe(self, figures: Mapping[str, Sequence[float]]) -> float:  # noqa: ARG002
        """Return 1 in the first part: a network that has read no label is not what was asked for."""
        return 0.0 if bool(self.trained) else 1.0

    def _pairs(self, step: Step) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield vectors (n, width) of two modalities, n >= 2, row by row of the same sample or place."""
        names = step.network.modalities
        for i, j in combinations(range(len(names)), 2):
            shares = [step.features.shares[names[m]][-1] * step.available[:, m, None, None, None] for m in (i, j)]
            maps = [step.features.maps[names[m]][-1].float() for m in (i, j)]
            rows = torch.stack([share.flatten(1).any(dim=1) for share in shares]).all(dim=0).nonzero().flatten()
            if len(rows) >= 2:
                one, other = (_pooled(m[rows], s[rows]) for m, s in zip(maps, shares, strict=True))
                yield self._project(i, one), self._project(j, other)
            if step.network.spec.task == "segmentation":
                places = _places(shares[0].minimum(shares[1])[:, 0] > 0.5, generator=step.generator)
                if len(places) >= 2:
                    sample, row, column = places.T
                    one, other = (feature[sample, :, row, column] for feature in maps)
                    yield self._project(i, one), self._project(j, other)

    def _project(self, column: int, vectors: Tensor) -> Tensor:
        return F.normalize(self.projections[column](vectors), dim=1)


def info_nce(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Return the symmetric InfoNCE of vectors.

    ``1/2 [CE(s, 1..n) + CE(s^T, 1..n)]`` with ``s = one other^T / temperature``.

    Parameters
    ----------
    one, other
        float (n, width), of length 1; row by row they belong together.
    temperature
        Above 0.

    Returns
    -------
    Tensor
        Scalar in nats, above 0.
    """
    similar = one @ other.T / temperature
    own = torch.arange(len(one), device=one.device)
    return 0.5 * (F.cross_entropy(similar, own) + F.cross_entropy(similar.T, own))


def scheduled(progress: float, *, until: float, ends: tuple[float, float]) -> float:
    """Return the temperature: from the first of ``ends`` to the last along a half cosine, the last beyond ``until``."""
    done = 1.0 if until <= 0 else min(1.0, progress / until)
    first, last = ends
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))


def _pooled(feature: Tensor, share: Tensor) -> Tensor:
    """Return the mean (n, channel) of maps over their valid cells."""
    total = share.sum(dim=(2, 3)).clamp_min(torch.finfo(share.dtype).tiny)
    return torch.where(share > 0, feature * share, 0).sum(dim=(2, 3)) / total


def _places(seen: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw cells, int64 (n, 3): sample, row, column, of bool (batch, y, x)."""
    places = seen.nonzero()
    order = torch.randperm(len(places), generator=generator, device=generator.device)[:_CELLS]
    return places[order.to(places.device)]
