"""Source positions: where the pixels of a target grid lie in a source grid, displacement and reprojection in one."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .displacement import Displacement

#: Target pixels between places that are transformed exactly, at first; it is halved where that is not enough.
SPACING = 32

#: Largest error in source pixels that is allowed in between at twice the spacing: what is used is four times better.
TOLERANCE_PX = 1e-3

#: A transformed place farther away than this is none (PROJ's answer beyond a projection's reach), in source pixels.
_FARTHEST_PX = 1e7


@dataclass(frozen=True, kw_only=True, eq=False)
class SourcePositions:
    """Positions in a source grid for every pixel centre of a target grid, bilinear between nodes.

    Attributes
    ----------
    node_rows, node_cols
        float64 (n,) and (m,), increasing, at least two each: target pixels, 0 = centre of the first.
    rows, cols
        float64 (n, m): source pixels, 0 = centre of the first; NaN where the transform has no answer.
    """

    node_rows: NDArray[np.float64]
    node_cols: NDArray[np.float64]
    rows: NDArray[np.float64]
    cols: NDArray[np.float64]

    @classmethod
    def of(cls, source: GeoBox, target: GeoBox, displacement: Displacement | None = None) -> "SourcePositions":
        """Transform as many places as the accuracy demands.

        A field's own nodes are among them where it lies parallel to the target, as its slope changes there; else every
        pixel is.

        Raises
        ------
        SceneError
            If the displacement is of another CRS than ``target``.
        """
        if displacement is not None:
            displacement.require_crs(target)
        node_rows, node_cols = _nodes(target, displacement, spacing=SPACING if source.crs != target.crs else None)
        if source.crs == target.crs:  # an affine transform of a field that is bilinear between its nodes
            rows, cols = transformed(source, target, displacement, node_rows, node_cols)
            return cls(node_rows=node_rows, node_cols=node_cols, rows=rows, cols=cols)
        while True:
            node_rows, node_cols = _halved(node_rows), _halved(node_cols)
            rows, cols = transformed(source, target, displacement, node_rows, node_cols)
            worst = max(_interpolation_error(rows), _interpolation_error(cols))
            if worst <= TOLERANCE_PX or max(np.diff(node_rows).max(), np.diff(node_cols).max()) <= 1:
                return cls(node_rows=node_rows, node_cols=node_cols, rows=rows, cols=cols)

    def at(self, rows: slice, cols: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return source rows and columns, float64 (y, x), for a window of the target."""
        places = _pixels(rows), _pixels(cols)
        return self._between(self.rows, *places), self._between(self.cols, *places)

    def sizes(self, rows: slice, cols: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return height and width in source pixels, float64 (y, x), of the pixels of a window of the target.

        Of turned pixels these are the edges of the upright rectangle that spreads as far along each axis as the pixel
        does (of the same second moments); of upright pixels, their edges.
        """
        places = _pixels(rows), _pixels(cols)
        heights, widths = self._node_sizes
        return self._between(heights, *places), self._between(widths, *places)

    def largest_size(self, rows: slice, cols: slice) -> float:
        """Return the largest height or width in source pixels within a window of the target; 1 where none is known."""
        places = _corners(self.node_rows, rows), _corners(self.node_cols, cols)
        sizes = [self._between(values, *places) for values in self._node_sizes]
        return max(float(np.max(values, initial=1, where=np.isfinite(values))) for values in sizes)

    def bounds(self, rows: slice, cols: slice) -> tuple[float, float, float, float] | None:
        """Return least row, largest row, least column, largest column in the source for a window of the target.

        None where no pixel of the window has a position.
        """
        places = _corners(self.node_rows, rows), _corners(self.node_cols, cols)
        down, right = self._between(self.rows, *places), self._between(self.cols, *places)
        known = np.isfinite(down) & np.isfinite(right)
        if not known.any():
            return None
        down, right = down[known], right[known]
        return float(down.min()), float(down.max()), float(right.min()), float(right.max())

    def whole_shift(self, *, tolerance_px: float) -> tuple[int, int] | None:
        """Return source row minus target row, and the same of columns, where both are whole and the same everywhere."""
        down, right = self.rows - self.node_rows[:, None], self.cols - self.node_cols[None]
        if not (np.isfinite(down).all() and np.isfinite(right).all()):
            return None
        shift = round(float(down.mean())), round(float(right.mean()))
        error = max(float(np.abs(down - shift[0]).max()), float(np.abs(right - shift[1]).max()))
        return shift if error <= tolerance_px else None

    @cached_property
    def _node_sizes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        heights, widths = (
            np.hypot(np.gradient(values, self.node_rows, axis=0), np.gradient(values, self.node_cols, axis=1))
            for values in (self.rows, self.cols)
        )
        return heights, widths

    def _between(
        self, values: NDArray[np.float64], rows: NDArray[np.float64], cols: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Interpolate the nodes' values at increasing target rows and columns."""
        row, down = _segment(self.node_rows, rows)
        col, right = _segment(self.node_cols, cols)
        near = values[row[0] : row[-1] + 2]
        left = near[:, col]
        along = left + right * (near[:, col + 1] - left)
        row -= row[0]
        found = along[row + 1]
        found -= along[row]
        found *= down[:, None]
        found += along[row]
        return found


def transformed(
    source: GeoBox,
    target: GeoBox,
    displacement: Displacement | None,
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Transform places of a target grid into its source, exactly.

    Parameters
    ----------
    source, target
        Grids with a CRS.
    displacement
        In the target's CRS, or None.
    rows, cols
        float64 (n,) and (m,): target pixels, 0 = centre of the first.

    Returns
    -------
    Source rows and columns, float64 (n, m), 0 = centre of the first; NaN where there is none.
    """
    a, b, left, d, e, top = tuple(target.affine)[:6]
    down, right = rows[:, None] + 0.5, cols[None] + 0.5
    x, y = a * right + b * down + left, d * right + e * down + top
    if displacement is not None:
        east, north = displacement.at_places(x, y)
        x, y = x - east, y - north
    if source.crs is not None and target.crs is not None and source.crs != target.crs:
        x, y = (np.asarray(part).reshape(x.shape) for part in target.crs.transformer_to_crs(source.crs)(x, y))
        if source.crs.geographic:
            # Longitude is continuous about the source: 180 degrees east is not far from 180 west.
            middle = (source.affine * (source.shape[1] / 2, source.shape[0] / 2))[0]
            with np.errstate(invalid="ignore"):
                x = x - 360 * np.round((x - middle) / 360)
    a, b, left, d, e, top = tuple(~source.affine)[:6]
    with np.errstate(invalid="ignore"):
        col, row = a * x + b * y + left - 0.5, d * x + e * y + top - 0.5
        lost = ~((np.abs(row) < _FARTHEST_PX) & (np.abs(col) < _FARTHEST_PX))
    row[lost] = col[lost] = np.nan
    return row, col


def pixel_ratio(source: GeoBox, target: GeoBox) -> float:
    """Return how many source pixels a pixel in the middle of ``target`` is high or wide, whichever is less."""
    middle = [np.array([size / 2 - 1, size / 2]) for size in target.shape]
    rows, cols = transformed(source, target, None, *middle)
    edges = [np.hypot(part[1, 0] - part[0, 0], part[0, 1] - part[0, 0]) for part in (rows, cols)]
    return float(min(edges))


def _nodes(
    target: GeoBox, displacement: Displacement | None, *, spacing: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bends: tuple[NDArray[np.float64], NDArray[np.float64]] = (np.empty(0), np.empty(0))
    if displacement is not None and not displacement.is_constant:
        to_target = ~target.affine * displacement.lattice.affine
        height, width = displacement.lattice.shape
        # Over the whole lattice its lines must not leave the row or column by a thousandth of a pixel.
        if abs(to_target.b) * height > TOLERANCE_PX or abs(to_target.d) * width > TOLERANCE_PX:
            return _every(target.shape[0]), _every(target.shape[1])
        bends = (
            to_target.e * (np.arange(height) + 0.5) + to_target.f - 0.5,
            to_target.a * (np.arange(width) + 0.5) + to_target.c - 0.5,
        )
    return _axis(target.shape[0], bends[0], spacing), _axis(target.shape[1], bends[1], spacing)


def _axis(size: int, bends: NDArray[np.float64], spacing: int | None) -> NDArray[np.float64]:
    last = max(size - 1, 1)  # two nodes at least, so that a pixel has a size
    bends = bends[(bends > 0) & (bends < last)]
    regular = np.arange(0, last, spacing or last, dtype=np.float64)
    if len(regular) + len(bends) >= size:
        return _every(size)
    return np.unique(np.concatenate([regular, bends, [float(last)]]))


def _every(size: int) -> NDArray[np.float64]:
    return np.arange(max(size, 2), dtype=np.float64)


def _halved(nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    finer = np.empty(2 * len(nodes) - 1)
    finer[::2] = nodes
    finer[1::2] = (nodes[1:] + nodes[:-1]) / 2
    return finer


def _interpolation_error(values: NDArray[np.float64]) -> float:
    """Return by how much every second node misses those in between, where all are known."""
    rows = np.abs(values[1::2] - (values[:-1:2] + values[2::2]) / 2)
    cols = np.abs(values[:, 1::2] - (values[:, :-1:2] + values[:, 2::2]) / 2)
    return max(float(np.max(part, initial=0, where=np.isfinite(part))) for part in (rows, cols))


def _segment(nodes: NDArray[np.float64], places: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return for each place the node before it, and the way to the next one, 0 to 1."""
    before = np.clip(np.searchsorted(nodes, places, side="right") - 1, 0, len(nodes) - 2)
    return before, (places - nodes[before]) / (nodes[before + 1] - nodes[before])


def _pixels(window: slice) -> NDArray[np.float64]:
    return np.arange(window.start, window.stop, dtype=np.float64)


def _corners(nodes: NDArray[np.float64], window: slice) -> NDArray[np.float64]:
    """Return the first and the last pixel of a window and the nodes between: what lies between them has no extreme."""
    first, last = window.start, window.stop - 1
    return np.concatenate([[first], nodes[(nodes > first) & (nodes < last)], [last]])
