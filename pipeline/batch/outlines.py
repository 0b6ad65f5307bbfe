"""Outlines: polygons in longitude and latitude on the plane of a grid, and which of its pixels lie within."""

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

#: Longest edge of an outline that is taken for straight on a plane, degrees: it bends by less than 2 cm.
STRAIGHT = 0.01

#: How far around a place an outline is kept, in degrees and as a part of the place's extent.
AROUND = (0.2, 0.1)


def outline_on(outline: BaseGeometry, crs: str | CRS, *, near: BaseGeometry) -> BaseGeometry:
    """Bring the part of an outline that lies around a place onto a plane.

    Only that part: far from a zone, its plane has no place for a point, or a wrong one.

    Parameters
    ----------
    outline
        Polygons in longitude and latitude (WGS 84); their edges are straight there (RFC 7946).
    crs
        The plane.
    near
        The place, in longitude and latitude: footprint of a grid, two polygons if it crosses the antimeridian.

    Returns
    -------
    Valid polygons, empty where there is nothing around the place.
    """
    parts = []
    for west, south, east, north in shapely.bounds(shapely.get_parts(near)):
        pad = AROUND[0] + AROUND[1] * max(east - west, north - south)
        parts.append(shapely.clip_by_rect(outline, west - pad, south - pad, east + pad, north + pad))
    around = shapely.segmentize(shapely.union_all([_valid(part) for part in parts]), STRAIGHT)
    transformer = Transformer.from_crs("EPSG:4326", str(crs), always_xy=True)
    return _valid(shapely.transform(around, transformer.transform, interleaved=False))


def inside(outline: BaseGeometry, geobox: GeoBox, *, touched: bool = False) -> NDArray[np.bool_]:
    """Return which pixels of a grid lie within an outline, bool (y, x).

    Parameters
    ----------
    outline
        On the grid's plane.
    geobox
        The grid, or rows of it: the effort grows with the part of the outline that is near.
    touched
        Every pixel that meets the outline; otherwise those whose centre lies within it.
    """
    # Cut beyond the grid, and faster than by an intersection: a full outline costs its length in every row of pixels.
    near = shapely.clip_by_rect(outline, *geobox.pad(2).extent.geom.bounds)
    if near.is_empty:
        return np.zeros(geobox.shape, dtype=bool)
    found: NDArray[np.bool_] = geometry_mask([near], geobox.shape, geobox.affine, invert=True, all_touched=touched)
    return found


def _valid(shape: BaseGeometry) -> BaseGeometry:
    """Return a shape made valid; to look is much faster than to make."""
    return shape if shapely.is_valid(shape) else shapely.make_valid(shape)
