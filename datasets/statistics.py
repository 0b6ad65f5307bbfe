"""Per-band statistics over valid pixels, streamed: what the network's inputs are normalised with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class BandStatistics:
    """Statistics of the bands of one modality, in network units (dB for radar).

    Attributes
    ----------
    mean, std
        One value a band.
    count
        Valid pixels that were seen.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    count: int

    def normalise(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring (band, y, x) in network units to zero mean and unit deviation; NaN becomes 0."""
        mean = np.asarray(self.mean, dtype=np.float32)[:, None, None]
        std = np.asarray(self.std, dtype=np.float32)[:, None, None]
        return np.nan_to_num((image - mean) / std, nan=0.0)


@dataclass(kw_only=True)
class RunningStatistics:
    """Mean and variance of a stream of windows (Chan, Golub and LeVeque 1983, pairwise update), in float64."""

    bands: int
    count: int = 0
    mean: NDArray[np.float64] = field(init=False)
    squares: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.mean = np.zeros(self.bands)
        self.squares = np.zeros(self.bands)

    def update(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Take in a window: image (band, y, x), valid (y, x)."""
        values = image[:, valid].astype(np.float64)
        added = values.shape[1]
        if added == 0:
            return
        mean = values.mean(axis=1)
        squares = ((values - mean[:, None]) ** 2).sum(axis=1)
        total = self.count + added
        delta = mean - self.mean
        self.mean = self.mean + delta * added / total
        self.squares = self.squares + squares + delta**2 * self.count * added / total
        self.count = total

    def result(self) -> BandStatistics:
        """Return the statistics so far; a constant band gets deviation 1, so that it normalises to 0.

        Raises
        ------
        DatasetError
            If no valid pixel was seen.
        """
        if self.count == 0:
            raise DatasetError("found no valid pixel to take statistics from; wanted some; check nodata and splits")
        std = np.sqrt(self.squares / self.count)
        std = np.where(std > 1e-12 * np.maximum(1.0, np.abs(self.mean)), std, 1.0)
        return BandStatistics(mean=tuple(map(float, self.mean)), std=tuple(map(float, std)), count=self.count)


def statistics_to_dict(statistics: Mapping[str, BandStatistics]) -> dict[str, dict[str, object]]:
    """Return plain JSON values, modality by modality."""
    return {
        name: {"mean": list(item.mean), "std": list(item.std), "count": item.count}
        for name, item in statistics.items()
    }  # fmt: skip


def statistics_from_dict(record: Mapping[str, Mapping[str, object]]) -> dict[str, BandStatistics]:
    """Read what :func:`statistics_to_dict` gave.

    Raises
    ------
    DatasetError
        If a field is missing or not a number.
    """
    try:
        return {
            name: BandStatistics(
                mean=tuple(float(x) for x in item["mean"]),  # type: ignore[attr-defined]
                std=tuple(float(x) for x in item["std"]),  # type: ignore[attr-defined]
                count=int(item["count"]),  # type: ignore[call-overload]
            )
            for name, item in record.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"found band statistics without {error}; wanted mean, std and count a modality; train the model again"
        ) from error
