"""Spatial splits: blocks of ground go to training, validation or test; patches near a border are left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import SplitError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class BlockSplit:
    """A split of one scene's grid into square blocks.

    Attributes
    ----------
    block_size
        Edge of a block in pixels.
    buffer
        Distance in pixels that must lie between pixels of different splits.
    assignment
        int8 (block rows, block columns): index into :data:`SPLITS`.
    """

    block_size: int
    buffer: int
    assignment: NDArray[np.int8]

    def of_window(self, row: int, col: int, *, height: int, width: int) -> str | None:
        """Split of a window, or None if it crosses blocks of two splits or lies within the buffer of another.

        The smaller splits keep their windows whole: a training window gives way to validation and test, a
        validation window to test.
        """
        own = self._touched(row, col, height=height, width=width)
        if len(own) != 1:
            return None
        near = self._touched(
            row - self.buffer, col - self.buffer, height=height + 2 * self.buffer, width=width + 2 * self.buffer
        )
        split = own.pop()
        return SPLITS[split] if all(other <= split for other in near) else None

    def _touched(self, row: int, col: int, *, height: int, width: int) -> set[int]:
        first = max(row, 0) // self.block_size, max(col, 0) // self.block_size
        last = (row + height - 1) // self.block_size, (col + width - 1) // self.block_size
        return {int(value) for value in np.unique(self.assignment[first[0] : last[0] + 1, first[1] : last[1] + 1])}


def split_blocks(
    shape: tuple[int, int], *, block_size: int, buffer: int, validation: float, test: float, rng: np.random.Generator
) -> BlockSplit:
    """Assign the blocks of a grid to splits at random, in the shares asked for.

    Parameters
    ----------
    shape
        Rows and columns of the grid.
    block_size, buffer
        Pixels.
    validation, test
        Shares of the blocks, each at least one block.

    Raises
    ------
    SplitError
        If there are fewer than three blocks.
    """
    blocks = (-(-shape[0] // block_size), -(-shape[1] // block_size))
    count = blocks[0] * blocks[1]
    if count < len(SPLITS):
        raise SplitError(
            f"found {count} split blocks of {block_size} px on a grid of {shape[1]} x {shape[0]} px; wanted at least "
            "3; use a smaller `tile.block_size`, or give whole scenes to the splits"
        )
    order = np.zeros(count, dtype=np.int8)
    held_test, held_validation = max(1, round(test * count)), max(1, round(validation * count))
    order[:held_test] = SPLITS.index("test")
    order[held_test : held_test + held_validation] = SPLITS.index("validation")
    return BlockSplit(block_size=block_size, buffer=buffer, assignment=rng.permutation(order).reshape(blocks))


def check_leakage(windows: Sequence[tuple[str, int, int, int, int]], *, buffer: int) -> None:
    """Refuse windows of different splits that come closer than ``buffer`` pixels on one grid.

    Parameters
    ----------
    windows
        (split, row, column, height, width) of one grid.
    buffer
        Pixels.

    Raises
    ------
    SplitError
        Naming the first pair that leaks.
    """
    splits = np.array([window[0] for window in windows])
    boxes = np.array([window[1:] for window in windows], dtype=np.int64).reshape(-1, 4)
    top, left = boxes[:, 0], boxes[:, 1]
    bottom, right = top + boxes[:, 2], left + boxes[:, 3]
    for i in range(len(boxes)):
        vertical = np.maximum(top[i] - bottom, top - bottom[i])
        horizontal = np.maximum(left[i] - right, left - right[i])
        close = (np.maximum(vertical, horizontal) < buffer) & (splits != splits[i])
        if close.any():
            j = int(np.flatnonzero(close)[0])
            raise SplitError(
                f"found a {splits[i]} patch at row {top[i]}, column {left[i]} within {buffer} px of a {splits[j]} "
                f"patch at row {top[j]}, column {left[j]}; wanted no such pair; tile again with a larger `tile.buffer`"
            )
