"""Lattices: values known at the nodes of a coarse grid, bilinear between them and constant beyond the outermost."""

from collections.abc import Sequence

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

#: Samples along an edge of a pixel over which a mean is taken, at least and at most, and samples from node to node.
LEAST, MOST, PER_NODE = 2, 64, 4


def at_places(
    lattice: GeoBox, fields: Sequence[NDArray[np.float32]], x: NDArray[np.float64], y: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Interpolate at places in the lattice's CRS.

    Parameters
    ----------
    lattice
        Its pixel centres are the nodes.
    fields
        (y, x) at the nodes, each of them.
    x, y
        float64, shapes that broadcast to one another, in units of the CRS.

    Returns
    -------
    float64 of the common shape, one a field.
    """
    a, b, left, d, e, top = tuple(~lattice.affine)[:6]
    col, col_part = _cell(a * x + b * y + left - 0.5, lattice.shape[1])
    row, row_part = _cell(d * x + e * y + top - 0.5, lattice.shape[0])
    below, right = np.minimum(row + 1, lattice.shape[0] - 1), np.minimum(col + 1, lattice.shape[1] - 1)

    def between(field: NDArray[np.float32]) -> NDArray[np.float64]:
        values = field.astype(np.float64)
        upper = values[row, col] + col_part * (values[row, right] - values[row, col])
        lower = values[below, col] + col_part * (values[below, right] - values[below, col])
        return upper + row_part * (lower - upper)

    return [between(field) for field in fields]


def mean_over(lattice: GeoBox, field: NDArray[np.float32], target: GeoBox) -> NDArray[np.float32]:
    """Return the mean of a field over each pixel of a grid, from evenly spread samples of the interpolated field.

    Exact where the field is affine over a pixel. Memory is one row of the grid.

    Parameters
    ----------
    lattice, field
        As in :func:`at_places`.
    target
        Any grid in the lattice's CRS; pixels may be smaller or larger than the way between nodes.

    Returns
    -------
    float32 (y, x) on ``target``.
    """
    height, width = target.shape
    to_nodes: Affine = ~lattice.affine * target.affine
    across, down = _samples(to_nodes.a, to_nodes.d), _samples(to_nodes.b, to_nodes.e)
    a, b, left, d, e, top = tuple(target.affine)[:6]
    cols = (np.arange(width * across) + 0.5)[None] / across
    parts = (np.arange(down) + 0.5)[:, None] / down
    means = np.empty((height, width), np.float32)
    for row in range(height):
        rows = row + parts
        (values,) = at_places(lattice, [field], a * cols + b * rows + left, d * cols + e * rows + top)
        means[row] = values.reshape(down, width, across).mean(axis=(0, 2))
    return means


def _samples(cols: float, rows: float) -> int:
    """Return how many samples an edge of that many columns and rows of the lattice gets."""
    return int(np.clip(np.ceil(PER_NODE * np.hypot(cols, rows)), LEAST, MOST))


def _cell(position: NDArray[np.float64], nodes: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the node before each position (0 = the first node) and the way to the next one, 0 to 1."""
    inside = np.clip(position, 0, nodes - 1)
    before = np.minimum(inside.astype(np.intp), max(0, nodes - 2))
    return before, inside - before
