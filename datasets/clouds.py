"""Invented clouds and their shadows over an optical image."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .fractal import FloatArray, fractal_field

CLEAR, THIN, THICK, SHADOW = 0, 1, 2, 3

_CLOUD_REFLECTANCE = np.array([0.62, 0.60, 0.58, 0.60], dtype=np.float32)
_SHADOW_TRANSMISSION = 0.3
_SHADOW_OFFSET = (-14, -21)  # rows and columns: the sun stands in the south-east


@dataclass(frozen=True, kw_only=True)
class CloudCover:
    """Clouds over one image."""

    opacity: FloatArray
    """Share of the ground's signal that the cloud replaces, (y, x), 0-1."""

    transmission: FloatArray
    """Share of the sunlight that reaches the ground, (y, x), 0-1; below 1 in shadows."""

    codes: npt.NDArray[np.uint8]
    """0 clear, 1 thin cloud, 2 thick cloud, 3 shadow of a thick cloud, (y, x)."""


def draw_clouds(
    shape: tuple[int, int], *, rng: np.random.Generator, thick_share: float, thin_share: float
) -> CloudCover:
    """Draw thick and thin clouds of the wanted shares, and the shadows of the thick ones.

    Parameters
    ----------
    shape
        Rows and columns of the image.
    rng
        Source of randomness.
    thick_share, thin_share
        Shares of the image under thick and thin cloud, 0-1. Thin cloud that lies in a shadow is coded as shadow.

    Returns
    -------
    CloudCover
        Opacity, transmission and codes on the image's pixels.
    """
    field = fractal_field(shape, rng=rng, longest=min(240.0, min(shape)), shortest=4.0, slope=2.2)
    thick_from, thin_from = np.quantile(field, [1.0 - thick_share, 1.0 - thick_share - thin_share])
    depth = (field - thin_from) / max(float(thick_from - thin_from), 1e-6)
    thin, thick = (field >= thin_from) & (field < thick_from), field >= thick_from
    opacity = np.where(thick, 1.0 - 0.5 * np.exp(-6.0 * np.maximum(depth - 1.0, 0.0)), 0.0)
    opacity = np.where(thin, 0.06 + 0.44 * depth, opacity)
    # The field is periodic, so rolling it brings in the shadows of clouds that stand beyond the edge.
    cast = np.roll(thick, _SHADOW_OFFSET, axis=(0, 1))
    transmission = 1.0 - (1.0 - _SHADOW_TRANSMISSION) * ndimage.gaussian_filter(cast.astype(np.float32), 1.0)
    codes = np.select([thick, cast, thin], [THICK, SHADOW, THIN], default=CLEAR).astype(np.uint8)
    return CloudCover(opacity=opacity.astype(np.float32), transmission=transmission.astype(np.float32), codes=codes)


def cover(reflectance: FloatArray, clouds: CloudCover) -> FloatArray:
    """Look at the ground through `clouds`.

    Parameters
    ----------
    reflectance
        Clear-sky reflectance of blue, green, red and near infrared, (band, y, x), 0-1.
    clouds
        Clouds on the same pixels.

    Returns
    -------
    ndarray of float32, (band, y, x)
        Reflectance as the sensor sees it.
    """
    seen = reflectance * clouds.transmission * (1.0 - clouds.opacity)
    return np.asarray(seen + _CLOUD_REFLECTANCE[:, None, None] * clouds.opacity, dtype=np.float32)
