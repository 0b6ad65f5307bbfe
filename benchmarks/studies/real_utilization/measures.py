"""Measures: shares of reliance with intervals over chips, and what is right of each chip."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equipoise.models.bootstrap import resampled_sums, shares_of
from equipoise.models.exchanges import Rate, exchanged
from equipoise.models.scores import place_scores
from equipoise.models.utilization_report import influence

from .batch import Batch
from .chips import MODALITIES
from .cut import Cut

SCORES = ("brier", "cross_entropy")


@dataclass(frozen=True, kw_only=True)
class ShareReport:
    """Shares in the order of the modalities; None where they cannot be told from noise.

    Attributes
    ----------
    share, interval
        By the bounded score, and the 95 % interval of each.
    ce_share
        By cross entropy.
    """

    share: list[float] | None
    interval: list[tuple[float, float]] | None
    ce_share: list[float] | None


def shares(network: Any, cut: Cut, *, rolls: int = 5, bootstrap: int = 1000, seed: int = 0) -> ShareReport:
    """Measure permutation reliance by both scores in one go.

    As :func:`~equipoise.models.utilization.permutation_reliance`, except that whole chips are resampled: patches of a
    chip are no independent samples.

    Parameters
    ----------
    network
        Trained.
    cut
        What it is measured on.
    rolls, bootstrap, seed
        Derangements a batch and modality; replicates; of both.
    """
    generator = torch.Generator().manual_seed(seed)

    def yardstick(batch: Batch, _inputs: Any, _logits: Tensor) -> Rate:
        target = batch["mask"] if "mask" in batch else batch["label"]
        return lambda logits: torch.stack(
            [place_scores(name, logits, target).double().reshape(len(target), -1).mean(dim=1) for name in SCORES], dim=1
        )

    found = exchanged(network, cut.batches, yardstick=yardstick, rolls=rolls, generator=generator)
    columns = []
    for modality in range(len(MODALITIES)):
        received, donated = (
            found.mean_by(part, found.rise, modality=modality) for part in (found.receiver, found.donor)
        )
        columns.append(influence(received, donated))
    patches = torch.stack(columns, dim=2)  # (patch, score, modality)
    reliance = patches.nanmean(dim=0)
    _, chip = np.unique(cut.chip, return_inverse=True)
    summed = torch.zeros(int(chip.max()) + 1, patches[0].numel() + 1, dtype=torch.float64)
    rows = torch.cat([patches.nan_to_num().flatten(1), torch.ones(len(patches), 1, dtype=torch.float64)], dim=1)
    sums = resampled_sums(summed.index_add(0, torch.from_numpy(chip), rows), count=bootstrap, generator=generator)
    replicates = (sums[:, :-1] / sums[:, -1:]).reshape(-1, *patches.shape[1:])
    bounded, unbounded = (shares_of(reliance[column], replicates[:, column]) for column in range(len(SCORES)))
    return ShareReport(
        share=None if bounded.share is None else list(bounded.share),
        interval=None if bounded.share_interval is None else list(bounded.share_interval),
        ce_share=None if unbounded.share is None else list(unbounded.share),
    )


@torch.inference_mode()
def counts(network: Any, cut: Cut) -> NDArray[np.int64]:
    """Count places of each chip: (chip, 4) of truly dry and flooded places, each named dry and flooded.

    The columns are: dry named dry, dry named flooded, flooded named dry, flooded named flooded.
    """
    _, chip = np.unique(cut.chip, return_inverse=True)
    table = torch.zeros(int(chip.max()) + 1, 4, dtype=torch.int64)
    first = 0
    for batch in cut.batches:
        target = batch["mask"] if "mask" in batch else batch["label"]
        logits = network(batch["image"], available=batch["available"], valid=batch.get("valid"))
        code = (2 * target + logits.argmax(dim=1)).reshape(len(target), -1)
        rows = torch.from_numpy(chip[first : first + len(target)])
        table.index_add_(0, rows, torch.stack([(code == kind).sum(dim=1) for kind in range(4)], dim=1))
        first += len(target)
    return table.numpy()


def accuracy(table: NDArray[np.generic]) -> NDArray[np.float64]:
    """Share of places named rightly, of counts (..., 4)."""
    found: NDArray[np.float64] = table[..., [0, 3]].sum(axis=-1) / table.sum(axis=-1)
    return found


def flood_iou(table: NDArray[np.generic]) -> NDArray[np.float64]:
    """Intersection over union of flooded, of counts (..., 4)."""
    found: NDArray[np.float64] = table[..., 3] / table[..., 1:].sum(axis=-1)
    return found
