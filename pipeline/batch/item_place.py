"""Place of a unit's item in the run's STAC tree: links to collection, model and sources.

The item is written with its maps, by a worker, and never again: its links go to files that are written at the end.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..stac_asset import GEOJSON, MEDIA_TYPES, relative_href
from ..stac_item import ItemPlace
from ..stac_model import model_name

#: File of the collection, in the folder of the run.
COLLECTION = "collection.json"

#: Files of others: that a GeoTIFF is cloud optimized is not known.
_SOURCE_TYPES: Mapping[str, str] = dict.fromkeys((".tif", ".tiff"), "image/tiff; application=geotiff")


def unit_place(
    unit: str, *, out: Path, collection: str, digest: str, sources: Iterable[Mapping[str, Any]]
) -> ItemPlace:
    """Return collection and links for the item of a unit that will lie in ``out/units/<unit>/``.

    Parameters
    ----------
    unit
        Its name.
    out
        Folder of the run; nothing need be there yet.
    collection
        Identifier of the run's collection.
    digest
        Hash of the model's files.
    sources
        Of its record: ``id`` and ``href`` of the items or files that it is made of. Links to local files are relative.
    """
    folder, up = out / "units" / unit, f"../../{COLLECTION}"
    name = model_name(digest)
    model = f"../../{model_path(digest)}"
    links = [{"rel": rel, "href": up, "type": MEDIA_TYPES[".json"]} for rel in ("root", "parent", "collection")]
    links += [_source_link(source, folder) for source in sources if source.get("href")]
    links.append(
        {"rel": "derived_from", "href": model, "type": GEOJSON, "title": f"model {name}", "mlm:name": name,
         "processing:level": "L4"}
    )  # fmt: skip
    expression = {"format": "stac-mlm", "expression": model}
    return ItemPlace(collection=collection, links=links, properties={"processing:expression": expression})


def model_path(digest: str) -> str:
    """Return where the item of a model lies in the folder of a run."""
    return f"model/{model_name(digest)}.json"


def _source_link(source: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the link to an item or a file that a unit was made of."""
    href = str(source["href"])
    parts = urlsplit(href)
    suffix = PurePosixPath(parts.path).suffix.lower()
    remote = parts.scheme not in ("", "file")
    if not remote:
        href = relative_href(Path(url2pathname(parts.path) if parts.scheme else href), folder)
    # Items of an API have no ending; of a local folder nothing is known.
    kind = GEOJSON if suffix in (".json", ".geojson") or (remote and not suffix) else _SOURCE_TYPES.get(suffix)
    link = {"rel": "derived_from", "href": href}
    return link | ({"type": kind} if kind else {}) | ({"title": str(source["id"])} if source.get("id") else {})
