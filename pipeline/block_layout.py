"""Layout of the blocks that are matched: how large, how far apart, at which detail, and which are read together."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

#: Blocks along an edge at most: beyond, accuracy no longer gains, and the fit costs the cube of their number.
MOST_BLOCKS = 24

#: Edge in pixels of the windows in which neighbouring blocks are read together.
TOGETHER = 640

#: Zoom, edge of a block, and search radius of each level, px of the level; the first one's radius is the user's.
LEVELS = ((4, 64, 3), (2, 96, 8), (1, 160, 6), (1, 160, 6))

#: Least edge in pixels of an image at a level that is worth a look: smaller ones are searched at more detail.
LEAST_EDGE = 160

#: Least edge of a block, px of the level.
LEAST_BLOCK = 20

#: A block takes no more than this part of the image's shorter edge.
LARGEST_PART = 0.4


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Blocks at one level of detail.

    Attributes
    ----------
    zoom
        Pixels of the matching grid along a pixel of the level.
    size, radius
        Edge of a block, and search radius, px of the level.
    rows, cols
        First row and column of the blocks, px of the level.
    """

    zoom: int
    size: int
    radius: int
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]

    def groups(self) -> Iterator[NDArray[np.intp]]:
        """Yield blocks that are read together, (block, 2) rows and columns: neighbours where they overlap."""
        for rows in _runs(self.rows, self.size):
            for cols in _runs(self.cols, self.size):
                yield np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(-1, 2)


def layouts(grid: GeoBox, *, radius_m: float) -> list[Layout]:
    """Return the levels for a grid, the coarsest first, which searches ``radius_m`` metres around."""
    shorter, pixel = min(grid.shape), abs(grid.resolution.x)
    levels = [level for level in LEVELS if shorter / level[0] >= LEAST_EDGE] or list(LEVELS[-2:])
    result = []
    for number, (zoom, size, radius) in enumerate(levels):
        rows, cols = (edge // zoom for edge in grid.shape)
        edge = int(min(size, max(LEAST_BLOCK, LARGEST_PART * min(rows, cols)), rows, cols))
        reach = int(np.ceil(radius_m / pixel / zoom)) + LEVELS[0][2] if number == 0 else radius
        # Farther away, less than a block would be left in common.
        reach = min(reach, max(radius, min(rows, cols) - edge))
        result.append(
            Layout(zoom=zoom, size=edge, radius=reach, rows=_starts(rows, edge), cols=_starts(cols, edge))
        )  # fmt: skip
    return result


def _starts(length: int, edge: int) -> NDArray[np.intp]:
    """Return the first pixels of blocks that cover an edge, each half over the next, or as many as there may be."""
    count = min(int(np.ceil(2 * (length - edge) / edge)) + 1, MOST_BLOCKS)
    return np.round(np.linspace(0, length - edge, max(1, count))).astype(np.intp)


def _runs(starts: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    """Split first pixels into runs that are read together; blocks that lie apart are read alone."""
    step = int(np.max(np.diff(starts))) if len(starts) > 1 else size
    most = max(1, (TOGETHER - size) // step + 1) if step <= size else 1
    return [starts[first : first + most] for first in range(0, len(starts), most)]
