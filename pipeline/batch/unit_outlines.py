"""Unit outlines: the polygons of a ledger over longitude and latitude, and the axes that they are drawn on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from geopandas import GeoDataFrame
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ..figures import plain

#: Least width and height of a map, degrees: one small unit is not drawn as if it filled a country.
_LEAST = 0.05

#: Most that a map may be higher or wider than the other way round.
_SLIMMEST = 2.2

#: Edge in points from which on units are parted by white lines.
_OUTLINED = 6.0

#: Least edge in points at which a unit is seen.
_SEEN = 2.0


@dataclass(frozen=True, kw_only=True)
class Outlines:
    """Outer rings of the units, in degrees.

    Attributes
    ----------
    rings
        float64 (point, 2) each: longitude, latitude. Those of a run across the date line count on beyond 180.
    owner
        intp (ring,): position of the unit that a ring belongs to; a unit may have several.
    centres
        float64 (ring, 2): middle of each ring's extent.
    box
        West, south, east, north of the map.
    """

    rings: Sequence[NDArray[np.float64]]
    owner: NDArray[np.intp]
    centres: NDArray[np.float64]
    box: tuple[float, float, float, float]

    @classmethod
    def of(cls, ledger: GeoDataFrame) -> "Outlines":
        """Take the outlines of a ledger, which may hold parts, holes and rows without a polygon."""
        parts, owner = shapely.get_parts(ledger.geometry.to_numpy(), return_index=True)
        solid = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
        parts, owner = parts[solid], owner[solid]
        points, ring = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
        starts = np.flatnonzero(np.diff(ring, prepend=-1))
        if not len(starts):
            return cls(rings=[], owner=owner, centres=np.empty((0, 2)), box=(-180.0, -90.0, 180.0, 90.0))
        points = _unwrapped(points, ring, starts)
        low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
        return cls(
            rings=np.split(points, starts[1:]), owner=owner, centres=(low + high) / 2,
            box=padded(low.min(axis=0), high.max(axis=0)),
        )  # fmt: skip

    @property
    def proportion(self) -> float:
        """Height of the map over its width, on the ground."""
        west, south, east, north = self.box
        return (north - south) * self.stretch / (east - west)

    @property
    def stretch(self) -> float:
        """Length of a degree of latitude over one of longitude, in the middle of the map."""
        return _stretch((self.box[1] + self.box[3]) / 2)

    def edge(self, axes: Axes) -> float:
        """Return the usual edge of a ring on the axes, in points."""
        width = axes.bbox.width * 72 / axes.figure.dpi
        spans = [np.ptp(ring[:, 0]) for ring in self.rings[:: max(1, len(self.rings) // 200)]]
        return float(np.median(spans)) / (self.box[2] - self.box[0]) * width if spans else 0.0

    def collection(self, chosen: NDArray[np.bool_], axes: Axes, **looks: object) -> PolyCollection:
        """Add the rings of some units, bool (unit,), to axes; those that would vanish are drawn larger."""
        edge = self.edge(axes)
        lines: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.5}
        if edge < _OUTLINED:
            # Snapped to pixels, some of those as small as one would be nothing.
            lines = {"edgecolor": "face", "linewidth": max(0.4, _SEEN - edge), "snap": edge > _SEEN}
        rings = [ring for ring, kept in zip(self.rings, chosen[self.owner], strict=True) if kept]
        # Rings of one length, which grids have, are drawn faster as one array.
        corners: Any = np.stack(rings) if len({len(ring) for ring in rings}) == 1 else rings
        drawn = PolyCollection(corners, **{**lines, **looks})
        axes.add_collection(drawn, autolim=False)
        return drawn

    def frame(self, axes: Axes, title: str = "") -> None:
        """Give axes the map's extent, proportion and degrees."""
        west, south, east, north = self.box
        axes.set_xlim(west, east)
        axes.set_ylim(south, north)
        axes.set_aspect(self.stretch, anchor="W")
        for axis, names in ((axes.xaxis, "EW"), (axes.yaxis, "NS")):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            axis.set_major_formatter(FuncFormatter(lambda value, _, names=names: degrees(value, names)))
        axes.set_facecolor("#f5f7fa")
        axes.set_title(title, fontsize=10, loc="left")
        plain(axes)


def degrees(value: float, names: str) -> str:
    """Write a longitude ("EW") or latitude ("NS"); longitudes beyond the date line are told as on a globe."""
    turned = (value + 180) % 360 - 180 if names == "EW" and abs(value) > 180 else value
    return f"{abs(turned):.6g}°{names[int(turned < 0)] if round(turned, 6) else ''}"


def plain_text(text: object, *, most: int = 28) -> str:
    """Make a stranger's text fit to be drawn: one line, not long, no formula, no sign that the font lacks.

    Returns
    -------
    The text, with "?" for what cannot be drawn.
    """
    glyphs = get_font(findfont("DejaVu Sans")).get_charmap()
    line = " ".join(str(text).split())
    line = line if len(line) <= most else line[: most - 1] + "…"
    return "".join(sign if ord(sign) in glyphs else "?" for sign in line).replace("$", r"\$")


def _unwrapped(points: NDArray[np.float64], ring: NDArray[np.intp], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Shift rings by whole turns, so that a run across the date line lies together."""
    points = points.copy()
    torn = (np.maximum.reduceat(points[:, 0], starts) - np.minimum.reduceat(points[:, 0], starts) > 180)[ring]
    points[torn & (points[:, 0] < 0), 0] += 360
    lows = np.minimum.reduceat(points[:, 0], starts)
    middle = (lows + np.maximum.reduceat(points[:, 0], starts)) / 2
    if middle.max() - middle.min() <= 180:
        return points
    ordered = np.sort(middle)
    gaps = np.diff(ordered, append=ordered[0] + 360)
    widest = int(gaps.argmax())
    if widest + 1 < len(ordered):
        points[(middle <= ordered[widest])[ring], 0] += 360
    return points


def _stretch(latitude: float) -> float:
    return 1 / max(float(np.cos(np.radians(latitude))), 0.1)


def padded(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return a map's west, south, east, north: with a margin, not too small, and not slimmer than can be looked at."""
    middle, reach = (low + high) / 2, np.maximum(high - low, _LEAST) * 0.53
    flat = np.array([1.0, _stretch(middle[1])])
    reach = np.maximum(reach * flat, (reach * flat)[::-1] / _SLIMMEST) / flat
    (west, south), (east, north) = middle - reach, middle + reach
    return float(west), float(south), float(east), float(north)
