"""Area: the part of a scene that is mapped, on the scene's own grid."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from shapely.affinity import affine_transform
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from .acquire_options import read_area
from .errors import PipelineError

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Area:
    """A rectangle of a scene's grid, and the outline within it.

    Attributes
    ----------
    geobox
        Grid of the windows: pixels of the scene's grid.
    row, col
        Its upper left pixel on the scene's grid.
    outline
        What is mapped, in the grid's CRS; None: all of the rectangle.
    kept
        Rows and columns of ``geobox`` that are written; None: all. What lies around them is there for the windows that
        reach into them.
    """

    geobox: GeoBox
    row: int
    col: int
    outline: BaseGeometry | None = None
    kept: tuple[slice, slice] | None = None

    @property
    def written(self) -> GeoBox:
        """Grid of the map."""
        return self.geobox if self.kept is None else self.geobox[self.kept[0], self.kept[1]]

    def inside(self, row: int, col: int, *, height: int, width: int) -> NDArray[np.bool_]:
        """Return which pixels of a window are mapped.

        Parameters
        ----------
        row, col
            Upper left pixel on the map's grid; the window may reach beyond it.
        height, width
            Size, px.

        Returns
        -------
        bool (height, width), True where the pixel's centre lies on the map and within the outline.
        """
        rows, cols = np.arange(row, row + height), np.arange(col, col + width)
        shape = self.geobox.shape
        found: NDArray[np.bool_] = ((rows >= 0) & (rows < shape[0]))[:, None] & ((cols >= 0) & (cols < shape[1]))
        if self.outline is not None and found.any():
            transform = self.geobox.affine * Affine.translation(col, row)
            found &= geometry_mask([self.outline], (height, width), transform, invert=True)
        return found


def scene_area(geobox: GeoBox, *, bbox: Bounds | None = None, aoi: Path | None = None) -> Area | None:
    """Return the part of a scene that is asked for, or None where it has none of it.

    Parameters
    ----------
    geobox
        The scene's grid.
    bbox
        (min x, min y, max x, max y): longitudes and latitudes where all four can be such, else in the scene's CRS.
    aoi
        Vector file with polygons; without a CRS of its own, in longitude and latitude.

    Raises
    ------
    PipelineError
        If the scene has no position, or the file holds no area.
    """
    if bbox is None and aoi is None:
        return Area(geobox=geobox, row=0, col=0)
    if geobox.crs is None:
        raise PipelineError(
            "found an area to map and a scene without a position; wanted both in one place; remove `predict.bbox` and "
            "`predict.aoi`, or name the scenes that have one in `predict.scenes`"
        )
    if aoi is not None:
        outline = _on_crs(read_area(aoi), geobox)
        return _cut(geobox, outline, outline=outline)
    assert bbox is not None  # noqa: S101 (for the type checker)
    corners = box(*bbox)
    if _is_lon_lat(bbox) and not geobox.crs.geographic:
        # Edges along a parallel are curved on the grid: points between the corners follow them.
        corners = _on_crs(corners.segmentize(max(bbox[2] - bbox[0], bbox[3] - bbox[1]) / 32), geobox)
    return _cut(geobox, corners, outline=None)


def _is_lon_lat(bbox: Bounds) -> bool:
    west, south, east, north = bbox
    return min(west, east) >= -180 and max(west, east) <= 180 and min(south, north) >= -90 and max(south, north) <= 90


def _on_crs(area: BaseGeometry, geobox: GeoBox) -> BaseGeometry:
    import geopandas  # a second to import, which only a cut map needs

    return geopandas.GeoSeries([area], crs="EPSG:4326").to_crs(str(geobox.crs)).iloc[0]


def _cut(geobox: GeoBox, shape: BaseGeometry, *, outline: BaseGeometry | None) -> Area | None:
    """Return the smallest rectangle of whole pixels around the part of ``shape`` that lies on the grid."""
    whole = box(0, 0, geobox.shape[1], geobox.shape[0])
    inverse = ~geobox.affine

    pixels = affine_transform(shape, [inverse.a, inverse.b, inverse.d, inverse.e, inverse.c, inverse.f])
    shared = pixels.intersection(whole)
    if shared.is_empty or shared.area == 0:
        return None
    # A bound that lies on the edge of a pixel, but for the last bits, does not ask for the next one.
    left, top = (math.floor(value + 1e-6) for value in shared.bounds[:2])
    right, bottom = (math.ceil(value - 1e-6) for value in shared.bounds[2:])
    return Area(geobox=geobox[top : max(bottom, top + 1), left : max(right, left + 1)], row=top, col=left,
                outline=outline)  # fmt: skip
