"""Resampling: values at any position of a raster, by kernels that are a product of two weights, NaN honoured."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A position this near to a pixel's centre is at it, and less of a pixel is none of it, in pixels.
SNAP_PX = 1e-3

#: Moves ties between two nearest pixels off the rounding noise of their positions, in pixels.
_TIE_PX = 1e-6

Weights = tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Taps:
    """The source pixels that make up each target pixel, and their weights.

    Attributes
    ----------
    rows, cols
        int (y, x): first source row and column.
    row_weights, col_weights
        float32 (y, x) of each row from the first one on, and of each column.
    is_mean
        Whether weights are shares of the source pixels that are valid; else all with a weight must be.
    """

    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    row_weights: Weights
    col_weights: Weights
    is_mean: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Padded:
    """A window of a raster within a frame of pixels that are not valid.

    Attributes
    ----------
    values
        float32 (band, y, x), 0 where not valid.
    holes
        bool (band, y, x), True where not valid.
    frame
        Width of the frame, pixels.
    """

    values: NDArray[np.float32]
    holes: NDArray[np.bool_]
    frame: int

    @classmethod
    def around(cls, window: NDArray[np.float32], *, frame: int) -> "Padded":
        """Frame a window, float32 (band, y, x); what is not finite is not valid."""
        edges = ((0, 0), (frame, frame), (frame, frame))
        values = np.pad(window, edges)
        holes = np.pad(~np.isfinite(window), edges, constant_values=True)
        values[holes] = 0
        return cls(values=values, holes=holes, frame=frame)

    def at(self, taps: Taps, band: int) -> NDArray[np.float32]:
        """Return the values of a band that the taps make up, float32 (y, x), NaN where not valid."""
        values, holes = self.values[band], self.holes[band]
        height, width = values.shape
        depth = len(taps.row_weights), len(taps.col_weights)
        # Beyond the window all taps are in the frame, which is as wide as they are many.
        rows = np.clip(taps.rows + self.frame, 0, height - depth[0])
        cols = np.clip(taps.cols + self.frame, 0, width - depth[1])
        reached = holes[rows.min() : rows.max() + depth[0], cols.min() : cols.max() + depth[1]]
        if reached.all():
            return np.full(rows.shape, np.nan, np.float32)
        first = rows * width + cols
        total = _weighted(values, first, taps.row_weights, taps.col_weights)
        if not reached.any():
            return total / (_sum(taps.row_weights) * _sum(taps.col_weights)) if taps.is_mean else total
        if taps.is_mean:
            share = _weighted(~holes, first, taps.row_weights, taps.col_weights)
            return np.divide(total, share, out=np.full_like(total, np.nan), where=share > 0)
        lost = _weighted(holes, first, *([np.abs(part) for part in parts]
                                         for parts in (taps.row_weights, taps.col_weights)))  # fmt: skip
        total[lost > 0] = np.nan
        return total


def point_taps(rule: str, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> Taps:
    """Return the taps of an interpolation.

    Parameters
    ----------
    rule
        One of :data:`KERNELS`.
    rows, cols
        float64 (y, x): source pixels, 0 = centre of the first; finite.
    """
    weights, count = KERNELS[rule]
    before = count // 2 - 1
    row, row_part = _split(rows) if count > 1 else (np.floor(rows + 0.5 + _TIE_PX), rows)
    col, col_part = _split(cols) if count > 1 else (np.floor(cols + 0.5 + _TIE_PX), cols)
    offset = before if count > 1 else 0
    return Taps(
        rows=row.astype(np.intp) - offset, cols=col.astype(np.intp) - offset,
        row_weights=weights(row_part.astype(np.float32)), col_weights=weights(col_part.astype(np.float32)),
        is_mean=False,
    )  # fmt: skip


def mean_taps(
    rows: NDArray[np.float64], cols: NDArray[np.float64], heights: NDArray[np.float64], widths: NDArray[np.float64]
) -> Taps:
    """Return the taps of a mean over rectangles; a source pixel that is partly in one counts by that part.

    Parameters
    ----------
    rows, cols
        float64 (y, x): centres, source pixels, 0 = centre of the first; finite.
    heights, widths
        float64 (y, x): edges in source pixels; finite.
    """
    row, row_weights = _shares(rows, heights)
    col, col_weights = _shares(cols, widths)
    return Taps(rows=row, cols=col, row_weights=row_weights, col_weights=col_weights, is_mean=True)


def _split(position: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the pixel before a position and the way to the next one, 0 to 1; 0 where it is as good as at the pixel."""
    before = np.floor(position + SNAP_PX)
    part = position - before
    part[part < SNAP_PX] = 0
    return before, part


def _shares(centre: NDArray[np.float64], size: NDArray[np.float64]) -> tuple[NDArray[np.intp], Weights]:
    low, high = centre - size / 2 + 0.5, centre + size / 2 + 0.5
    first = np.floor(low + SNAP_PX)
    start, end = (low - first).astype(np.float32), (high - first).astype(np.float32)
    weights = []
    for number in range(max(1, int(np.ceil(end.max() - SNAP_PX)))):
        share = np.minimum(end, np.float32(number + 1)) - np.maximum(start, np.float32(number))
        share[share < SNAP_PX] = 0
        weights.append(share)
    return first.astype(np.intp), tuple(weights)


def _weighted(
    values: NDArray[np.float32] | NDArray[np.bool_],
    first: NDArray[np.intp],
    row_weights: Weights | list[NDArray[np.float32]],
    col_weights: Weights | list[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Add up weighted pixels; ``first`` (y, x) counts along the rows of ``values`` (y, x)."""
    flat, width = values.reshape(-1), values.shape[1]
    total, line, found = (np.zeros(first.shape, np.float32) for _ in range(3))
    gathered = np.empty(first.shape, values.dtype)
    used = [number for number, weight in enumerate(col_weights) if weight.any()]
    for row, row_weight in enumerate(row_weights):
        if not row_weight.any():
            continue
        line[...] = 0
        for col in used:
            # A view that begins later moves all pixels at once, without another index.
            flat[row * width + col :].take(first, out=gathered, mode="clip")
            np.multiply(gathered, col_weights[col], out=found)
            line += found
        line *= row_weight
        total += line
    return total


def _sum(weights: Weights) -> NDArray[np.float32]:
    total = np.zeros_like(weights[0])
    for weight in weights:
        total += weight
    return total


def _nearest(part: NDArray[np.float32]) -> Weights:
    return (np.ones_like(part),)


def _bilinear(part: NDArray[np.float32]) -> Weights:
    return 1 - part, part


def _cubic(part: NDArray[np.float32]) -> Weights:
    """Keys (1981) with a = -1/2: of this family it alone leaves a ramp where it is."""
    square = part * part
    cube = square * part
    half = np.float32(0.5)
    outer = (2 * square - cube - part) * half
    last = (cube - square) * half
    second = (3 * cube - 5 * square + 2) * half
    return outer, second, 1 - outer - second - last, last


def _lanczos(part: NDArray[np.float32]) -> Weights:
    """Lanczos of three lobes, its weights made to add up to one."""
    places = [part - np.float32(number) for number in range(-2, 4)]
    weights = [np.sinc(place) * np.sinc(place / 3) for place in places]
    total = np.sum(weights, axis=0)
    return tuple(np.where(part == 0, np.float32(number == 2), weight / total).astype(np.float32)
                 for number, weight in enumerate(weights))  # fmt: skip


#: Rule -> weights of the source pixels around a position that is a part of a pixel behind the middle one; their number.
KERNELS: dict[str, tuple[Callable[[NDArray[np.float32]], Weights], int]] = {
    "nearest": (_nearest, 1),
    "bilinear": (_bilinear, 2),
    "cubic": (_cubic, 4),
    "lanczos": (_lanczos, 6),
}
