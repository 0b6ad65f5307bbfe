"""Peaks of score surfaces: where a block's content lies, how surely, and by how much it stands out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .matching import ScoreSurfaces

#: Pixels around a peak that are its own, not background.
PEAK_RADIUS = 3.5

#: Largest peak over background, in deviations, that is believed: beyond it, a surface's shape is no chance either way.
MOST_SURE = 12.0

#: Least variance of a peak, px squared: a tenth of a pixel, which interpolation and aliasing cost.
LEAST_VARIANCE = 1e-2

#: What a place that is no peak says less, as a factor on its variance.
NO_PEAK = 25.0


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """One place for each block.

    Attributes
    ----------
    shift
        float64 (block, 2): rows and columns.
    covariance
        float64 (block, 2, 2), px squared.
    lead
        float64 (block,): score at the shift over the surface's median, in robust deviations of the surface.
    """

    shift: NDArray[np.float64]
    covariance: NDArray[np.float64]
    lead: NDArray[np.float64]


class SurfacePeaks:
    """The peaks of some surfaces, near wherever they are looked for."""

    def __init__(self, surfaces: ScoreSurfaces) -> None:
        scores = surfaces.scores.astype(np.float64)
        flat = scores.reshape(len(scores), -1)
        self.radius = surfaces.radius
        self._middle = np.median(flat, axis=1)
        self._spread = 1.4826 * np.median(np.abs(flat - self._middle[:, None]), axis=1) + 1e-9
        self._lead = (scores - self._middle[:, None, None]) / self._spread[:, None, None]
        once = ndimage.spline_filter1d(scores, order=3, axis=1, mode="mirror")
        self._spline = ndimage.spline_filter1d(once, order=3, axis=2, mode="mirror")
        self._slopes = np.gradient(scores, axis=(1, 2))

    def near(self, expected: NDArray[np.float64], variance: NDArray[np.float64]) -> Peaks:
        """Return the likeliest place of each block, given where it is expected.

        The surface of a block is taken for a log-likelihood (score over background, times the height of its peak), to
        which the expectation adds; Newton's method on the surface's cubic spline goes on to the sub-pixel peak there.
        The covariance of a peak is H^-1 G H^-1, with the curvature H at the peak and the gradient covariance G of the
        surface away from it, which is what noise adds to the gradient at the peak, too.

        Parameters
        ----------
        expected
            float64 (block, 2), px.
        variance
            float64 (block,) of the expectation, px squared along each axis.
        """
        shift = self._likeliest(np.clip(expected, -self.radius, self.radius), variance)
        start = shift
        for _ in range(2):
            _, gradient, curvature = self._at(shift)
            step, inverse, is_peak = _newton(gradient, curvature)
            shift = np.clip(shift + step, start - 1, start + 1)
        noise = self._background(shift)
        covariance = inverse @ noise @ inverse
        covariance[~is_peak] *= NO_PEAK
        value, _, _ = self._at(shift)
        return Peaks(
            shift=shift, covariance=covariance + LEAST_VARIANCE * np.eye(2),
            lead=(value - self._middle) / self._spread,
        )  # fmt: skip

    def lead_at(self, shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score at shifts (block, 2) over each surface's median, in its robust deviations."""
        return (self._at(shift)[0] - self._middle) / self._spread

    def total(self) -> NDArray[np.float64]:
        """Return the sum of all surfaces, smoothed by one pixel: (row, column) of the shift common to all blocks."""
        total = ndimage.gaussian_filter(self._lead.mean(axis=0), 1.0)
        return np.array(np.unravel_index(int(total.argmax()), total.shape), float) - self.radius

    def _likeliest(self, expected: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
        count, edge, _ = self._lead.shape
        height = np.clip(self._lead.reshape(count, -1).max(axis=1), 1, MOST_SURE)
        ticks = np.arange(edge) - self.radius
        rows = (ticks - expected[:, :1]) ** 2
        cols = (ticks - expected[:, 1:]) ** 2
        doubt = (rows[:, :, None] + cols[:, None, :]) / (2 * variance[:, None, None])
        belief = (height[:, None, None] * self._lead - doubt)[:, 1:-1, 1:-1]
        best = belief.reshape(count, -1).argmax(axis=1)
        return np.stack(np.divmod(best, edge - 2), axis=1) + 1.0 - self.radius

    def _background(self, shift: NDArray[np.float64]) -> NDArray[np.float64]:
        ticks = np.arange(self._lead.shape[1]) - self.radius
        away = ((ticks - shift[:, :1]) ** 2)[:, :, None] + ((ticks - shift[:, 1:]) ** 2)[:, None, :] > PEAK_RADIUS**2
        count = np.maximum(away.sum(axis=(1, 2)), 1)
        down, right = self._slopes
        rows, cols, both = ((product * away).sum(axis=(1, 2)) / count for product in (down**2, right**2, down * right))
        return np.stack([rows, both, both, cols], axis=1).reshape(-1, 2, 2)

    def _at(self, shift: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Value (block,), gradient (block, 2) and second derivatives (block, 2, 2) of the spline at a shift."""
        edge = self._spline.shape[1]
        place = np.clip(shift + self.radius, 1.0, edge - 2 - 1e-6)
        corner = np.minimum(place.astype(np.intp), edge - 3)
        rows, cols = (_basis(place[:, axis] - corner[:, axis]) for axis in (0, 1))
        around = np.arange(-1, 3)
        patch = self._spline[
            np.arange(len(shift))[:, None, None], (corner[:, :1] + around)[:, :, None],
            (corner[:, 1:] + around)[:, None, :],
        ]  # fmt: skip
        table = np.einsum("nij,ani,bnj->nab", patch, rows, cols)
        second = np.stack([table[:, 2, 0], table[:, 1, 1], table[:, 1, 1], table[:, 0, 2]], axis=1).reshape(-1, 2, 2)
        return table[:, 0, 0], np.stack([table[:, 1, 0], table[:, 0, 1]], axis=1), second


def _basis(part: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic B-spline weights of four neighbours at ``part`` (n,) between the middle two, and two derivatives of them.

    (3, n, 4): weights, first and second derivatives.
    """
    t, s = part, 1 - part
    weights = [s**3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (4 - 6 * s**2 + 3 * s**3) / 6, t**3 / 6]
    first = [-(s**2) / 2, 1.5 * t**2 - 2 * t, 2 * s - 1.5 * s**2, t**2 / 2]
    second = [s, 3 * t - 2, 3 * s - 2, t]
    return np.stack([np.stack(rows, axis=1) for rows in (weights, first, second)])


def _newton(
    gradient: NDArray[np.float64], curvature: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return a step of at most one pixel uphill, the inverse curvature made negative, and whether it was so."""
    values, vectors = np.linalg.eigh(curvature)
    inverse = np.einsum("nij,nj,nkj->nik", vectors, 1 / np.minimum(values, -1e-6), vectors)
    step = -np.einsum("nij,nj->ni", inverse, gradient)
    length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)
    return step * np.minimum(1, 1 / length)[:, None], inverse, values[:, 1] < 0
