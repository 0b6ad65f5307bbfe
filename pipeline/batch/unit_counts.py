"""Unit counts: what the maps of one unit hold within each polygon, as plain numbers that add up over units."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from shapely.affinity import affine_transform
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from ...datasets.patches import footprint
from ...datasets.product import quiet_open
from ...datasets.raster import TILE
from ...datasets.stack import IGNORE
from ..errors import PipelineError
from ..raster_kind import category_tags
from .outlines import STRAIGHT, inside


@dataclass(frozen=True, kw_only=True)
class _Maps:
    """The open maps of a unit; those of tiles may be absent."""

    classes: DatasetReader
    confidence: DatasetReader
    reliance: DatasetReader | None
    trust: DatasetReader | None


def unit_counts(folder: Path, unit: str, polygons: Sequence[tuple[str, bytes]]) -> dict[str, Any]:
    """Count what the maps of a unit hold within each polygon; a pixel belongs to a polygon by its centre.

    Memory is 256 rows of the maps as wide as the polygon, and the maps of tiles.

    Parameters
    ----------
    folder
        The unit's folder, ``units/<unit>``.
    unit
        Its name.
    polygons
        Key and outline (WKB) of each, on the plane of the unit's maps; outlines may overlap.

    Returns
    -------
    Plain JSON values: ``unit``; ``pixel_km2``: area of a pixel on the grid; ``ellipsoid_km2``: on the ellipsoid;
    ``names``: class value -> name; ``polygons``: key -> ``mapped``: number of mapped pixels; ``classes``: value ->
    pixels; ``confidence``: [sum, pixels]; ``reliance``: modality -> sum of its share over the pixels of tiles where it
    is defined, and ``reliance_px``, their number; ``trust``: flag -> pixels. The last three are empty or 0 where the
    unit has no such map.

    Raises
    ------
    PipelineError
        If a map of the unit does not open.
    """
    try:
        with ExitStack() as opened:
            paths = {kind: folder / f"{unit}.{kind}.tif" for kind in ("classes", "confidence", "reliance", "trust")}
            found: Any = {
                kind: opened.enter_context(quiet_open(path))
                if kind in ("classes", "confidence") or path.is_file() else None
                for kind, path in paths.items()
            }  # fmt: skip
            maps = _Maps(**found)
            grid = GeoBox(maps.classes.shape, maps.classes.transform, maps.classes.crs)
            on_grid, on_ellipsoid = pixel_areas(grid)
            return {
                "unit": unit, "pixel_km2": on_grid, "ellipsoid_km2": on_ellipsoid,
                "names": {str(value): name for value, name in category_tags(maps.classes.tags()).items()},
                "polygons": {key: _polygon_counts(maps, grid, shapely.from_wkb(wkb)) for key, wkb in polygons},
            }  # fmt: skip
    except (RasterioError, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"{folder}: found a unit whose maps do not open ({text}); wanted complete maps; delete the folder and map "
            "the unit again"
        ) from error


def pixel_areas(grid: GeoBox) -> tuple[float, float]:
    """Return the area of a pixel on the grid and, as a mean over the grid, on the ellipsoid, km2.

    On a grid in degrees, which has no area of its own, both are that of the ellipsoid.
    """
    ellipsoid = ellipsoid_km2(footprint(grid)) / (grid.shape[0] * grid.shape[1])
    crs = CRS.from_user_input(str(grid.crs))
    if not crs.is_projected:
        return ellipsoid, ellipsoid
    metres = crs.axis_info[0].unit_conversion_factor
    return abs(grid.affine.determinant) * metres**2 / 1e6, ellipsoid


def ellipsoid_km2(outline: BaseGeometry) -> float:
    """Return the area of polygons in longitude and latitude, whose edges are straight there, on WGS 84, km2."""
    parts = [part for part in shapely.get_parts(shapely.segmentize(outline, STRAIGHT)) if part.geom_type == "Polygon"]
    geod = Geod(ellps="WGS84")
    # The sign tells holes from shells, once each goes its own way round.
    return float(sum(abs(geod.geometry_area_perimeter(orient(part))[0]) for part in parts) / 1e6)


def _polygon_counts(maps: _Maps, grid: GeoBox, polygon: BaseGeometry) -> dict[str, Any]:
    histogram, confidence, sure = np.zeros(256, dtype=np.int64), 0.0, 0
    rows, cols = _window(grid, polygon)
    tiles = maps.reliance or maps.trust
    tile_px = np.zeros((0, 0) if tiles is None else tiles.shape, dtype=np.int64)
    for top in range(rows.start, rows.stop, TILE):
        bottom = min(top + TILE, rows.stop)
        window = ((top, bottom), (cols.start, cols.stop))
        classes = maps.classes.read(1, window=window)
        mapped = inside(polygon, grid[top:bottom, cols]) & (classes != IGNORE)
        histogram += np.bincount(classes[mapped], minlength=256)
        values = maps.confidence.read(1, window=window)[mapped]
        known = values[np.isfinite(values)]
        confidence, sure = confidence + float(known.sum(dtype=np.float64)), sure + known.size
        if tiles is not None:
            _add_tiles(tile_px, mapped, grid, tiles, top=top, left=cols.start)
    shares, defined = _shares(maps.reliance, tile_px)
    return {
        "mapped": int(histogram.sum()), "classes": _nonzero(histogram), "confidence": [confidence, sure],
        "reliance": shares, "reliance_px": defined, "trust": _flags(maps.trust, tile_px),
    }  # fmt: skip


def _window(grid: GeoBox, polygon: BaseGeometry) -> tuple[slice, slice]:
    """Return the rows and columns of a grid that a polygon may have pixels in."""
    if polygon.is_empty:
        return slice(0, 0), slice(0, 0)
    a, b, c, d, e, f = (~grid.affine)[:6]
    left, top, right, bottom = affine_transform(polygon, [a, b, d, e, c, f]).bounds
    rows, cols = (
        slice(*np.clip([math.floor(low), math.ceil(high)], 0, length).tolist())
        for low, high, length in ((top, bottom, grid.shape[0]), (left, right, grid.shape[1]))
    )
    return (rows, cols) if cols.stop > cols.start else (slice(0, 0), cols)


def _add_tiles(
    counts: NDArray[np.int64], mapped: NDArray[np.bool_], grid: GeoBox, tiles: DatasetReader, *, top: int, left: int
) -> None:
    """Add the mapped pixels of a window to their tiles."""
    to_tiles = ~tiles.transform * grid.affine
    rows, cols = np.nonzero(mapped)
    tile_rows = np.floor(to_tiles.e * (rows + top + 0.5) + to_tiles.f).astype(np.int64)
    tile_cols = np.floor(to_tiles.a * (cols + left + 0.5) + to_tiles.c).astype(np.int64)
    flat = tile_rows * counts.shape[1] + tile_cols
    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)


def _shares(reliance: DatasetReader | None, tile_px: NDArray[np.int64]) -> tuple[dict[str, float], int]:
    """Return the sum of each modality's share over mapped pixels, and how many of them have shares."""
    if reliance is None:
        return {}, 0
    shares = reliance.read().astype(np.float64)
    known = np.isfinite(shares).all(axis=0) & (tile_px > 0)
    sums = (shares[:, known] * tile_px[known]).sum(axis=1)
    names = (text or "" for text in reliance.descriptions)
    return {name: float(total) for name, total in zip(names, sums, strict=True)}, int(tile_px[known].sum())


def _flags(trust: DatasetReader | None, tile_px: NDArray[np.int64]) -> Mapping[str, int]:
    if trust is None:
        return {}
    return _nonzero(np.bincount(trust.read(1).ravel(), weights=tile_px.ravel(), minlength=256).astype(np.int64))


def _nonzero(histogram: NDArray[np.int64]) -> dict[str, int]:
    return {str(value): int(histogram[value]) for value in np.flatnonzero(histogram)}
