"""Before: where a raster would lie if co-registration had not moved it."""

from pathlib import Path

import numpy as np
from affine import Affine

from ...datasets.registration_layer import RegistrationLayer


def position_before(registration: Path, transform: Affine) -> tuple[Affine, float]:
    """Return the transform that puts an aligned raster where its file's own position has it.

    The corrections of all nodes are met by one affine transform, fitted by least squares: shifts, turns and scales are
    undone as they were done, and what is left of a correction that bends is told.

    Parameters
    ----------
    registration
        The raster's registration layer.
    transform
        Of the aligned raster, pixels to units of its CRS.

    Returns
    -------
    The transform, and the largest distance by which it misses a node's correction, in units of the CRS.

    Raises
    ------
    SceneError
        If the layer cannot be read.
    """
    layer = RegistrationLayer.load(registration)
    rows, cols = np.mgrid[: layer.grid.shape[0], : layer.grid.shape[1]] + 0.5
    a, b, left, d, e, top = tuple(layer.grid.affine)[:6]
    x, y = (a * cols + b * rows + left).ravel(), (d * cols + e * rows + top).ravel()
    moved = np.stack([layer.east.ravel(), layer.north.ravel()], axis=1)
    middle = np.array([x.mean(), y.mean()])
    # About the middle, so that the constant is not lost beside coordinates of millions of metres. A lattice of one
    # node has no slope: least squares then gives the smallest, which is none.
    places = np.stack([x - middle[0], y - middle[1], np.ones_like(x)], axis=1)
    fitted, *_ = np.linalg.lstsq(places, -moved, rcond=None)
    (xx, yx), (xy, yy), (shift_x, shift_y) = fitted
    missed = float(np.hypot(*(places @ fitted + moved).T).max())
    undo = Affine.translation(*middle) * Affine(1 + xx, xy, shift_x, yx, 1 + yy, shift_y) * Affine.translation(*-middle)
    return undo * transform, missed
