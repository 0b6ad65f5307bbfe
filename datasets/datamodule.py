"""Lightning data module over a patch index: the order and geometry of an epoch depend on seed and epoch alone."""

import multiprocessing
import multiprocessing.context
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from .augment import Augmentation
from .errors import DatasetError
from .normalise import Normaliser
from .patch_dataset import PatchDataset
from .patch_store import PatchStore
from .patches import PatchIndex
from .stack import AlignedStack

#: Modules that workers find loaded: starting one then takes a fork, not the seconds that importing torch takes.
_PRELOADED = ["__main__", "equipoise.datasets.patch_dataset"]


def worker_context() -> multiprocessing.context.BaseContext:
    """Return how loader processes are started: forked from a clean server where the system can, else started anew.

    A fork of the training process itself would inherit its threads' locks and its open files.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


class PatchDataModule(lightning.LightningDataModule):
    """Loaders for the three splits.

    Every epoch's order and augmentation are drawn from (seed, epoch), so that a run that was killed and resumed sees
    the same batches as one that was not. The trainer must be told ``reload_dataloaders_every_n_epochs=1``.

    Parameters
    ----------
    index, stacks, normaliser, class_values, classification
        As for :class:`~equipoise.datasets.patch_dataset.PatchDataset`.
    batch_size
        Patches a batch.
    workers
        Loader processes; 0 reads in the training process.
    augment
        What training patches are changed by; None: nothing.
    seed
        Of order and augmentation.
    store
        Where the patches were stored; None reads them from the aligned rasters.
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
        augment: Augmentation | None,
        seed: int,
        store: PatchStore | None = None,
    ) -> None:
        super().__init__()
        self.index = index
        self._stacks, self._normaliser = stacks, normaliser
        self._class_values, self._classification = class_values, classification
        self._batch_size, self._workers, self._seed, self._store = batch_size, workers, seed, store
        self._augment = augment

    def loader(self, split: str, *, epoch: int | None = None) -> DataLoader[dict[str, Any]]:
        """Return the batches of a split, always in the same drawn order; for an ``epoch`` in one of its own, augmented.

        Neighbours in a scene are alike: in the order of the index a batch would hold one scene alone, and whatever is
        exchanged within a batch would say too little of what differs from scene to scene.

        Raises
        ------
        DatasetError
            If the split has no patch.
        """
        chosen = self.index.of_split(split)
        if len(chosen) == 0:
            raise DatasetError(
                f"found no {split} patch; wanted at least one; change `tile` shares or the scenes' `split`"
            )
        training = epoch is not None
        epoch_seed = self._seed * 1_000_003 + epoch if epoch is not None else 0
        dataset = PatchDataset(
            chosen, self._stacks, normaliser=self._normaliser, class_values=self._class_values,
            classification=self._classification, augment=self._augment if training else None, augment_seed=epoch_seed,
            store=self._store,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(epoch_seed)
        # Drawn here and once: a shuffling loader draws anew at each iteration, and a resumed trainer iterates twice.
        order = torch.randperm(len(dataset), generator=generator).tolist()
        return DataLoader(
            dataset, batch_size=self._batch_size, sampler=order, num_workers=self._workers, generator=generator,
            # A last batch of one patch has no batch statistics to normalise by.
            drop_last=training and len(dataset) % self._batch_size == 1 and len(dataset) > 1,
            multiprocessing_context=worker_context() if self._workers else None,
        )  # fmt: skip

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the training batches of the trainer's current epoch."""
        return self.loader("train", epoch=self.trainer.current_epoch if self.trainer else 0)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the validation batches."""
        return self.loader("validation")
