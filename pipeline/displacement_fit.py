"""Displacement from scattered, noisy, partly wrong peaks: a shift, an affine map or a smooth field, by evidence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

#: Deviation of the common shift, px: no shift within the search is unlikely.
SHIFT = 1e3

#: Deviation of each coefficient of the affine part, px per px: 2 %.
LINEAR = 0.02

#: Degrees of freedom of the errors (Student's t): peaks of wrong places are rare, but far off.
FREEDOM = 4.0


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What a displacement may be: a Gaussian process in the plane, the same for rows and columns.

    Attributes
    ----------
    linear
        Deviation of the affine part's coefficients, px per px; 0: a shift.
    amplitude, length
        Deviation, px, and correlation length, px, of the smooth part (Matern 3/2); amplitude 0: none.
    """

    linear: float
    amplitude: float = 0.0
    length: float = 1.0

    @property
    def kind(self) -> str:
        """``shift``, ``affine`` or ``field``."""
        return "field" if self.amplitude > 0 else "affine" if self.linear > 0 else "shift"

    def covariance(self, one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the covariance, px squared, between places (n, 2) and (m, 2), px from the image's middle: (n, m)."""
        result = SHIFT**2 + self.linear**2 * (one @ other.T)
        if self.amplitude > 0:
            squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
            distance = np.sqrt(3 * np.maximum(squared, 0)) / self.length
            result += self.amplitude**2 * (1 + distance) * np.exp(-distance)
        return result


@dataclass(frozen=True, kw_only=True)
class DisplacementFit:
    """A displacement conditioned on peaks.

    Attributes
    ----------
    prior
        What it was conditioned from.
    middle
        Row and column of the image's middle, px.
    places
        float64 (n, 2): where peaks are, px.
    evidence
        Log marginal likelihood of the peaks under the prior.
    left_out, left_out_covariance
        float64 (n, 2) and (n, 2, 2): what the other peaks say of each place.
    """

    prior: Prior
    middle: NDArray[np.float64]
    places: NDArray[np.float64]
    evidence: float
    left_out: NDArray[np.float64]
    left_out_covariance: NDArray[np.float64]
    _factor: NDArray[np.float64]
    _weights: NDArray[np.float64]

    def at(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean displacement, px, at places (m, 2): (m, 2)."""
        cross = self.prior.covariance(places - self.middle, self.places - self.middle)
        return cross @ self._weights.reshape(-1, 2)

    def covariance_at(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the displacement's covariance, px squared, at places (m, 2): (m, 2, 2)."""
        cross = np.kron(self.prior.covariance(places - self.middle, self.places - self.middle), np.eye(2))
        known = linalg.solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        known = known.T.reshape(len(places), 2, -1)
        own = [self.prior.covariance(place[None], place[None])[0, 0] for place in places - self.middle]
        return np.array(own)[:, None, None] * np.eye(2) - known @ known.transpose(0, 2, 1)


def conditioned(
    prior: Prior,
    places: NDArray[np.float64],
    peaks: NDArray[np.float64],
    covariance: NDArray[np.float64],
    *,
    middle: NDArray[np.float64],
    left_out: bool = True,
) -> DisplacementFit:
    """Condition a displacement on peaks (Rasmussen and Williams 2006, algorithm 2.1 and equation 5.12).

    Parameters
    ----------
    prior
        What is known before.
    places, peaks
        float64 (n, 2): where, and the displacement found there, px.
    covariance
        float64 (n, 2, 2): errors of the peaks, px squared.
    middle
        Row and column about which the affine part turns, px.
    left_out
        Whether to say, of each place, what the others say.
    """
    count = len(places)
    noisy = np.zeros((2 * count, 2 * count))
    own = prior.covariance(places - middle, places - middle)
    index = 2 * np.arange(count)
    for row in (0, 1):
        noisy[row::2, row::2] = own
        for col in (0, 1):
            noisy[index + row, index + col] += covariance[:, row, col]
    factor = linalg.cholesky(noisy, lower=True, check_finite=False, overwrite_a=True)
    weights = linalg.cho_solve((factor, True), peaks.ravel(), check_finite=False)
    evidence = -0.5 * peaks.ravel() @ weights - np.log(np.diag(factor)).sum() - count * np.log(2 * np.pi)
    mean, spread = np.full((count, 2), np.nan), np.full((count, 2, 2), np.nan)
    if left_out:
        inverse = linalg.lapack.dpotri(factor, lower=True)[0]
        own, cross, other = inverse[index, index], inverse[index + 1, index], inverse[index + 1, index + 1]
        total = np.linalg.inv(np.stack([own, cross, cross, other], axis=1).reshape(-1, 2, 2))
        mean = peaks - np.einsum("nij,nj->ni", total, weights.reshape(-1, 2))
        spread = total - covariance
    return DisplacementFit(
        prior=prior, middle=middle, places=places, evidence=float(evidence), left_out=mean,
        left_out_covariance=spread, _factor=factor, _weights=weights,
    )  # fmt: skip


def trust(peaks: NDArray[np.float64], fit: DisplacementFit, covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weight (n,) of each peak: above 1 where it agrees with the others, near 0 where it is far off.

    The expectation step of Student's t errors with :data:`FREEDOM` degrees (Lange, Little and Taylor 1989, section 3).
    ``covariance`` (n, 2, 2) is that of the peaks' own errors.
    """
    gap = peaks - fit.left_out
    squared = np.einsum("ni,nij,nj->n", gap, np.linalg.inv(fit.left_out_covariance + covariance), gap)
    return (FREEDOM + 2) / (FREEDOM + squared)
