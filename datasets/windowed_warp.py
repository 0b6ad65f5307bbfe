"""Windowed warp: pixels of a target from the windows of a scene that they need, block by block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .displacement import Displacement
from .resampling import KERNELS, SNAP_PX, Padded, Taps, mean_taps, point_taps
from .scene import Scene
from .source_positions import SourcePositions

#: Source values (rows x columns x bands) that are read at once: 32 MB, and several times that in copies.
MOST_VALUES = 1 << 23

#: Edges of the blocks that are resampled at once: what belongs to them stays in the processor's cache.
_BLOCK_ROWS, _BLOCK_COLS = 128, 512

#: A window of the target is not cut into smaller parts than that, pixels.
_LEAST_EDGE = 16

#: Source pixels between a raster and what is nowhere.
_FAR = 1e7

#: Rows and columns.
Window = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class WindowedWarp:
    """The warp of a scene, for any part of any target.

    Attributes
    ----------
    scene, displacement
        What is brought onto a target, and by how much its position is corrected.
    rules
        One of :data:`~equipoise.datasets.resampling.KERNELS` a band.
    is_mean
        Whether the means of source pixels are taken instead.
    """

    scene: Scene
    displacement: Displacement | None
    rules: tuple[str, ...]
    is_mean: bool

    def filled(self, target: GeoBox, read: Callable[[Window], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return float32 (band, y, x) on ``target``, NaN where not valid.

        Parameters
        ----------
        target
            Grid with a CRS, that of the displacement.
        read
            Gives so many bands, float32 (band, y, x), of a window of the scene.
        """
        positions = SourcePositions.of(self.scene.geobox, target, self.displacement)
        shift = positions.whole_shift(tolerance_px=SNAP_PX)
        out = np.full((len(self.rules), *target.shape), np.nan, dtype=np.float32)
        parts = [(slice(0, target.shape[0]), slice(0, target.shape[1]))]
        while parts:
            part = parts.pop()
            reach = 0 if shift else self._reach(positions, part)
            window = self._within(_moved(part, shift)) if shift else self._needed(positions, part, reach)
            if window is None:
                continue
            if len(self.rules) * _area(window) > MOST_VALUES and (halves := _halves(part)):
                parts += halves
            elif shift:
                out[:, *_moved(window, (-shift[0], -shift[1]))] = read(window)
            else:
                source = Padded.around(read(window), frame=2 * reach)
                for block in _blocks(part):
                    rows, cols = positions.at(*block)
                    taps = self._taps(positions, block, rows - window[0].start, cols - window[1].start)
                    for band, rule in enumerate(self.rules):
                        out[band, *block] = source.at(taps[rule], band)
        return out

    def _reach(self, positions: SourcePositions, part: Window) -> int:
        """Return how many source pixels about a position may have a weight."""
        if self.is_mean:
            return int(np.ceil(positions.largest_size(*part) / 2)) + 1
        return max(KERNELS[rule][1] for rule in self.rules) // 2 + 1

    def _needed(self, positions: SourcePositions, part: Window, reach: int) -> Window | None:
        """Return the window of the scene that a part of the target needs, or None."""
        if (bounds := positions.bounds(*part)) is None:
            return None
        top, bottom, left, right = (round(bound) for bound in bounds)
        return self._within((slice(top - reach, bottom + reach + 1), slice(left - reach, right + reach + 1)))

    def _within(self, window: Window) -> Window | None:
        """Return the part of a window that lies on the scene, or None."""
        rows, cols = (
            slice(max(0, edge.start), min(size, edge.stop))
            for edge, size in zip(window, self.scene.geobox.shape, strict=True)
        )
        return None if rows.start >= rows.stop or cols.start >= cols.stop else (rows, cols)

    def _taps(
        self, positions: SourcePositions, block: Window, rows: NDArray[np.float64], cols: NDArray[np.float64]
    ) -> dict[str, Taps]:
        """Return the taps of a block of the target by rule; ``rows`` and ``cols`` (y, x) count in the window read."""
        nowhere = np.isnan(rows) | np.isnan(cols)
        rows[nowhere] = cols[nowhere] = -_FAR  # outside: not valid by every rule
        if not self.is_mean:
            return {rule: point_taps(rule, rows, cols) for rule in set(self.rules)}
        heights, widths = positions.sizes(*block)
        heights[nowhere] = widths[nowhere] = 1
        return dict.fromkeys(self.rules, mean_taps(rows, cols, heights, widths))


def _area(window: Window) -> int:
    return (window[0].stop - window[0].start) * (window[1].stop - window[1].start)


def _moved(window: Window, by: tuple[int, int]) -> Window:
    rows, cols = (slice(edge.start + way, edge.stop + way) for edge, way in zip(window, by, strict=True))
    return rows, cols


def _halves(part: Window) -> list[Window]:
    """Cut a window across its longer edge; nothing where it is small."""
    rows, cols = part
    height, width = rows.stop - rows.start, cols.stop - cols.start
    if max(height, width) < 2 * _LEAST_EDGE:
        return []
    if height > width:
        middle = rows.start + height // 2
        return [(slice(rows.start, middle), cols), (slice(middle, rows.stop), cols)]
    middle = cols.start + width // 2
    return [(rows, slice(cols.start, middle)), (rows, slice(middle, cols.stop))]


def _blocks(part: Window) -> Iterator[Window]:
    rows, cols = part
    for row in range(rows.start, rows.stop, _BLOCK_ROWS):
        for col in range(cols.start, cols.stop, _BLOCK_COLS):
            yield slice(row, min(row + _BLOCK_ROWS, rows.stop)), slice(col, min(col + _BLOCK_COLS, cols.stop))
