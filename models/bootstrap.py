"""Bootstrap over samples: intervals, and the rule that says when shares cannot be told from noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Interval = tuple[float, float]

_INTERVAL = (0.025, 0.975)
_FLOOR_DEVIATIONS = 2.0
_LEAST_FLOOR = 1e-6  # the resolution of float32 scores of order 1
_BLOCK = 4_000_000  # numbers held at once: 32 MB


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What of a total falls to each modality, or the statement that the total is not measurable.

    Attributes
    ----------
    share
        ``[x_m]+ / sum [x]+``, or None when indeterminate.
    share_interval
        95 % interval per modality, or None when indeterminate.
    indeterminate
        True when ``sum [x]+`` does not exceed ``noise_floor``.
    noise_floor
        Twice the bootstrap standard deviation of ``sum [x]+``, at least 1e-6.
    """

    share: tuple[float, ...] | None
    share_interval: tuple[Interval, ...] | None
    indeterminate: bool
    noise_floor: float


def resampled_sums(columns: Tensor, *, count: int, generator: torch.Generator) -> Tensor:
    """Draw as many rows as there are, with replacement, and add them up; ``count`` times.

    Rows are samples (patches, scenes), never pixels: pixels of a patch are not independent, and intervals over them
    would be far too narrow. A mean over defined entries is the quotient of two sums of the same draw.

    Parameters
    ----------
    columns
        float64 (sample, column), finite.
    count
        Number of replicates.
    generator
        Source of the draws.

    Returns
    -------
    Tensor
        float64 (count, column).
    """
    samples = len(columns)
    return torch.cat([_weights(samples, rows, generator) @ columns for rows in _blocks(count, samples)])


def resampled_means(values: Tensor, *, count: int, generator: torch.Generator) -> Tensor:
    """Bootstrap the mean over samples, NaN left out.

    Parameters
    ----------
    values
        float64 (sample, column), NaN where undefined.
    count, generator
        As in :func:`resampled_sums`.

    Returns
    -------
    Tensor
        float64 (count, column); NaN where a replicate drew no defined entry.
    """
    defined = values.isfinite().to(values.dtype)
    sums = resampled_sums(torch.cat([values.nan_to_num(), defined], dim=1), count=count, generator=generator)
    total, number = sums.chunk(2, dim=1)
    return total / number


def intervals(replicates: Tensor) -> tuple[Interval, ...]:
    """Return 95 % percentile intervals of replicates (count, column), NaN left out."""
    low, high = replicates.nanquantile(torch.tensor(_INTERVAL, dtype=replicates.dtype), dim=0).tolist()
    return tuple(zip(low, high, strict=True))


def shares_of(amounts: Tensor, replicates: Tensor) -> Shares:
    """Turn amounts into shares, unless their sum is lost in noise.

    A negative amount counts as 0 and an undefined one too: an exchange that helps says that nothing was relied on.

    Parameters
    ----------
    amounts
        float64 (modality,).
    replicates
        float64 (count, modality): bootstrap replicates of the amounts.

    Returns
    -------
    Shares
        In the order of ``amounts``.
    """
    positive = replicates.nan_to_num().clamp_min(0)
    floor = max(_FLOOR_DEVIATIONS * float(positive.sum(dim=1).std()), _LEAST_FLOOR)
    found = amounts.nan_to_num().clamp_min(0)
    total = float(found.sum())
    if total <= floor:
        return Shares(share=None, share_interval=None, indeterminate=True, noise_floor=floor)
    shares = positive / positive.sum(dim=1, keepdim=True).clamp_min(_LEAST_FLOOR)
    return Shares(
        share=tuple((found / total).tolist()),
        share_interval=intervals(shares),
        indeterminate=False,
        noise_floor=floor,
    )


def _blocks(count: int, samples: int) -> Iterator[int]:
    most = max(1, _BLOCK // samples)
    for start in range(0, count, most):
        yield min(most, count - start)


def _weights(samples: int, rows: int, generator: torch.Generator) -> Tensor:
    """Return how often each sample was drawn, float64 (row, sample)."""
    draws = torch.randint(samples, (rows, samples), generator=generator)
    return torch.zeros(rows, samples, dtype=torch.float64).scatter_add_(
        1, draws, torch.ones((), dtype=torch.float64).expand(rows, samples)
    )
