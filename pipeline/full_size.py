"""Full size: windows of what co-registration wrote, and of the same image before it was moved."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.ndimage import map_coordinates

from ..datasets.lattice import at_places
from ..datasets.modality import POWER_FLOOR, Unit
from ..datasets.warp import warp
from .registration_folder import SavedScene

#: Steps in which the place that a correction moved away is found: it changes little from one pixel to the next.
_STEPS = 4

#: Units of backscatter that are no logarithm: as they are, a picture of them is black with a few stars.
POWERS = frozenset({Unit.LINEAR_POWER, Unit.AMPLITUDE})


def read_reference(scene: SavedScene, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return a window of the reference, float32 (band, y, x), backscatter in dB.

    Raises
    ------
    RasterioError, OSError, SceneError
        If it cannot be read.
    """
    path = scene.folder / f"{scene.reference}.tif"
    if path.is_file() or scene.opened is None:
        return read_image(path, rows, cols)
    window = scene.opened.geobox[int(rows[0]) : int(rows[-1]) + 1, int(cols[0]) : int(cols[-1]) + 1]
    return scene.opened.modality.to_network(warp(scene.opened, window))


def read_image(path: Path, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return a window of an aligned raster, float32 (band, y, x), backscatter in dB; NaN beyond the raster.

    Raises
    ------
    RasterioError
        If it cannot be read.
    """
    with rasterio.open(path) as source:
        window = Window(int(cols[0]), int(rows[0]), len(cols), len(rows))
        values = source.read(window=window, boundless=True, fill_value=np.nan).astype(np.float32)
        units = source.tags().get("unit", "").split(",")
    return readable(values, units)


def readable(values: NDArray[np.float32], units: Sequence[str]) -> NDArray[np.float32]:
    """Return values (band, y, x) for eyes: backscatter in dB, everything else as it is.

    Parameters
    ----------
    values
        As an aligned raster holds them.
    units
        Of the bands, or one for all; one that is empty where none is told.
    """
    bands = zip([*units] * len(values), values, strict=False)
    return np.stack([_in_decibels(layer) if unit in POWERS else layer for unit, layer in bands])


def moved_back(scene: SavedScene, name: str, rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the corrected raster's first band, float32 (1, y, x), where the file's own position has it.

    Raises
    ------
    RasterioError
        If it cannot be read.
    """
    layer = scene.layers[name]
    reach = int(np.hypot(layer.east, layer.north).max() / scene.pixel) + 2
    top, left = rows[0] - reach, cols[0] - reach
    source = read_image(
        scene.folder / f"{name}.tif", np.arange(top, rows[-1] + reach + 1), np.arange(left, cols[-1] + reach + 1)
    )[0]  # fmt: skip
    own_x, own_y = scene.on_ground(cols[None].astype(np.float64) + 0.5, rows[:, None].astype(np.float64) + 0.5)
    x, y = own_x, own_y
    for _ in range(_STEPS):
        # The correction is known at true places: what the file has at p - d is p.
        east, north = at_places(layer.grid, (layer.east, layer.north), x, y)
        x, y = own_x + east, own_y + north
    col, row = scene.on_grid(x, y)
    known = np.isfinite(source)
    places = np.stack(np.broadcast_arrays(row - 0.5 - top, col - 0.5 - left))
    share = map_coordinates(known.astype(np.float32), places, order=1, cval=0)
    # Cubic: linear interpolation of what was interpolated once would look softer than the view after.
    filled = np.where(known, source, np.median(source[known]) if known.any() else 0)
    return np.where(share > 0.99, map_coordinates(filled, places, order=3), np.nan).astype(np.float32)[None]


def _in_decibels(layer: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.float32(10) * np.log10(np.maximum(layer, np.float32(POWER_FLOOR)))
