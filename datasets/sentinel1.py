"""Sentinel-1 GRD products: the SAFE folder or zip as a lazy scene on a map, in linear power."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from .calibration import Quantity
from .errors import SceneError
from .geocoding import geocode, pixel_ratio, source_window, target_grid
from .grd import read_grd
from .modality import POWER_FLOOR, Modality, Unit
from .radar_pixels import RadarPixels
from .scene import Scene

#: Edge of the lazy blocks in pixels of the product: about 4 MB a band, and as much again for its tables.
BLOCK = 1024


def open_sentinel1(
    path: Path,
    modality: Modality,
    *,
    calibration: Quantity = "sigma0",
    remove_noise: bool = True,
    resolution: float | None = None,
) -> Scene:
    """Open a Sentinel-1 GRD product as a scene on a north-up UTM grid; only metadata are read.

    The pixels follow lazily, block by block: calibrated in radar geometry, freed from thermal noise and from the
    noise at the image's borders (:func:`~equipoise.datasets.border.border_mask`), then placed by the product's
    tie points (bilinear in linear power; the mean if ``resolution`` is coarser than the product). There is no terrain
    correction: in mountains pixels lie off by about their height, see
    :func:`~equipoise.datasets.terrain.terrain_corrected`.

    Parameters
    ----------
    path
        The ``.SAFE`` folder, its ``manifest.safe``, or a zip of it.
    modality
        Bands named after polarisations (``VV``, ``vh``, ...), declared in any backscatter unit.
    calibration
        ``sigma0`` (per ground area), ``gamma0`` (per area across the line of sight) or ``beta0``, on the ellipsoid.
    remove_noise
        Subtract the thermal noise that the product states. What is then below 1e-5 (-50 dB), negative too, becomes
        1e-5: echo-free water is dark, not missing.
    resolution
        Pixel size in metres; the product's own if None.

    Returns
    -------
    Scene whose bands are linear power; NaN outside the swath, in its border, and where a digital number is 0.

    Raises
    ------
    SceneError
        If it is no GRD product, is incomplete, or lacks a polarisation.
    """
    product = read_grd(path, modality.band_names, calibration=calibration)
    radar = RadarPixels(path=path, product=product, remove_noise=remove_noise)
    geobox = map_grid(radar, resolution)
    return lazy_scene(
        GeocodedPixels(radar=radar, geobox=geobox), modality, calibration=calibration,
        geocoding="GCPs, thin-plate spline, no terrain correction",
    )  # fmt: skip


class MapPixels(Protocol):
    """Pixels of a product on a map, computed when they are asked for."""

    @property
    def radar(self) -> RadarPixels:
        """Where they come from."""

    @property
    def geobox(self) -> GeoBox:
        """The map grid."""

    def block(self, block: GeoBox) -> NDArray[np.float32]:
        """Compute a block of :attr:`geobox`: float32 (band, y, x), linear power, NaN where not valid."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GeocodedPixels:
    """Pixels placed by tie points.

    Attributes
    ----------
    radar
        Source.
    geobox
        Map grid.
    """

    radar: RadarPixels
    geobox: GeoBox

    def block(self, block: GeoBox) -> NDArray[np.float32]:
        """Calibrate and geocode a block: float32 (band, y, x), linear power, NaN where not valid."""
        product = self.radar.product
        window = source_window(product.points, product.shape, block)
        if window is None:
            return np.full((len(product.images), *block.shape), np.nan, dtype=np.float32)
        power, top, left = self.radar.read(window)
        return geocode(power, product.points, block, top=top, left=left)


def map_grid(radar: RadarPixels, resolution: float | None) -> GeoBox:
    """UTM grid of a product; pixel size in metres, the product's own if None.

    Raises
    ------
    SceneError
        If the resolution is not positive, or the tie points cannot be those of the image.
    """
    size = radar.product.spacing if resolution is None else resolution
    if not size > 0:
        raise SceneError(f"{radar.path}: found a resolution of {size} m; wanted a positive one; correct `resolution`")
    product = radar.product
    return target_grid(product.points, product.shape, spacing=product.spacing, resolution=size, where=str(radar.path))


def lazy_scene(pixels: MapPixels, modality: Modality, *, calibration: Quantity, geocoding: str) -> Scene:
    """Wrap pixels on a map as a scene.

    Parameters
    ----------
    pixels
        Source.
    modality
        Bands as the user declared them.
    calibration, geocoding
        For the provenance.

    Raises
    ------
    SceneError
        If a band is declared in a unit that is no backscatter.
    """
    radar, geobox = pixels.radar, pixels.geobox
    bands = []
    for band in modality.bands:
        if not band.is_backscatter:
            raise SceneError(
                f"{radar.path}: band '{band.name}' is declared as {band.unit}: found radar backscatter; declare "
                f"`unit: {Unit.LINEAR_POWER}`"
            )
        bands.append(replace(band, unit=Unit.LINEAR_POWER, index=None, scale=1.0, offset=0.0, nodata=None))
    # Coarser pixels need more of the source: the blocks shrink, the memory stays.
    edge = max(16, BLOCK // max(1, round(pixel_ratio(radar.product.points, geobox))))
    source = LazyPixels(pixels=pixels)
    lazy = da.from_array(source, chunks=(-1, edge, edge), name=False, meta=np.empty((0, 0, 0), np.float32))
    data = wrap_xr(lazy, geobox, axis=1, dims=("band", *geobox.dimensions))
    facts = {
        **radar.product.facts,
        "calibration": f"{calibration}, linear power, from the product's calibration vectors",
        "thermal_noise": "subtracted, from the product's noise vectors" if radar.remove_noise else "not subtracted",
        "geocoding": geocoding,
    }
    return Scene(
        modality=replace(modality, bands=tuple(bands)), path=radar.path, geobox=geobox,
        acquired=radar.product.acquired, data=data.assign_coords(band=list(modality.band_names)), provenance=facts,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class LazyPixels:
    """Pixels on a map as dask wants an array: computed when they are sliced.

    Attributes
    ----------
    pixels
        Source.
    """

    pixels: MapPixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        return len(self.pixels.radar.product.images), self.pixels.geobox.shape[0], self.pixels.geobox.shape[1]

    @property
    def ndim(self) -> int:
        """Three."""
        return 3

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Always float32."""
        return np.dtype(np.float32)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        """Compute a block, float32 (band, y, x), positive where valid, else NaN."""
        rows, columns = (slice(*part.indices(size)) for part, size in zip(key[1:], self.shape[1:], strict=True))
        out = self.pixels.block(self.pixels.geobox[rows.start : rows.stop, columns.start : columns.stop])
        # Only here, after all averaging, so that means stay unbiased; NaN stays NaN.
        np.maximum(out, np.float32(POWER_FLOOR), out=out)
        return out[key[0], :: rows.step, :: columns.step]
