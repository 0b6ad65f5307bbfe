"""A pair of images as peers of co-registration take it, and what several of the peers share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Points (n, 2) as (row, col) in reference pixels -> displacement (n, 2) as (rows, cols): where the content at that
#: place of the reference lies in the moving image, minus the place itself. Whole numbers are centres of pixels.
Transform = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What a peer is given: two images of the same size and pixel size, in network units (radar in dB)."""

    #: float32 (y, x), NaN where not valid.
    reference: Image
    #: float32 (y, x), NaN where not valid.
    moving: Image
    #: Largest displacement that is looked for, along rows and along columns.
    max_shift_px: int
    #: Side of a pixel in metres.
    pixel_m: float


Peer = Callable[[Pair], Transform | None]


def valid_of(image: Image) -> Mask:
    return np.isfinite(image)


def filled(image: Image) -> Image:
    """Return the image with its mean where it is not valid, for those that take no mask."""
    valid = valid_of(image)
    return np.where(valid, image, image[valid].mean()).astype(np.float32)


def slopes(image: Image, *, sigma: float = 1.5) -> tuple[Image, Image, Mask]:
    """Return slopes along rows and columns of the smoothed image, and where no invalid pixel had a part in them.

    One sigma for every peer: 1.5 px quiets speckle and keeps what a pixel's fraction is told by.
    """
    valid = valid_of(image)
    weight = ndimage.gaussian_filter(valid.astype(np.float32), sigma)
    # Normalised convolution: the border of a mask is not an edge.
    smooth = ndimage.gaussian_filter(np.where(valid, image, 0).astype(np.float32), sigma) / np.maximum(weight, 1e-3)
    rows, cols = np.gradient(smooth)
    inner = valid if valid.all() else ndimage.binary_erosion(valid, iterations=2, border_value=1)
    return rows, cols, inner


def gradients(image: Image) -> Image:
    """Return the gradient's magnitude, in units of its own mean, NaN where not valid."""
    rows, cols, valid = slopes(image)
    size = np.hypot(rows, cols)
    return np.where(valid, size / max(float(size[valid].mean()), 1e-12), np.nan).astype(np.float32)


def of_gradients(peer: Peer) -> Peer:
    """Return the peer, given gradient magnitudes: where a radar and a camera have most in common."""

    def given_gradients(pair: Pair) -> Transform | None:
        return peer(Pair(reference=gradients(pair.reference), moving=gradients(pair.moving),
                         max_shift_px=pair.max_shift_px, pixel_m=pair.pixel_m))  # fmt: skip

    return given_gradients


def by_shift(rows: float, cols: float) -> Transform:
    return lambda points: np.tile(np.array([rows, cols], dtype=np.float64), (len(points), 1))


def by_affine(matrix: NDArray[Any]) -> Transform:
    """Return the displacement by a (2, 3) matrix from reference (x, y) to moving (x, y), OpenCV's habit."""

    def transform(points: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = points[:, ::-1] @ matrix[:, :2].T + matrix[:, 2]
        return (moved[:, ::-1] - points).astype(np.float64)

    return transform


def within(pair: Pair, transform: Transform) -> Transform | None:
    """Return the answer of a peer that takes no largest shift, or None where the image's centre moves by more."""
    centre = np.array(pair.reference.shape, dtype=np.float64)[None] / 2
    moved = np.abs(transform(centre)).max()
    return transform if np.isfinite(moved) and moved <= pair.max_shift_px else None


def peak_of(surface: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Return row and column of the highest value, between pixels by a parabola along each axis."""
    at = np.unravel_index(int(np.argmax(surface)), surface.shape)
    place = []
    for axis, index in enumerate(at):
        line = np.moveaxis(surface, axis, 0)[(slice(None), at[1 - axis])]
        if not 0 < index < len(line) - 1:
            place.append(float(index))
            continue
        before, here, after = (float(value) for value in line[index - 1 : index + 2])
        bend = before - 2 * here + after
        place.append(float(index) + (0.5 * (before - after) / bend if bend < 0 else 0.0))
    return place[0], place[1]
