"""Which chips train, which choose the epoch, which test; chips that touch are found by their borders."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .chips import Chips

#: Borders of chips that touch correlate with .88 or more, those of others with .79 or less; inside a chip neighbouring
#: lines reach .96.
TOUCHING = 0.85
#: One group of touching chips in four chooses the epoch.
EVERY = 4


@dataclass(frozen=True, kw_only=True)
class Division:
    """Positions of chips, and what was found on the way.

    Attributes
    ----------
    train, validation, test
        Positions.
    left_out
        Training chips that touch a test chip.
    pairs
        Numbers of chips that touch.
    gap
        Likeness of borders: the lowest of chips that touch, the highest of others.
    """

    train: list[int]
    validation: list[int]
    test: list[int]
    left_out: list[int]
    pairs: list[tuple[int, int]]
    gap: tuple[float, float]


def divided(chips: Chips) -> Division:
    """Divide the chips: test as the compiler did, validation by whole groups of touching chips.

    Parameters
    ----------
    chips
        All of them.

    Returns
    -------
    Division
        The same for the same chips: nothing is drawn.
    """
    alike = border_likeness(chips.edges)
    touch = alike > TOUCHING
    test = np.flatnonzero(chips.test)
    left_out = np.flatnonzero(touch[test].any(axis=0) & ~chips.test)
    rest = [int(chip) for chip in np.flatnonzero(~chips.test) if chip not in left_out]
    train: list[int] = []
    validation: list[int] = []
    for position, group in enumerate(groups(touch, rest)):
        (validation if position % EVERY == EVERY - 1 else train).extend(group)
    first, second = np.nonzero(np.triu(touch))
    pairs = [(int(a), int(b)) for a, b in zip(chips.number[first], chips.number[second], strict=True)]
    return Division(
        train=sorted(train), validation=sorted(validation), test=test.tolist(), left_out=left_out.tolist(), pairs=pairs,
        gap=(float(alike[touch].min(initial=1)), float(alike[~touch].max())),
    )  # fmt: skip


def border_likeness(edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Say how well the border of one chip continues that of another: the best correlation of facing borders.

    Parameters
    ----------
    edges
        As in :class:`~.chips.Chips`.

    Returns
    -------
    float32 (chip, chip), symmetric, 0 on the diagonal.
    """
    centred = edges - edges.mean(axis=3, keepdims=True)
    lines = centred.reshape(*edges.shape[:2], -1)
    lines = lines / np.maximum(np.linalg.norm(lines, axis=2, keepdims=True), 1e-6)
    top, bottom, left, right = (lines[:, side] for side in range(4))
    alike = np.maximum(bottom @ top.T, right @ left.T)
    np.fill_diagonal(alike, 0)
    return np.asarray(np.maximum(alike, alike.T))


def number_gap(chips: Chips) -> float:
    """Return how far in number, in places of the list, the median chip is from the one that looks most like it.

    Looks are means and deviations of all optical bands; chips without order would give a third of their number.
    """
    eo = chips.image["eo"]
    looks = np.concatenate([eo.mean(axis=(2, 3)), eo.std(axis=(2, 3))], axis=1)
    looks = (looks - looks.mean(axis=0)) / looks.std(axis=0)
    distance = np.linalg.norm(looks[:, None] - looks[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float(np.median(np.abs(distance.argmin(axis=1) - np.arange(len(looks)))))


def groups(touch: NDArray[np.bool_], members: list[int]) -> list[list[int]]:
    """Return the connected groups of some chips, in the order of their first members."""
    found: list[list[int]] = []
    open_ones = list(members)
    while open_ones:
        group = [open_ones.pop(0)]
        for chip in group:
            joined = [other for other in open_ones if touch[chip, other]]
            group.extend(joined)
            open_ones = [other for other in open_ones if other not in joined]
        found.append(group)
    return found
