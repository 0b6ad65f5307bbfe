"""Rasters of assets: opened with care, and made into what a resampler may take without a wrong number."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from .asset_values import FileValues
from .catalog_items import CatalogError
from .modality import Band, Unit, implausible_unit

#: First bytes of the formats that are read: TIFF and BigTIFF in both byte orders, JPEG 2000. Anything else (a VRT, say)
#: could name further files of this machine.
_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")

#: Numpy's data types by their GDAL names, for virtual rasters.
_GDAL_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "float32": "Float32", "float64": "Float64",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LocalBand:
    """A band of a file on this machine.

    Attributes
    ----------
    path, index
        Raster and 1-based band.
    band
        What its numbers mean: unit, scale, offset; nodata None asks the file.
    fallback
        Number of no observation where neither ``band`` nor the file says one.
    """

    path: Path
    index: int
    band: Band
    fallback: float = 0.0


def file_values(path: Path, index: int) -> FileValues:
    """Read what a raster's header says of a band's numbers.

    Raises
    ------
    CatalogError
        If it is neither GeoTIFF nor JPEG 2000, has no such band, or lies in radar geometry.
    """
    with open_asset(path) as source:
        if index > source.count:
            raise CatalogError(f"{path}: found {source.count} band(s); wanted band {index}; correct the catalog")
        scale, offset = source.scales[index - 1], source.offsets[index - 1]
        return FileValues(
            is_integer=np.dtype(source.dtypes[index - 1]).kind in "iu",
            scale=None if scale == 1 else scale, offset=None if offset == 0 else offset,
        )  # fmt: skip


def prepare_band(source: LocalBand, target: Path) -> tuple[GeoBox, Path, Band]:
    """Make a band ready to be resampled.

    Parameters
    ----------
    source
        The band as it was delivered.
    target
        Where a virtual or converted raster may be written; the suffix is replaced.

    Returns
    -------
    The file's own grid, a raster of one band with its nodata value, and what the numbers of that raster mean.

    Raises
    ------
    CatalogError
        If the file cannot be opened, or its numbers contradict its unit.
    """
    with open_asset(source.path) as raster:
        grid = GeoBox(raster.shape, raster.transform, raster.crs)
        own = raster.nodatavals[source.index - 1]
        nodata = next(value for value in (source.band.nodata, own, source.fallback) if value is not None)
        flags = raster.mask_flag_enums[source.index - 1]
        has_mask = MaskFlags.per_dataset in flags or MaskFlags.alpha in flags
        if source.band.unit in (Unit.DB, Unit.AMPLITUDE) or has_mask:
            # Decibels and amplitudes must not be averaged, and a virtual raster would lose the mask.
            path = target.with_suffix(".tif")
            _convert(raster, source, path, nodata=nodata)
            return grid, path, Band(name=source.band.name, unit=source.band.working_unit)
        path = virtual_band(raster, source.index, target.with_suffix(".vrt"), nodata=nodata)
        return grid, path, replace(source.band, nodata=None)


def _convert(raster: DatasetReader, source: LocalBand, target: Path, *, nodata: float) -> None:
    """Write a band in working units, float32, NaN where not valid."""
    profile = {
        "driver": "GTiff", "height": raster.height, "width": raster.width, "count": 1, "dtype": "float32",
        "crs": raster.crs, "transform": raster.transform, "nodata": np.nan, "tiled": True, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    samples = []
    with rasterio.open(target, "w", **profile) as writer:
        for _, window in writer.block_windows(1):
            numbers = raster.read(source.index, window=window).astype(np.float32)
            usable = raster.read_masks(source.index, window=window) > 0
            usable &= np.isfinite(numbers) & (numbers != np.float32(nodata))
            samples.append((numbers * (source.band.scale or 1.0) + (source.band.offset or 0.0))[usable][::97])
            writer.write(np.where(usable, source.band.to_working(numbers), np.float32(np.nan)), 1, window=window)
    if reason := implausible_unit(source.band.unit, np.concatenate(samples)):
        raise CatalogError(
            f"{source.path}: band '{source.band.name}' is declared as {source.band.unit}: found {reason}"
        )


def virtual_band(raster: DatasetReader, index: int, target: Path, *, nodata: float | None) -> Path:
    """Write a virtual raster of one band, which carries the nodata value that the file may lack; return ``target``."""
    a, b, c, d, e, f = raster.transform[:6]
    fill = "" if nodata is None else f"<NoDataValue>{nodata!r}</NoDataValue>"
    target.write_text(
        f'<VRTDataset rasterXSize="{raster.width}" rasterYSize="{raster.height}">'
        f"<SRS>{escape(raster.crs.to_wkt())}</SRS><GeoTransform>{c!r},{a!r},{b!r},{f!r},{d!r},{e!r}</GeoTransform>"
        f'<VRTRasterBand dataType="{_GDAL_TYPES[raster.dtypes[index - 1]]}" band="1">{fill}<SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{escape(str(Path(raster.name).resolve()))}</SourceFilename>'
        f"<SourceBand>{index}</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    return target


def open_asset(path: Path) -> DatasetReader:
    """Open a raster that has a position; only formats that consist of one file are let in.

    Raises
    ------
    CatalogError
        If it is neither GeoTIFF nor JPEG 2000, damaged, or without a map grid.
    """
    try:
        with path.open("rb") as stream:
            known = stream.read(12).startswith(_SIGNATURES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # said below, and with what to do
            raster = rasterio.open(path) if known else None
    except (RasterioError, OSError) as error:
        raise CatalogError(
            f"{path}: found a raster that does not open ({' '.join(str(error).split())[:200]}); wanted a complete "
            "GeoTIFF or JPEG 2000; delete it to fetch it again"
        ) from error
    if raster is None:
        raise CatalogError(f"{path}: found neither GeoTIFF nor JPEG 2000; wanted one of them; correct the catalog")
    if raster.crs is None:
        geometry = "radar geometry (ground control points)" if raster.gcps[0] else "no position"
        raster.close()
        raise CatalogError(
            f"{path}: found a raster in {geometry}; wanted one on a map grid; use a terrain-corrected collection "
            "(sentinel-1-rtc), or geocode it first"
        )
    return raster
