"""Products: what a delivered product's metadata say of its bands, and the scene that they make on one grid."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr, xr_reproject
from pyproj.exceptions import CRSError
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from .errors import SceneError
from .modality import Band, Modality, Unit
from .quality import Quality, QualityScheme, decode_quality
from .scene import Scene, first_line

#: Block edge in pixels of the lazy arrays: a few MB a block and band.
BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class BandFile:
    """One band of a delivered product.

    Attributes
    ----------
    name
        The product's own name: ``B04``, ``VV``, ``ST_B10``.
    href
        Whatever GDAL opens: a path, ``/vsizip/...``, a subdataset.
    unit
        Unit of ``scale * DN + offset``; ``digital_number`` where the product does not say.
    index
        1-based band of the file.
    scale, offset
        From digital number to ``unit``, as the metadata say.
    nodata
        Digital number of no observation; None where the product does not say.
    common_name
        The field's common name (STAC eo extension): ``red``, ``nir``, ``lwir11``.
    planck
        See :class:`~equipoise.datasets.modality.Band`.
    saturated
        Digital number of a saturated detector, which is no observation either; None where there is none.
    acquired
        Time of this band alone, in files that hold several dates.
    alpha_masks
        Whether an alpha band of the file tells what is valid; False where it is data that GDAL takes for alpha.
    """

    name: str
    href: str
    unit: Unit
    index: int = 1
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    common_name: str | None = None
    planck: tuple[float, float] | None = None
    saturated: float | None = None
    acquired: str | None = None
    alpha_masks: bool = True


@dataclass(frozen=True, kw_only=True)
class QualityFile:
    """The raster that tells clouds, shadows and fill, and how its numbers are to be read."""

    href: str
    scheme: QualityScheme
    index: int = 1


@dataclass(frozen=True, kw_only=True)
class Product:
    """A delivered product.

    Attributes
    ----------
    kind
        ``sentinel-2-l2a``, ``landsat-c2-l2``, ``raster``, ...
    path
        What the user named.
    bands
        Every band once, at its finest resolution.
    quality
        Quality layer, if the product has one.
    acquired
        Acquisition time, ISO 8601, UTC; None where the product does not say.
    provenance
        Product id, processing baseline, where scale and offset came from: text by name.
    """

    kind: str
    path: Path
    bands: tuple[BandFile, ...]
    quality: QualityFile | None = None
    acquired: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)


def product_scene(product: Product, modality: Modality, *, georeferenced: bool = True) -> Scene:
    """Return the bands of a product that ``modality`` asks for, lazily, on the grid of the finest of them.

    Parameters
    ----------
    product
        What was delivered.
    modality
        Bands wanted, by the product's name or the common name. What it declares (scale, offset, nodata) goes before
        what the product says; unit ``digital_number`` asks for the numbers as stored.
    georeferenced
        False for chips that share a pixel grid but carry no position.

    Raises
    ------
    SceneError
        If a band is missing, is of another unit, or a file cannot be opened or has no CRS.
    """
    chosen = [_find(product, band) for band in modality.bands]
    resolved = tuple(_resolve(product, band, file) for band, file in zip(modality.bands, chosen, strict=True))
    grids = [grid_of(file.href, product.path, georeferenced=georeferenced) for file in chosen]
    finest = min(grids, key=lambda grid: abs(grid.affine.determinant))
    layers: dict[int, da.Array] = {}
    groups = _together(chosen)
    for members in groups:
        files, bands = [chosen[i] for i in members], [resolved[i] for i in members]
        physical = _open_lazily(files, bands, grids[members[0]], product.path)
        layers |= dict(zip(members, _on_grid(physical, bands, grids[members[0]], finest), strict=True))
    block = da.stack([layers[position] for position in range(len(chosen))])
    if len(groups) > 1:
        block = da.map_blocks(_invalid_in_one_is_invalid, block.rechunk((-1, BLOCK, BLOCK)), dtype=np.float32)
    data = wrap_xr(block.rechunk({0: -1}), finest, axis=1, dims=("band", *finest.dimensions))
    data = data.assign_coords(band=list(modality.band_names))
    scene = Scene(
        modality=replace(modality, bands=resolved), path=product.path, data=data, geobox=finest,
        acquired=product.acquired or min(filter(None, (file.acquired for file in chosen)), default=None),
        provenance={"kind": product.kind, **product.provenance},
    )  # fmt: skip
    return scene if product.quality is None else with_quality(scene, product.quality)


def with_quality(scene: Scene, layer: QualityFile) -> Scene:
    """Return the scene with a quality layer brought onto its grid; what that calls unusable is no longer valid.

    Raises
    ------
    SceneError
        If the layer cannot be opened, or lies on another pixel grid where there is no position.
    """
    grid = grid_of(layer.href, scene.path, georeferenced=scene.geobox.crs is not None)
    raw = _lazy(layer.href, [layer.index], grid, dtype=np.dtype(np.uint32), masked=False)[0]
    codes = da.map_blocks(decode_quality, raw, scheme=layer.scheme, dtype=np.uint8)
    quality = wrap_xr(codes, grid, nodata=int(Quality.UNKNOWN))
    if grid != scene.geobox:
        if grid.crs is None or scene.geobox.crs is None:
            raise SceneError(
                f"{layer.href}: found a quality layer of {grid.shape.x} x {grid.shape.y} px without a position; wanted "
                f"the scene's {scene.geobox.shape.x} x {scene.geobox.shape.y} px; deliver it on the scene's grid"
            )
        # The most cautious of the pixels that come together would need another rule; nearest is what products use.
        quality = xr_reproject(
            quality, scene.geobox, resampling="nearest", dst_nodata=int(Quality.UNKNOWN), chunks=(BLOCK, BLOCK)
        )
    quality = quality.assign_coords({name: scene.data.coords[name] for name in scene.geobox.dimensions})
    usable = quality != int(Quality.UNUSABLE)
    return replace(scene, data=scene.data.where(usable).astype(np.float32), quality=quality)


def quiet_open(path: Path | str) -> DatasetReader:
    """Open a raster; that it may lack a position is said by our own error, where it matters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(path)
        except UnicodeDecodeError as error:  # GDAL quotes a damaged file's own bytes
            raise RasterioIOError("a header that is no text") from error


def grid_of(href: str, named: Path, *, georeferenced: bool) -> GeoBox:
    """Return the grid that a raster's own header states.

    Raises
    ------
    SceneError
        If it does not open, or has no CRS although it should.
    """
    try:
        with quiet_open(href) as source:
            geobox = GeoBox(source.shape, source.transform, source.crs)
    except (RasterioError, OSError) as error:
        raise _unreadable(href, named, error) from error
    if not (np.isfinite(tuple(geobox.affine)).all() and geobox.affine.determinant):
        raise SceneError(
            f"{named}: found a position of {tuple(geobox.affine)[:6]}; wanted pixels that have a size and a place; "
            "georeference the file again"
        )
    if geobox.crs is not None:
        _require_usable(geobox.crs, named)
    if georeferenced and geobox.crs is None:
        raise SceneError(
            f"{named}: found no CRS; wanted a georeferenced raster; assign one (gdal_edit -a_srs EPSG:...), or declare "
            "`georeferenced: false` for chips that share a pixel grid"
        )
    return geobox


def _require_usable(crs: CRS, named: Path) -> None:
    """Refuse what is a CRS only by form: a damaged definition, or one that is neither geographic nor projected."""
    try:
        _ = crs.dimensions, crs.proj.to_cf()  # both are asked for when a grid is put on an array
    except (CRSError, KeyError, ValueError) as error:
        raise SceneError(
            f"{named}: found a CRS that cannot be used ({first_line(error)}); wanted a geographic or projected one; "
            "assign one (gdal_edit -a_srs EPSG:...)"
        ) from error


def _find(product: Product, band: Band) -> BandFile:
    wanted = band.name.lower()
    if band.index is not None and product.kind == "raster":
        at_index = [file for file in product.bands if file.index == band.index]
        if not at_index:
            raise SceneError(
                f"{product.path}: found {len(product.bands)} bands; wanted index {band.index} of band '{band.name}'; "
                "correct `index`"
            )
        return at_index[0]
    for file in product.bands:
        if file.name.lower() == wanted:
            return file
    named = [file for file in product.bands if file.common_name == wanted]
    if len(named) == 1:
        return named[0]
    names = ", ".join(
        file.name if file.common_name is None else f"{file.name} ({file.common_name})" for file in product.bands
    )
    raise SceneError(f"{product.path}: found bands {names}; wanted '{band.name}'; name one of them in `bands`")


def _resolve(product: Product, band: Band, file: BandFile) -> Band:
    """Join what was declared with what the product says."""
    nodata = file.nodata if band.nodata is None else band.nodata
    if band.unit is Unit.DIGITAL_NUMBER or file.unit is Unit.DIGITAL_NUMBER:
        raw = band.unit is Unit.DIGITAL_NUMBER
        scale = (1.0 if raw else file.scale) if band.scale is None else band.scale
        offset = (0.0 if raw else file.offset) if band.offset is None else band.offset
        return replace(band, scale=scale, offset=offset, nodata=nodata)
    own = Band(name=file.name, unit=file.unit)
    if own.working_unit is not band.working_unit:
        raise SceneError(
            f"{product.path}: found band '{file.name}' in {file.unit}, as the {product.kind} product says; wanted "
            f"{band.unit}; declare `unit: {file.unit}`, or `unit: digital_number` for the numbers as stored"
        )
    scale = file.scale if band.scale is None else band.scale
    offset = file.offset if band.offset is None else band.offset
    return replace(band, unit=file.unit, scale=scale, offset=offset, nodata=nodata, planck=file.planck)


def _together(files: Sequence[BandFile]) -> list[list[int]]:
    """Positions of the bands of each file: they are read together."""
    by_file: dict[str, list[int]] = {}
    for position, file in enumerate(files):
        by_file.setdefault(file.href, []).append(position)
    return list(by_file.values())


def _open_lazily(files: Sequence[BandFile], bands: Sequence[Band], grid: GeoBox, named: Path) -> xr.DataArray:
    href, indexes = files[0].href, [file.index for file in files]
    try:
        with quiet_open(href) as source:
            if max(indexes) > source.count:
                raise SceneError(
                    f"{named}: found {source.count} bands in {href}; wanted band {max(indexes)}; correct it"
                )
            # Internal masks and alpha bands; a nodata value is ours to apply, since it can be overridden.
            flags = source.mask_flag_enums[0]
            masked = MaskFlags.per_dataset in flags and MaskFlags.nodata not in flags
            masked = masked and (files[0].alpha_masks or MaskFlags.alpha not in flags)
    except (RasterioError, OSError) as error:
        raise _unreadable(href, named, error) from error
    values = _lazy(href, indexes, grid, dtype=np.dtype(np.float32), masked=masked)
    saturated = tuple(file.saturated for file in files)
    physical = da.map_blocks(_to_physical, values, bands=tuple(bands), saturated=saturated, dtype=np.float32)
    return wrap_xr(physical, grid, axis=1, dims=("band", *grid.dimensions), nodata=np.nan)


def _lazy(href: str, indexes: Sequence[int], grid: GeoBox, *, dtype: np.dtype[Any], masked: bool) -> da.Array:
    """Blocks of a raster, (band, y, x); each is read through a handle of its own, so that any scheduler may do it."""
    edges = tuple(da.core.normalize_chunks((BLOCK, BLOCK), tuple(grid.shape)))
    return da.map_blocks(
        _read_block, href, list(indexes), masked, dtype=dtype, chunks=((len(indexes),), *edges),
        meta=np.empty((0, 0, 0), dtype=dtype),
        # The name must change with the file: dask keeps results by name.
        token=tokenize(href, list(indexes), masked, tuple(grid.shape), _modified(href)),
    )  # fmt: skip


def _read_block(
    href: str, indexes: list[int], masked: bool, *, block_info: Mapping[Any, Any], dtype: np.dtype[Any] | None = None
) -> NDArray[Any]:
    (_, _), rows, cols = block_info[None]["array-location"]
    wanted = block_info[None]["dtype"] if dtype is None else dtype
    # A truncated JPEG 2000 that several threads decode is read without an error (GDAL 3.10): one thread reports it.
    with rasterio.Env(GDAL_NUM_THREADS="1"), quiet_open(href) as source, np.errstate(over="ignore", invalid="ignore"):
        window = Window.from_slices(rows, cols)
        if not masked:
            # float64 fill values beyond float32 become infinite, which is not valid either
            return source.read(indexes, window=window).astype(wanted)
        return np.ma.filled(source.read(indexes, window=window, masked=True).astype(wanted), np.nan)


def _modified(href: str) -> float:
    path = Path(href)
    return path.stat().st_mtime if path.is_file() else 0.0


def _on_grid(physical: xr.DataArray, bands: Sequence[Band], own: GeoBox, grid: GeoBox) -> list[da.Array]:
    if own == grid:
        return [physical.data[i] for i in range(len(bands))]
    if own.crs is None or grid.crs is None:
        raise SceneError(
            f"found bands of {own.shape.x} x {own.shape.y} and {grid.shape.x} x {grid.shape.y} px without a position; "
            "wanted one pixel grid; deliver all bands on it"
        )
    # Radar is in linear power and every other band in its unit here: what is interpolated is physical.
    return [
        xr_reproject(
            physical.isel(band=i), grid, resampling=band.resampling, dst_nodata=np.nan, chunks=(BLOCK, BLOCK)
        ).data
        for i, band in enumerate(bands)
    ]  # fmt: skip


def _to_physical(
    values: NDArray[np.float32], *, bands: tuple[Band, ...], saturated: tuple[float | None, ...]
) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a nodata value beyond float32 is infinite there, as its pixels are
        fills = [None if band.nodata is None else np.float32(band.nodata) for band in bands]
    invalid = ~np.isfinite(values).all(axis=0)
    if all(value is None for value in fills) and not all(band.unit is Unit.METRE for band in bands):
        # Files without a nodata value use zero in every band as fill far more often than as an observation; only
        # heights are zero over whole coasts.
        invalid |= (values == 0).all(axis=0)
    for layer, *numbers in zip(values, fills, saturated, strict=True):
        for value in numbers:
            if value is not None and np.isfinite(value):
                invalid |= layer == value
    with np.errstate(over="ignore", invalid="ignore"):  # numbers that are no data may be anything
        out = np.stack([band.to_working(layer) for band, layer in zip(bands, values, strict=True)])
    for band, power in zip(bands, out, strict=True):
        if band.is_backscatter:
            invalid |= power == 0  # border fill (0, or -9999 dB): no surface returns exactly nothing
    out[:, invalid] = np.nan
    return out


def _invalid_in_one_is_invalid(block: NDArray[np.float32]) -> NDArray[np.float32]:
    out = block.copy()
    out[:, ~np.isfinite(block).all(axis=0)] = np.nan
    return out


def _unreadable(href: str, named: Path, error: Exception) -> SceneError:
    place = f"{named}" if Path(href) == named else f"{named}: {href.rsplit('/', 1)[-1]}"
    return SceneError(
        f"{place}: found a file that does not open as a raster ({first_line(error)}); wanted GeoTIFF, COG, VRT, JPEG "
        "2000 or PNG; copy or convert it again"
    )
