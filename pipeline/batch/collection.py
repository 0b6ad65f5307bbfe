"""STAC of a batch run: one collection of all units, and an item of the model; plain files, each link relative."""

import hashlib
import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from ...datasets.product import quiet_open
from ..errors import PipelineError
from ..run_folder import write_text
from ..stac_asset import EXTENSION_OF, GEOJSON, MEDIA_TYPES, file_fields, raster_fields
from ..stac_check import check_written
from ..stac_model import ModelSource, model_name, write_model_item
from .item_place import COLLECTION, model_path

#: File by which clients that want a catalog find the collection.
CATALOG = "catalog.json"

#: What is said of every item's asset of a name: all but what differs from file to file.
_SHARED = ("title", "type", "roles", "bands", "classification:classes")


class FinishedUnit(Protocol):
    """What is asked of a unit: a row of the ledger."""

    @property
    def name(self) -> str:
        """Of its folder and its item."""

    @property
    def record(self) -> Mapping[str, Any] | None:
        """Its ``unit.json``; None where it is not done."""


def write_collection(
    out: Path,
    *,
    name: str,
    rows: Iterable[FinishedUnit],
    model: ModelSource,
    regions: Mapping[str, Sequence[float]],
    files: Mapping[Path, str],
    title: str | None = None,
    description: str | None = None,
    licence: str = "other",
) -> list[Path]:
    """Write ``collection.json``, the model's item and a catalog of the collection alone; return them.

    Items are read one after the other and compared with the hash in their record; of each, a link is kept. A unit costs
    less than 0.22 kB of the file and 2 kB of memory, and 10 000 of them some seconds (2000 in
    ``tests/3_pipeline/test_collection.py``). Clients read an item when they come to it: whoever asks all units at once
    asks the ledger.

    Parameters
    ----------
    out
        Folder of the run.
    name
        Identifier of the collection, as the items have it.
    rows
        Units of the ledger, which is not being written any more; those that are not done are passed over.
    model
        What the maps were made with.
    regions
        Name -> west, south, east, north in degrees; empty where whole scenes were mapped.
    files
        What else lies under ``out`` -> what it is, in words: maps of regions (GeoTIFF, VRT), summaries, ledger, report.
    title, description, licence
        Of the collection; ``licence`` is an SPDX identifier, or ``other``.

    Raises
    ------
    PipelineError
        If no unit is done, an item is missing, changed or of another collection, or what was written is no collection.
    """
    members = _Members()
    for row in rows:
        if row.record is not None and row.record.get("state") == "done":
            members.add(row.name, _read_item(out, row.name, row.record, collection=name))
    if not members.names:
        raise PipelineError(f"{out}: found no unit that is done; wanted one at least; see the ledger for the reasons")
    path = out / COLLECTION
    written = write_model_item(out / model_path(model.digest), model, collection=path)
    record = _record(
        members, id=name, title=title, license=licence, extent=members.extent(regions), assets=_assets(out, files),
        description=description or _description(members, model, regions), keywords=_keywords(model, regions),
        links=[*_links(members.names, model)],
    )  # fmt: skip
    write_text(path, json.dumps(record, indent=1))
    check_written(path, record)
    return [path, written, _write_catalog(out / CATALOG, name)]


def _write_catalog(path: Path, name: str) -> Path:
    """Write a catalog of the one collection: there are clients that begin with nothing else."""
    record = {
        "type": "Catalog", "stac_version": "1.1.0", "id": f"{name}-catalog", "description": f"Catalog of {name}.",
        "links": [{"rel": "root", "href": f"./{CATALOG}", "type": MEDIA_TYPES[".json"]},
                  {"rel": "child", "href": f"./{COLLECTION}", "type": MEDIA_TYPES[".json"], "title": name}],
    }  # fmt: skip
    write_text(path, json.dumps(record, indent=1))
    return path


def _record(members: "_Members", **fields: Any) -> dict[str, Any]:
    """Return the collection as pystac writes it; the extensions are those of the fields that occur."""
    import pystac  # half a second to import

    codes = {"summaries": {"proj:code": sorted(members.codes)}} if members.codes else {}
    given = {"type": "Collection", "stac_version": "1.1.0", **fields, **codes, "item_assets": members.assets}
    if given["title"] is None:
        del given["title"]
    prefixes = sorted({key.partition(":")[0] for key in _keys(given)} & EXTENSION_OF.keys())
    given["stac_extensions"] = [EXTENSION_OF[prefix] for prefix in prefixes]
    return pystac.Collection.from_dict(given).to_dict(include_self_link=False, transform_hrefs=False)


@dataclass(kw_only=True)
class _Members:
    """What the collection says of its items, gathered one by one."""

    names: list[str] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, item: Mapping[str, Any]) -> None:
        """Take what is needed of an item."""
        self.names.append(name)
        west, south, east, north = item["bbox"]
        known = self.bounds or item["bbox"]
        self.bounds = [min(known[0], west), min(known[1], south), max(known[2], east), max(known[3], north)]
        times = item["properties"]
        ends = (times["datetime"] or times["start_datetime"], times["datetime"] or times["end_datetime"])
        moments = [*self.times, *(datetime.fromisoformat(text) for text in ends)]
        self.times = [min(moments), max(moments)]
        self.codes |= {times["proj:code"]} if times.get("proj:code") else set()
        for key, asset in item["assets"].items():
            self.assets.setdefault(key, {part: asset[part] for part in _SHARED if part in asset})

    def extent(self, regions: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """Return the extent: all items first; then, where there are several regions, what lies in each."""
        west, south, east, north = self.bounds
        parts = [
            [max(box[0], west), max(box[1], south), min(box[2], east), min(box[3], north)] for box in regions.values()
        ]
        inside = [[round(value, 7) for value in box] for box in parts if box[0] < box[2] and box[1] < box[3]]
        boxes = [self.bounds, *(inside if len(inside) > 1 else [])]
        interval = [time.isoformat().replace("+00:00", "Z") for time in self.times]
        return {"spatial": {"bbox": boxes}, "temporal": {"interval": [interval]}}


def _read_item(out: Path, unit: str, record: Mapping[str, Any], *, collection: str) -> dict[str, Any]:
    path = out / "units" / unit / f"{unit}.json"
    advice = f"wanted the one that was written with the maps; remove {path.parent} and run again"
    try:
        content = path.read_bytes()
        item: dict[str, Any] = json.loads(content)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: found no readable item ({error}); {advice}") from error
    known = record.get("files", {}).get(path.name)
    if known is not None and known[1] != hashlib.sha256(content).hexdigest():
        raise PipelineError(f"{path}: found an item that was changed; {advice}")
    if item.get("collection") != collection:
        raise PipelineError(
            f"{path}: found an item of collection {item.get('collection')!r}, not {collection!r}; {advice}"
        )
    return item


def _assets(out: Path, files: Mapping[Path, str]) -> dict[str, dict[str, Any]]:
    """Return an asset a file, by its name; by its way from ``out`` where two have the same name."""
    names = Counter(path.name for path in files)
    ways = {path: path.relative_to(out).as_posix() for path in files}
    return {path.name if names[path.name] == 1 else ways[path]: _asset(path, ways[path], title)
            for path, title in files.items()}  # fmt: skip


def _asset(path: Path, way: str, title: str) -> dict[str, Any]:
    raster, journal = path.suffix in (".tif", ".vrt"), path.with_name(f"{path.name}-wal")
    kind = {"type": MEDIA_TYPES[path.suffix]} if path.suffix in MEDIA_TYPES else {}
    record = {"href": f"./{way}", "title": title, **kind, "roles": ["data" if raster else "metadata"]}
    # What is still in the journal of a database will change its file: nothing is promised of it.
    if not (journal.is_file() and journal.stat().st_size):
        record |= file_fields(path)
    if not raster:
        return record
    with quiet_open(path) as source:
        epsg = source.crs.to_epsg() if source.crs else None
        return record | ({"proj:code": f"EPSG:{epsg}"} if epsg else {}) | raster_fields(source)


def _links(names: Iterable[str], model: ModelSource) -> Iterable[dict[str, str]]:
    yield {"rel": "root", "href": f"./{COLLECTION}", "type": MEDIA_TYPES[".json"]}
    yield {"rel": "derived_from", "href": f"./{model_path(model.digest)}", "type": GEOJSON,
           "title": f"model {model_name(model.digest)}"}  # fmt: skip
    for name in names:
        yield {"rel": "item", "href": f"./units/{name}/{name}.json", "type": GEOJSON, "title": name}


def _description(members: _Members, model: ModelSource, regions: Mapping[str, Sequence[float]]) -> str:
    where = f" of {', '.join(regions)}" if regions else ""
    text = (
        f"Maps{where} in {len(members.names)} units: classes ({', '.join(model.classes.values())}), confidence, and "
        f"what each prediction rests on ({', '.join(model.modalities)}). Made by {model_name(model.digest)}."
    )
    return html.escape(text, quote=False)  # clients show descriptions as CommonMark, which may hold HTML


def _keywords(model: ModelSource, regions: Mapping[str, Sequence[float]]) -> list[str]:
    return list(dict.fromkeys(["equipoise", "semantic segmentation", "sensor fusion", *model.modalities, *regions]))


def _keys(value: Any) -> set[str]:
    """Return all keys with a prefix within a JSON value."""
    if isinstance(value, Mapping):
        return {key for key in value if ":" in key}.union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()
