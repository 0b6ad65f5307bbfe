"""Virtual mosaic: rasters of one pixel lattice as one, in a small file that names them and copies nothing."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import SubElement

from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from ...datasets.product import quiet_open
from ..errors import PipelineError
from ..raster_kind import category_tags
from ..run_folder import write_text

#: Two rasters lie on one lattice where their pixels are shifted by whole pixels, up to this part of one.
TOLERANCE_PX = 1e-3

#: numpy's names of data types -> GDAL's.
_GDAL_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "float32": "Float32", "float64": "Float64",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Bands:
    """What rasters must have in common to be one."""

    dtypes: tuple[str, ...]
    nodata: tuple[str, ...]  # as text: NaN is not equal to itself
    descriptions: tuple[str | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    palette: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class _Header:
    path: Path
    geobox: GeoBox
    bands: _Bands
    tags: dict[str, str]
    block: tuple[int, int]


def write_virtual_mosaic(path: Path, rasters: Sequence[Path]) -> Path:
    """Write a VRT over rasters that lie on one lattice; it opens wherever the folder of both is moved to.

    Its grid is the bounding box of the rasters. Where none of them has a value there is nodata; where they overlap,
    the last one that has a value counts. Data types, nodata, scales, band names and palette are those of the rasters,
    tags those that all of them share. Values that tags name (``class_<value>``) are named to GDAL too.

    Parameters
    ----------
    path
        Target; rasters are named relative to its folder.
    rasters
        At least one; all of one CRS, pixel size and orientation, shifted against each other by whole pixels.

    Raises
    ------
    PipelineError
        If there is none, one does not open, or they do not fit together.
    """
    if not rasters:
        raise PipelineError(f"{path}: found no raster to make it of; wanted at least one; map something first")
    headers = [_read_header(raster) for raster in rasters]
    places = [_place(header, headers[0]) for header in headers]
    left, top = min(col for col, _ in places), min(row for _, row in places)
    right = max(col + header.geobox.shape[1] for (col, _), header in zip(places, headers, strict=True))
    bottom = max(row + header.geobox.shape[0] for (_, row), header in zip(places, headers, strict=True))
    root = ElementTree.Element("VRTDataset", rasterXSize=str(right - left), rasterYSize=str(bottom - top))
    grid = headers[0].geobox
    if grid.crs is not None:
        SubElement(root, "SRS").text = grid.crs.to_wkt()
    x, y = grid.affine * (left, top)
    a, b, _, d, e, _ = grid.affine[:6]
    SubElement(root, "GeoTransform").text = ", ".join(repr(float(value)) for value in (x, a, b, y, d, e))
    tags = dict(sorted(set.intersection(*(set(header.tags.items()) for header in headers))))
    metadata = SubElement(root, "Metadata")
    for key, value in tags.items():
        SubElement(metadata, "MDI", key=key).text = value
    for number in range(1, len(headers[0].bands.dtypes) + 1):
        band = _band(root, headers[0].bands, number, tags=tags)
        for header, (col, row) in zip(headers, places, strict=True):
            _source(band, header, number, place=(col - left, row - top), folder=path.parent)
    ElementTree.indent(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, ElementTree.tostring(root, encoding="unicode") + "\n")
    return path


def _read_header(path: Path) -> _Header:
    try:
        with quiet_open(path) as source:
            palette: Any = source.colormap(1) if source.colorinterp[0] == ColorInterp.palette else {}
            return _Header(
                path=path, geobox=GeoBox(source.shape, source.transform, source.crs), block=source.block_shapes[0],
                tags={key: value for key, value in source.tags().items() if key != "AREA_OR_POINT"},
                bands=_Bands(
                    dtypes=source.dtypes, nodata=tuple(_number(value) for value in source.nodatavals),
                    descriptions=source.descriptions, scales=source.scales, offsets=source.offsets,
                    palette=tuple(palette[value] for value in sorted(palette)),
                ),
            )  # fmt: skip
    except (RasterioError, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"{path}: found a raster that does not open ({text}); wanted a complete map; map its unit again"
        ) from error


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{int(value)}" if float(value).is_integer() else repr(float(value))


def _place(header: _Header, first: _Header) -> tuple[int, int]:
    """Return column and row of a raster on the first one's lattice; raise if it does not fit to the first."""
    mine, other = header.geobox, first.geobox
    if mine.crs != other.crs:
        raise _unfit(header, first, f"CRS {_crs_words(mine)}", _crs_words(other))
    relative = ~other.affine * mine.affine
    extent = max(mine.shape)
    straight = (relative.a - 1, relative.b, relative.d, relative.e - 1)
    if max(abs(value) for value in straight) * extent > TOLERANCE_PX:
        raise _unfit(header, first, f"pixels {tuple(mine.affine)[:6]}", f"those of {tuple(other.affine)[:6]}")
    col, row = round(relative.c), round(relative.f)
    if max(abs(relative.c - col), abs(relative.f - row)) > TOLERANCE_PX:
        raise _unfit(header, first, f"a shift of {relative.c:g}, {relative.f:g} px", "whole pixels")
    if header.bands != first.bands:
        name = next(key for key in vars(first.bands) if getattr(header.bands, key) != getattr(first.bands, key))
        raise _unfit(header, first, f"other {name} ({getattr(header.bands, name)})"[:200], "the same")
    return col, row


def _crs_words(grid: GeoBox) -> str:
    code = None if grid.crs is None else grid.crs.epsg
    return f"EPSG:{code}" if code else str(grid.crs)[:80]


def _unfit(header: _Header, first: _Header, found: str, wanted: str) -> PipelineError:
    return PipelineError(
        f"{header.path}: found {found}; wanted {wanted}, as {first.path} has; only maps of one lattice and kind make a "
        "mosaic: mosaic them apart"
    )


def _band(root: ElementTree.Element, bands: _Bands, number: int, *, tags: dict[str, str]) -> ElementTree.Element:
    band = SubElement(root, "VRTRasterBand", dataType=_GDAL_TYPES[bands.dtypes[number - 1]], band=str(number))
    for element, text in _properties(bands, number - 1):
        SubElement(band, element).text = text
    if number == 1 and bands.palette:
        table = SubElement(band, "ColorTable")
        for entry in bands.palette:
            SubElement(table, "Entry", {f"c{part}": str(value) for part, value in enumerate(entry, start=1)})
    if number == 1 and (names := category_tags(tags)):
        categories = SubElement(band, "CategoryNames")
        for value in range(max(names) + 1):
            SubElement(categories, "Category").text = names.get(value, "")
    return band


def _properties(bands: _Bands, position: int) -> Iterator[tuple[str, str]]:
    if description := bands.descriptions[position]:
        yield "Description", description
    if nodata := bands.nodata[position]:
        yield "NoDataValue", nodata
    if (scale := bands.scales[position]) != 1:
        yield "Scale", repr(scale)
    if offset := bands.offsets[position]:
        yield "Offset", repr(offset)
    yield "ColorInterp", "Palette" if bands.palette and position == 0 else "Gray"


def _source(band: ElementTree.Element, header: _Header, number: int, *, place: tuple[int, int], folder: Path) -> None:
    """Add a raster to a band; its own nodata does not cover what another one has there."""
    nodata = header.bands.nodata[number - 1]
    source = SubElement(band, "ComplexSource" if nodata else "SimpleSource")
    name = Path(os.path.relpath(header.path, folder)).as_posix()
    SubElement(source, "SourceFilename", relativeToVRT="1").text = name
    SubElement(source, "SourceBand").text = str(number)
    height, width = header.geobox.shape
    # What GDAL would open every raster for otherwise, as soon as the mosaic is opened.
    SubElement(
        source, "SourceProperties", RasterXSize=str(width), RasterYSize=str(height),
        DataType=_GDAL_TYPES[header.bands.dtypes[number - 1]], BlockXSize=str(header.block[1]),
        BlockYSize=str(header.block[0]),
    )  # fmt: skip
    SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=str(width), ySize=str(height))
    SubElement(source, "DstRect", xOff=str(place[0]), yOff=str(place[1]), xSize=str(width), ySize=str(height))
    if nodata:
        SubElement(source, "NODATA").text = nodata
