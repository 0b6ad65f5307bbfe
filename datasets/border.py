"""Border noise of Sentinel-1 GRD images: edge pixels that hold no echo and are not marked as no data.

Processors before 2.90 left up to some hundred pixels of such values at the edges; newer ones leave narrow rims.
Described in I. Ali et al., *Methods to Remove the Border Noise From Sentinel-1 SAR Data*, IEEE JSTARS 11(3), 2018,
doi:10.1109/JSTARS.2017.2787650. The rule here is ours: an echo-free pixel is dark against the stated thermal noise.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

#: Border noise reaches at most this far into the image, in pixels (GRD of processors before 2.90).
BORDER = 500

#: Pixels that are given up behind a border: its last pixels already mix with the image.
EROSION = 10

#: Below this share of the thermal noise a pixel holds no echo: 4.4-look noise alone is darker in 1 of 8 pixels.
QUIET_SHARE = 0.5

#: Pixels of a line whose majority decides: seven quiet ones of thirteen are chance in 1 of 2000 cases.
_MAJORITY = 13

#: Shorter quiet runs at an edge are chance.
_SHORTEST = 3


def border_mask(quiet: NDArray[np.bool_], *, top: int, left: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Find border noise: from each edge of the image inwards, as far as most pixels are quiet, and some more.

    Parameters
    ----------
    quiet
        True where a pixel holds no echo (0, or less than :data:`QUIET_SHARE` of the thermal noise), (y, x), of a
        window that :func:`border_window` accepts.
    top, left
        Position of the window in the image.
    shape
        Rows and columns of the image.

    Returns
    -------
    bool (y, x), True = border. Beside a border :data:`EROSION` more pixels are True; no border is found farther than
    :data:`BORDER` pixels from the edge.
    """
    height, width = shape
    mask = np.zeros_like(quiet)
    if left == 0:
        mask |= _run(quiet)
    if left + quiet.shape[1] == width:
        mask |= _run(quiet[:, ::-1])[:, ::-1]
    if top == 0:
        mask |= _run(quiet.T).T
    if top + quiet.shape[0] == height:
        mask |= _run(quiet[::-1].T).T[::-1]
    return mask


def border_window(window: tuple[slice, slice], shape: tuple[int, int]) -> tuple[slice, slice]:
    """Extend a window to those edges of the image whose border could reach into it."""
    reach = BORDER + EROSION

    def extended(part: slice, size: int) -> slice:
        return slice(0 if part.start < reach else part.start, size if part.stop > size - reach else part.stop)

    return extended(window[0], shape[0]), extended(window[1], shape[1])


def _run(quiet: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the quiet run that begins at column 0 of each row, and EROSION more; the result has the input's shape."""
    strip = quiet[:, :BORDER]
    # A single bright value in the border does not end it: the majority of its neighbourhood decides.
    mostly = uniform_filter1d(strip.astype(np.float32), _MAJORITY, axis=1, mode="reflect") > 0.5
    mostly |= np.logical_and.accumulate(strip, axis=1)
    length = np.where(mostly.all(axis=1), strip.shape[1], np.argmin(mostly, axis=1))
    length = np.where(length >= _SHORTEST, length + EROSION, 0)
    return np.arange(quiet.shape[1])[None, :] < length[:, None]
