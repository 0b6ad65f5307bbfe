"""Per-band statistics over valid pixels, streamed: what the network's inputs are normalised with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DatasetError
from .histogram import RunningHistogram
from .noise import NOISE_TILE, tile_noise

#: Shares in percent of the values that are kept beside mean and deviation.
PERCENTILES = (1.0, 50.0, 99.0)


@dataclass(frozen=True, kw_only=True)
class BandStatistics:
    """Statistics of the bands of one modality, in network units (dB for radar).

    Attributes
    ----------
    mean, std
        One value a band.
    count
        Valid pixels that were seen.
    percentiles
        For each band the values below which 1, 50 and 99 % of the pixels lie (:data:`PERCENTILES`); None where a model
        was written before they were kept.
    resolution
        For each band the width in network units that the percentiles are true to; None as above.
    noise
        For each band the same percentiles of the noise of tiles (:mod:`equipoise.datasets.noise`), in network units;
        None where no whole tile was seen, or as above.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    count: int
    percentiles: tuple[tuple[float, ...], ...] | None = None
    resolution: tuple[float, ...] | None = None
    noise: tuple[tuple[float, ...], ...] | None = None

    def normalise(
        self, image: NDArray[np.float32], *, out: NDArray[np.float32] | None = None, nan: float | None = 0.0
    ) -> NDArray[np.float32]:
        """Bring (band, y, x) in network units to zero mean and unit deviation; NaN becomes ``nan``, or stays: None.

        The result is a new array, or ``out``, which may be ``image`` itself.
        """
        mean = np.asarray(self.mean, dtype=np.float32)[:, None, None]
        std = np.asarray(self.std, dtype=np.float32)[:, None, None]
        values = np.subtract(image, mean, out=out)
        values /= std
        if nan is not None:
            np.copyto(values, nan, where=np.isnan(values))
        return values


@dataclass(kw_only=True)
class RunningStatistics:
    """Statistics of a stream of windows, in bounded memory; noise is that of the whole tiles within each window.

    Mean and variance are updated pairwise in float64 (Chan, Golub and LeVeque 1983, eq. 2.1); percentiles come from a
    histogram a band (:class:`~equipoise.datasets.histogram.RunningHistogram`).

    Attributes
    ----------
    bands
        Bands of the windows.
    """

    bands: int
    count: int = 0
    mean: NDArray[np.float64] = field(init=False)
    squares: NDArray[np.float64] = field(init=False)
    histograms: list[RunningHistogram] = field(init=False)
    noises: list[RunningHistogram] = field(init=False)

    def __post_init__(self) -> None:
        self.mean = np.zeros(self.bands)
        self.squares = np.zeros(self.bands)
        self.histograms = [RunningHistogram() for _ in range(self.bands)]
        self.noises = [RunningHistogram() for _ in range(self.bands)]

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
        for histogram, band in zip(self.histograms, values, strict=True):
            histogram.update(band)
        for histogram, noise in zip(self.noises, tile_noise(image, valid, tile=NOISE_TILE), strict=True):
            histogram.update(noise[np.isfinite(noise)].astype(np.float64))

    def result(self) -> BandStatistics:
        """Return the statistics so far; a band that varies by rounding alone gets deviation 1: it normalises to 0.

        Raises
        ------
        DatasetError
            If no valid pixel was seen.
        """
        if self.count == 0:
            raise DatasetError("found no valid pixel to take statistics from; wanted some; check nodata and splits")
        std = np.sqrt(self.squares / self.count)
        std = np.where(std > 1e-12 * np.maximum(1.0, np.abs(self.mean)), std, 1.0)
        return BandStatistics(
            mean=tuple(map(float, self.mean)), std=tuple(map(float, std)), count=self.count,
            percentiles=tuple(histogram.percentiles(PERCENTILES) for histogram in self.histograms),
            resolution=tuple(histogram.width for histogram in self.histograms),
            noise=tuple(histogram.percentiles(PERCENTILES) for histogram in self.noises)
            if all(histogram.counts.sum() for histogram in self.noises)
            else None,
        )  # fmt: skip


def statistics_to_dict(statistics: Mapping[str, BandStatistics]) -> dict[str, dict[str, object]]:
    """Return plain JSON values, modality by modality."""
    return {name: _plain(item) for name, item in statistics.items()}


def _plain(item: BandStatistics) -> dict[str, object]:
    record: dict[str, object] = {"mean": list(item.mean), "std": list(item.std), "count": item.count}
    if item.percentiles is not None and item.resolution is not None:
        record |= {"percentiles": [list(band) for band in item.percentiles], "resolution": list(item.resolution)}
    if item.noise is not None:
        record["noise"] = [list(band) for band in item.noise]
    return record


def statistics_from_dict(record: Mapping[str, Mapping[str, object]]) -> dict[str, BandStatistics]:
    """Read what :func:`statistics_to_dict` gave, now or before percentiles were kept.

    Raises
    ------
    DatasetError
        If a field is missing or not a number.
    """
    try:
        return {name: _statistics(item) for name, item in record.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"found band statistics without {error}; wanted mean, std and count a modality; train the model again"
        ) from error


def _statistics(item: Mapping[str, Any]) -> BandStatistics:
    percentiles, resolution, noise = item.get("percentiles"), item.get("resolution"), item.get("noise")
    return BandStatistics(
        mean=tuple(float(x) for x in item["mean"]), std=tuple(float(x) for x in item["std"]), count=int(item["count"]),
        percentiles=None if percentiles is None else tuple(tuple(float(x) for x in band) for band in percentiles),
        resolution=None if resolution is None else tuple(float(x) for x in resolution),
        noise=None if noise is None else tuple(tuple(float(x) for x in band) for band in noise),
    )  # fmt: skip
