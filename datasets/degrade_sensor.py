"""Degradations that the instrument and its processing bring in: noise, drift, lost lines, shifts, outage."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .degradation import Degradation, FloatImage, smooth_curve
from .modality import Unit

Axis = Literal["rows", "columns"]


@dataclass(frozen=True, kw_only=True)
class Speckle(Degradation):
    """Fully developed speckle on linear power: ``I' = I * s``, ``s`` gamma distributed, mean 1, variance 1 / looks.

    Independent from pixel to pixel and from band to band. What speckle the image has already stays in it, so that an
    image of ``L0`` looks has ``1 / ((1 + 1 / L0) * (1 + 1 / looks) - 1)`` afterwards. Source: Goodman 1976 (Journal of
    the Optical Society of America 66, 1145); for several looks Oliver and Quegan 2004, Understanding Synthetic
    Aperture Radar Images, chapter 4.

    Attributes
    ----------
    looks
        Equivalent number of looks of the added speckle, above 0; 1 is the worst that a radar delivers.
    """

    looks: float

    units: ClassVar[frozenset[Unit]] = frozenset({Unit.LINEAR_POWER})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wants("looks", self.looks, low=0, above=True)

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        del pixel_m
        grain = rng.standard_gamma(self.looks, image.shape, dtype=np.float32) / np.float32(self.looks)
        return image * grain


@dataclass(frozen=True, kw_only=True)
class Noise(Degradation):
    """Detector noise of an optical sensor: ``rho' = rho + n``, ``n`` normal with standard deviation ``sigma``.

    White over pixels and bands. Values below 0 are what a noisy detector gives over dark ground, and are kept.

    Attributes
    ----------
    sigma
        Standard deviation in reflectance, at least 0.
    """

    sigma: float

    units: ClassVar[frozenset[Unit]] = frozenset({Unit.REFLECTANCE})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wants("sigma", self.sigma, low=0)

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        del pixel_m
        return image + np.float32(self.sigma) * rng.standard_normal(image.shape, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class ThermalNoise(Degradation):
    """Noise of a thermal sensor: ``T' = T + n``, ``n`` normal, its standard deviation the NETD.

    The noise-equivalent temperature difference is taken as the same at all temperatures of the scene; it truly grows
    towards cold ground.

    Attributes
    ----------
    netd_k
        Noise-equivalent temperature difference, kelvin, at least 0.
    """

    netd_k: float

    units: ClassVar[frozenset[Unit]] = frozenset({Unit.KELVIN})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wants("netd_k", self.netd_k, low=0)

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        del pixel_m
        return image + np.float32(self.netd_k) * rng.standard_normal(image.shape, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class GainDrift(Degradation):
    """A gain that wanders slowly along the image: ``v' = v * (1 + fraction * g)``.

    ``g`` is a sum of three half cosine waves with random weights, its largest absolute value 1; each band drifts on
    its own. On temperatures the factor acts on the kelvin, as an error of the calibrated product would.

    Attributes
    ----------
    fraction
        Largest departure of the gain from 1, from 0 to below 1, so that power stays positive.
    along
        ``rows``: every row has one gain; ``columns``: every column has.
    """

    fraction: float
    along: Axis = "rows"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wants("fraction", self.fraction, low=0, high=0.99)

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        del pixel_m
        length = image.shape[1 if self.along == "rows" else 2]
        curves = np.stack([smooth_curve(length, rng=rng) for _ in image])
        gain = np.float32(1) + np.float32(self.fraction) * curves
        return np.asarray(image * (gain[:, :, None] if self.along == "rows" else gain[:, None, :]), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class StripeLoss(Degradation):
    """Lines that never arrived: whole rows or columns become NaN in every band.

    Attributes
    ----------
    share
        Share of the lines that is lost, 0 to 1; the number is rounded to the nearest line, which ones is drawn.
    along
        ``rows``: rows are lost; ``columns``: columns are.
    """

    share: float
    along: Axis = "rows"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wants("share", self.share, low=0, high=1)

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        del pixel_m
        out = image.copy()
        axis = 1 if self.along == "rows" else 2
        lost = rng.choice(image.shape[axis], size=round(self.share * image.shape[axis]), replace=False)
        if axis == 1:
            out[:, lost] = np.nan
        else:
            out[:, :, lost] = np.nan
        return out


@dataclass(frozen=True, kw_only=True)
class Misregistration(Degradation):
    """The image lies off its true place by a known distance.

    Resampled bilinearly in working units (radar in linear power); a pixel that needs one from outside the image, or
    one that is not valid, is NaN. Bilinear sampling between pixels also smooths: white noise keeps between 1/4 (half a
    pixel in both directions) and all of its variance.

    Attributes
    ----------
    metres
        Distance by which the content moves, at least 0.
    direction_deg
        Where it moves to, clockwise from the top of the image (north on a north-up grid); None draws it.
    """

    metres: float
    direction_deg: float | None = None

    needs_pixel_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wants("metres", self.metres, low=0)
        if self.direction_deg is not None:
            self._wants("direction_deg", self.direction_deg, low=-360, high=360)

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        degrees = rng.uniform(0, 360) if self.direction_deg is None else self.direction_deg
        pixels, angle = self.metres / pixel_m, np.deg2rad(degrees)
        down, right = -pixels * np.cos(angle), pixels * np.sin(angle)
        return _slide(_slide(image, down, axis=1), right, axis=2)


@dataclass(frozen=True, kw_only=True)
class Outage(Degradation):
    """The sensor delivered nothing: every pixel is NaN. It has no strength."""

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        del pixel_m, rng
        return np.full_like(image, np.nan)


def _slide(image: FloatImage, pixels: float, *, axis: int) -> FloatImage:
    """Move the content by ``pixels`` towards larger indices; bilinear, NaN where the source is outside or NaN."""
    # Sines and cosines of right angles are not exactly 0: a shift of 1e-15 px must not cost an edge.
    pixels = round(pixels, 6)
    whole = int(np.floor(pixels))
    part = np.float32(pixels - whole)
    if part == 0:  # 0 * NaN is NaN: a neighbour without weight may not take part
        return _step(image, whole, axis=axis)
    return _step(image, whole, axis=axis) * (1 - part) + _step(image, whole + 1, axis=axis) * part


def _step(image: FloatImage, pixels: int, *, axis: int) -> FloatImage:
    length = image.shape[axis]
    out = np.full_like(image, np.nan)
    kept = length - min(abs(pixels), length)
    into, source = slice(length - kept, None) if pixels > 0 else slice(0, kept), slice(0, kept)
    if pixels < 0:
        source = slice(length - kept, None)
    if axis == 1:
        out[:, into] = image[:, source]
    else:
        out[:, :, into] = image[:, :, source]
    return out
