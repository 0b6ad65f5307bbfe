"""Structure of an image: edges and their directions, the same in radar, optical and thermal imagery."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

#: Standard deviations in pixels of the smoothing before the gradient, and of its products after it. Measured on
#: Sentinel-1 against Sentinel-2: twice as much of either loses a fifth of the blocks.
BEFORE, AFTER = 0.5, 1.0

#: Standard deviation in pixels beyond which the strength of edges is taken for the mean of a neighbourhood.
NEIGHBOURHOOD = 12.0

#: Pixels around holes whose structure is that of the hole.
MARGIN = 4

#: Gradients of a band, in parts of its largest value, that may be rounding.
ROUNDING = 1e-6

#: Edges weaker than this many times the median count less than strong ones; far above it, all count alike.
SATURATION = 3.0


@dataclass(frozen=True, kw_only=True)
class Structure:
    """Direction and strength of edges.

    Attributes
    ----------
    channels
        float32 (3, y, x): cosine and sine of twice the gradient's direction, times its strength; and the strength over
        that of the neighbourhood. A change of contrast between sensors, even of sign, leaves them as they are. 0 where
        not valid.
    weight
        float32 (y, x): 1 where valid, else 0.
    """

    channels: NDArray[np.float32]
    weight: NDArray[np.float32]


def structure(bands: NDArray[np.float32]) -> Structure:
    """Return the structure of an image with holes.

    The gradient structure tensor of Di Zenzo (1986) sums over the bands, each by its own median strength. Its double
    angle form (Bigun and Granlund 1987) is divided by the root of the strength, smoothed, and saturates for strong
    edges, so that no bright target decides alone.

    Parameters
    ----------
    bands
        float32 (band, y, x) in network units (dB for radar), NaN where not valid.

    Returns
    -------
    The structure, on the same pixels.
    """
    valid = np.asarray(np.isfinite(bands).all(axis=0))
    if not valid.any():
        return Structure(channels=np.zeros((3, *valid.shape), np.float32), weight=np.zeros(valid.shape, np.float32))
    along, across, both = (np.zeros(valid.shape, np.float32) for _ in range(3))
    for band in bands:
        _add_gradient(band, valid, along, across, both)
    strength = np.sqrt(along + across) + np.float32(1e-9)
    directed = ((along - across) / strength, 2 * both / strength)
    smooth = _blurred(strength, AFTER)
    channels = np.stack([*(_blurred(channel, AFTER) for channel in directed), smooth - _blurred(smooth, NEIGHBOURHOOD)])
    weight = _away_from_holes(valid)
    length = np.sqrt(np.einsum("cyx,cyx->yx", channels, channels))
    inside = weight > 0
    typical = float(np.median(length[inside])) if inside.any() else 0.0
    channels *= weight / (length + np.float32(SATURATION * typical + 1e-9))
    return Structure(channels=channels, weight=weight)


def _add_gradient(
    band: NDArray[np.float32],
    valid: NDArray[np.bool_],
    along: NDArray[np.float32],
    across: NDArray[np.float32],
    both: NDArray[np.float32],
) -> None:
    filled = band if valid.all() else np.where(valid, band, np.float32(np.median(band[valid])))
    smooth = _blurred(filled, BEFORE)
    x, y = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    strength, least = np.hypot(x, y)[valid], ROUNDING * float(np.abs(filled).max())
    typical = float(np.median(strength))
    if typical <= least:  # most of the band is plain, whatever float32 makes of it: the mean speaks for the rest
        typical = float(strength.mean())
    if typical <= least:  # a constant band has no edges
        return
    x, y = x / np.float32(typical), y / np.float32(typical)
    along += x * x
    across += y * y
    both += x * y


def _blurred(image: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    blurred = cv2.GaussianBlur(image, (0, 0), deviation, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, dtype=np.float32)


def _away_from_holes(valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    if valid.all():
        return np.ones(valid.shape, np.float32)
    kernel = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
    return cv2.erode(valid.astype(np.uint8), kernel, borderType=cv2.BORDER_REFLECT_101).astype(np.float32)
