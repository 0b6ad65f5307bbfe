"""Acquisitions onto one grid: local files of catalog items, loaded lazily by odc-stac, mosaicked in working units."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, cast

import dask.base
import numpy as np
import pystac
import xarray as xr
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from rasterio.errors import RasterioError
from shapely.geometry.base import BaseGeometry

from .asset_rasters import LocalBand, open_asset, prepare_band, virtual_band
from .catalog_items import CatalogError
from .modality import Band
from .quality import Quality, QualityScheme, decode_quality
from .warp import AVERAGE_FROM

#: Numbers (rows x columns x bands) that are loaded at once: about 0.3 GB with the copies that are made of them.
BUDGET = 1 << 23

#: Most rows at once, and columns of a lazy block.
ROWS, COLUMNS = 512, 2048

#: Most pixels of a grid: 40 GB a band. At 10 m that is an area of 1000 km by 1000 km.
MOST_PIXELS = 10**10

#: Number that a quality scheme itself uses for fill.
_FILL = {QualityScheme.SCL: 0, QualityScheme.QA_PIXEL: 1, QualityScheme.BQA: 1}


@dataclass(frozen=True, kw_only=True)
class LocalItem:
    """The files of one catalog item; bands in the modality's order."""

    id: str
    acquired: datetime
    bands: tuple[LocalBand, ...]
    quality: tuple[Path, int, QualityScheme] | None = None


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """An item whose files odc-stac can take as they are."""

    item: pystac.Item
    bands: tuple[Band, ...]
    resampling: dict[str, str]
    quality: QualityScheme | None


def area_grid(area: BaseGeometry, *, resolution: float) -> GeoBox:
    """Return the grid of an area: its rectangle in the UTM zone of its centroid, edges at multiples of the pixel.

    Parameters
    ----------
    area
        Outline in longitude and latitude, degrees (WGS 84).
    resolution
        Pixel size, metres.

    Raises
    ------
    CatalogError
        If the area lies beyond UTM, or is wider than a zone; if the grid has more than :data:`MOST_PIXELS`.
    """
    west, south, east, north = area.bounds
    if south < -80 or north > 84 or east - west > 6:
        raise CatalogError(
            f"found an area of {west:.2f} to {east:.2f} degrees east, {south:.2f} to {north:.2f} north; wanted one of "
            "at most 6 degrees between 80 south and 84 north (UTM); cut it into parts"
        )
    crs = CRS.utm(area.centroid.x, area.centroid.y)
    outline = Geometry(area, "EPSG:4326")
    extent = outline.to_crs(crs).boundingbox
    if (pixels := extent.span_x / resolution * (extent.span_y / resolution)) > MOST_PIXELS:
        raise CatalogError(
            f"found an area of {extent.span_x / 1000:.4g} x {extent.span_y / 1000:.4g} km in pixels of {resolution:g} "
            f"m, {pixels:.2g} of them; wanted at most {MOST_PIXELS:.0e}; give a larger --resolution, or cut the area "
            "into parts"
        )
    return GeoBox.from_geopolygon(outline, resolution=resolution, crs=crs)


def load_rows(
    items: Sequence[LocalItem], geobox: GeoBox, *, scratch: Path, rows: int | None = None
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.uint8] | None]]:
    """Load the items of one acquisition onto a grid, some rows at a time.

    Every item is brought onto the grid by itself and turned into working units before it joins the mosaic, since two
    items of one pass may differ in scale and offset; where they overlap, the earlier one goes first. Resampling is
    bilinear, the mean where target pixels are larger, nearest for quality; radar is in linear power by then. Where the
    files lie is read from the files: the catalog's word for it is not used.

    Parameters
    ----------
    items
        At least one, in order of precedence.
    geobox
        Grid wanted.
    scratch
        Folder for virtual and converted rasters; the caller removes it.
    rows
        Rows at once; None: as many as :data:`BUDGET` allows.

    Yields
    ------
    First row; float32 (band, rows, x) in working units, NaN where not valid in any band; uint8 (rows, x) of `Quality`
    codes, or None where no item has a quality layer.

    Raises
    ------
    CatalogError
        If a file cannot be read, has no position, or contradicts its unit.
    """
    prepared = [_prepare(item, geobox, scratch / f"{number}") for number, item in enumerate(items)]
    rows = rows or min(ROWS, max(16, BUDGET // (geobox.shape[1] * len(items[0].bands))))
    lazy = [_lazy(item, geobox, rows=rows) for item in prepared]
    has_quality = any(item.quality is not None for item in prepared)
    for row in range(0, geobox.shape[0], rows):
        chosen = slice(row, min(row + rows, geobox.shape[0]))
        out = np.full((len(items[0].bands), chosen.stop - row, geobox.shape[1]), np.nan, dtype=np.float32)
        codes = np.full(out.shape[1:], Quality.UNKNOWN, dtype=np.uint8)
        for item, (data, quality) in zip(prepared, lazy, strict=True):
            values, found = _computed(item, data, quality, chosen)
            free = np.isnan(out[0])
            out[:, free] = values[:, free]
            # A place that is in no picture yet takes even the bad news of this one.
            codes[free] = found[free]
        yield row, out, codes if has_quality else None


def _computed(
    item: _Prepared, data: xr.Dataset, quality: xr.DataArray | None, rows: slice
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    window = {data.odc.geobox.dimensions[0]: rows}
    try:
        numbers, marks = dask.base.compute(
            data.isel(window), None if quality is None else quality.isel(window), scheduler="threads"
        )  # fmt: skip
    except (RasterioError, OSError, RuntimeError) as error:
        raise CatalogError(
            f"item '{item.item.id}': found pixel data that cannot be read ({' '.join(str(error).split())[:200]}); "
            "wanted complete rasters; delete its files to fetch them again"
        ) from error
    values = np.stack([band.to_working(numbers[f"b{i}"].values) for i, band in enumerate(item.bands)])
    invalid = ~np.isfinite(values).all(axis=0)
    if item.bands[0].is_backscatter:
        invalid |= (values == 0).any(axis=0)  # border fill: no surface returns exactly nothing
    if item.quality is None or marks is None:
        codes = np.where(invalid, Quality.UNUSABLE, Quality.UNKNOWN).astype(np.uint8)
    else:
        codes = decode_quality(marks.values, item.quality)
        codes[invalid & (codes == Quality.CLEAR)] = Quality.UNUSABLE
        invalid |= codes == Quality.UNUSABLE
    values[:, invalid] = np.nan
    return values, codes


def _lazy(prepared: _Prepared, geobox: GeoBox, *, rows: int) -> tuple[xr.Dataset, xr.DataArray | None]:
    from odc.stac import load  # a second to import, which the command line's help need not wait for

    chunks: dict[str, int | Literal["auto"]] = {"x": COLUMNS, "y": rows}
    names = [f"b{i}" for i in range(len(prepared.bands))]
    data = load(
        [prepared.item], bands=names, geobox=geobox, chunks=chunks, resampling=prepared.resampling, dtype="float32",
        nodata=float("nan"),
    ).isel(time=0)  # fmt: skip
    if prepared.quality is None:
        return data, None
    marks = load(
        [prepared.item], bands=["quality"], geobox=geobox, chunks=chunks, resampling="nearest", dtype="uint16",
        nodata=_FILL.get(prepared.quality, 0),
    ).isel(time=0)  # fmt: skip
    return data, marks["quality"]


def _prepare(local: LocalItem, geobox: GeoBox, scratch: Path) -> _Prepared:
    """Describe the files anew, by what they themselves say, one virtual raster a band."""
    scratch.mkdir(parents=True)
    outline, files, bands, resampling = None, {}, [], {}
    for number, source in enumerate(local.bands):
        grid, path, band = prepare_band(source, scratch / f"b{number}")
        files[f"b{number}"], extent = (
            path,
            grid.extent.to_crs("EPSG:4326", resolution=grid.extent.boundingbox.span_x / 16),
        )
        outline = extent if outline is None else outline | extent
        bands.append(band)
        pixel = _pixel_size(grid, geobox)
        resampling[f"b{number}"] = "average" if geobox.resolution.x >= AVERAGE_FROM * pixel else "bilinear"
    if local.quality is not None:
        path, index, fill = local.quality[0], local.quality[1], _FILL.get(local.quality[2])
        with open_asset(path) as raster:
            files["quality"] = virtual_band(raster, index, scratch / "quality.vrt", nodata=fill)
    outline = cast(Geometry, outline).buffer(1e-3)  # 100 m: an outline of straight lines in degrees cuts corners
    item = pystac.Item(
        id=local.id, geometry=outline.json, bbox=list(outline.boundingbox), datetime=local.acquired, properties={}
    )  # fmt: skip
    for key, path in files.items():
        item.add_asset(key, pystac.Asset(str(path), media_type="image/tiff", roles=["data"]))
    scheme = None if local.quality is None else local.quality[2]
    return _Prepared(item=item, bands=tuple(bands), resampling=resampling, quality=scheme)


def _pixel_size(grid: GeoBox, target: GeoBox) -> float:
    """Pixel size of a file's grid, in units of the target's CRS."""
    same = grid if target.crs is None or grid.crs == target.crs else grid.to_crs(target.crs)
    return float(abs(same.affine.determinant) ** 0.5)
