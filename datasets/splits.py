"""Spatial splits: blocks of ground go to training, validation or test, with a buffer of unused ground between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from .errors import SplitError

SPLITS = ("train", "validation", "test")


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
        int8 (block rows, block columns): index into :data:`SPLITS`.
    """

    shape: tuple[int, int]
    block_size: int
    buffer: int
    assignment: NDArray[np.int8]

    def regions(self) -> Iterator[Region]:
        """Yield the usable part of every block.

        The smaller splits keep their ground whole: at a border, training gives way to validation and test, and
        validation gives way to test, by the buffer.
        """
        rows, cols = self.assignment.shape
        for row in range(rows):
            for col in range(cols):
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
        If there are fewer than three blocks, or the buffer reaches across a whole block.
    """
    if buffer > block_size:
        raise SplitError(
            f"found a buffer of {buffer} px around split blocks of {block_size} px; wanted at most the block's edge; "
            "use a larger `tile.block_size` or a smaller `tile.buffer`"
        )
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
    assignment = rng.permutation(order).reshape(blocks)
    return BlockSplit(shape=shape, block_size=block_size, buffer=buffer, assignment=assignment)


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


def check_overlap(table: gpd.GeoDataFrame) -> None:
    """Refuse patches of different scenes and splits that lie on the same ground.

    Parameters
    ----------
    table
        Columns ``scene``, ``split`` and ``geometry`` (footprints in one CRS).

    Raises
    ------
    SplitError
        Naming the first pair of scenes that leaks.
    """
    first, second = table.sindex.query(table.geometry, predicate="intersects")
    scenes, splits = table["scene"].to_numpy(), table["split"].to_numpy()
    suspects = (scenes[first] != scenes[second]) & (splits[first] != splits[second])
    for i, j in zip(first[suspects], second[suspects], strict=True):
        own = table.geometry.iloc[i]
        # Neighbours that touch along an edge share a sliver of rounding errors at most.
        if own.intersection(table.geometry.iloc[j]).area > 1e-6 * own.area:
            raise SplitError(
                f"found ground of scene '{scenes[i]}' ({splits[i]}) also in scene '{scenes[j]}' ({splits[j]}); wanted "
                "each place in one split; give overlapping scenes the same `split`"
            )


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
