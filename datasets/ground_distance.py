"""Which areas come close to each other on the ground, whichever coordinate reference systems their grids have."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .errors import DatasetError

#: Geometries that are looked up in a tree at once: bounds the memory of candidate pairs.
_CHUNK = 50_000

#: Beyond this latitude a box in degrees goes around the pole, so that every longitude is near.
_POLAR = 85.0

#: Metres of a degree of latitude, at least and at most (WGS84).
_DEGREE_M = (110_574.0, 111_695.0)

#: Share of a pixel, and of an area, that rounding of coordinates may take.
_ROUNDING_PX, _ROUNDING_AREA = 1e-4, 1e-6


@dataclass(frozen=True, kw_only=True)
class Areas:
    """Rectangles of pixels, each on a grid of its own.

    Attributes
    ----------
    outlines
        Object (N,): polygons in the CRS of their grid.
    systems
        The different CRS, as WKT.
    system
        int64 (N,): index into ``systems``.
    pixel
        float64 (N,): edge of a pixel in units of the CRS.
    """

    outlines: NDArray[np.object_]
    systems: tuple[str, ...]
    system: NDArray[np.int64]
    pixel: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.outlines)


def areas_of(grids: Sequence[GeoBox], boxes: Sequence[NDArray[np.int64]]) -> Areas:
    """Return the areas of pixel boxes.

    Parameters
    ----------
    grids
        Grids with a CRS.
    boxes
        For each grid int64 (n, 4): first row, first column, one past the last row and column; what lies outside the
        grid is cut off.

    Returns
    -------
    All boxes of the first grid, then those of the second, ...

    Raises
    ------
    DatasetError
        If a grid has no CRS.
    """
    systems: dict[str, int] = {}
    outlines, system, pixel = [], [], []
    for grid, wanted in zip(grids, boxes, strict=True):
        if grid.crs is None:
            raise DatasetError("found a grid without a CRS; wanted a place on the ground; leave it out")
        rows, cols = grid.shape
        top, left, bottom, right = np.clip(wanted.reshape(-1, 4), 0, [rows, cols, rows, cols]).T
        x, y = np.stack([left, right, right, left], axis=1), np.stack([top, top, bottom, bottom], axis=1)
        a, b, c, d, e, f = tuple(grid.affine)[:6]
        outlines.append(shapely.polygons(np.stack([a * x + b * y + c, d * x + e * y + f], axis=2)))
        system.append(np.full(len(wanted), systems.setdefault(_wkt(grid), len(systems)), dtype=np.int64))
        pixel.append(np.full(len(wanted), pixel_size(grid)))
    return Areas(
        outlines=np.concatenate([np.zeros(0, dtype=object), *outlines]), systems=tuple(systems),
        system=np.concatenate([np.zeros(0, dtype=np.int64), *system]), pixel=np.concatenate([np.zeros(0), *pixel]),
    )  # fmt: skip


def whole(grid: GeoBox) -> NDArray[np.int64]:
    """Return the box of a whole grid, int64 (1, 4), as :func:`areas_of` takes it."""
    return np.array([[0, 0, *grid.shape]], dtype=np.int64)


def pixel_size(grid: GeoBox) -> float:
    """Return the edge of a grid's pixels in units of its CRS: the root of their area."""
    return float(np.sqrt(abs(grid.affine.determinant)))


def near_pairs(areas: Areas, kind: NDArray[np.int64], *, buffer: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of areas of different kinds that overlap or come closer than a buffer.

    Areas of one CRS are measured in its plane. Areas of different CRS are measured in metres, in an azimuthal
    equidistant projection around them, with pixels of the size that they have there.

    Parameters
    ----------
    areas
        N areas.
    kind
        int64 (N,): pairs of equal kind are not looked at.
    buffer
        In pixels, of the larger pixels of the two.

    Returns
    -------
    int64 (P,), int64 (P,): indices of the pairs, the smaller one first, in ascending order.
    """
    if len(areas) < 2:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    found = [_within_system(areas, kind, np.flatnonzero(areas.system == n), buffer) for n in range(len(areas.systems))]
    if len(areas.systems) > 1:
        found.append(_between_systems(areas, kind, buffer))
    first, second = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return first[order], second[order]


def _within_system(
    areas: Areas, kind: NDArray[np.int64], members: NDArray[np.int64], buffer: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    outlines, pixel = areas.outlines[members], areas.pixel[members]
    bounds = shapely.bounds(outlines) + buffer * pixel.max(initial=0.0) * np.array([-1, -1, 1, 1])
    first, second = _candidates(outlines, bounds, kind[members])
    close = _closer(outlines[first], outlines[second], pixel=np.maximum(pixel[first], pixel[second]), buffer=buffer)
    return members[first[close]], members[second[close]]


def _candidates(
    outlines: NDArray[np.object_], bounds: NDArray[np.float64], kind: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of different kinds of which one's bounds (minx, miny, maxx, maxy) touch the other's box."""
    tree = shapely.STRtree(outlines)
    pairs = [np.zeros((2, 0), dtype=np.int64)]
    for start in range(0, len(outlines), _CHUNK):
        hits = tree.query(shapely.box(*bounds[start : start + _CHUNK].T)).astype(np.int64)
        hits[0] += start
        pairs.append(hits[:, (hits[0] < hits[1]) & (kind[hits[0]] != kind[hits[1]])])
    first, second = np.concatenate(pairs, axis=1)
    return first, second


def _closer(
    first: NDArray[np.object_], second: NDArray[np.object_], *, pixel: NDArray[np.float64], buffer: float
) -> NDArray[np.bool_]:
    """Whether pairs of outlines in one plane are closer than the buffer, or share more than a sliver of rounding."""
    distance = shapely.distance(first, second)
    close: NDArray[np.bool_] = distance < (buffer - _ROUNDING_PX) * pixel
    doubtful = np.flatnonzero(~close & (distance == 0))  # a buffer of 0: areas may touch
    shared = shapely.area(shapely.intersection(first[doubtful], second[doubtful]))
    smaller = np.minimum(shapely.area(first[doubtful]), shapely.area(second[doubtful]))
    close[doubtful] = shared > _ROUNDING_AREA * smaller
    return close


def _between_systems(
    areas: Areas, kind: NDArray[np.int64], buffer: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    dense = shapely.segmentize(areas.outlines, shapely.length(areas.outlines) / 64)
    boxes = _degree_boxes(areas, dense, buffer)
    owner = np.tile(np.arange(len(areas)), 3)
    tree = shapely.STRtree(shapely.box(*boxes.reshape(-1, 4).T))
    hits = tree.query(shapely.box(*boxes[0].T)).astype(np.int64)
    first, second = hits[0], owner[hits[1]]
    wanted = (first < second) & (kind[first] != kind[second]) & (areas.system[first] != areas.system[second])
    pairs = np.unique(np.stack([first[wanted], second[wanted]], axis=1), axis=0)
    first, second = pairs[:, 0], pairs[:, 1]
    middle = np.round((boxes[0, first, :2] + boxes[0, first, 2:]) / 2)
    close = np.zeros(len(first), dtype=bool)
    for place in np.unique(middle, axis=0):
        here = np.flatnonzero((middle == place).all(axis=1))
        close[here] = _closer_around(areas, dense, first[here], second[here], place=place, buffer=buffer)
    return first[close], second[close]


def _degree_boxes(areas: Areas, dense: NDArray[np.object_], buffer: float) -> NDArray[np.float64]:
    """Boxes (3, N, 4) in degrees (west, south, east, north), grown by the buffer, and again a turn east and west."""
    box = np.zeros((len(areas), 4))
    for number, system in enumerate(areas.systems):
        here = np.flatnonzero(areas.system == number)
        transformer = _transformer(system, "EPSG:4326")
        crs = pyproj.CRS.from_user_input(system)
        unit = _DEGREE_M[1] if crs.is_geographic else crs.axis_info[0].unit_conversion_factor
        points, owner = shapely.get_coordinates(dense[here], return_index=True)
        lon, lat = transformer.transform(*points.T)
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        crosses = np.maximum.reduceat(lon, starts) - np.minimum.reduceat(lon, starts) > 180
        lon = np.where(crosses[owner] & (lon < 0), lon + 360, lon)
        south, north = np.minimum.reduceat(lat, starts), np.maximum.reduceat(lat, starts)
        reach = 1.05 * buffer * areas.pixel.max() * unit / _DEGREE_M[0]
        highest = np.maximum(np.abs(south), np.abs(north)) + reach
        wide = reach / np.cos(np.radians(np.minimum(highest, _POLAR)))
        west, east = np.minimum.reduceat(lon, starts) - wide, np.maximum.reduceat(lon, starts) + wide
        polar = highest > _POLAR
        box[here] = np.stack(
            [
                np.where(polar, -180, west), np.where(polar & (south < 0), -90, south - reach),
                np.where(polar, 180, east), np.where(polar & (north > 0), 90, north + reach),
            ], axis=1,
        )  # fmt: skip
    turn = np.array([360.0, 0.0, 360.0, 0.0])
    return np.stack([box, box + turn, box - turn])


def _closer_around(
    areas: Areas,
    dense: NDArray[np.object_],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    *,
    place: NDArray[np.float64],
    buffer: float,
) -> NDArray[np.bool_]:
    """As :func:`_closer`, on the ground around a place (longitude, latitude): true to 1e-4 within 150 km of it."""
    plane = f"+proj=aeqd +lon_0={place[0]} +lat_0={place[1]} +datum=WGS84 +units=m"
    members, where = np.unique(np.concatenate([first, second]), return_inverse=True)
    outlines = np.empty(len(members), dtype=object)
    for number, system in enumerate(areas.systems):
        here = np.flatnonzero(areas.system[members] == number)
        outlines[here] = shapely.transform(
            dense[members[here]], _transformer(system, plane).transform, interleaved=False
        )  # fmt: skip
    scale = np.sqrt(shapely.area(outlines) / shapely.area(dense[members]))
    pixel = areas.pixel[members] * scale
    one, other = where[: len(first)], where[len(first) :]
    return _closer(outlines[one], outlines[other], pixel=np.maximum(pixel[one], pixel[other]), buffer=buffer)


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def _wkt(grid: GeoBox) -> str:
    return "" if grid.crs is None else str(grid.crs.to_wkt())
