"""Counting: what a network gets right from every subset of its modalities, of each unit that is resampled."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from equipoise.models.coalitions import coalitions
from equipoise.models.losses import IGNORE

Counts = NDArray[np.int64]
Batch = Mapping[str, Any]


def subset_names(modalities: tuple[str, ...]) -> list[str]:
    """Name every subset that holds something, in the order of :func:`counted`."""
    return [
        "+".join(name for name, member in zip(modalities, row, strict=True) if member)
        for row in coalitions(len(modalities))[1:]
    ]


@torch.inference_mode()
def counted(network: Any, batches: Iterable[tuple[Batch, NDArray[np.int64]]], *, units: int) -> Counts:
    """Count hits, truth and answers of each class from every subset; encoders run once.

    Parameters
    ----------
    network
        Trained, in evaluation mode.
    batches
        Batch, and int64 (sample,) the unit of each sample: what is resampled together, such as a chip.
    units
        Their number.

    Returns
    -------
    int64 (unit, subset, 3, class): hits, pixels of the class in the truth, pixels that were given the class.
    """
    classes = network.spec.classes
    rows = coalitions(len(network.modalities))[1:]
    found = np.zeros((units, len(rows), 3, classes), np.int64)
    for batch, unit in batches:
        features = network.encode(batch["image"], valid=batch.get("valid"), available=batch["available"])
        truth = batch["mask"].numpy()
        known = truth != IGNORE
        for number, row in enumerate(rows):
            logits = network.decode(network.fuse(features, batch["available"] & row), size=features.size)
            answer = logits.argmax(dim=1).numpy()
            for kind, chosen in ((0, known & (answer == truth)), (1, known)):
                _add(found[:, number, kind], unit, truth, chosen)
            _add(found[:, number, 2], unit, answer, known)
    return found


def _add(table: NDArray[np.int64], unit: NDArray[np.int64], values: NDArray[Any], chosen: NDArray[np.bool_]) -> None:
    """Add how often each class occurs among the chosen pixels of each unit."""
    place = np.broadcast_to(unit[:, None, None], values.shape)[chosen]
    np.add.at(table, (place, values[chosen]), 1)
