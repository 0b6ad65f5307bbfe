"""Lightning data module over a patch index: the order and geometry of an epoch depend on seed and epoch alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from .errors import DatasetError
from .normalise import Normaliser
from .patches import PatchDataset, PatchIndex
from .stack import AlignedStack


class PatchDataModule(lightning.LightningDataModule):
    """Loaders for the three splits.

    Every epoch's order and augmentation are drawn from (seed, epoch), so that a run that was killed and resumed sees
    the same batches as one that was not. The trainer must be told ``reload_dataloaders_every_n_epochs=1``.

    Parameters
    ----------
    index, stacks, normaliser, class_values, classification
        As for :class:`~equipoise.datasets.patches.PatchDataset`.
    batch_size
        Patches a batch.
    workers
        Loader processes; 0 reads in the training process.
    augment
        Whether training patches get a random symmetry of the square.
    seed
        Of order and augmentation.
    """

    def __init__(
        self,
        index: PatchIndex,
        stacks: Mapping[str, AlignedStack],
        *,
        normaliser: Normaliser,
        class_values: Sequence[int],
        classification: bool,
        batch_size: int,
        workers: int,
        augment: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self._index, self._stacks, self._normaliser = index, stacks, normaliser
        self._class_values, self._classification = class_values, classification
        self._batch_size, self._workers, self._augment, self._seed = batch_size, workers, augment, seed

    def loader(self, split: str, *, epoch: int | None = None) -> DataLoader[dict[str, Any]]:
        """Return the batches of a split; shuffled and augmented where ``epoch`` is given.

        Raises
        ------
        DatasetError
            If the split has no patch.
        """
        chosen = self._index.of_split(split)
        if len(chosen) == 0:
            raise DatasetError(
                f"found no {split} patch; wanted at least one; change `tile` shares or the scenes' `split`"
            )
        shuffled = epoch is not None
        epoch_seed = self._seed * 1_000_003 + (epoch or 0)
        dataset = PatchDataset(
            chosen, self._stacks, normaliser=self._normaliser, class_values=self._class_values,
            classification=self._classification, augment_seed=epoch_seed if shuffled and self._augment else None,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(epoch_seed)
        # Drawn here and once: a shuffling loader draws anew at each iteration, and a resumed trainer iterates twice.
        order = torch.randperm(len(dataset), generator=generator).tolist() if shuffled else None
        return DataLoader(
            dataset, batch_size=self._batch_size, sampler=order, num_workers=self._workers, generator=generator,
            # A last batch of one patch has no batch statistics to normalise by.
            drop_last=shuffled and len(dataset) % self._batch_size == 1 and len(dataset) > 1,
            # Workers are forked before torch has used threads of its own only by luck: start them clean.
            multiprocessing_context="spawn" if self._workers else None,
        )  # fmt: skip

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the training batches of the trainer's current epoch."""
        return self.loader("train", epoch=self.trainer.current_epoch if self.trainer else 0)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the validation batches."""
        return self.loader("validation")
