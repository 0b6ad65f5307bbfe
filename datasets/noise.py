"""Noise of image tiles, estimated from the image alone: what no smooth or straight-edged surface explains."""

import math

import numpy as np
from numpy.typing import NDArray

#: Edge in pixels of the tiles that the noise of training data is kept of.
NOISE_TILE = 32

#: Factor from the mean of |Laplacian difference| to the deviation of normal noise (Immerkaer 1996, eq. 4).
_TO_DEVIATION = math.sqrt(math.pi / 2) / 6


def tile_noise(image: NDArray[np.float32], valid: NDArray[np.bool_], *, tile: int) -> NDArray[np.float32]:
    """Estimate the standard deviation of the noise in square tiles.

    The difference of two Laplacians is 0 on constant, sloping and straight-edged surfaces (J. Immerkaer, "Fast noise
    variance estimation", CVIU 64, 1996); what is left is noise, and texture of single pixels, which counts as such.

    Parameters
    ----------
    image
        float32 (band, y, x), any unit; what is not valid is not looked at.
    valid
        bool (y, x).
    tile
        Edge of a tile, px; rows and columns beyond the last whole tile are left out.

    Returns
    -------
    float32 (band, tile rows, tile columns) in the image's unit; NaN where less than half of a tile's pixels have eight
    valid neighbours.
    """
    rows, cols = (length // tile for length in valid.shape)
    inner = np.zeros(valid.shape, dtype=bool)
    shifts = [(row, col) for row in range(3) for col in range(3)]
    height, width = valid.shape[0] - 2, valid.shape[1] - 2
    result = np.full((len(image), rows, cols), np.nan, dtype=np.float32)
    if height < 1 or width < 1 or rows == 0 or cols == 0:
        return result
    inner[1:-1, 1:-1] = np.all([valid[r : r + height, c : c + width] for r, c in shifts], axis=0)
    counts = _tile_sums(inner, tile)
    known = counts >= tile**2 / 2
    for band, values in enumerate(image):
        filled = np.where(valid, values, 0)
        # The mask 1 -2 1 along rows and then along columns.
        once = filled[:-2] - 2 * filled[1:-1] + filled[2:]
        twice = np.abs(once[:, :-2] - 2 * once[:, 1:-1] + once[:, 2:])
        whole = np.zeros(valid.shape, dtype=np.float32)
        whole[1:-1, 1:-1] = np.where(inner[1:-1, 1:-1], twice, 0)
        sums = _tile_sums(whole, tile)
        result[band] = np.where(known, _TO_DEVIATION * sums / np.maximum(counts, 1), np.nan)
    return result


def _tile_sums(values: NDArray[np.bool_] | NDArray[np.float32], tile: int) -> NDArray[np.float64]:
    rows, cols = values.shape[0] // tile, values.shape[1] // tile
    blocks = values[: rows * tile, : cols * tile].reshape(rows, tile, cols, tile)
    return np.asarray(blocks.sum(axis=(1, 3), dtype=np.float64))
