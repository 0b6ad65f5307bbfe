"""Labels: class rasters brought onto a stack's grid, with only the declared values."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.warp import rio_reproject
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from .errors import LabelError
from .stack import IGNORE


def read_labels(path: Path, grid: GeoBox, *, classes: Mapping[int, int]) -> NDArray[np.uint8]:
    """Read a class raster onto ``grid`` (nearest neighbour).

    Parameters
    ----------
    path
        Raster with one band of class values.
    grid
        Grid of the stack.
    classes
        Value in the file -> class value; nodata, and 255 unless it is a key here, mean "not labelled".

    Returns
    -------
    uint8 (y, x), 255 = not labelled.

    Raises
    ------
    LabelError
        If the file cannot be read, does not cover the grid's area, or holds a value that no class declares.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # chips have no position, by declaration
            with rasterio.open(path) as source:
                values, nodata = source.read(1), source.nodata
                own = GeoBox(source.shape, source.transform, source.crs)
    except (RasterioError, OSError) as error:
        raise LabelError(
            f"{path}: found labels that cannot be read ({error}); wanted a one-band raster; copy it again"
        ) from error
    labelled = ~np.isnan(values) if nodata is None else ~np.isnan(values) & (values != nodata)
    if IGNORE not in classes:
        labelled &= values != IGNORE
    unknown = sorted(set(np.unique(values[labelled]).tolist()) - set(classes))
    if unknown:
        raise LabelError(
            f"{path}: found label values {unknown[:8]} that no class declares; wanted {list(classes)} or nodata; add "
            "them to `classes`, or set the raster's nodata value"
        )
    labels = np.full(values.shape, IGNORE, dtype=np.uint8)
    for source_value, class_value in classes.items():
        labels[labelled & (values == source_value)] = class_value
    if own == grid:
        return labels
    if grid.crs is None or own.crs is None:
        if own.shape != grid.shape:
            raise LabelError(
                f"{path}: found labels of {own.shape.x} x {own.shape.y} px without a position; wanted the scene's "
                f"{grid.shape.x} x {grid.shape.y} px; deliver them on its grid"
            )
        return labels
    out = np.full(grid.shape, IGNORE, dtype=np.uint8)
    rio_reproject(labels, out, own, grid, "nearest", IGNORE, IGNORE)
    if (out == IGNORE).all() and (labels != IGNORE).any():
        raise LabelError(f"{path}: found labels outside the scene's area; wanted an overlap; check the file")
    return out
