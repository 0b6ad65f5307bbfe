"""Scenes: one acquisition of one modality, lazily, in physical units, on its own grid."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import dask.array as da
import numpy as np
import rasterio
import rioxarray
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from .errors import SceneError
from .modality import Modality, implausible_unit

log = logging.getLogger(__name__)

#: Block edge in pixels of the lazy array: a few MB a block and band.
BLOCK = 1024

#: Pixels along each edge of the sample on which declared units are checked.
UNIT_SAMPLE = 256


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One acquisition of one modality.

    Attributes
    ----------
    modality
        What the bands mean.
    path
        The file that was opened.
    data
        Lazy array (band, y, x), float32, working units (linear power for radar), NaN where not valid.
        Coordinates follow :attr:`geobox`.
    geobox
        Grid of the file: CRS (or None), affine, shape. Rotated grids are kept as they are.
    acquired
        Acquisition time as the file states it, or None.
    """

    modality: Modality
    path: Path
    data: xr.DataArray
    geobox: GeoBox
    acquired: str | None = None

    @property
    def valid(self) -> xr.DataArray:
        """Lazy mask (y, x): True where every band is usable."""
        return self.data.notnull().all("band")

    def read(self, roi: tuple[slice, slice] = (slice(None), slice(None))) -> NDArray[np.float32]:
        """Read pixels.

        Parameters
        ----------
        roi
            Row and column slices on :attr:`geobox`.

        Returns
        -------
        float32 (band, y, x) in working units, NaN where not valid.

        Raises
        ------
        SceneError
            If the file is truncated or corrupt.
        """
        return cast(NDArray[np.float32], self._computed(self.data[(slice(None), *roi)]).values)

    def _computed(self, lazy: xr.DataArray) -> xr.DataArray:
        try:
            return lazy.compute(scheduler="synchronous")
        except (RasterioError, OSError) as error:
            raise SceneError(
                f"{self.path}: found pixel data that cannot be read ({_first_line(error)}); wanted a complete raster; "
                "copy or download the file again"
            ) from error


def quiet_open(path: Path) -> DatasetReader:
    """Open a raster; that it may lack a position is said by our own error, where it matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def open_scene(path: Path, modality: Modality, *, georeferenced: bool = True) -> Scene:
    """Open a raster (GeoTIFF, COG, VRT, PNG) as a scene of ``modality``; nothing but the header is read.

    Parameters
    ----------
    path
        The raster.
    modality
        Declared bands; without explicit ``index`` their number must be the file's.
    georeferenced
        False for chips that share a pixel grid but carry no position.

    Raises
    ------
    SceneError
        If the file is missing, unreadable, without CRS, or its bands disagree with the declaration.
    """
    if not path.is_file():
        raise SceneError(f"{path}: found no file; wanted a raster of modality '{modality.name}'; correct the path")
    try:
        with quiet_open(path) as source:
            geobox = GeoBox(source.shape, source.transform, source.crs)
            count, file_nodata, tags = source.count, source.nodata, source.tags()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            raw = rioxarray.open_rasterio(path, chunks={"band": -1, "x": BLOCK, "y": BLOCK}, lock=False)
    except (RasterioError, OSError) as error:
        raise SceneError(
            f"{path}: found a file that does not open as a raster ({_first_line(error)}); wanted GeoTIFF, COG, VRT or "
            "PNG; copy or convert it again"
        ) from error
    if georeferenced and geobox.crs is None:
        raise SceneError(
            f"{path}: found no CRS; wanted a georeferenced raster; assign one (gdal_edit -a_srs EPSG:...), or declare "
            "`georeferenced: false` for chips that share a pixel grid"
        )
    indices = _band_indices(path, modality, count)
    stack = cast(xr.DataArray, raw).data[[i - 1 for i in indices]]
    nodata = tuple(file_nodata if band.nodata is None else band.nodata for band in modality.bands)
    physical = da.map_blocks(_to_physical, stack.rechunk({0: -1}), modality=modality, nodata=nodata, dtype=np.float32)
    data = wrap_xr(physical, geobox, axis=1, dims=("band", *geobox.dimensions))
    data = data.assign_coords(band=list(modality.band_names))
    acquired = next((tags[key] for key in ("ACQ_DATE", "datetime", "TIFFTAG_DATETIME") if key in tags), None)
    return Scene(modality=modality, path=path, data=data, geobox=geobox, acquired=acquired)


def check_scene(scene: Scene) -> None:
    """Read a sample of the scene and refuse it if it holds no data or cannot be of the declared units.

    Raises
    ------
    SceneError
        If every pixel is nodata, or the values contradict the unit.
    """
    sample = scene.read(_centre(scene.geobox, UNIT_SAMPLE))
    if not np.isfinite(sample).any():
        # The middle may be a hole: only the whole scene proves that there is nothing.
        if not bool(scene._computed(scene.valid.any())):
            raise SceneError(
                f"{scene.path}: found no valid pixel; wanted observed data; check the file and the nodata value of "
                f"modality '{scene.modality.name}'"
            )
        return
    for band, layer in zip(scene.modality.bands, sample, strict=True):
        values = layer if band.unit is band.working_unit else _as_declared(scene, band.name, layer)
        if reason := implausible_unit(band.unit, values[np.isfinite(values)]):
            raise SceneError(f"{scene.path}: band '{band.name}' is declared as {band.unit}: found {reason}")


def _as_declared(scene: Scene, band_name: str, layer: NDArray[np.float32]) -> NDArray[np.float32]:
    band = scene.modality.bands[scene.modality.band_names.index(band_name)]
    if band.unit == "db":
        return np.float32(10) * np.log10(np.where(layer > 0, layer, np.nan))
    return np.sign(layer) * np.sqrt(np.abs(layer))


def _to_physical(
    block: NDArray[np.generic], *, modality: Modality, nodata: tuple[float | None, ...]
) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # float64 fill values beyond float32 become infinite, which is not valid either
        values = block.astype(np.float32)
        fills = [None if value is None else np.float32(value) for value in nodata]
    invalid = ~np.isfinite(values).all(axis=0)
    if all(value is None for value in fills):
        # Files without a nodata value use zero in every band as fill far more often than as an observation.
        invalid |= (values == 0).all(axis=0)
    for layer, value in zip(values, fills, strict=True):
        if value is not None and np.isfinite(value):
            invalid |= layer == value
    out = np.stack([band.to_working(layer) for band, layer in zip(modality.bands, values, strict=True)])
    for band, power in zip(modality.bands, out, strict=True):
        if band.is_backscatter:
            invalid |= power == 0  # border fill (0, or -9999 dB): no surface returns exactly nothing
    out[:, invalid] = np.nan
    return out


def _band_indices(path: Path, modality: Modality, count: int) -> list[int]:
    explicit = [band.index for band in modality.bands if band.index is not None]
    if not explicit and count != len(modality.bands):
        raise SceneError(
            f"{path}: found {count} bands; wanted {len(modality.bands)} for modality '{modality.name}' "
            f"({', '.join(modality.band_names)}); declare all bands, or give each its `index` in the file"
        )
    indices = [band.index or position for position, band in enumerate(modality.bands, start=1)]
    if max(indices) > count:
        raise SceneError(
            f"{path}: found {count} bands; wanted index {max(indices)} for modality '{modality.name}'; correct `index`"
        )
    return indices


def _centre(geobox: GeoBox, edge: int) -> tuple[slice, slice]:
    height, width = geobox.shape
    top, left = max(0, (height - edge) // 2), max(0, (width - edge) // 2)
    return slice(top, min(height, top + edge)), slice(left, min(width, left + edge))


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
