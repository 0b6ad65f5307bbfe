"""Degradations that the atmosphere brings to reflectance: haze, thin cloud, thick cloud with its shadow."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import fft, ndimage

from .degradation import Degradation, DegradationError, FloatImage
from .fractal import fractal_field
from .modality import Modality, Unit

#: Scattering asymmetry of water droplets in sunlight.
CLOUD_ASYMMETRY = 0.85

_LARGEST_CLOUD_M = 2400.0
_SMALLEST_WAVE_PX = 4.0


@dataclass(frozen=True, kw_only=True)
class Haze(Degradation):
    """A uniform layer of haze: ``rho' = rho * T**2 + path_reflectance * (1 - T**2)``, ``T = exp(-tau)``.

    Light passes the layer twice, straight down and straight up, and what is scattered out of the beam is lost
    (single scattering); the second term is the layer's own light (air light: Koschmieder 1924). Because much of the
    scattered light truly reaches the ground, a real haze of the same depth veils less. Bands of this package carry no
    wavelength: without ``wavelengths_nm`` the haze is grey, with them ``tau = optical_depth * (wavelength / 550 nm)
    ** -angstrom`` (Ångström 1929).

    Attributes
    ----------
    optical_depth
        Vertical optical depth at 550 nm, at least 0; about 0.1 is clear, 0.5 hazy, 1 a dust or smoke event.
    path_reflectance
        Reflectance of haze so deep that no ground shows, 0 to 1.
    angstrom
        Exponent of the spectrum: 0 dust, 1.3 continental, 2 smoke.
    wavelengths_nm
        Centre of each band in band order, nanometres; empty for a grey haze.
    """

    optical_depth: float
    path_reflectance: float = 0.3
    angstrom: float = 1.3
    wavelengths_nm: tuple[float, ...] = ()

    units: ClassVar[frozenset[Unit]] = frozenset({Unit.REFLECTANCE})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wants("optical_depth", self.optical_depth, low=0)
        self._wants("path_reflectance", self.path_reflectance, low=0, high=1)
        self._wants("angstrom", self.angstrom, low=-1, high=4)
        for wavelength in self.wavelengths_nm:
            self._wants("wavelengths_nm", wavelength, low=200, high=5000)

    def refuse_misfit(self, modality: Modality) -> None:
        """Refuse bands that hold no reflectance, and another number of wavelengths than bands.

        Raises
        ------
        DegradationError
            If the modality does not fit.
        """
        super().refuse_misfit(modality)
        self._refuse_count(len(modality.bands))

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        del pixel_m, rng
        self._refuse_count(len(image))
        relative = np.asarray(self.wavelengths_nm or np.full(len(image), 550.0)) / 550.0
        passed = np.exp(-2.0 * self.optical_depth * relative**-self.angstrom).astype(np.float32)[:, None, None]
        return np.asarray(image * passed + np.float32(self.path_reflectance) * (1 - passed), dtype=np.float32)

    def _refuse_count(self, bands: int) -> None:
        if self.wavelengths_nm and len(self.wavelengths_nm) != bands:
            raise DegradationError(
                f"Haze: found {len(self.wavelengths_nm)} wavelengths for {bands} bands; wanted one a band, in band "
                "order, or none; correct `wavelengths_nm`"
            )


@dataclass(frozen=True, kw_only=True)
class ThinCloud(Degradation):
    """Cloud that the ground shows through, over a share of the image, from a fractal field.

    Optical depth grows from 0 at the clouds' edges. With the two-stream albedo of Lacis and Hansen 1974 (Journal of
    the Atmospheric Sciences 31, 118) ``A = k tau / (1 + k tau)``, ``k = sqrt(3) * (1 - g) / 2 = 0.13``, and light
    going to and fro between ground and cloud: ``rho' = A + (1 - A)**2 * rho / (1 - A * rho)``. Droplets are large
    compared with the wavelength, so that the cloud is grey; its absorption beyond 1.4 um is left out, as is the
    sideways spread of light that blurs the ground.

    Attributes
    ----------
    optical_depth
        Mean optical depth over the clouded pixels, at least 0; 0.3 is faint cirrus, 3 a thin veil.
    cover
        Share of the image's pixels under cloud, 0 to 1, met to one pixel in every image.
    """

    optical_depth: float
    cover: float

    units: ClassVar[frozenset[Unit]] = frozenset({Unit.REFLECTANCE})
    needs_pixel_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wants("optical_depth", self.optical_depth, low=0)
        self._wants("cover", self.cover, low=0, high=1)

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        rows, columns = image.shape[1:]
        excess = _cloud_excess((rows, columns), cover=self.cover, pixel_m=pixel_m, rng=rng)[:rows, :columns]
        return veiled(image, cloud_albedo(np.float32(self.optical_depth) * np.maximum(excess, np.float32(0))))


@dataclass(frozen=True, kw_only=True)
class ThickCloud(Degradation):
    """Cloud that hides the ground, and its shadow displaced away from the sun.

    The cloud's light is that of :class:`ThinCloud`, its edges steep (at least 0.3 of the mean optical depth). On a flat
    ground seen from straight above the shadow lies ``cloud_height_m / tan(sun_elevation_deg)`` metres from its cloud;
    there ``rho' = rho * shadow_light``. Clouds that stand beyond the image's edge cast theirs into it.

    Attributes
    ----------
    cover
        Share of the image's pixels under cloud, 0 to 1, met to one pixel in every image.
    optical_depth
        Mean optical depth over the clouded pixels, above 0.
    shadow_light
        Share of the light that still reaches shaded ground (skylight, and what the cloud lets through), 0 to 1;
        1 for no shadow.
    sun_elevation_deg
        Above the horizon, 1 to 90.
    sun_azimuth_deg
        Clockwise from the top of the image (north on a north-up grid), where the sun stands.
    cloud_height_m
        Of the cloud above the ground, metres.
    """

    cover: float
    optical_depth: float = 30.0
    shadow_light: float = 0.3
    sun_elevation_deg: float = 45.0
    sun_azimuth_deg: float = 135.0
    cloud_height_m: float = 800.0

    units: ClassVar[frozenset[Unit]] = frozenset({Unit.REFLECTANCE})
    needs_pixel_size: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._wants("cover", self.cover, low=0, high=1)
        self._wants("optical_depth", self.optical_depth, low=0, above=True)
        self._wants("shadow_light", self.shadow_light, low=0, high=1)
        self._wants("sun_elevation_deg", self.sun_elevation_deg, low=1, high=90)
        self._wants("sun_azimuth_deg", self.sun_azimuth_deg, low=-360, high=360)
        self._wants("cloud_height_m", self.cloud_height_m, low=0)

    def _degraded(self, image: FloatImage, pixel_m: float, rng: np.random.Generator) -> FloatImage:
        rows, columns = image.shape[1:]
        excess = _cloud_excess((rows, columns), cover=self.cover, pixel_m=pixel_m, rng=rng)
        shade = self._shade(excess >= 0, pixel_m=pixel_m)[:rows, :columns]
        excess = excess[:rows, :columns]
        depth = np.where(excess >= 0, np.float32(self.optical_depth) * (np.float32(0.3) + np.float32(0.7) * excess), 0)
        return veiled(image * (1 - np.float32(1 - self.shadow_light) * shade), cloud_albedo(depth))

    def shadow_shift_px(self, pixel_m: float) -> tuple[float, float]:
        """Return how far (down, right) the shadow lies from its cloud, pixels of ``pixel_m`` metres."""
        angle = np.deg2rad(self.sun_azimuth_deg)
        pixels = self.cloud_height_m / np.tan(np.deg2rad(self.sun_elevation_deg)) / pixel_m
        return float(pixels * np.cos(angle)), float(-pixels * np.sin(angle))

    def _shade(self, cloud: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], *, pixel_m: float) -> FloatImage:
        # The field is periodic, so that a shadow that leaves on one side is one of a cloud beyond the other.
        shifted = ndimage.shift(
            cloud.astype(np.float32), self.shadow_shift_px(pixel_m), order=1, mode="grid-wrap", prefilter=False
        )
        return np.asarray(np.clip(shifted, 0, 1), dtype=np.float32)  # a share of a pixel, not a measured value


def cloud_albedo(optical_depth: FloatImage) -> FloatImage:
    """Return the reflectance of a cloud over black ground, two-stream (Lacis and Hansen 1974); 0 to 1, same shape."""
    scaled = np.float32(np.sqrt(3) * (1 - CLOUD_ASYMMETRY) / 2) * optical_depth
    return np.asarray(scaled / (1 + scaled), dtype=np.float32)


def veiled(image: FloatImage, albedo: FloatImage) -> FloatImage:
    """Return the ground as seen through a layer that reflects ``albedo`` and absorbs nothing.

    ``A + (1 - A)**2 * rho / (1 - A * rho)``: black ground shows the layer, white ground stays white.

    Parameters
    ----------
    image
        Reflectance of the ground, float32 (band, y, x), NaN where not valid.
    albedo
        Reflectance of the layer, (y, x), from 0 to below 1.
    """
    # Glint above 1 / A would find light trapped without end; such ground is treated as white in the denominator only.
    trapped = np.minimum(image, np.float32(1))
    return np.asarray(albedo + (1 - albedo) ** 2 * image / (1 - albedo * trapped), dtype=np.float32)


def _cloud_excess(
    shape: tuple[int, int], *, cover: float, pixel_m: float, rng: np.random.Generator
) -> FloatImage:  # fmt: skip
    """Return a fractal field relative to the clouds' edge: below 0 clear, from 0 on cloud with a mean of 1.

    The field is larger than ``shape`` and periodic; its upper left part is the image, in which the share of pixels
    from 0 on is ``cover`` and their mean is 1.
    """
    # Twice the image, so that its opposite edges do not repeat each other.
    sides = tuple(fft.next_fast_len(max(2 * side, 16), real=True) for side in shape)
    longest = float(np.clip(_LARGEST_CLOUD_M / pixel_m, 2 * _SMALLEST_WAVE_PX, max(sides)))
    field = fractal_field((sides[0], sides[1]), rng=rng, longest=longest, shortest=_SMALLEST_WAVE_PX, slope=2.2)
    if cover == 0:
        return np.full_like(field, -1)
    inside = field[: shape[0], : shape[1]]
    excess = field - np.quantile(inside, 1 - cover).astype(np.float32)
    clouded = excess[: shape[0], : shape[1]]
    mean = float(clouded[clouded >= 0].mean(dtype=np.float64)) if (clouded >= 0).any() else 0.0
    return np.asarray(excess / (mean if mean > 0 else 1.0), dtype=np.float32)
