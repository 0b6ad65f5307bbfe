"""Modalities and bands: what a sensor's numbers mean, and which representation each step works in."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

#: Smallest backscatter that is told apart from zero, in linear power (-50 dB): below every sensor's noise floor.
POWER_FLOOR = 1e-5


class Unit(StrEnum):
    """Unit of a band's values in its file, after scale and offset."""

    REFLECTANCE = "reflectance"
    LINEAR_POWER = "linear_power"
    AMPLITUDE = "amplitude"
    DB = "db"
    KELVIN = "kelvin"
    METRE = "metre"
    DIGITAL_NUMBER = "digital_number"


#: Largest value in dB whose power float32 holds: counts declared as dB stay finite, and so visible to the unit check.
DB_LIMIT = 350.0

#: A scene whose brightest sample stays below this reflectance was scaled twice.
LEAST_REFLECTANCE = 2e-3

#: Backscatter units: averaged and resampled in linear power, shown to the network in dB.
BACKSCATTER = frozenset({Unit.LINEAR_POWER, Unit.AMPLITUDE, Unit.DB})


@dataclass(frozen=True, kw_only=True)
class Band:
    """One band of a modality.

    Attributes
    ----------
    name
        Name in the field's usage: ``red``, ``VV``, ``B10``.
    unit
        Unit of ``scale * DN + offset``.
    index
        1-based position in the file; ``None`` means by order of declaration.
    scale, offset
        From digital number to ``unit``; None: as the product's metadata say, else 1 and 0.
    nodata
        Digital number that means "no observation"; ``None`` asks the file.
    resampling
        Rule when the grid changes at about the same pixel size: ``nearest``, ``bilinear``, ``cubic`` or ``lanczos``.
        Downsampling always averages.
    planck
        Constants K1 and K2 of a thermal band whose ``scale * DN + offset`` is a radiance: brightness temperature in
        kelvin is K2 / ln(K1 / radiance + 1) (Planck's law in the form of the Landsat handbooks).
    """

    name: str
    unit: Unit
    index: int | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    resampling: str = "bilinear"
    planck: tuple[float, float] | None = None

    @property
    def is_backscatter(self) -> bool:
        """Whether the band holds radar backscatter."""
        return self.unit in BACKSCATTER

    @property
    def working_unit(self) -> Unit:
        """Unit that the arrays of a :class:`~equipoise.datasets.scene.Scene` carry."""
        return Unit.LINEAR_POWER if self.is_backscatter else self.unit

    @property
    def network_unit(self) -> Unit:
        """Unit at the network's door: dB for backscatter, the working unit otherwise."""
        return Unit.DB if self.is_backscatter else self.unit

    def to_working(self, digital_number: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert file values to the working unit.

        Parameters
        ----------
        digital_number
            Any shape, float32, as stored; NaN passes through.

        Returns
        -------
        Same shape, float32: linear power for backscatter, ``unit`` otherwise.
        """
        scale, offset = 1.0 if self.scale is None else self.scale, self.offset or 0.0
        value = digital_number * np.float32(scale) + np.float32(offset)
        if self.planck is not None:
            radiance = np.where(value > 0, value, np.float32(np.nan))  # no radiance, no temperature
            return (self.planck[1] / np.log(self.planck[0] / radiance + 1)).astype(np.float32)
        if self.unit is Unit.AMPLITUDE:
            return value * np.abs(value)  # the sign tells that decibels were declared as amplitude
        if self.unit is Unit.DB:
            decibels = np.minimum(value, np.float32(DB_LIMIT))  # far below, power becomes 0: fill
            return np.power(np.float32(10), decibels / np.float32(10), dtype=np.float32)
        return value

    def to_network(self, working: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert working values to the network's unit (dB for backscatter); shape and NaN are kept."""
        if self.is_backscatter:
            return np.float32(10) * np.log10(np.maximum(working, np.float32(POWER_FLOOR)))
        return working


@dataclass(frozen=True, kw_only=True)
class Modality:
    """A sensor type and the bands that are used of it, in order.

    Attributes
    ----------
    name
        Short name, an open set: ``eo``, ``sar``, ``ir``, ``dem``.
    bands
        Bands in the order of every array's band axis.
    """

    name: str
    bands: tuple[Band, ...]

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names in band order."""
        return tuple(band.name for band in self.bands)

    def to_network(self, working: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert an array (band, y, x) from working to network units; NaN stays NaN."""
        return np.stack([band.to_network(layer) for band, layer in zip(self.bands, working, strict=True)])


#: Decibels under the scale of optics, 1e-4: noise down to -100 dB.
_LARGEST_SCALED_DB = 0.01

#: Where the files of two sensors were exchanged, decibels lie under the unit of optics.
_EXCHANGED = "these look like backscatter in dB: were the files of two sensors exchanged?"


def implausible_unit(unit: Unit, values: Sequence[float] | NDArray[np.float32]) -> str | None:
    """Say why ``values`` (valid samples in ``unit``, any shape) cannot be of that unit, or None if they can.

    The bounds are those of physics, not of taste: power and amplitude are never negative, decibels of
    natural surfaces are not all positive, the Earth's surface is between 150 K and 400 K, and reflectance is not
    negative everywhere.
    """
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    if array.size == 0:
        return None
    low, high, middle = float(array.min()), float(array.max()), float(np.median(array))
    found = f"values {_told(low, unit)} to {_told(high, unit)}, median {_told(middle, unit)}"
    if unit in (Unit.LINEAR_POWER, Unit.AMPLITUDE) and low < 0:
        return f"{found}; {unit} is never negative (these look like dB: declare `unit: db`)"
    if unit is Unit.DB and (low >= 0 or middle > 30):
        return (
            f"{found}; backscatter in dB is mostly negative (declare `unit: linear_power`, `amplitude` or a scale; "
            "were the files of two sensors exchanged?)"
        )
    if unit is Unit.KELVIN and not 150 <= middle <= 400:
        return f"{found}; a surface temperature is 150 to 400 K (declare the scale and offset of the product)"
    if unit is Unit.REFLECTANCE:
        return _implausible_reflectance(found, low, middle, high)
    return None


def _implausible_reflectance(found: str, low: float, middle: float, high: float) -> str | None:
    largest = max(abs(low), abs(high))
    if middle < -0.3 or (middle < 0 and largest < _LARGEST_SCALED_DB):
        return f"{found}; reflectance is about 0 to 1 ({_EXCHANGED})"
    if 0 < largest < LEAST_REFLECTANCE:
        return f"{found}; no surface is that dark everywhere: the scale was applied before (declare `scale: 1`)"
    if middle > 2:
        return f"{found}; reflectance is about 0 to 1 (declare the product's scale, for Sentinel-2 `scale: 0.0001`)"
    return None


def _told(value: float, unit: Unit) -> str:
    # What is above the limit was cut to it when it became power: it is not what the file holds.
    clipped = unit is Unit.DB and value >= 0.999 * DB_LIMIT
    return f"{DB_LIMIT:g} or more" if clipped else f"{value:.4g}"
