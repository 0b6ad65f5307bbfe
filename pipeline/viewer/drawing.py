"""Drawing: values of a raster to the colours of its picture, and the legend that tells them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex
from numpy.typing import NDArray

from ..figures import hex_code, mixture, modality_colours, stretch_limits

Values = NDArray[np.float32]
Colours = NDArray[np.uint8]

#: Colours of a ramp that a legend shows.
STOPS = 5


class Drawing(Protocol):
    """Turns values into colours.

    Attributes
    ----------
    is_named
        Whether values are names: they have no mean, and are not interpolated.
    reads
        Positions of the bands that it wants, in order; None: all.
    """

    @property
    def reads(self) -> tuple[int, ...] | None:
        """Bands that it wants."""

    @property
    def is_named(self) -> bool:
        """Whether values are names."""

    def __call__(self, values: Values) -> Colours:
        """Return uint8 (y, x, 4), red, green, blue, opacity, of its bands, float32 (band, y, x), NaN = nothing."""

    def legend(self) -> dict[str, Any]:
        """Return what the colours mean as plain values; ``kind`` says which."""


@dataclass(frozen=True, kw_only=True)
class NamedValues:
    """A colour a value.

    Attributes
    ----------
    colours
        Red, green, blue, 0 to 255, by value; values without one are not drawn.
    names
        By value.
    """

    colours: Mapping[int, tuple[int, int, int]]
    names: Mapping[int, str]
    is_named: bool = True
    reads: tuple[int, ...] | None = (0,)

    def __call__(self, values: Values) -> Colours:
        """Return the colours of values."""
        table = np.zeros((256, 4), dtype=np.uint8)
        for value, rgb in self.colours.items():
            table[value] = (*rgb, 255)
        return np.asarray(table[np.where((values[0] >= 0) & (values[0] < 255), values[0], 255).astype(np.uint8)])

    def legend(self) -> dict[str, Any]:
        """Return what the colours mean."""
        entries = [
            {"name": self.names.get(value, str(value)), "colour": hex_code(rgb)}
            for value, rgb in self.colours.items() if value in self.names or not self.names
        ]  # fmt: skip
        return {"kind": "names", "entries": entries}


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """One band, from one colour to another.

    Attributes
    ----------
    band
        Its position.
    colours
        Names or hex codes from low to high; one name is a ramp of matplotlib.
    low, high
        Values of the ends.
    unit
        Of the values, for the legend.
    """

    band: int
    colours: tuple[str, ...]
    low: float
    high: float
    unit: str = ""
    is_named: bool = False

    def __call__(self, values: Values) -> Colours:
        """Return the colours of values."""
        layer = values[0]
        known = np.isfinite(layer)
        share = np.where(known, (layer - self.low) / max(self.high - self.low, 1e-12), 0)
        drawn = self._ramp(np.clip(share, 0, 1), bytes=True).astype(np.uint8)
        drawn[..., 3] = np.where(known, 255, 0)
        return np.asarray(drawn)

    def legend(self) -> dict[str, Any]:
        """Return what the colours mean."""
        colours = [to_hex(self._ramp(share)) for share in np.linspace(0, 1, STOPS)]
        return {"kind": "ramp", "colours": colours, "low": self.low, "high": self.high, "unit": self.unit}

    @property
    def reads(self) -> tuple[int, ...] | None:
        """The band."""
        return (self.band,)

    @property
    def _ramp(self) -> Any:
        if len(self.colours) == 1:
            return mpl.colormaps[self.colours[0]]
        return LinearSegmentedColormap.from_list("ramp", self.colours)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Shares of modalities in the mixture of their colours: a line of colours of two, a triangle of three.

    Attributes
    ----------
    names
        Modalities in the order of the bands.
    """

    names: Sequence[str]
    is_named: bool = False
    reads: tuple[int, ...] | None = None

    def __call__(self, values: Values) -> Colours:
        """Return the colours of values."""
        known = np.isfinite(values).all(axis=0)
        mixed = np.round(mixture(values) * 255).astype(np.uint8)
        return np.concatenate([mixed, np.where(known, 255, 0).astype(np.uint8)[..., None]], axis=-1)

    def legend(self) -> dict[str, Any]:
        """Return what the colours mean."""
        pairs = zip(self.names, modality_colours(len(self.names)), strict=True)
        return {"kind": "mixture", "entries": [{"name": name, "colour": colour} for name, colour in pairs]}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Bands of a sensor as red, green and blue, or one as grey.

    Attributes
    ----------
    bands
        Positions: three, or one.
    names
        Of these bands.
    limits
        Value that is drawn black and value that is drawn white, of each of these bands.
    units
        Of these bands.
    """

    bands: tuple[int, ...]
    names: tuple[str, ...]
    limits: tuple[tuple[float, float], ...]
    units: tuple[str, ...]
    is_named: bool = False

    @classmethod
    def of(cls, values: Values, *, bands: tuple[int, ...], names: Sequence[str], units: Sequence[str]) -> "Picture":
        """Choose the limits by values of these bands, (band, y, x), of the whole raster, thinned."""
        return cls(
            bands=bands, names=tuple(names[band] for band in bands), units=tuple(units[band] for band in bands),
            limits=tuple(stretch_limits(layer) for layer in values),
        )  # fmt: skip

    @property
    def reads(self) -> tuple[int, ...] | None:
        """Its bands."""
        return self.bands

    def __call__(self, values: Values) -> Colours:
        """Return the colours of values."""
        known = np.asarray(np.isfinite(values).all(axis=0))
        layers = [
            np.clip((layer - low) / max(high - low, 1e-12), 0, 1)
            for layer, (low, high) in zip(values, self.limits, strict=True)
        ]
        shown = np.stack((layers * 3)[:3], axis=-1)
        alpha = np.where(known, 255, 0).astype(np.uint8)
        return np.concatenate(
            [np.round(np.where(known[..., None], shown, 0) * 255).astype(np.uint8), alpha[..., None]], axis=-1
        )

    def legend(self) -> dict[str, Any]:
        """Return what the colours mean."""
        if len(self.bands) == 1:
            (low, high), unit = self.limits[0], self.units[0]
            return {"kind": "ramp", "colours": ["#000000", "#ffffff"], "low": low, "high": high, "unit": unit}
        return {"kind": "bands", "entries": list(self.names)}
