"""STAC Item of a scene: all of its maps with their grids, bands, classes and checksums, and the model behind them."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from .errors import PipelineError
from .run_folder import write_text

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"

#: Extensions whose fields the items carry; bands are those of STAC 1.1 itself.
EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "raster/v2.0.0", "classification/v2.0.0", "file/v2.1.0", "processing/v1.2.0")
)
MODEL_EXTENSION = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"


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
class ModelSource:
    """The model that maps were made with, as its own folder says.

    Attributes
    ----------
    folder
        Holds weights and card.
    digest
        Hash of its files.
    network
        The network's description, plain values.
    modalities
        Name -> names of its bands.
    classes
        Value -> name, in the order of the network's outputs.
    parameters
        Number of its weights.
    """

    folder: Path
    digest: str
    network: Mapping[str, Any]
    modalities: Mapping[str, Sequence[str]]
    classes: Mapping[int, str]
    parameters: int


def write_item(path: Path, stack: AlignedStack, maps: Sequence[MapAsset], *, model: ModelSource | None) -> Path | None:
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
        For the fields of the MLM extension; None leaves them out.

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
        "processing:lineage": "Mapped by a network from " + ", ".join(stack.present) + " on one grid"
        + "".join(f"; {name} missing: {why}" for name, why in stack.missing.items()),
    }  # fmt: skip
    extensions = list(EXTENSIONS)
    if model is not None:
        properties |= _model_fields(model)
        assets["model"] = _model_asset(model, path.parent)
        extensions.append(MODEL_EXTENSION)
    record = {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": extensions, "id": stack.name,
        "geometry": json.loads(shapely.to_geojson(outline)),
        "bbox": [round(value, 7) for value in outline.bounds], "properties": properties, "links": [], "assets": assets,
    }  # fmt: skip
    write_text(path, json.dumps(record, indent=2))
    _verify(path, record)
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
    bands: list[dict[str, Any]] = []
    for name, scale, nodata, kind in zip(
        source.descriptions, source.scales, source.nodatavals, source.dtypes, strict=True
    ):
        missing = "nan" if nodata is not None and nodata != nodata else nodata
        band = {"name": name, "data_type": kind, "nodata": int(missing) if isinstance(missing, float) else missing}
        bands.append(band | ({"raster:scale": scale, "raster:offset": 0} if scale != 1 else {}))
    record = {
        "href": f"./{item.path.name}", "type": _COG, "title": item.title, "roles": ["data"], "bands": bands,
        "proj:shape": list(source.shape), "proj:transform": list(source.transform)[:6],
        "raster:spatial_resolution": abs(source.transform.a), "file:size": item.path.stat().st_size,
        "file:checksum": _multihash(item.path),
    }  # fmt: skip
    if item.classes:
        record["classification:classes"] = [
            {"value": value, "name": _slug(name), "title": name, "color_hint": "".join(f"{x:02X}" for x in colour)}
            for value, (name, colour) in item.classes.items()
        ]
    return record


def _multihash(path: Path) -> str:
    """Return the SHA-256 of a file as the file extension writes it: code and length of the hash before it."""
    with path.open("rb") as stream:
        return "1220" + hashlib.file_digest(stream, "sha256").hexdigest()


def _slug(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z_-]+", "_", name).strip("_") or "class"


def _model_fields(model: ModelSource) -> dict[str, Any]:
    import torch

    network, dims = model.network, ["batch", "bands", "height", "width"]
    return {
        "mlm:name": f"equipoise-{model.digest}",
        "mlm:architecture": f"{network['kind']} network, encoder {network['encoder']}, depth {network['depth']}, "
        f"fusion {network['fusion']}",
        "mlm:tasks": ["semantic-segmentation"], "mlm:framework": "pytorch", "mlm:framework_version": torch.__version__,
        "mlm:total_parameters": model.parameters,
        "mlm:input": [
            {"name": name, "bands": list(bands), "input": {
                "shape": [-1, len(bands), -1, -1], "dim_order": dims, "data_type": "float32"}}
            for name, bands in model.modalities.items()
        ],
        "mlm:output": [
            {"name": "classes", "tasks": ["semantic-segmentation"], "result": {
                "shape": [-1, len(model.classes), -1, -1], "dim_order": dims, "data_type": "float32"},
             "classification:classes": [
                 {"value": value, "name": _slug(name), "title": name} for value, name in model.classes.items()]}
        ],
    }  # fmt: skip


def _model_asset(model: ModelSource, folder: Path) -> dict[str, Any]:
    weights = model.folder / "model.safetensors"
    return {
        "href": os.path.relpath(weights, folder), "type": "application/octet-stream", "title": "weights",
        "roles": ["mlm:model", "mlm:weights"], "mlm:artifact_type": "safetensors.torch.save",
        "file:size": weights.stat().st_size, "file:checksum": _multihash(weights),
    }  # fmt: skip


def _verify(path: Path, record: Mapping[str, Any]) -> None:
    import pystac  # half a second to import

    try:
        item = pystac.Item.from_file(str(path))
        again = item.to_dict(include_self_link=False, transform_hrefs=False)
    except Exception as error:
        raise PipelineError(
            f"{path}: found no STAC item ({error}); wanted one; this is a fault of Equipoise"
        ) from error
    differ = sorted(key for key in record if again.get(key) != record[key])
    if differ:
        raise PipelineError(
            f"{path}: found other {', '.join(differ)} when it was read again; wanted what was written; run again"
        )
