"""Drawing: training patches from random places of the training chips."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .batch import PATCH, UNDECIDED, Batch, Task, batch_of, chances
from .chips import MODALITIES, Image
from .conditions import Condition
from .imagery import Imagery


class RandomPatches:
    """Batches of patches, turned and mirrored; every time it is iterated other ones come.

    Parameters
    ----------
    imagery
        Its training chips are read.
    task
        Whether pixels or patches are named; in the second case both classes come equally often.
    conditions
        Each patch meets one, drawn by :func:`~.batch.chances`.
    count, batch
        Batches a round, patches a batch.
    seed
        Of everything that is drawn; rounds differ.
    """

    def __init__(
        self, imagery: Imagery, task: Task, *, conditions: Sequence[Condition], count: int, batch: int, seed: int
    ) -> None:
        self.imagery, self.task, self.conditions = imagery, task, conditions
        self.count, self.batch, self.seed, self.round = count, batch, seed, 0
        self.places = _places(imagery, task)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        self.round += 1
        rng = np.random.default_rng((self.seed, self.round, 2))
        for _ in range(self.count):
            yield self._drawn(rng)

    def _drawn(self, rng: np.random.Generator) -> Batch:
        chips = self.imagery.chips
        drawn = rng.choice(len(self.conditions), size=self.batch, p=chances(self.conditions))
        seen: dict[str, list[Image]] = {name: [] for name in MODALITIES}
        flooded = []
        for item, number in enumerate(drawn):
            places = self.places[item % len(self.places)]
            chip, top, left = places[rng.integers(len(places))]
            window, turn = (..., slice(top, top + PATCH), slice(left, left + PATCH)), int(rng.integers(8))
            found = self.conditions[number].seen(*(chips.image[name][chip][window] for name in MODALITIES), rng=rng)
            for name in MODALITIES:
                seen[name].append(_turned(found[name], turn))
            flooded.append(_turned(chips.flooded[chip][window], turn))
        images, _ = self.imagery.normalised({name: np.stack(values) for name, values in seen.items()})
        return batch_of(images, np.stack(flooded), task=self.task, conditions=self.conditions, drawn=drawn)


def _turned(image: NDArray[np.generic], code: int) -> Image:
    """Return one of the eight symmetries of a square of (..., y, x)."""
    turned: Image = np.rot90(image if code < 4 else image[..., ::-1], code % 4, axes=(-2, -1))
    return turned


def _places(imagery: Imagery, task: Task) -> list[NDArray[np.int64]]:
    """Return int64 (place, 3) of chip, top row and left column: all places, or those of each class."""
    shares = np.stack([_window_share(imagery.chips.flooded[chip]) for chip in imagery.division.train])
    if task == "segmentation":
        kinds = [np.ones_like(shares, dtype=bool)]
    else:
        kinds = [shares < UNDECIDED[0], shares > UNDECIDED[1]]
    places = [np.argwhere(kind) for kind in kinds]
    for rows in places:
        rows[:, 0] = np.asarray(imagery.division.train)[rows[:, 0]]
    return places


def _window_share(flooded: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the flooded share of every PATCH x PATCH window, by sums over rectangles from the corner."""
    total = np.pad(flooded.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    window = total[PATCH:, PATCH:] - total[:-PATCH, PATCH:] - total[PATCH:, :-PATCH] + total[:-PATCH, :-PATCH]
    share: NDArray[np.float64] = window / PATCH**2
    return share
