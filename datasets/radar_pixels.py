"""The pixels of a Sentinel-1 GRD product in radar geometry: calibrated, free of thermal noise and of border noise."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from .border import QUIET_SHARE, border_mask, border_window
from .calibration import backscatter
from .errors import SceneError
from .grd import GrdProduct, PolarisedImage
from .product import quiet_open
from .scene import first_line


@dataclass(frozen=True, kw_only=True, eq=False)
class RadarPixels:
    """The calibrated pixels of a product in radar geometry.

    Attributes
    ----------
    path
        What the user named.
    product
        Its metadata.
    remove_noise
        Whether the thermal noise is subtracted.
    """

    path: Path
    product: GrdProduct
    remove_noise: bool

    def __post_init__(self) -> None:
        """Refuse to subtract a noise that is not stated.

        Raises
        ------
        SceneError
            If a polarisation has no noise table.
        """
        silent = [image.name for image in self.product.images if image.noise is None]
        if self.remove_noise and silent:
            raise SceneError(
                f"{self.path}: found no noise table for {', '.join(silent)}; wanted noise-*.xml beside its gains; "
                "download the product again, or open it with remove_noise=False"
            )

    def read(self, window: tuple[slice, slice]) -> tuple[NDArray[np.float32], int, int]:
        """Calibrate a window of the image.

        Parameters
        ----------
        window
            Rows and columns that are needed; more are read where the border of the image could reach in.

        Returns
        -------
        float32 (band, y, x), linear power, negative where noise outweighs the signal, NaN where not valid; and the
        row and the column at which it begins.

        Raises
        ------
        SceneError
            If the pixels are truncated or corrupt.
        """
        window = border_window(window, self.product.shape)
        rows, columns = (np.arange(part.start, part.stop, dtype=np.float64) for part in window)
        power = np.empty((len(self.product.images), len(rows), len(columns)), dtype=np.float32)
        lost = np.zeros(power.shape[1:], dtype=bool)
        for number, image in enumerate(self.product.images):
            digits = self._digits(image, window)
            noise = None if image.noise is None else image.noise.at(rows, columns)
            quiet = digits == 0
            if noise is not None:
                quiet |= digits.astype(np.float32) ** 2 < QUIET_SHARE * noise
            lost |= border_mask(quiet, top=window[0].start, left=window[1].start, shape=self.product.shape)
            power[number] = backscatter(digits, image.gain.at(rows, columns), noise if self.remove_noise else None)
        lost |= np.isnan(power).any(axis=0)  # one mask for all polarisations, as for every scene
        power[:, lost] = np.nan
        return power, window[0].start, window[1].start

    def _digits(self, image: PolarisedImage, window: tuple[slice, slice]) -> NDArray[np.uint16]:
        try:
            with quiet_open(image.href) as source:
                return np.asarray(source.read(1, window=Window.from_slices(*window)))
        except (RasterioError, OSError) as error:
            raise SceneError(
                f"{self.path}: found pixels of {image.name} that cannot be read ({first_line(error)}); wanted a "
                "complete product; copy or download it again"
            ) from error
