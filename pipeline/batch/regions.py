"""Regions: named outlines in a vector file, which say what is to be mapped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shapely import make_valid, unary_union
from shapely.geometry import GeometryCollection
from shapely.geometry.base import BaseGeometry

from ..errors import ConfigError

#: Columns that name a region where none is chosen, best first.
NAME_COLUMNS = ("name", "region", "id")

#: Endings of the files that hold regions.
VECTOR_SUFFIXES = frozenset({".gpkg", ".geojson", ".json", ".parquet", ".geoparquet", ".shp", ".fgb"})


@dataclass(frozen=True, kw_only=True)
class Region:
    """An area that is mapped and summed up under its name.

    Attributes
    ----------
    name
        Unique in the file.
    outline
        Polygons, longitude and latitude in degrees (WGS 84).
    """

    name: str
    outline: BaseGeometry


def read_regions(path: Path, *, column: str | None = None) -> tuple[Region, ...]:
    """Read the regions of a GeoPackage, GeoParquet, GeoJSON or another vector file.

    Polygons of the same name are one region. Those without a name are called ``region-1``, ``region-2``, ..., by their
    place in the file.

    Parameters
    ----------
    path
        File; without a CRS of its own, in longitude and latitude.
    column
        Column of the names; None: the first of :data:`NAME_COLUMNS` that is there.

    Raises
    ------
    ConfigError
        If it cannot be read, lacks the column, or holds something that is no area.
    """
    import geopandas

    if not path.is_file():
        raise ConfigError(f"{path}: found no file; wanted regions (GeoPackage, GeoParquet, GeoJSON); correct the path")
    try:
        reader = geopandas.read_parquet if path.suffix.lower() in (".parquet", ".geoparquet") else geopandas.read_file
        frame = reader(path)
        frame = frame.set_crs("EPSG:4326") if frame.crs is None else frame.to_crs("EPSG:4326")
    except Exception as error:  # drivers raise what they like
        text = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{path}: found no readable regions ({text}); wanted polygons with names; correct it"
        ) from error
    names = _names(path, list(frame.columns), column)
    labels = [""] * len(frame) if names is None else frame[names].astype(object).where(frame[names].notna(), "")
    by_name: dict[str, list[BaseGeometry]] = {}
    for number, (label, shape) in enumerate(zip(labels, frame.geometry, strict=True), start=1):
        name = " ".join(str(label).split()) or f"region-{number}"  # in one line
        by_name.setdefault(name, []).append(_areas(shape))
    regions = tuple(Region(name=name, outline=unary_union(parts)) for name, parts in by_name.items())
    _check(path, regions)
    return regions


def _areas(shape: BaseGeometry | None) -> BaseGeometry:
    """Return the polygons of a shape; lines and points have no area to map."""
    if shape is None or shape.is_empty:
        return GeometryCollection()
    valid = make_valid(shape)
    return unary_union([part for part in getattr(valid, "geoms", [valid]) if part.area > 0])


def _names(path: Path, columns: Sequence[str], chosen: str | None) -> str | None:
    if chosen is not None and chosen not in columns:
        raise ConfigError(f"{path}: found columns {columns}; wanted '{chosen}'; name another one")
    if chosen is not None:
        return chosen
    known = {str(column).lower(): column for column in columns}
    return next((known[name] for name in NAME_COLUMNS if name in known), None)


def _check(path: Path, regions: Sequence[Region]) -> None:
    if not regions:
        raise ConfigError(f"{path}: found no region; wanted one polygon at least; draw it")
    for region in regions:
        west, south, east, north = region.outline.bounds if region.outline.area else (0.0, 0.0, 0.0, 0.0)
        if region.outline.area == 0 or west < -180 or east > 180 or south < -80 or north > 84:
            raise ConfigError(
                f"{path}: found region '{region.name}' with bounds {west:g}, {south:g}, {east:g}, {north:g}; wanted "
                "polygons between 80 south and 84 north (UTM), in longitude and latitude or with a CRS; correct it"
            )
