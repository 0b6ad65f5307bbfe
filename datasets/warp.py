"""Bring a scene onto another grid: reprojection, misregistration and pixel size in one resampling."""

from collections.abc import Iterator

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from odc.geo.roi import roi_is_empty
from odc.geo.warp import resampling_s2rio, rio_reproject

from .errors import SceneError
from .quality import Quality
from .scene import Scene

#: Rows of the target grid that are resampled at once.
BAND_ROWS = 512

#: From this ratio of pixel sizes on, a target pixel is the mean of the source pixels in it, not a point sample.
AVERAGE_FROM = 1.5


def moved(geobox: GeoBox, *, east: float, north: float) -> GeoBox:
    """Return ``geobox`` moved by (east, north) in units of its CRS."""
    return GeoBox(geobox.shape, Affine.translation(east, north) * geobox.affine, geobox.crs)


def warp(scene: Scene, target: GeoBox, *, east: float = 0.0, north: float = 0.0) -> NDArray[np.float32]:
    """Resample a scene onto ``target``, correcting its position on the way.

    Parameters
    ----------
    scene
        Source, in working units (radar in linear power, so that means are means of power).
    target
        Grid wanted; only the source window that it needs is read.
    east, north
        Correction in units of the target's CRS: added to the position that the source file claims.

    Returns
    -------
    float32 (band, y, x) on ``target``, NaN where the source has no valid pixel.

    Raises
    ------
    SceneError
        If a scene without CRS has another size than ``target``, or its file cannot be read.
    """
    if scene.geobox.crs is None or target.crs is None:
        if scene.geobox.shape != target.shape:
            raise SceneError(
                f"{scene.path}: found {scene.geobox.shape.x} x {scene.geobox.shape.y} px without a position; wanted "
                f"the {target.shape.x} x {target.shape.y} px of its chip; deliver all modalities on one pixel grid"
            )
        return scene.read()
    sampled = moved(target, east=-east, north=-north)
    out = np.full((len(scene.modality.bands), *target.shape), np.nan, dtype=np.float32)
    overlap = compute_reproject_roi(scene.geobox, sampled, padding=4)
    if roi_is_empty(overlap.roi_src) or roi_is_empty(overlap.roi_dst):
        return out
    rows, cols = overlap.roi_src
    roi = (slice(rows.start, rows.stop), slice(cols.start, cols.stop))
    source, source_grid = scene.read(roi), scene.geobox[roi]
    for number, band in enumerate(scene.modality.bands):
        rule = "average" if overlap.scale >= AVERAGE_FROM else band.resampling
        rio_reproject(
            source[number], out[number], source_grid, sampled, resampling_s2rio(rule), np.nan, np.nan
        )  # fmt: skip
    return out


def warp_bands(
    scene: Scene, target: GeoBox, *, east: float = 0.0, north: float = 0.0, rows: int = BAND_ROWS
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Resample like :func:`warp`, some rows at a time, so that memory does not grow with the height.

    Yields
    ------
    First row on ``target`` and the rows' values, float32 (band, rows, x).
    """
    if target.crs is None:
        yield 0, warp(scene, target)
        return
    for row in range(0, target.shape[0], rows):
        band = target[row : min(row + rows, target.shape[0]), :]
        yield row, warp(scene, band, east=east, north=north)


def warp_quality(scene: Scene, target: GeoBox, *, east: float = 0.0, north: float = 0.0) -> NDArray[np.uint8]:
    """Bring a scene's quality codes onto ``target`` (nearest neighbour), correcting its position as :func:`warp` does.

    Returns
    -------
    uint8 (y, x), `Quality` codes, 255 where nothing is known.
    """
    if scene.geobox.crs is None or target.crs is None:
        return scene.read_quality()
    sampled = moved(target, east=-east, north=-north)
    out = np.full(tuple(target.shape), Quality.UNKNOWN, dtype=np.uint8)
    overlap = compute_reproject_roi(scene.geobox, sampled, padding=4)
    if roi_is_empty(overlap.roi_src) or roi_is_empty(overlap.roi_dst):
        return out
    rows, cols = overlap.roi_src
    roi = (slice(rows.start, rows.stop), slice(cols.start, cols.stop))
    fill = int(Quality.UNKNOWN)
    rio_reproject(scene.read_quality(roi), out, scene.geobox[roi], sampled, resampling_s2rio("nearest"), fill, fill)
    return out
