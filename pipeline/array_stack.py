"""Images in memory, or lazily on disk, become an aligned stack: checked, in working units, as the stages read it."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import odc.geo.xr  # noqa: F401 (arrays tell their grid through it)
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.modality import Band, Modality, Unit, implausible_unit
from ..datasets.quality import Quality
from ..datasets.raster import cog_writer
from ..datasets.stack import AlignedStack
from .errors import PipelineError
from .nearest import did_you_mean

#: Rows that are converted at a time: images on disk are not held in memory.
ROWS = 512

#: Edge of the sample, thinned from the whole image, that the unit is judged by: a part may well be all water.
SAMPLE = 512


def write_array_stack(
    images: Mapping[str, xr.DataArray],
    modalities: Sequence[Modality],
    *,
    units: Mapping[str, str],
    clouds: Mapping[str, xr.DataArray] | None = None,
    name: str,
    folder: Path,
) -> AlignedStack:
    """Write images as an aligned stack.

    Parameters
    ----------
    images
        Modality -> (band, y, x) on one grid; NaN or the ``nodata`` attribute where not valid.
    modalities
        Those that the stack is to have; one that ``images`` lack is missing.
    units
        Modality -> unit of the values, where it is not the bands' working unit.
    clouds
        Modality -> (y, x) on the same grid, True, or a number other than 0, where cloud or shadow hides the ground:
        pixels that are then not valid.
    name
        Of the scene.
    folder
        Receives a COG a modality, and one of its clouds.

    Raises
    ------
    PipelineError
        If an image is not of the modalities, has other bands, another grid or no grid, a unit that its values cannot
        be in, or no valid pixel; or clouds are of no image.
    """
    known, hidden = {item.name: item for item in modalities}, dict(clouds or {})
    for given in (*images, *units, *hidden):
        if given not in known:
            near = did_you_mean(given, known)
            raise PipelineError(f"found an image or unit of '{given}'; wanted modalities {sorted(known)}{near}")
    grid = _common_grid(images, hidden, known)
    present = {key: folder / f"{key}.tif" for key in images}
    for key, path in present.items():
        _write(path, images[key], known[key], grid, unit=units.get(key), hidden=hidden.get(key))
    covered = {key: _write_clouds(folder / f"{key}.quality.tif", mask, grid) for key, mask in hidden.items()}
    names = tuple(known)
    missing = {key: "not among the images" for key in names if key not in images}
    return AlignedStack(
        name=name, geobox=grid, modalities=names, present=present, missing=missing, clouds=covered
    )  # fmt: skip


def _common_grid(
    images: Mapping[str, xr.DataArray], hidden: Mapping[str, xr.DataArray], known: Mapping[str, Modality]
) -> GeoBox:
    """Return the grid that all images and clouds have."""
    if strange := sorted(set(hidden) - set(images)):
        raise PipelineError(f"found clouds of '{strange[0]}' and no such image; wanted both; leave the clouds out")
    grids = {f"'{key}'": _grid(key, image) for key, image in images.items()}
    grids |= {f"clouds of '{key}'": _grid(f"clouds of {key}", mask) for key, mask in hidden.items()}
    if not grids:
        raise PipelineError(f"found no image; wanted one at least of {sorted(known)}")
    first, grid = next(iter(grids.items()))
    for what, other in grids.items():
        if other != grid:
            raise PipelineError(
                f"found {what} on another grid than {first}; wanted one grid for all; "
                "equipoise.coregister brings an image onto the grid of another"
            )
    return grid


def _grid(name: str, image: xr.DataArray) -> GeoBox:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a position that is half there: the error below says more
        grid = image.odc.geobox
    if not isinstance(grid, GeoBox) or grid.crs is None:
        raise PipelineError(
            f"'{name}': found an array without a position; wanted one with a CRS and a transform; assign them with "
            "odc.geo.xr.assign_crs, or open the file with rioxarray.open_rasterio"
        )
    return grid


def _write(
    path: Path,
    image: xr.DataArray,
    modality: Modality,
    grid: GeoBox,
    *,
    unit: str | None,
    hidden: xr.DataArray | None,
) -> None:
    bands = tuple(
        Band(name=band.name, unit=band.working_unit if unit is None else _unit(modality.name, unit))
        for band in modality.bands
    )
    stacked = image if image.ndim == 3 else image.expand_dims("band")
    data = stacked.transpose(..., *image.odc.spatial_dims)
    _check_bands(data, modality)
    nodata = image.attrs.get("nodata", image.attrs.get("_FillValue", image.rio.nodata))
    step = max(1, -(-max(grid.shape) // SAMPLE))
    _check_units(_plain(data[:, ::step, ::step].to_numpy(), nodata), bands, name=modality.name)
    found = False
    tags = {"unit": ",".join(str(band.working_unit) for band in bands), "source": "array"}
    with cog_writer(
        path, grid, count=len(bands), dtype="float32", nodata=float("nan"), overview_resampling="average",
        descriptions=modality.band_names, tags=tags,
    ) as writer:  # fmt: skip
        for row in range(0, grid.shape[0], ROWS):
            numbers = _plain(data[:, row : row + ROWS].to_numpy(), nodata)
            values = np.stack([band.to_working(layer) for band, layer in zip(bands, numbers, strict=True)])
            if hidden is not None:
                values[:, _rows(hidden, row)] = np.nan
            found |= bool(np.isfinite(values).any())
            writer.write(values, window=((row, row + values.shape[1]), (0, values.shape[2])))
        if not found:
            raise PipelineError(f"'{modality.name}': found no valid pixel; wanted some; leave the modality out")


def _write_clouds(path: Path, hidden: xr.DataArray, grid: GeoBox) -> Path:
    """Write clouds as quality codes."""
    with cog_writer(
        path, grid, count=1, dtype="uint8", nodata=Quality.UNKNOWN, overview_resampling="mode",
        descriptions=("quality",),
    ) as writer:  # fmt: skip
        for row in range(0, grid.shape[0], ROWS):
            codes = np.where(_rows(hidden, row), Quality.CLOUD, Quality.CLEAR).astype(np.uint8)
            writer.write(codes, 1, window=((row, row + codes.shape[0]), (0, codes.shape[1])))
    return path


def _rows(hidden: xr.DataArray, row: int) -> NDArray[np.bool_]:
    """Return :data:`ROWS` rows of a mask from ``row`` on; a file's nodata is no cloud."""
    numbers = hidden.squeeze().transpose(*hidden.odc.spatial_dims)[row : row + ROWS].to_numpy()
    nodata = hidden.attrs.get("nodata", hidden.attrs.get("_FillValue"))
    return np.asarray((np.nan_to_num(numbers) != 0) & (numbers != nodata), dtype=np.bool_)


def _plain(values: NDArray[np.generic], nodata: float | None) -> NDArray[np.float32]:
    """Return values as float32, NaN where not valid."""
    numbers = values.astype(np.float32)
    if nodata is not None:
        numbers[values == nodata] = np.nan
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _check_units(sample: NDArray[np.float32], bands: Sequence[Band], *, name: str) -> None:
    for band, layer in zip(bands, sample, strict=True):
        if (wrong := implausible_unit(band.unit, layer)) is not None:
            raise PipelineError(f"'{name}', band {band.name}: found {wrong}; or name the unit in `units`")


def _check_bands(data: xr.DataArray, modality: Modality) -> None:
    """Compare the number of bands, and their names where they have some, with the model's."""
    wanted, names = modality.band_names, _band_names(data)
    if len(data) != len(wanted) or (names is not None and names != wanted):
        found = f"{len(data)} bands" if names is None else f"bands {names}"
        raise PipelineError(
            f"'{modality.name}': found {found}; wanted {wanted}, which the model was trained on; choose and order them"
        )


def _band_names(data: xr.DataArray) -> tuple[str, ...] | None:
    """Return what the band axis is labelled with, or what rioxarray read from the file; None where neither is."""
    axis = data.coords.get(data.dims[0])
    if axis is not None and axis.dtype.kind in "UO":
        return tuple(str(value) for value in axis.values)
    told = data.attrs.get("long_name")
    return tuple(told) if isinstance(told, tuple) and len(told) == len(data) else None


def _unit(name: str, text: str) -> Unit:
    try:
        return Unit(text)
    except ValueError as error:
        near = did_you_mean(text, list(Unit))
        raise PipelineError(f"'{name}': found unit '{text}'; wanted one of {', '.join(Unit)}{near}") from error
