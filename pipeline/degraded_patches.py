"""Degraded patches: the same test patches under one condition after the other, degraded as physical values."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..datasets.augment import Augmentation, pixel_size_m
from ..datasets.patch_dataset import PatchDataset
from ..datasets.patches import PatchIndex
from ..models.evaluation import Batch, joined
from .conditions import Condition
from .train import TrainingData

#: Keeps the draw of patches apart from the other random choices of a run.
_PATCHES = 5


class DegradedPatches:
    """Test patches, at most so many, drawn once.

    Parameters
    ----------
    data
        Patches, where they are read from, how they are normalised.
    most
        Most patches.
    batch_size
        Patches a batch.
    seed
        Of the draw of patches and of all degradations.
    device
        Where batches are put.
    """

    def __init__(
        self, data: TrainingData, *, most: int, batch_size: int, seed: int, device: torch.device
    ) -> None:  # fmt: skip
        whole = data.index.of_split("test")
        self._data, self._batch_size, self._seed, self._device = data, batch_size, seed, device
        self.of = len(whole)
        chosen = np.arange(len(whole))
        if len(whole) > most:
            chosen = np.sort(np.random.default_rng([seed, _PATCHES]).choice(len(whole), size=most, replace=False))
        self._clear: list[Batch] = []
        table = whole.table.iloc[chosen].reset_index(drop=True)
        self._index = PatchIndex(table=table, modalities=whole.modalities)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def pixel_m(self) -> float | None:
        """Median edge of the patches' pixels on the ground, metres; None where one of them has no position."""
        sizes = [pixel_size_m(self._data.stacks[name].geobox) for name in self._index.table["scene"]]
        known = [size for size in sizes if size is not None]
        return float(np.median(known)) if len(known) == len(sizes) else None

    def batches(self, condition: Condition | None, *, draw: int = 0) -> list[Batch]:
        """Return the patches under a condition; None leaves them as they are.

        The batches of a condition hold the tensors of the clear ones where the condition changes nothing, so that
        nothing is encoded twice; ask for the clear ones first. Degradations act on working values before
        normalisation. Patch, draw and sensor decide what is drawn: the same clouds and the same noise pattern grow from
        one strength to the next.
        """
        augment = None if condition is None else Augmentation(
            tuple(self._data.modalities), geometry="none", degradations={condition.modality: [condition.degradation]}
        )  # fmt: skip
        found = self._read(augment, draw=draw)
        if condition is None:
            self._clear = found
            return found
        return [_changed(clear, worse, condition.modality) for clear, worse in zip(self._clear, found, strict=True)]

    def _read(self, augment: Augmentation | None, *, draw: int) -> list[Batch]:
        dataset = PatchDataset(
            self._index, self._data.stacks, normaliser=self._data.normaliser,
            class_values=[item.value for item in self._data.classes], classification=self._data.classification,
            augment=augment, augment_seed=self._seed * 1_000_003 + draw, store=self._data.store,
        )  # fmt: skip
        # Joined here, because the meters would join a last batch of one each on their own.
        loader: DataLoader[dict[str, Any]] = DataLoader(dataset, batch_size=self._batch_size)
        return [self._placed(batch) for batch in joined(loader)]

    def _placed(self, batch: Batch) -> Batch:
        return {
            key: {name: part.to(self._device) for name, part in value.items()}
            if isinstance(value, dict) else value.to(self._device)
            for key, value in batch.items()
        }  # fmt: skip


def _changed(clear: Batch, worse: Batch, modality: str) -> Batch:
    """Return a batch with one modality, and what is available, of another."""
    parts = {key: {**clear[key], modality: worse[key][modality]} for key in ("image", "valid")}
    return {**clear, **parts, "available": worse["available"]}
