"""CheckedMap: a COG that is written some rows at a time, and compared with what was written when it is complete."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetWriter

from ..datasets.product import quiet_open
from ..datasets.raster import cog_writer
from .errors import PipelineError

#: Sums of float32 pixels in float64 differ by less than this share of themselves, whatever the order.
ROUNDING = 1e-9


@dataclass(kw_only=True)
class BandTotals:
    """What a band holds in sum, wherever its values lie.

    Attributes
    ----------
    count, total, magnitude, lowest, highest
        Number of values that are numbers, their sum, the sum of their absolute values, the least, the greatest.
    histogram
        int64 (256,): how often each value occurs in a band of uint8; zeros for others.
    """

    count: int = 0
    total: float = 0.0
    magnitude: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, dtype=np.int64))

    def add(self, values: NDArray[Any]) -> None:
        """Take in some values of any shape."""
        if values.dtype == np.uint8:
            self.histogram += np.bincount(values.ravel(), minlength=256)
        finite = np.isfinite(values)
        known = values if finite.all() else values[finite]
        if known.size:
            lowest, total = float(known.min()), float(known.sum(dtype=np.float64))
            self.count += known.size
            self.total += total
            self.magnitude += total if lowest >= 0 else float(np.abs(known).sum(dtype=np.float64))
            self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, float(known.max()))

    def difference(self, other: "BandTotals") -> str | None:
        """Say what ``other`` has otherwise, or None."""
        if (differ := np.flatnonzero(self.histogram != other.histogram)).size:
            value = int(differ[0])
            return f"{other.histogram[value]} pixels of value {value}; wanted {self.histogram[value]}"
        for name in ("count", "lowest", "highest"):
            if getattr(self, name) != getattr(other, name):
                return f"{name} {getattr(other, name)}; wanted {getattr(self, name)}"
        if abs(self.total - other.total) > ROUNDING * self.magnitude:
            return f"sum {other.total}; wanted {self.total}"
        return None


class CheckedMap:
    """Rows of a map on their way to the file; made by :func:`checked_map`."""

    def __init__(self, writer: DatasetWriter) -> None:
        self._writer = writer
        self._top = 0
        self.totals = [BandTotals() for _ in range(writer.count)]

    def write(self, values: NDArray[Any]) -> None:
        """Write the next rows: (band, rows, x), as wide as the map."""
        bands, rows, cols = values.shape
        self._writer.write(values, window=((self._top, self._top + rows), (0, cols)))
        self._top += rows
        for position in range(bands):
            self.totals[position].add(values[position])


@contextmanager
def checked_map(
    path: Path,
    grid: GeoBox,
    *,
    descriptions: Sequence[str],
    dtype: str,
    nodata: float,
    overview_resampling: str,
    tags: Mapping[str, str],
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    scale: float | None = None,
) -> Iterator[CheckedMap]:
    """Write a map; on a clean exit it is a COG that was opened again and holds what was written.

    Parameters
    ----------
    path, grid, descriptions, dtype, nodata, overview_resampling, tags, colours
        As for :func:`~equipoise.datasets.raster.cog_writer`; one description a band.
    scale
        Value of one step of the stored numbers; None: they are the values.

    Raises
    ------
    PipelineError
        If the written file differs in grid, band names or values.
    """
    with cog_writer(
        path, grid, count=len(descriptions), dtype=dtype, nodata=nodata, overview_resampling=overview_resampling,
        descriptions=descriptions, tags=tags, colours=colours,
    ) as writer:  # fmt: skip
        if scale is not None:
            writer.scales = (scale,) * len(descriptions)
        rows = CheckedMap(writer)
        yield rows
    verify_map(path, grid, descriptions=descriptions, totals=rows.totals)


def verify_map(
    path: Path,
    grid: GeoBox,
    *,
    descriptions: Sequence[str] | None = None,
    totals: Sequence[BandTotals] | None = None,
) -> None:
    """Reopen a written map and compare it with what was written.

    Parameters
    ----------
    path, grid
        The map, and the grid that it was given.
    descriptions
        Names of its bands.
    totals
        Of what was written, one a band.

    Raises
    ------
    PipelineError
        If they differ.
    """
    with quiet_open(path) as source:
        found = GeoBox(source.shape, source.transform, source.crs)
        names = source.descriptions
    if found.shape != grid.shape or not found.affine.almost_equals(grid.affine, 1e-6):
        raise PipelineError(f"{path}: found grid {found}; wanted {grid}; the map was not written right, run again")
    if (found.crs is None) != (grid.crs is None) or (found.crs is not None and found.crs != grid.crs):
        raise PipelineError(f"{path}: found CRS {found.crs}; wanted {grid.crs}; it was not written right, run again")
    if descriptions is not None and tuple(names) != tuple(descriptions):
        raise PipelineError(f"{path}: found bands {names}; wanted {tuple(descriptions)}; run again")
    for number, wanted in enumerate(totals or (), start=1):
        if (words := wanted.difference(read_totals(path, number))) is not None:
            raise PipelineError(f"{path}, band {number}: found {words}, as was written; check the disk and run again")


def read_totals(path: Path, number: int) -> BandTotals:
    """Return the totals of a band of a file, read block by block."""
    totals = BandTotals()
    with quiet_open(path) as source:
        for _, window in source.block_windows(number):
            totals.add(source.read(number, window=window))
    return totals
