"""Place of the detail: where in a scene two images show best whether they fit."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from ..datasets.lattice import at_places
from .figures import display
from .registration_folder import SavedScene

#: Edge of the detail, px of the grid: drawn at three times its size, a shift of one pixel is seen.
DETAIL = 160

#: Deviations, px of the small pictures, of the filters before edges are looked for, and over which they are summed up.
_FINE, _COARSE = 1.0, 2.5

#: Grey from which a picture shows nothing: clouds.
_WHITE = 0.98


def detail_place(scene: SavedScene, name: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose where a detail shows best how two images fit.

    Where both show edges of one direction, roads rather than fields, the reference is not white, and the correction
    is no shorter than is usual in the scene.

    Returns
    -------
    Rows and columns, px of the grid.
    """
    looks = [scene.picture(which, "after") for which in (scene.reference, name)]
    shape = looks[0].shape[1:]
    first, second = (_edges(look) for look in looks)
    length = np.ones(shape)
    if name in scene.layers:
        layer = scene.layers[name]
        length = np.hypot(*at_places(layer.grid, (layer.east, layer.north), *scene.places(shape)))
        length = np.minimum(length / max(float(np.median(length)), 1e-6), 1.0)
    size = [min(full, max(1, round(DETAIL * full / whole))) for full, whole in zip(shape, scene.shape, strict=True)]
    shared, *each = (
        uniform_filter(worth, size, mode="constant")
        for worth in (length * (first * second).sum(axis=0), (first**2).sum(axis=0), (second**2).sum(axis=0))
    )
    # Much that both show, times the share of it in all that they show: clouds have strong edges in one alone.
    mean = np.maximum(shared, 0) ** 2 / np.sqrt(np.maximum(np.multiply(*each), 1e-12))
    hidden = uniform_filter((display(looks[0]).mean(axis=2) > _WHITE).astype(np.float64), size, mode="constant")
    mean = mean * np.maximum(1 - 5 * hidden, 0)
    # The mean over a window lies at its middle; windows that stick out are not looked at.
    (top, left), (bottom, right) = (edge // 2 for edge in size), (edge - 1 - edge // 2 for edge in size)
    inner = mean[top : shape[0] - bottom, left : shape[1] - right]
    best = np.unravel_index(int(inner.argmax()), inner.shape)
    rows, cols = (
        np.arange(min(DETAIL, whole)) + min(round(int(place) * whole / full), max(0, whole - DETAIL))
        for place, whole, full in zip(best, scene.shape, shape, strict=True)
    )
    return rows, cols


def _edges(look: NDArray[np.float32]) -> NDArray[np.float64]:
    """Direction and strength of edges and lines around each place of a picture's first band: (2, y, x).

    The anisotropic part of the structure tensor; at most 1 long, so that a few ships do not outshine a town.
    """
    band = look[0].astype(np.float64)
    known = np.isfinite(band)
    if not known.any():
        return np.zeros((2, *band.shape))
    low, middle, high = np.percentile(band[known], [2, 50, 98])
    down, right = (
        gaussian_filter(np.clip(np.where(known, band, middle), low, high), _FINE, order=order) * known
        for order in ((1, 0), (0, 1))
    )  # fmt: skip
    parts = np.stack([gaussian_filter(part, _COARSE) for part in (right**2 - down**2, 2 * right * down)])
    strength = np.hypot(*parts)
    limit = max(float(np.percentile(strength, 95)), 1e-12)
    return parts / np.maximum(strength, limit)
