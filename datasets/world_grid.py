"""WorldGrid: one lattice of square chunks in every UTM zone, by which two runs cut a place alike."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from shapely import unary_union
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry
from shapely.prepared import prep

from .errors import DatasetError

#: Latitudes that UTM is defined for, degrees.
SOUTH, NORTH = -80.0, 84.0

#: Width of a zone, degrees.
ZONE = 6

#: Longest edge of an outline that is taken for straight when it is brought onto a zone's plane, degrees: it bends by
#: less than a metre.
STRAIGHT = 0.02


class GridError(DatasetError):
    """An area has no place on the grid."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A square of a zone's plane.

    Attributes
    ----------
    name
        Such as ``utm33n_e0026_n0258``: zone, hemisphere, column and row, counted from the origin of the zone's plane.
    geobox
        Its pixels.
    """

    name: str
    geobox: GeoBox


@dataclass(frozen=True, kw_only=True)
class Cover:
    """The chunks of one zone that an area needs.

    Attributes
    ----------
    crs
        The zone's plane.
    outline
        The area within the zone and hemisphere, in ``crs``.
    chunks
        Those that it meets, west to east, south to north.
    """

    crs: CRS
    outline: BaseGeometry
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, kw_only=True)
class WorldGrid:
    """Chunks whose corners are multiples of their edge on the plane of each UTM zone.

    A zone is six degrees wide everywhere: the exceptions of Norway and Svalbard are not made.

    Attributes
    ----------
    resolution
        Pixel size, m.
    edge
        Edge of a chunk, px.
    """

    resolution: float
    edge: int

    def covers(self, area: BaseGeometry) -> Iterator[Cover]:
        """Yield what an area needs, zone by zone; every point of it belongs to one zone.

        Parameters
        ----------
        area
            Outline in longitude and latitude, degrees (WGS 84), from -180 to 180.

        Raises
        ------
        GridError
            If it lies beyond UTM, or has no area.
        """
        west, south, east, north = area.bounds if not area.is_empty else (0.0, 0.0, 0.0, 0.0)
        if area.area == 0 or west < -180 or east > 180 or south < SOUTH or north > NORTH:
            raise GridError(
                f"found an area of {west:.2f} to {east:.2f} degrees east, {south:.2f} to {north:.2f} north; wanted one "
                f"with an area, from {SOUTH:g} to {NORTH:g} north (UTM); cut it"
            )
        for zone in range(max(1, _zone(west)), min(60, _zone(east)) + 1):
            left = -180 + ZONE * (zone - 1)
            for hemisphere, bottom, top in ((326, 0.0, NORTH), (327, SOUTH, 0.0)):
                part = _polygons(area.intersection(box(left, bottom, left + ZONE, top)))
                if part.area > 0:
                    yield self._cover(part, CRS(f"EPSG:{hemisphere}{zone:02d}"))

    def chunk(self, crs: CRS, col: int, row: int) -> Chunk:
        """Return a chunk by its column and row."""
        size = self.edge * self.resolution
        corner = Affine.translation(col * size, (row + 1) * size) * Affine.scale(self.resolution, -self.resolution)
        hemisphere, zone = divmod(int(crs.epsg or 0), 100)
        name = f"utm{zone:02d}{'n' if hemisphere == 326 else 's'}_e{col:04d}_n{row:04d}"
        return Chunk(name=name, geobox=GeoBox((self.edge, self.edge), corner, crs))

    def _cover(self, part: BaseGeometry, crs: CRS) -> Cover:
        plane = Geometry(part.segmentize(STRAIGHT), "EPSG:4326").to_crs(crs).geom
        plane = plane if plane.is_valid else plane.buffer(0)
        size, meets = self.edge * self.resolution, prep(plane)
        left, bottom, right, top = (value / size for value in plane.bounds)
        places = (
            (col, row) for row in range(math.floor(bottom), math.ceil(top))
            for col in range(math.floor(left), math.ceil(right))
        )  # fmt: skip
        chunks = tuple(
            self.chunk(crs, col, row) for col, row in places
            # A chunk that is only touched along its edge has no pixel of the area.
            if meets.intersects(box(col * size, row * size, (col + 1) * size, (row + 1) * size).buffer(-1e-6 * size))
        )  # fmt: skip
        return Cover(crs=crs, outline=plane, chunks=chunks)


def joined(covers: Mapping[str, list[Cover]]) -> dict[str, tuple[Chunk, dict[str, BaseGeometry]]]:
    """Return chunk name -> the chunk, and the outline on its plane of each area that needs it, by the area's name."""
    found: dict[str, tuple[Chunk, dict[str, BaseGeometry]]] = {}
    for name, parts in covers.items():
        for cover in parts:
            for chunk in cover.chunks:
                found.setdefault(chunk.name, (chunk, {}))[1][name] = cover.outline
    return dict(sorted(found.items()))


def _polygons(shape: BaseGeometry) -> BaseGeometry:
    """Return what of a shape has an area: an edge along a zone's border is cut as a line, which would be mapped too."""
    parts = getattr(shape, "geoms", [shape])
    return shape if all(part.area for part in parts) else unary_union([part for part in parts if part.area])


def _zone(longitude: float) -> int:
    return math.floor((longitude + 180) / ZONE) + 1
