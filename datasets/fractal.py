"""Random fields with a power-law spectrum: the raw material of invented terrain, texture and cloud."""

import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.float32]


def fractal_field(
    shape: tuple[int, int], *, rng: np.random.Generator, longest: float, shortest: float, slope: float = 2.0
) -> FloatArray:
    """Draw a Gaussian random field whose amplitude falls as frequency to the power ``-slope``.

    Only wavelengths between `shortest` and `longest` are present, so the field has no trend beyond `longest`:
    every window of a few wavelengths looks alike, whatever the size of the whole.

    Parameters
    ----------
    shape
        Rows and columns of the field.
    rng
        Source of randomness; the field is a pure function of its state.
    longest, shortest
        Limits of the wavelengths, in pixels of the field.
    slope
        Spectral slope of the amplitude; about 1 is rough, about 3 is smooth.

    Returns
    -------
    ndarray of float32, (y, x)
        Field with mean 0 and standard deviation 1. It is periodic in both directions.

    Raises
    ------
    ValueError
        If no wavelength of the band fits into `shape`.
    """
    reach = tuple(min(int(n / shortest) + 1, (n - 1) // 2) for n in shape)
    rows = np.arange(-reach[0], reach[0] + 1)
    columns = np.arange(reach[1] + 1)
    frequency = np.hypot(rows[:, None] / shape[0], columns[None, :] / shape[1])
    inside = (frequency <= 1.0 / shortest) & (frequency >= 1.0 / longest)
    if not inside.any():
        raise ValueError(
            f"found no wavelength between {shortest:g} and {longest:g} px in a field of {shape}; "
            "wanted at least one: enlarge the field or the band"
        )
    amplitude = np.where(inside, np.maximum(frequency, 1.0 / longest) ** -slope, 0.0)
    waves = amplitude * (rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape))
    # Only the low-frequency corner is drawn; the rest of the spectrum is zero, and zeros need no random numbers.
    spectrum = np.zeros((shape[0], shape[1] // 2 + 1), dtype=np.complex64)
    spectrum[rows[:, None], columns[None, :]] = waves
    field = fft.irfft2(spectrum, s=shape)
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def level_within(field: FloatArray, groups: npt.NDArray[np.uint8]) -> FloatArray:
    """Give every group of pixels the same mean (0) and the same standard deviation (1).

    A texture treated so tells nothing about the group by its first two moments, in the sample and not only on
    average over many draws.

    Parameters
    ----------
    field
        Values, (y, x).
    groups
        Group number of each pixel, (y, x).

    Returns
    -------
    ndarray of float32, (y, x)
        The levelled field; a group without spread becomes 0.
    """
    flat = groups.ravel()
    count = np.maximum(np.bincount(flat), 1)
    mean = np.bincount(flat, weights=field.ravel()) / count
    centred = field - mean.astype(np.float32)[groups]
    spread = np.sqrt(np.bincount(flat, weights=centred.ravel() ** 2) / count)
    return np.asarray(centred / np.where(spread > 0, spread, 1.0).astype(np.float32)[groups], dtype=np.float32)
