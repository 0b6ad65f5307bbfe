"""STAC Item of a scene: all of its maps with their grids, bands, classes and checksums, and the model behind them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import shapely
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader
from shapely.geometry.polygon import orient

from .. import __version__
from ..datasets.patches import footprint
from ..datasets.product import quiet_open
from ..datasets.stack import AlignedStack
from .run_folder import write_text
from .stac_asset import COG, EXTENSION_OF, class_fields, file_fields, raster_fields
from .stac_check import check_written
from .stac_model import ModelSource, model_asset, model_fields

#: Extensions whose fields the items carry; bands are those of STAC 1.1 itself.
EXTENSIONS = tuple(EXTENSION_OF[name] for name in ("proj", "raster", "classification", "file", "processing"))


@dataclass(frozen=True, kw_only=True)
class MapAsset:
    """A map that an item lists.

    Attributes
    ----------
    path
        COG.
    title
        What it is, in words.
    classes
        Value -> (name, (red, green, blue)) of a map of classes; empty for others.
    """

    path: Path
    title: str
    classes: Mapping[int, tuple[str, tuple[int, int, int]]]


@dataclass(frozen=True, kw_only=True)
class ItemPlace:
    """Where an item belongs, and what it was made of.

    Attributes
    ----------
    collection
        Identifier of its collection.
    links
        To root, parent, collection, model and sources; each with ``rel`` and ``href``, which is relative to the place
        where the item will lie.
    properties
        What else is to be said of it.
    """

    collection: str
    links: Sequence[Mapping[str, str]]
    properties: Mapping[str, Any] = field(default_factory=dict)


def write_item(
    path: Path,
    stack: AlignedStack,
    maps: Sequence[MapAsset],
    *,
    model: ModelSource | None,
    place: ItemPlace | None = None,
) -> Path | None:
    """Write the item of a scene, read it again with pystac, and return its path; None for a scene without a position.

    The item's time is that of the acquisitions (from the first to the last); where no product told one, that of
    writing, and the description says so.

    Parameters
    ----------
    path
        JSON file beside the maps.
    stack
        The scene.
    maps
        What to list, in order; the first gives the outline.
    model
        For the fields of the MLM extension; None leaves them out, as is right where the model has an item of its own.
    place
        Collection and links; None: the item stands alone.

    Raises
    ------
    PipelineError
        If what was written is not an item.
    """
    assets = {}
    for item in maps:
        with quiet_open(item.path) as source:
            if source.crs is None:
                return None
            assets[item.path.name.removeprefix(f"{stack.name}.").removesuffix(".tif")] = _asset(source, item)
    with quiet_open(maps[0].path) as source:
        grid = GeoBox(source.shape, source.transform, source.crs)
    outline = _outline(grid)
    properties = {
        **_times(stack), **_projection(grid), "processing:software": {"equipoise": __version__},
        "processing:level": "L4",  # of what models say, as the MLM extension recommends
        "processing:lineage": "Mapped by a network from " + ", ".join(stack.present) + " on one grid"
        + "".join(f"; {name} missing: {why}" for name, why in stack.missing.items()),
    }  # fmt: skip
    extensions = list(EXTENSIONS)
    if model is not None:
        properties |= model_fields(model)
        assets["model"] = model_asset(model, path.parent)
        extensions.append(EXTENSION_OF["mlm"])
    record = {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": extensions, "id": stack.name,
        "geometry": json.loads(shapely.to_geojson(outline)),
        "bbox": [round(value, 7) for value in outline.bounds], "properties": properties, "links": [], "assets": assets,
    }  # fmt: skip
    if place is not None:
        properties |= place.properties
        record |= {"links": [dict(link) for link in place.links], "collection": place.collection}
    write_text(path, json.dumps(record, indent=2))
    check_written(path, record)
    return path


def _outline(grid: GeoBox) -> shapely.Geometry:
    """Return the outline in longitude and latitude, about a centimetre fine, as GeoJSON wants it (RFC 7946)."""
    rounded = shapely.set_precision(footprint(grid), 1e-7)
    parts = [orient(part) for part in shapely.get_parts(rounded)]  # outer rings go counterclockwise
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _times(stack: AlignedStack) -> dict[str, Any]:
    known = (_moment(text) for name, text in stack.acquired.items() if name in stack.present)
    times = sorted(moment for moment in known if moment is not None)
    if not times:
        now = datetime.now(UTC)
        return {"datetime": _text(now), "description": "No product told its time: the item's is that of processing."}
    if times[0] == times[-1]:
        return {"datetime": _text(times[0])}
    return {"datetime": None, "start_datetime": _text(times[0]), "end_datetime": _text(times[-1])}


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None  # a time that only its product understands
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _projection(grid: GeoBox) -> dict[str, Any]:
    assert grid.crs is not None  # noqa: S101 (for the type checker)
    code = None if grid.crs.epsg is None else f"EPSG:{grid.crs.epsg}"
    return {"proj:code": code} | ({} if code else {"proj:wkt2": grid.crs.to_wkt()})


def _asset(source: DatasetReader, item: MapAsset) -> dict[str, Any]:
    record = {"href": f"./{item.path.name}", "type": COG, "title": item.title, "roles": ["data"],
              **raster_fields(source), **file_fields(item.path)}  # fmt: skip
    return record | ({"classification:classes": class_fields(item.classes)} if item.classes else {})
