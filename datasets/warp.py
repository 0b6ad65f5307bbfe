"""Bring a scene onto another grid: reprojection, displacement and pixel size in one resampling."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .displacement import Displacement
from .errors import SceneError
from .quality import Quality
from .resampling import KERNELS
from .scene import Scene
from .source_positions import pixel_ratio
from .windowed_warp import WindowedWarp

#: Rows of the target grid that are resampled at once.
BAND_ROWS = 512

#: From this ratio of pixel sizes on, a target pixel is the mean of the source pixels in it, not a point sample.
AVERAGE_FROM = 1.5

#: Bands of rows that are worked on while the caller has another one.
IN_FLIGHT = 2


def warp(scene: Scene, target: GeoBox, *, displacement: Displacement | None = None) -> NDArray[np.float32]:
    """Resample a scene onto ``target``, correcting its position on the way.

    Each band follows its own rule, all source pixels that have a weight being valid. Where pixels of the target are at
    least :data:`AVERAGE_FROM` times as high and as wide, it is instead the mean of the valid source pixels in a target
    pixel, each by the part of it that lies inside; it is valid where one is (GDAL's `average` does the same).

    Parameters
    ----------
    scene
        Source, in working units (radar in linear power, so that means are means of power).
    target
        Grid wanted; only the source windows that it needs are read.
    displacement
        Correction, in the target's CRS: added to the position that the source file claims.

    Returns
    -------
    float32 (band, y, x) on ``target``, NaN where the source has no valid pixel. Where the target's pixels are those of
    the source, they are the source's own values.

    Raises
    ------
    SceneError
        If a scene without CRS has another size than ``target`` or is to be displaced, the displacement is of another
        CRS, or the file cannot be read.
    """
    if scene.geobox.crs is None or target.crs is None:
        _require_in_place(scene, target, displacement)
        return scene.read()
    return _job(scene, target, displacement).filled(target, scene.read)


def warp_bands(
    scene: Scene, target: GeoBox, *, displacement: Displacement | None = None, rows: int = BAND_ROWS
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Resample like :func:`warp`, some rows at a time, so that memory does not grow with the height.

    The next rows are worked on by threads while the caller has those before; close the iterator where it may not be
    used up.

    Yields
    ------
    First row on ``target`` and the rows' values, float32 (band, rows, x).
    """
    if scene.geobox.crs is None or target.crs is None:
        yield 0, warp(scene, target, displacement=displacement)
        return
    job = _job(scene, target, displacement)
    starts = range(0, target.shape[0], rows)
    threads = min(IN_FLIGHT, len(starts), os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="warp")
    begun: deque[tuple[int, Future[NDArray[np.float32]]]] = deque()
    try:
        for row in starts:
            begun.append((row, pool.submit(job.filled, target[row : min(row + rows, target.shape[0]), :], scene.read)))
            if len(begun) > IN_FLIGHT:
                first, future = begun.popleft()
                yield first, future.result()
        while begun:
            first, future = begun.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def warp_quality(scene: Scene, target: GeoBox, *, displacement: Displacement | None = None) -> NDArray[np.uint8]:
    """Bring a scene's quality codes onto ``target`` (nearest neighbour), correcting its position as :func:`warp` does.

    Returns
    -------
    uint8 (y, x), `Quality` codes, 255 where nothing is known.
    """
    if scene.geobox.crs is None or target.crs is None:
        _require_in_place(scene, target, displacement)
        return scene.read_quality()
    job = WindowedWarp(scene=scene, displacement=displacement, rules=("nearest",), is_mean=False)
    codes = job.filled(target, lambda window: scene.read_quality(window)[None].astype(np.float32))[0]
    return np.where(np.isnan(codes), np.float32(Quality.UNKNOWN), codes).astype(np.uint8)


def _job(scene: Scene, target: GeoBox, displacement: Displacement | None) -> WindowedWarp:
    """Decide what is the same for all parts of a target: bands of rows must not differ in their rule."""
    rules = tuple(band.resampling for band in scene.modality.bands)
    if unknown := sorted(set(rules) - set(KERNELS)):
        raise SceneError(
            f"{scene.path}: found `resampling: {unknown[0]}`; wanted one of {', '.join(KERNELS)}; declare one of them"
        )
    is_mean = pixel_ratio(scene.geobox, target) >= AVERAGE_FROM
    return WindowedWarp(scene=scene, displacement=displacement, rules=rules, is_mean=is_mean)


def _require_in_place(scene: Scene, target: GeoBox, displacement: Displacement | None) -> None:
    """Refuse to bring a scene without a position anywhere but onto its own pixels."""
    if scene.geobox.shape != target.shape:
        raise SceneError(
            f"{scene.path}: found {scene.geobox.shape.x} x {scene.geobox.shape.y} px without a position; wanted "
            f"the {target.shape.x} x {target.shape.y} px of its chip; deliver all modalities on one pixel grid"
        )
    if displacement is not None and not displacement.is_zero:
        raise SceneError(
            f"{scene.path}: found a displacement of up to {displacement.largest:.4g} for pixels without a position; "
            "wanted none; georeference the chips, or take them as they are"
        )
