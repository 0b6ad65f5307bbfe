"""Planted truth: how far a reliance map agrees with an invented scene that says which sensor carries the class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox

from ..datasets.labels import read_labels
from ..datasets.stack import IGNORE


def planted_shares(
    reliance: Path, informative: Path, grid: GeoBox, *, modalities: Sequence[str], tile: int
) -> dict[str, float]:
    """Mean reliance share of each modality over the pixels where it alone carries the class.

    Parameters
    ----------
    reliance
        Map with one band a modality, pixels of ``tile`` x ``tile`` scene pixels.
    informative
        Raster of modality positions, 255 = no single one.
    grid
        Grid of the scene.
    modalities
        Names in band order.
    tile
        Edge of a reliance pixel in scene pixels.

    Returns
    -------
    Modality -> mean share, 0 to 1; modalities without such pixels are left out. Every planted pixel counts once,
    with the share of the tile that it lies in, mixed tiles included.
    """
    planted = read_labels(informative, grid, classes={i: i for i in range(len(modalities))})
    with rasterio.open(reliance) as source:
        shares = source.read()
    result = {}
    for position, name in enumerate(modalities):
        rows, cols = np.nonzero((planted == position) & (planted != IGNORE))
        values = shares[position, rows // tile, cols // tile]
        values = values[np.isfinite(values)]
        if values.size:
            result[name] = float(values.mean())
    return result
