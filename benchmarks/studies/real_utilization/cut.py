"""Cut: chips as patches that do not overlap, for everything that is measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .batch import PATCH, UNDECIDED, Batch, Task, batch_of, chances
from .chips import MODALITIES, Image
from .conditions import CLEAR, CONDITIONS, Condition
from .imagery import Imagery


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Patches of a regular cut, shuffled, as batches.

    Attributes
    ----------
    batches
        For the network and the meters.
    chip
        int64 (patch,): position of the chip that each comes from, in the order of the batches.
    """

    batches: list[Batch]
    chip: NDArray[np.int64]


def regular(
    imagery: Imagery,
    positions: Sequence[int],
    task: Task,
    *,
    conditions: Sequence[Condition] = (CLEAR,),
    batch: int = 192,
    seed: int = 0,
    turn: int = 0,
) -> Cut:
    """Cut chips into patches.

    Whole chips are degraded, so that clouds cross patches. For classification all flooded patches are kept and as many
    dry ones (or the other way round); patches that are neither are left out.

    Parameters
    ----------
    imagery, positions
        Chips to cut.
    task
        Whether pixels or patches are named.
    conditions
        Each patch is taken from its chip under one of them, drawn by :func:`~.batch.chances`.
    batch
        Patches a batch at most; batches are alike in size. Exchanges stay within a batch, which the shuffling fills
        with patches of many chips.
    seed, turn
        The first of the degradations, both of the shuffling and of which dry patches are kept.

    Returns
    -------
    Cut
        Of the same patches in the same order under every condition.
    """
    rng = np.random.default_rng((seed, 1, turn))
    chips = imagery.chips
    flooded = tiles(chips.flooded[list(positions)][:, None])[:, 0]
    order = rng.permutation(len(flooded))
    if task == "classification":
        order = order[_balanced(flooded[order].mean(axis=(1, 2)))]
    drawn = rng.choice(len(conditions), size=len(flooded), p=chances(conditions))
    looks = [imagery.normalised(_degraded(imagery, positions, condition, seed=seed)) for condition in conditions]
    row = np.arange(len(flooded))
    image = {
        name: np.stack([tiles(images[name]) for images, _ in looks])[drawn, row][order] for name in MODALITIES
    }  # fmt: skip
    valid = {
        name: np.stack([tiles(usable[name][:, None])[:, 0] for _, usable in looks])[drawn, row][order]
        for name in MODALITIES
    }
    batches = [
        batch_of(
            {name: values[part] for name, values in image.items()}, flooded[order][part], task=task,
            conditions=conditions, drawn=drawn[order][part], valid={name: mask[part] for name, mask in valid.items()},
        )
        for part in np.array_split(np.arange(len(order)), -(-len(order) // batch))
    ]  # fmt: skip
    return Cut(batches=batches, chip=np.repeat(positions, len(flooded) // len(positions))[order])


def turned(
    imagery: Imagery,
    positions: Sequence[int],
    task: Task,
    *,
    turns: int,
    conditions: Sequence[Condition] = (CLEAR,),
    seed: int = 0,
) -> Cut:
    """Put several turns of :func:`regular` one behind the other: other partners for each patch, and other dry ones."""
    cuts = [regular(imagery, positions, task, conditions=conditions, seed=seed, turn=turn) for turn in range(turns)]
    batches = [batch for cut in cuts for batch in cut.batches]
    return Cut(batches=batches, chip=np.concatenate([cut.chip for cut in cuts]))


def tiles(images: NDArray[np.generic]) -> Image:
    """Cut (chip, band, y, x) into (patch, band, PATCH, PATCH): the patches of the first chip, then the next."""
    count, bands, rows, columns = images.shape
    cut = images.reshape(count, bands, rows // PATCH, PATCH, columns // PATCH, PATCH)
    whole: Image = cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, bands, PATCH, PATCH)
    return whole


def _degraded(imagery: Imagery, positions: Sequence[int], condition: Condition, *, seed: int) -> dict[str, Image]:
    chips, kind = imagery.chips, CONDITIONS.index(condition)
    seen = [
        condition.seen(*(chips.image[name][chip] for name in MODALITIES), rng=np.random.default_rng((seed, kind, chip)))
        for chip in positions
    ]
    return {name: np.stack([item[name] for item in seen]) for name in MODALITIES}


def _balanced(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rows of as many dry as flooded patches, in order."""
    kinds = [np.flatnonzero(share < UNDECIDED[0]), np.flatnonzero(share > UNDECIDED[1])]
    fewest = min(map(len, kinds))
    return np.sort(np.concatenate([rows[:fewest] for rows in kinds]))
