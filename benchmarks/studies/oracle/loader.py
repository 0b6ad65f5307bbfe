"""Deterministic batches of the oracle scene for a training loop."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .scene import Batch, OracleScene


class OracleBatches(Dataset[Batch]):
    """A run of batches, drawn when they are asked for; batch ``i`` depends on the seeds and on ``i`` alone.

    No patch is ever seen twice, so a network that is trained on them cannot overfit.

    Parameters
    ----------
    scene
        What is observed.
    conditions
        Name of the condition of all patches, or names of which each patch draws one.
    count
        Number of batches.
    batch_size
        Patches a batch.
    seed
        Of this run; another seed is another data set of the same scene.

    Raises
    ------
    ValueError
        A condition is unknown, or ``count`` or ``batch_size`` is below 1.
    """

    def __init__(
        self,
        scene: OracleScene,
        conditions: str | Sequence[str] = "clear",
        *,
        count: int,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        if min(count, batch_size) < 1:
            raise ValueError(f"found {count} batches of {batch_size}, wanted at least 1 of 1: correct it")
        self.scene = scene
        self.conditions = (conditions,) if isinstance(conditions, str) else tuple(conditions)
        for name in self.conditions:
            scene.index(name)
        self.count, self.batch_size, self.seed = count, batch_size, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, position: int) -> Batch:
        # Without this a plain loop over the data set would never end.
        if not 0 <= position < self.count:
            raise IndexError(f"found batch {position}, wanted 0 to {self.count - 1}: correct the position")
        # Seeds that differ by one must not give streams that are alike: a hash of all three comes between.
        mixed = np.random.SeedSequence((self.scene.seed, self.seed, position)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(mixed[0] >> np.uint64(1)))
        return self.scene.batch(self.batch_size, self.conditions, generator)


def oracle_loader(
    scene: OracleScene,
    conditions: str | Sequence[str] = "clear",
    *,
    count: int,
    batch_size: int = 32,
    seed: int = 0,
    workers: int = 0,
) -> DataLoader[Batch]:
    """Return a loader of ready batches, in a fixed order.

    Parameters
    ----------
    scene, conditions, count, batch_size, seed
        As in :class:`OracleBatches`.
    workers
        Processes that draw ahead; the batches are the same for any number.

    Returns
    -------
    DataLoader
        Of what :meth:`~.scene.OracleScene.batch` returns.
    """
    batches = OracleBatches(scene, conditions, count=count, batch_size=batch_size, seed=seed)
    return DataLoader(batches, batch_size=None, num_workers=workers)
