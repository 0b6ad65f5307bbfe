"""From radar geometry to a map by tie points: a thin-plate spline through them, block by block.

Tie points alone know the terrain only where they are (every 10 to 20 km): between them, heights shift pixels by
about height / tan(incidence angle). :mod:`~equipoise.datasets.terrain` corrects that with an elevation model.
Over a full Sentinel-1 IW scene of smooth terrain the spline errs by 0.03 px (rms), 0.2 px at most, GDAL's polynomial
by up to 2.3 px (measured against the imaging geometry, 210 tie points).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.transform import GCPTransformer, from_gcps
from rasterio.warp import reproject

from .errors import SceneError
from .scene import first_line

#: Largest error in source pixels by which GDAL may shorten the evaluation of the spline.
TOLERANCE = 0.02

#: Points along each side of a block at which its source window is measured.
_LATTICE = 9

#: Source pixels beyond those: what bilinear sampling reaches, and how far the spline bends between lattice points.
_MARGIN = 4

#: From this ratio of pixel sizes on a target pixel is the mean of the source pixels in it.
_AVERAGE_FROM = 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class TiePoints:
    """Pixels of an image whose place is known.

    Attributes
    ----------
    rows, columns
        float64 (n,), 0 = centre of the first pixel.
    longitudes, latitudes
        float64 (n,), degrees, WGS 84.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    longitudes: NDArray[np.float64]
    latitudes: NDArray[np.float64]

    def utm(self) -> str:
        """UTM zone of the middle of the points, as ``EPSG:326..`` or ``EPSG:327..``."""
        angles = np.radians(self.longitudes)
        # The mean of directions, not of numbers: a scene may cross the antimeridian.
        middle = math.degrees(math.atan2(np.sin(angles).mean(), np.cos(angles).mean()))
        zone = int((middle + 180) // 6) % 60 + 1
        return f"EPSG:{(32600 if self.latitudes.mean() >= 0 else 32700) + zone}"

    def projected(self, crs: str, *, top: int = 0, left: int = 0) -> list[GroundControlPoint]:
        """Give the points in ``crs`` for the part of the image that begins at row ``top``, column ``left``."""
        x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(self.longitudes, self.latitudes)
        # GDAL counts from the outer corner of the first pixel, the product from its centre.
        rows, columns = self.rows + 0.5 - top, self.columns + 0.5 - left
        return [
            GroundControlPoint(row=float(row), col=float(column), x=float(east), y=float(north))
            for row, column, east, north in zip(rows, columns, x, y, strict=True)
        ]


def target_grid(points: TiePoints, shape: tuple[int, int], *, spacing: float, resolution: float, where: str) -> GeoBox:
    """North-up UTM grid that holds the whole image, its edges at multiples of ``resolution`` (metres).

    Parameters
    ----------
    points
        Tie points of the image.
    shape
        Its rows and columns.
    spacing
        Its pixel size in metres.
    resolution
        Pixel size of the grid in metres.
    where
        Name of the product, for messages.

    Raises
    ------
    SceneError
        If the points span another area than the image can.
    """
    crs = points.utm()
    rows, columns = _outline(*shape)
    try:
        with GCPTransformer(points.projected(crs), tps=True) as spline:
            x, y = (np.asarray(axis) for axis in spline.xy(rows, columns, offset="ul"))
    except Exception as error:  # GDAL's own errors, which rasterio passes on, have no public name
        raise SceneError(
            f"{where}: found tie points that determine no spline ({first_line(error)}); wanted points spread over the "
            "image; download the product again"
        ) from error
    # NaN, from points that determine no spline, is no plausible span either.
    span, diagonal = max(np.ptp(x), np.ptp(y)), math.hypot(*shape) * spacing
    if not 0.3 * diagonal < span < 1.5 * diagonal:
        raise SceneError(
            f"{where}: found tie points that span {span / 1000:.1f} km; wanted about {diagonal / 1000:.1f} km, the "
            "size of the image; download the product again"
        )
    left, right = math.floor(x.min() / resolution), math.ceil(x.max() / resolution)
    bottom, top = math.floor(y.min() / resolution), math.ceil(y.max() / resolution)
    return GeoBox.from_bbox(
        (left * resolution, bottom * resolution, right * resolution, top * resolution),
        crs=crs, shape=(top - bottom, right - left),
    )  # fmt: skip


def pixel_ratio(points: TiePoints, geobox: GeoBox) -> float:
    """Size of a target pixel in source pixels."""
    affine = from_gcps(points.projected(str(geobox.crs)))
    return float(math.sqrt(abs(geobox.affine.determinant / affine.determinant)))


def source_window(points: TiePoints, shape: tuple[int, int], geobox: GeoBox) -> tuple[slice, slice] | None:
    """Row and column slices of the image that the block ``geobox`` needs; None if it lies outside."""
    height, width = geobox.shape
    down, along = np.meshgrid(np.linspace(0, height, _LATTICE), np.linspace(0, width, _LATTICE))
    affine = geobox.affine
    east = (affine.c + affine.a * along + affine.b * down).ravel()
    north = (affine.f + affine.d * along + affine.e * down).ravel()
    with GCPTransformer(points.projected(str(geobox.crs)), tps=True) as spline:
        rows, columns = (np.asarray(axis) for axis in spline.rowcol(east, north, op=float))
    margin = _MARGIN + math.ceil(pixel_ratio(points, geobox))
    window = []
    for positions, size in ((rows, shape[0]), (columns, shape[1])):
        first = max(0, math.floor(positions.min()) - margin)
        last = min(size, math.ceil(positions.max()) + margin)
        if first >= last:
            return None
        window.append(slice(first, last))
    return window[0], window[1]


def geocode(
    image: NDArray[np.float32], points: TiePoints, geobox: GeoBox, *, top: int, left: int
) -> NDArray[np.float32]:
    """Resample a part of an image onto a grid: bilinear, or the mean where target pixels are larger.

    Parameters
    ----------
    image
        float32 (band, y, x), NaN = no observation; radar in linear power.
    points
        Tie points of the whole image.
    geobox
        Target.
    top, left
        Where ``image`` begins in the whole image.

    Returns
    -------
    float32 (band, y, x) on ``geobox``, NaN where nothing was observed.
    """
    crs = str(geobox.crs)
    out = np.full((len(image), *geobox.shape), np.nan, dtype=np.float32)
    mean = pixel_ratio(points, geobox) >= _AVERAGE_FROM
    reproject(
        image, out, gcps=points.projected(crs, top=top, left=left), src_crs=crs, dst_crs=crs,
        dst_transform=geobox.affine, src_nodata=np.nan, dst_nodata=np.nan, tolerance=TOLERANCE,
        resampling=Resampling.average if mean else Resampling.bilinear, SRC_METHOD="GCP_TPS",
        # Otherwise GDAL guesses the ratio of pixel sizes from the windows' sizes, which the rotation of the image makes
        # too different: it would blur, and differently for each block.
        XSCALE=1, YSCALE=1,
    )  # fmt: skip
    return out


def _outline(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows and columns of 4 x 33 positions on the outer edge of an image."""
    down, along = np.linspace(0, height, 33), np.linspace(0, width, 33)
    rows = np.concatenate([np.zeros(33), np.full(33, height), down, down])
    columns = np.concatenate([along, along, np.zeros(33), np.full(33, width)])
    return rows, columns
