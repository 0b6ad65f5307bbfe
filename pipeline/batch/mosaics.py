"""Mosaics of a batch run: the maps of a region's units as one virtual raster and as one COG, cut to the region."""

import hashlib
import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from shapely.geometry.base import BaseGeometry

from ...datasets.ledger import safe_name
from ...datasets.patches import footprint
from ...datasets.product import quiet_open
from ...datasets.raster import TILE, cog_writer
from ..errors import PipelineError
from ..map_files import category_names
from ..qgis_style import write_map_style, write_style
from ..raster_kind import category_tags
from ..run_folder import fingerprint, write_text
from .outlines import inside, outline_on
from .virtual_mosaic import write_virtual_mosaic

#: Maps of a unit that make mosaics, in order.
MAPS = ("classes", "confidence", "reliance", "trust", "quality")

#: Those whose pixels are tiles: a tile belongs to every region that it meets.
TILED = frozenset({"reliance", "trust", "quality"})

#: Those whose values are names: they have no mean.
NAMED = frozenset({"classes", "trust"})

#: Pieces that GDAL holds open at once: each takes a MiB or so, and a strip is read from left to right.
OPEN_PIECES = 16

#: What a mosaic may be written as: suffix by kind.
KINDS = {"vrt": ".vrt", "cog": ".tif"}


@dataclass(frozen=True, kw_only=True)
class _Mosaic:
    """A map of a region in one CRS, and the files that it is made of."""

    target: Path
    kind: str
    pieces: Sequence[Path]
    inputs: Sequence[Sequence[Any]]


def write_mosaics(
    out: Path, units: pd.DataFrame, region: str, *, outline: BaseGeometry | None, kinds: Collection[str]
) -> list[Path]:
    """Write the mosaics of a region, one a map and CRS, and return them.

    ``regions/<region>.<epsg>.<map>.vrt`` is made of the units' maps as they are; ``.tif`` is a COG of the same grid,
    the bounding box of those units, cut to the region's outline: it has the pixels whose centre lies within, and, of
    the maps of tiles, every tile that meets it. Beside COGs lie styles for QGIS, and beside maps of classes GDAL's
    names of the values.

    A mosaic that was made of the same files for the same outline is not written again. A COG is written in strips of
    256 rows. Memory is that of a strip (256 px x width x bands x data type, twice), of :data:`OPEN_PIECES` open maps,
    of GDAL's cache of blocks (``GDAL_CACHEMAX``) and some kB a unit, whatever the height. Until a COG is complete, it
    needs the disk space of its pixels before compression as well.

    Parameters
    ----------
    out
        The run's folder.
    units
        Rows of the ledger, columns ``name``, ``crs``, ``regions``, ``state`` and ``record``; only those that are
        ``done`` and of this region count.
    region
        Name, as in the ledger; any text without a line break.
    outline
        Polygons in longitude and latitude (WGS 84); None: COGs are not cut.
    kinds
        ``vrt``, ``cog`` or both.

    Raises
    ------
    PipelineError
        If a kind is unknown, or the maps of one CRS do not lie on one lattice.
    """
    if unknown := set(kinds) - set(KINDS):
        raise PipelineError(f"found mosaics as {sorted(unknown)}; wanted {', '.join(KINDS)}; correct the option")
    written = []
    for mosaic in _planned(out, units, region):
        virtual, cog = (mosaic.target.with_name(mosaic.target.name + KINDS[kind]) for kind in ("vrt", "cog"))
        if "vrt" in kinds:
            written.append(virtual)
            if not _finished(virtual, mark := fingerprint(inputs=mosaic.inputs)):
                write_virtual_mosaic(virtual, mosaic.pieces)
                with quiet_open(virtual) as source:
                    _style(virtual, source, kind=mosaic.kind)
                _note(virtual, mark)
        if "cog" in kinds:
            written.append(cog)
            shape = None if outline is None else hashlib.sha256(outline.wkb).hexdigest()
            if not _finished(cog, mark := fingerprint(inputs=mosaic.inputs, outline=shape)):
                _write_cog(cog, mosaic, outline)
                _note(cog, mark)
    return written


def _planned(out: Path, units: pd.DataFrame, region: str) -> list[_Mosaic]:
    """Return the mosaics that there are units for; their files are known from the units' records."""
    found: dict[tuple[str, str], list[tuple[Path, list[Any]]]] = {}
    for row in units.sort_values("name").itertuples():
        if row.state != "done" or region not in str(row.regions).split("\n"):
            continue
        files = json.loads(str(row.record))["files"]
        for kind in MAPS:
            if (name := f"{row.name}.{kind}.tif") in files:
                found.setdefault((str(row.crs), kind), []).append(
                    (out / "units" / str(row.name) / name, [name, *files[name]])
                )
    return [
        _Mosaic(
            target=out / "regions" / f"{safe_name(region)}.{_label(crs)}.{kind}", kind=kind,
            pieces=[path for path, _ in parts], inputs=[record for _, record in parts],
        )
        for (crs, kind), parts in sorted(found.items(), key=lambda item: (item[0][0], MAPS.index(item[0][1])))
    ]  # fmt: skip


def _label(crs: str) -> str:
    """Return a CRS as a part of a file name: its EPSG code, or a hash of its text where it has none."""
    code = CRS(crs).epsg
    return str(code) if code else f"crs{hashlib.sha256(crs.encode()).hexdigest()[:8]}"


def _finished(path: Path, mark: str) -> bool:
    with suppress(OSError, ValueError, TypeError, KeyError):  # no mark, or a damaged one: write it again
        known = json.loads(_mark(path).read_text(encoding="utf-8"))
        return bool(known["fingerprint"] == mark and known["size"] == path.stat().st_size)
    return False


def _note(path: Path, mark: str) -> None:
    write_text(_mark(path), json.dumps({"fingerprint": mark, "size": path.stat().st_size}))


def _mark(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _write_cog(path: Path, mosaic: _Mosaic, outline: BaseGeometry | None) -> None:
    virtual = path.with_name(f".{path.name}.vrt")
    try:
        write_virtual_mosaic(virtual, mosaic.pieces)
        with rasterio.Env(GDAL_MAX_DATASET_POOL_SIZE=OPEN_PIECES), quiet_open(virtual) as source:
            names = _copy(source, path, outline, kind=mosaic.kind)
            _style(path, source, kind=mosaic.kind)
    finally:
        virtual.unlink(missing_ok=True)
    if names:
        write_text(path.with_name(f"{path.name}.aux.xml"), category_names(names))


def _style(path: Path, source: DatasetReader, *, kind: str) -> None:
    """Write the style of a mosaic; COG and virtual raster of one name share it."""
    names, colours = category_tags(source.tags()) if kind in NAMED else {}, _palette(source)
    if names:
        write_style(path, names, colours={value: colours.get(value, (0, 0, 0)) for value in names})
    else:
        write_map_style(path, kind, bands=source.count)


def _copy(source: DatasetReader, path: Path, outline: BaseGeometry | None, *, kind: str) -> dict[int, str]:
    """Copy what lies within an outline, strip by strip; return the names of the map's values."""
    grid = GeoBox(source.shape, source.transform, source.crs)
    kept_shape = None
    if outline is not None and grid.crs is not None:
        kept_shape = outline_on(outline, grid.crs, near=footprint(grid))
    tags = {key: value for key, value in source.tags().items() if key != "AREA_OR_POINT"}
    with cog_writer(
        path, grid, count=source.count, dtype=source.dtypes[0], nodata=source.nodata, tags=tags,
        overview_resampling="mode" if kind in NAMED else "average", colours=_palette(source) or None,
        descriptions=[text or "" for text in source.descriptions],
    ) as writer:  # fmt: skip
        writer.scales, writer.offsets = source.scales, source.offsets
        for top in range(0, source.height, TILE):
            bottom = min(top + TILE, source.height)
            window = ((top, bottom), (0, source.width))
            values = source.read(window=window)
            if kept_shape is not None:
                kept = inside(kept_shape, grid[top:bottom, :], touched=kind in TILED)
                values[:, ~kept] = source.nodata  # every map of a unit has one
            writer.write(values, window=window)
    return category_tags(tags) if kind in NAMED else {}


def _palette(source: DatasetReader) -> dict[int, tuple[int, int, int]]:
    """Return the colours of a map; its nodata value has none."""
    if source.colorinterp[0] != ColorInterp.palette:
        return {}
    return {value: entry[:3] for value, entry in source.colormap(1).items() if value != source.nodata}
