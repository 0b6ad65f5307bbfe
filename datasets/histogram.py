"""A histogram of a stream in bounded memory, whose bins widen as the values spread: percentiles to a stated width."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Most bins that the values may spread over: the width is at most a 8191th part of their range, doubled.
BINS = 8192

#: Narrowest bin as a power of two below the largest magnitude: float32 has no finer values.
_FINEST = 24

#: Narrowest bin of all as a power of two: that of a band of zeros, which any later value may widen.
_LEAST = -1000


@dataclass(kw_only=True)
class RunningHistogram:
    """Counts of the values of one band in bins of a power of two.

    A bin is ``[n * width, (n + 1) * width)``. The width is the least power of two with which all values so far spread
    over at most :data:`BINS` bins; two bins of one width are exactly one of the next, so that the counts depend on the
    values alone, not on their order or on the windows that they came in.
    """

    exponent: int = 0
    first: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    largest: float = 0.0

    @property
    def width(self) -> float:
        """Width of a bin, in the values' unit."""
        return float(2.0**self.exponent)

    def update(self, values: NDArray[np.float64]) -> None:
        """Take in finite values, any number of them."""
        if values.size == 0:
            return
        self.largest = max(self.largest, float(np.abs(values).max()))
        low, high = float(values.min()), float(values.max())
        if self.counts.size == 0:
            self.exponent = self._finest()
        self._widen(self._finest())
        while self._spread(low, high) > BINS:
            self._widen(self.exponent + 1)
        bins = np.floor(values / self.width).astype(np.int64)
        start = int(bins.min()) if self.counts.size == 0 else min(self.first, int(bins.min()))
        end = max(self.first + self.counts.size if self.counts.size else start, int(bins.max()) + 1)
        counts = np.bincount(bins - start, minlength=end - start)
        counts[self.first - start :][: self.counts.size] += self.counts
        self.first, self.counts = start, counts

    def percentiles(self, shares: Sequence[float]) -> tuple[float, ...]:
        """Return values below which the given shares (0-100) of the stream lie, each true to a bin's width."""
        wanted = np.asarray(shares) / 100 * (self.counts.sum() - 1)
        # Values are taken to lie evenly in their bin.
        after = np.cumsum(self.counts)
        bins = np.searchsorted(after, wanted, side="right")
        within = (wanted - (after[bins] - self.counts[bins]) + 0.5) / self.counts[bins]
        return tuple(((self.first + bins + within) * self.width).tolist())

    def _finest(self) -> int:
        return int(np.frexp(self.largest)[1]) - _FINEST if self.largest > 0 else _LEAST

    def _spread(self, low: float, high: float) -> int:
        """Bins from the lowest to the highest value, those to come included."""
        bottom, top = int(np.floor(low / self.width)), int(np.floor(high / self.width))
        if self.counts.size:
            bottom, top = min(bottom, self.first), max(top, self.first + self.counts.size - 1)
        return top - bottom + 1

    def _widen(self, exponent: int) -> None:
        while self.exponent < exponent:
            self.exponent += 1
            if self.counts.size:
                odd = self.first % 2
                padded = np.pad(self.counts, (odd, (odd + self.counts.size) % 2))
                self.first, self.counts = (self.first - odd) // 2, padded[::2] + padded[1::2]
