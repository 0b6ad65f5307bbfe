"""Plain rasters, one-file-a-band sets and NetCDF cubes as products: what their own headers say."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from .block_checksums import check_stored
from .errors import SceneError
from .modality import Modality, Unit
from .product import BandFile, Product, QualityFile, quiet_open
from .quality import QualityScheme
from .scene import first_line
from .source import Source

#: Tags that carry the acquisition time, in the order of trust. TIFF's own DateTime is when the file was made.
_TIME_TAGS = ("ACQUIRED", "acquired", "ACQ_DATE", "datetime")

#: Official product names carry the sensing start: S2A_MSIL2A_20200223T032739_..., S1A_IW_GRDH_1SDV_20201107T135241_...
_PRODUCT_NAME = re.compile(r"S(?:1[A-D]_[A-Z0-9]{2}_[A-Z_]{4}_[0-9A-Z]{4}|2[A-D]_MSIL\w{2})_(\d{8}T\d{6})(?:_|$)")

#: The same of Landsat: LC08_L2SP_020039_20150804_..., with the day only.
_LANDSAT_NAME = re.compile(r"L[COTEM]0\d_L\w{3}_\d{6}_(\d{8})_")


def raster_product(path: Path, modality: Modality | None) -> Product:
    """Return a raster (GeoTIFF, COG, VRT, PNG, NetCDF) as a product; nothing but the header is read.

    Bands are found by the descriptions in the file where these hold every name that ``modality`` asks for, otherwise
    by position: then the number of bands must be the file's, or each band must give its ``index``. An alpha band that
    is one more than the bands declared is a mask. Scale and offset are those of the header (in STAC terms:
    raster:bands), the unit is the user's to declare. With None in place of a modality, all bands are given as they are.

    Raises
    ------
    SceneError
        If the file is missing or unreadable, or its bands disagree with the declaration.
    """
    if not path.is_file():
        wanted = "" if modality is None else f" of modality '{modality.name}'"
        raise SceneError(f"{path}: found no file; wanted a raster{wanted}; correct the path")
    try:
        with quiet_open(path) as source:
            if source.count == 0 and source.subdatasets:
                return _cube(path, source.subdatasets)
            if source.driver == "PNG":
                check_stored(source, path)  # GDAL reads a cut one without an error, and fills it up
            bands = _bands(source, str(path))
            alpha = {i for i in source.indexes if source.colorinterp[i - 1] is ColorInterp.alpha}
            acquired = acquisition_time(source.tags(), path)
    except (RasterioError, OSError) as error:
        raise SceneError(
            f"{path}: found a file that does not open as a raster ({first_line(error)}); wanted GeoTIFF, COG, VRT, "
            "NetCDF or PNG; copy or convert it again"
        ) from error
    named = tuple(bands) if modality is None else _named(bands, alpha, path, modality)
    return Product(kind="raster", path=path, bands=named, acquired=acquired)


def band_set(source: Source, modality: Modality) -> Product:
    """Return one file a band as a product.

    Raises
    ------
    SceneError
        If a band that is asked for has no file, or a file is no one-band raster.
    """
    bands: list[BandFile] = []
    acquired: set[str] = set()
    for name in modality.band_names:
        path = source.bands.get(name)
        if path is None:
            raise SceneError(
                f"{source.place.parent}: found files of bands {', '.join(source.bands)}; wanted one of band '{name}' "
                f"of modality '{modality.name}'; add it under the scene's files"
            )
        product = raster_product(path, Modality(name=modality.name, bands=(modality.bands[0],)))
        bands.append(replace(product.bands[0], name=name))
        acquired |= set() if product.acquired is None else {product.acquired}
    return Product(
        kind="band-set", path=source.place, bands=tuple(bands), acquired=min(acquired) if acquired else None
    )  # fmt: skip


def quality_file(path: Path, scheme: QualityScheme) -> QualityFile:
    """Return a quality raster that lies beside a scene.

    Raises
    ------
    SceneError
        If there is no such file.
    """
    if not path.is_file():
        raise SceneError(f"{path}: found no file; wanted a quality raster ({scheme}); correct the path")
    return QualityFile(href=str(path), scheme=scheme)


def acquisition_time(tags: Mapping[str, str], path: Path) -> str | None:
    """Return the acquisition time that the header states, or that an official product name in the path carries.

    Returns
    -------
    ISO 8601 text, or None. Dates in other file names are not guessed at.
    """
    for key in _TIME_TAGS:
        if text := tags.get(key, "").strip():
            return re.sub(r"\.0+$", "", text)
    for part in (path.name, *(parent.name for parent in path.parents)):
        if match := _PRODUCT_NAME.search(part):
            return datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).isoformat()
        if match := _LANDSAT_NAME.search(part):
            return datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC).date().isoformat()
    return None


def _bands(source: DatasetReader, href: str) -> list[BandFile]:
    return [
        BandFile(
            name=source.descriptions[number - 1] or f"band {number}", href=href, index=number,
            unit=Unit.DIGITAL_NUMBER, scale=source.scales[number - 1], offset=source.offsets[number - 1],
            nodata=source.nodatavals[number - 1],
        )
        for number in source.indexes
    ]  # fmt: skip


def _named(bands: list[BandFile], alpha: set[int], path: Path, modality: Modality) -> tuple[BandFile, ...]:
    """Give the bands that are asked for the names that they are asked for by.

    GDAL calls the fourth of four 8-bit bands alpha unless told otherwise: it is a mask only where the others are as
    many as the bands declared.
    """
    if any(band.index is not None for band in modality.bands):
        return tuple(replace(band, alpha_masks=False) for band in bands)
    names = [band.name.lower() for band in bands]
    if all(names.count(wanted.lower()) == 1 for wanted in modality.band_names):
        return tuple(bands)
    colours = [band for band in bands if band.index not in alpha]
    if len(bands) == len(modality.bands):
        chosen = [replace(band, alpha_masks=False) for band in bands]
    elif len(colours) == len(modality.bands):
        chosen = colours
    else:
        raise SceneError(
            f"{path}: found {len(bands)} bands; wanted {len(modality.bands)} for modality '{modality.name}' "
            f"({', '.join(modality.band_names)}); declare all bands, or give each its `index` in the file"
        )
    return tuple(replace(band, name=wanted) for band, wanted in zip(chosen, modality.band_names, strict=True))


def _cube(path: Path, subdatasets: list[str]) -> Product:
    """Take a NetCDF file of several variables: band ``B02@2020-11-01`` is variable B02 at that time."""
    bands: list[BandFile] = []
    for href in subdatasets:
        with quiet_open(href) as source:
            variable, times = href.rsplit(":", 1)[-1].strip('"'), _times(source.tags())
            own = _bands(source, href)
        if len(times) != len(own):
            bands.extend(replace(band, name=variable) for band in own)
        else:
            bands.extend(
                replace(band, name=f"{variable}@{time}", acquired=time) for band, time in zip(own, times, strict=True)
            )
    return Product(kind="netcdf", path=path, bands=tuple(bands))


def _times(tags: Mapping[str, str]) -> list[str]:
    """Dates of the bands, where the time axis counts days as the CF conventions have it."""
    values, since = tags.get("NETCDF_DIM_t_VALUES"), tags.get("t#units", "")
    match = re.fullmatch(r"days since (\d{4})-(\d{1,2})-(\d{1,2}).*", since)
    if values is None or match is None:
        return []
    try:
        start = datetime(int(match[1]), int(match[2]), int(match[3]), tzinfo=UTC)
        return [(start + timedelta(days=float(day))).date().isoformat() for day in values.strip("{}").split(",")]
    except (OverflowError, ValueError):  # numbers that are no days
        return []
