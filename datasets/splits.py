"""Spatial splits: blocks of ground go to training, validation or test, with a buffer of unused ground between them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import SplitError

SPLITS = ("train", "validation", "test")

#: Blocks whose split is to be drawn, and blocks that no scene observed.
FREE, UNUSED = -1, -2


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of a grid that belongs to one split: first row and column, one past the last row and column."""

    split: str
    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, kw_only=True)
class BlockSplit:
    """A split of one scene's grid into square blocks.

    Attributes
    ----------
    shape
        Rows and columns of the grid.
    block_size
        Edge of a block in pixels.
    buffer
        Distance in pixels that must lie between pixels of different splits.
    assignment
        int8 (block rows, block columns): index into :data:`SPLITS`; -1 where nothing was observed.
    """

    shape: tuple[int, int]
    block_size: int
    buffer: int
    assignment: NDArray[np.int8]

    def regions(self, rows: range | None = None, cols: range | None = None) -> Iterator[Region]:
        """Yield the usable part of every block that has a split, or of those in some block rows and columns.

        The smaller splits keep their ground whole: at a border, training gives way to validation and test, and
        validation gives way to test, by the buffer.
        """
        every = [range(count) for count in self.assignment.shape]
        for row, col in itertools.product(rows or every[0], cols or every[1]):
            if self.assignment[row, col] < 0:
                continue
            top, left = row * self.block_size, col * self.block_size
            yield Region(
                split=SPLITS[self.assignment[row, col]],
                top=top + self.buffer * self._gives_way(row, col, range(-1, 0), range(-1, 2)),
                left=left + self.buffer * self._gives_way(row, col, range(1), range(-1, 0)),
                bottom=min(top + self.block_size, self.shape[0])
                - self.buffer * self._gives_way(row, col, range(1, 2), range(-1, 2)),
                right=min(left + self.block_size, self.shape[1])
                - self.buffer * self._gives_way(row, col, range(1), range(1, 2)),
            )

    def _gives_way(self, row: int, col: int, down: range, across: range) -> bool:
        """Whether a neighbour in these directions belongs to a smaller split; diagonal ones count above and below."""
        rows, cols = self.assignment.shape
        own = self.assignment[row, col]
        return any(
            self.assignment[row + i, col + j] > own
            for i in down
            for j in across
            if 0 <= row + i < rows and 0 <= col + j < cols
        )


def split_blocks(
    shape: tuple[int, int],
    *,
    block_size: int,
    buffer: int,
    validation: float,
    test: float,
    rng: np.random.Generator,
    given: NDArray[np.int8] | None = None,
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
    rng
        Draws the blocks.
    given
        int8 (block rows, block columns): index into :data:`SPLITS` of the blocks whose split is settled, :data:`FREE`
        for those to be drawn, :data:`UNUSED` for those that nothing observed. None: all are free.

    Raises
    ------
    SplitError
        If there are fewer than three blocks and none is settled, or the buffer reaches across a whole block.
    """
    if buffer > block_size:
        raise SplitError(
            f"found a buffer of {buffer} px around split blocks of {block_size} px; wanted at most the block's edge; "
            "use a larger `tile.block_size` or a smaller `tile.buffer`"
        )
    blocks = block_count(shape, block_size=block_size)
    given = np.full(blocks, FREE, dtype=np.int8) if given is None else given
    count, is_free = int((given != UNUSED).sum()), given == FREE
    if count < len(SPLITS) and not (given >= 0).any():
        raise SplitError(
            f"found {count} split blocks of {block_size} px on a grid of {shape[1]} x {shape[0]} px; wanted at least "
            "3; use a smaller `tile.block_size`, or give whole scenes to the splits"
        )
    order = np.zeros(int(is_free.sum()), dtype=np.int8)
    start = 0
    for name, share in (("test", test), ("validation", validation)):
        held = max(1, round(share * count)) - int((given == SPLITS.index(name)).sum())
        order[start : start + max(held, 0)] = SPLITS.index(name)
        start += max(held, 0)
    assignment = np.where(given == UNUSED, -1, given).astype(np.int8)
    assignment[is_free] = rng.permutation(order)
    return BlockSplit(shape=shape, block_size=block_size, buffer=buffer, assignment=assignment)


def block_count(shape: tuple[int, int], *, block_size: int) -> tuple[int, int]:
    """Return how many rows and columns of blocks cover a grid; the last ones may be smaller."""
    return -(-shape[0] // block_size), -(-shape[1] // block_size)


def origins(region: Region, *, size: int, overlap: int, shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the upper left pixels of patches that cover a region.

    Patches are spaced evenly and stay inside the region; a region that is too small for one gives none, unless it
    ends at the grid's edge: there the patch reaches beyond, where nothing is valid.

    Parameters
    ----------
    region
        Where patches may lie.
    size, overlap
        Edge and least overlap of the patches, px.
    shape
        Rows and columns of the grid.
    """
    for row in _starts(region.top, region.bottom, size=size, overlap=overlap, limit=shape[0]):
        for col in _starts(region.left, region.right, size=size, overlap=overlap, limit=shape[1]):
            yield row, col


def _starts(first: int, last: int, *, size: int, overlap: int, limit: int) -> list[int]:
    if last <= first:  # the buffer left nothing
        return []
    if last - first >= size:
        count = 1 + -(-(last - first - size) // (size - overlap))
        return [int(start) for start in np.linspace(first, last - size, count).round()]
    if last == limit:
        return [first]
    return [last - size] if first == 0 else []
