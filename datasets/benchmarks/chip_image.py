"""The files of one modality of a chip: opened anew at each read, since a chip is read whole and once an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import dask.array as da
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ..errors import SceneError
from ..modality import Modality
from ..product import quiet_open
from ..scene import Scene, first_line
from .public_dataset import ChipFiles


@dataclass(frozen=True, kw_only=True)
class ChipImage:
    """One modality of a chip: what its headers say.

    :func:`~equipoise.datasets.opening.open_scene` gives the same values; reading a small chip through its lazy array
    takes ten times as long.

    Attributes
    ----------
    modality
        Bands and units.
    paths, indexes, fills
        Of each band: its file, its 1-based number in the file, its nodata value.
    grid
        Pixel grid; its CRS may be None.
    """

    modality: Modality
    paths: tuple[Path, ...]
    indexes: tuple[int, ...]
    fills: tuple[float | None, ...]
    grid: GeoBox

    def read(self, rows: slice, cols: slice) -> NDArray[np.float32]:
        """Read pixels inside the grid: float32 (band, y, x) in working units, NaN where not valid.

        Raises
        ------
        SceneError
            If a file is truncated or corrupt.
        """
        if _is_array(self.paths[0]):
            stored = np.stack([_array(path)[rows, cols] for path in self.paths]).astype(np.float32)
        elif len(set(self.paths)) == 1:
            stored = _pixels(self.paths[0], self.indexes, rows, cols)
        else:
            bands = zip(self.paths, self.indexes, strict=True)
            stored = np.concatenate([_pixels(path, (index,), rows, cols) for path, index in bands])
        return working_values(stored, self.modality, self.fills)

    def scene(self) -> Scene:
        """Return the whole image as a scene, for resampling."""
        height, width = self.grid.shape
        values = da.from_array(self.read(slice(0, height), slice(0, width)))
        data = wrap_xr(values, self.grid, axis=1, dims=("band", *self.grid.dimensions))
        data = data.assign_coords(band=list(self.modality.band_names))
        return Scene(modality=self.modality, path=self.paths[0], data=data, geobox=self.grid)


def working_values(
    stored: NDArray[np.float32], modality: Modality, fills: Sequence[float | None]
) -> NDArray[np.float32]:
    """Convert numbers as stored, (band, y, x), to working units; what is not valid in one band is NaN in all.

    Parameters
    ----------
    stored
        Numbers as in the file.
    modality
        Bands and units.
    fills
        Nodata value of each band. Where no band has one, zero in every band is fill, as for every raster.
    """
    invalid = ~np.isfinite(stored).all(axis=0)
    if all(fill is None for fill in fills):
        invalid |= (stored == 0).all(axis=0)
    for layer, fill in zip(stored, fills, strict=True):
        if fill is not None and np.isfinite(fill):
            invalid |= layer == np.float32(fill)
    values = np.stack([band.to_working(layer) for band, layer in zip(modality.bands, stored, strict=True)])
    for band, power in zip(modality.bands, values, strict=True):
        if band.is_backscatter:
            invalid |= power == 0  # no surface returns exactly nothing
    values[:, invalid] = np.nan
    return values


def open_image(files: ChipFiles, modality: Modality, *, georeferenced: bool) -> ChipImage:
    """Open one modality of a chip: a raster, one raster a band, or NumPy arrays (``.npy``); headers are read.

    Parameters
    ----------
    files
        A file, or band name -> file.
    modality
        Its bands and units. Without explicit ``index`` their number must be the file's. A band that is flagged as alpha
        is one of them: GDAL flags every fourth band of 8 bits, and the data set knows better.
    georeferenced
        Whether the files must state a CRS.

    Raises
    ------
    SceneError
        If a file cannot be opened, its bands are not those declared, or the files of the bands differ in size.
    """
    together = isinstance(files, Path)
    paths = tuple([files] * len(modality.bands) if isinstance(files, Path) else [files[n] for n in modality.band_names])
    indexes = tuple(
        band.index or (position if together else 1) for position, band in enumerate(modality.bands, start=1)
    )
    is_exact = together and all(band.index is None for band in modality.bands)
    count = len(modality.bands) if is_exact else None
    headers = {path: _header(path, max(indexes), modality, count=count) for path in dict.fromkeys(paths)}
    grids = [grid for grid, _ in headers.values()]
    fills = [headers[path][1][index - 1] for path, index in zip(paths, indexes, strict=True)]
    if any(grid.shape != grids[0].shape for grid in grids):
        sizes = ", ".join(f"{grid.shape.x} x {grid.shape.y}" for grid in grids)
        raise SceneError(f"{paths[0]}: found bands of {sizes} px; wanted one size; unpack the data set again")
    if georeferenced and grids[0].crs is None:
        raise SceneError(
            f"{paths[0]}: found no CRS; wanted the position that this data set is published with; unpack it again"
        )
    own = [fill if band.nodata is None else band.nodata for band, fill in zip(modality.bands, fills, strict=True)]
    return ChipImage(modality=modality, paths=paths, indexes=indexes, fills=tuple(own), grid=grids[0])


def _header(path: Path, last: int, modality: Modality, *, count: int | None) -> tuple[GeoBox, tuple[float | None, ...]]:
    """Return grid and nodata values of a file with at least ``last`` bands, or ``count`` where that is known."""
    if not path.is_file():
        raise SceneError(f"{path}: found no file; wanted a raster of modality '{modality.name}'; unpack the data set")
    if _is_array(path):
        return GeoBox(_array(path).shape, Affine.identity(), None), (float("nan"),)
    try:
        with quiet_open(path) as source:
            if last > source.count or count not in (None, source.count):
                raise SceneError(
                    f"{path}: found {source.count} bands; wanted {len(modality.bands)} "
                    f"({', '.join(modality.band_names)}) of modality '{modality.name}'; unpack it as published"
                )
            return GeoBox(source.shape, source.transform, source.crs), source.nodatavals
    except (RasterioError, OSError) as error:
        raise SceneError(
            f"{path}: found a file that does not open as a raster ({first_line(error)}); wanted modality "
            f"'{modality.name}'; unpack the data set again"
        ) from error


def _pixels(path: Path, indexes: Sequence[int], rows: slice, cols: slice) -> NDArray[np.float32]:
    try:
        with quiet_open(path) as source, np.errstate(over="ignore", invalid="ignore"):
            # float64 fill values beyond float32 become infinite, which is not valid either
            stored = source.read(list(indexes), window=Window.from_slices(rows, cols)).astype(np.float32)
            return cast(NDArray[np.float32], stored)
    except (RasterioError, OSError) as error:
        raise SceneError(
            f"{path}: found pixel data that cannot be read ({first_line(error)}); wanted a complete raster; unpack it "
            "again"
        ) from error


def _is_array(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _array(path: Path) -> NDArray[np.generic]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SceneError(
            f"{path}: found no readable array ({first_line(error)}); wanted a NumPy file of numbers; unpack it again"
        ) from error
    if array.ndim != 2 or array.dtype.kind not in "fui":
        raise SceneError(
            f"{path}: found an array of shape {array.shape} and type {array.dtype}; wanted numbers (y, x); "
            "unpack it again"
        )
    return cast(NDArray[np.generic], array)
