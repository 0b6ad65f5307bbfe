"""What every degradation of an image has in common: a physical strength, units that it fits, a probability."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .errors import DatasetError
from .modality import Modality, Unit

FloatImage = NDArray[np.float32]


class DegradationError(DatasetError):
    """A degradation has an impossible strength, or does not fit the modality that it is given."""


@dataclass(frozen=True, kw_only=True)
class Degradation(ABC):
    """Something that makes an image worse by a known amount.

    A degradation is called as ``degradation(image, pixel_m=10.0, rng=rng)`` with a float32 image (band, y, x) in
    working units, NaN where not valid. It returns a new array of the same shape and dtype: what is not valid stays so
    (a shift takes it along), more may become so, and values are not cut to any display range. The result is a function
    of the image, the pixel size and the state of ``rng`` alone. Calling it always degrades; :attr:`probability` is for
    those who draw.

    Attributes
    ----------
    probability
        How often :class:`~equipoise.datasets.augment.Augmentation` applies it, 0 to 1.
    """

    probability: float = 1.0

    units: ClassVar[frozenset[Unit]] = frozenset(Unit)
    """Working units of the bands that it makes sense for."""

    needs_pixel_size: ClassVar[bool] = False
    """Whether a strength is in metres on the ground, so that the pixel size must be known."""

    def __post_init__(self) -> None:
        self._wants("probability", self.probability, low=0, high=1)

    def __call__(self, image: FloatImage, *, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        """Return the degraded image.

        Parameters
        ----------
        image
            float32 (band, y, x), working units, NaN where not valid; it is left as it is.
        pixel_m
            Edge of a pixel on the ground, metres, above 0; it matters only where :attr:`needs_pixel_size`.
        rng
            Source of randomness.

        Returns
        -------
        float32 (band, y, x), a new array.

        Raises
        ------
        DegradationError
            If the image has no band axis or the pixel no size.
        """
        if image.ndim != 3:
            raise DegradationError(
                f"{type(self).__name__}: found an image of shape {image.shape}; wanted (band, y, x); add the band axis"
            )
        self._wants("pixel_m", pixel_m, low=0, above=True)
        return np.asarray(self._degraded(image, pixel_m, rng), dtype=np.float32)

    @abstractmethod
    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        """Return what :meth:`__call__` promises."""

    def refuse_misfit(self, modality: Modality) -> None:
        """Refuse a modality whose bands this degradation has no meaning for.

        Raises
        ------
        DegradationError
            If a band has another working unit than the degradation is defined in.
        """
        for band in modality.bands:
            if band.working_unit not in self.units:
                wanted = " or ".join(sorted(self.units))
                raise DegradationError(
                    f"modality '{modality.name}': found {type(self).__name__} on band '{band.name}' in "
                    f"{band.working_unit}; wanted bands in {wanted}; degrade another modality, or declare its unit"
                )

    def _wants(self, name: str, value: float, *, low: float, high: float = np.inf, above: bool = False) -> None:
        if not (np.isfinite(value) and low <= value <= high) or (above and value <= low):
            bounds = f"{'above' if above else 'at least'} {low:g}" + (
                f" and at most {high:g}" * bool(np.isfinite(high))
            )
            raise DegradationError(
                f"{type(self).__name__}: found {name}={value:g}; wanted {bounds}; correct `{name}`"
            )  # fmt: skip


def smooth_curve(length: int, *, rng: np.random.Generator, waves: int = 3) -> FloatImage:
    """Draw a slow curve whose largest departure from 0 is 1: what a drifting instrument does.

    Parameters
    ----------
    length
        Samples, at least 1.
    rng
        Source of randomness.
    waves
        Half waves of the fastest part over the whole length. By Bernstein's inequality neighbouring samples differ
        by at most about ``pi * waves / length``.

    Returns
    -------
    float32 (length,), largest absolute value 1.
    """
    angle = np.pi * (np.arange(length) + 0.5) / length
    curve = rng.standard_normal(waves) @ np.cos(np.arange(1, waves + 1)[:, None] * angle)
    peak = np.abs(curve).max()
    return np.asarray(curve / peak if peak > 0 else np.ones(length), dtype=np.float32)
