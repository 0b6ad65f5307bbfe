"""Mosaic: overlapping windows blended into a scene, a few rows at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class WindowGrid:
    """Windows that cover a scene.

    Window (i, j) starts at row ``i * stride - margin``, column ``j * stride - margin`` (so that the first ones reach
    beyond the scene's edge) and owns its core of ``stride`` x ``stride`` px; cores tile the scene without overlap.

    Attributes
    ----------
    rows, cols
        Scene size, px.
    tile
        Edge of a window, px.
    overlap
        Even number of px that neighbours share.
    halo
        Px along a window's border whose answers have no weight, at most ``overlap / 2``: neighbours are blended over
        the ``overlap - 2 * halo`` px between. A network that sees no farther than the halo has the same
        answer in every window and on the whole scene.
    """

    rows: int
    cols: int
    tile: int
    overlap: int
    halo: int = 0

    @property
    def stride(self) -> int:
        """Distance between windows, px."""
        return self.tile - self.overlap

    @property
    def margin(self) -> int:
        """Rows and columns of a window before its core, px."""
        return self.overlap // 2

    @property
    def row_count(self) -> int:
        """Number of rows of windows."""
        return -(-self.rows // self.stride)

    @property
    def col_count(self) -> int:
        """Number of columns of windows."""
        return -(-self.cols // self.stride)

    def origins(self, row: int) -> Iterator[tuple[int, int]]:
        """Yield the upper left pixels of the windows of one row."""
        for col in range(self.col_count):
            yield row * self.stride - self.margin, col * self.stride - self.margin

    def finished_rows(self, row: int) -> tuple[int, int]:
        """First and one past the last scene row that no later row of windows touches and no earlier one finished."""
        first = 0 if row == 0 else row * self.stride - self.margin
        last = self.rows if row == self.row_count - 1 else min((row + 1) * self.stride - self.margin, self.rows)
        return first, last


def blend_profile(tile: int, overlap: int, halo: int = 0) -> NDArray[np.float32]:
    """Return the weight of each row or column of a window, float32 (tile,).

    0 in the halo, a raised cosine over the rest of the overlap and 1 between: the weights of two neighbours sum to 1
    at every pixel.
    """
    width = overlap - 2 * halo
    ramp = np.sin(0.5 * np.pi * (np.arange(width) + 0.5) / max(width, 1)) ** 2
    rise = np.concatenate([np.zeros(halo), ramp, np.ones(halo)])
    profile = np.ones(tile, dtype=np.float64)
    profile[:overlap] = rise
    profile[tile - overlap :] = rise[::-1]
    return profile.astype(np.float32)


class RowBlender:
    """Accumulates weighted windows row by row and gives out rows as soon as they are final.

    Memory is one row of windows: (channels + 1) x tile x scene width, float32, and the rows that are given out,
    whatever the scene's height.

    Parameters
    ----------
    grid
        The windows.
    channels
        Values a pixel.
    """

    def __init__(self, grid: WindowGrid, *, channels: int) -> None:
        self._grid = grid
        width = grid.col_count * grid.stride + grid.overlap
        self._values = np.zeros((channels, grid.tile, width), dtype=np.float32)
        self._weights = np.zeros((grid.tile, width), dtype=np.float32)
        self._seen = np.zeros((grid.tile, width), dtype=bool)
        self._closed = False
        profile = blend_profile(grid.tile, grid.overlap, grid.halo)
        self._window = profile[:, None] * profile[None, :]

    def add(self, col: int, values: NDArray[np.float32], *, seen: NDArray[np.bool_] | None = None) -> None:
        """Add a window of the current row.

        Parameters
        ----------
        col
            First column of the window, as from the grid's origins.
        values
            float32 (channels, tile, tile).
        seen
            bool (tile, tile), True where the values mean something; None: everywhere.
        """
        self._begin()
        left = col + self._grid.margin
        cols = slice(left, left + self._grid.tile)
        self._values[:, :, cols] += values * self._window
        self._weights[:, cols] += self._window
        self._seen[:, cols] |= (self._window > 0) if seen is None else seen

    def finish(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Close row ``row`` of windows.

        Returns
        -------
        Blended values float32 (channels, rows, scene width) of the rows that are final now, 0 where nothing was
        added; and where something was added and seen, bool (rows, scene width). The values are no copy: they are good
        until the next call.
        """
        self._begin()
        grid = self._grid
        first, last = grid.finished_rows(row)
        top = first - (row * grid.stride - grid.margin)
        rows, cols = slice(top, top + last - first), slice(grid.margin, grid.margin + grid.cols)
        weights = self._weights[rows, cols]
        covered = weights > 0
        values = self._values[:, rows, cols]
        np.divide(values, weights, out=values, where=covered)
        self._closed = True
        return values, self._seen[rows, cols] & covered

    def _begin(self) -> None:
        """Carry over what the row that was closed last shares with the next: not before, as it was given out."""
        if self._closed:
            for buffer in (self._values, self._weights, self._seen):
                _carry(buffer, self._grid.overlap)
        self._closed = False


def _carry(buffer: NDArray[np.float32] | NDArray[np.bool_], overlap: int) -> None:
    """Move the last ``overlap`` rows, at most half of all, to the top, and clear the others."""
    kept = buffer.shape[-2] - overlap
    buffer[..., :overlap, :] = buffer[..., kept:, :]
    buffer[..., overlap:, :] = 0
