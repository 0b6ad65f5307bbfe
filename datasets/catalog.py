"""Catalogs: what a STAC search API, or a static STAC catalog on disk, has of an area and a period."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from .catalog_items import CatalogError, CatalogItem, ConfinedHrefs, RemoteHrefs, read_item

#: Seconds after which a search API is given up that does not take a connection, or is silent.
TIMEOUT = (10.0, 30.0)

#: Further tries of a request, and seconds before the second of them (doubled each time); a server that is busy is asked
#: more often than one that is not there.
RETRIES, UNREACHED_RETRIES, BACKOFF = 5, 2, 0.5

#: Most items of one search: beyond it the question was too wide.
MOST_ITEMS = 5000

#: Most files of a static catalog that are followed.
MOST_FILES = 100_000


def search_items(
    catalog: str,
    *,
    area: BaseGeometry,
    start: datetime,
    end: datetime,
    collections: Sequence[str],
    allow_network: bool = False,
) -> list[CatalogItem]:
    """Return the items of some collections that meet an area and a period, by time.

    Parameters
    ----------
    catalog
        ``http(s)://`` address of a STAC search API; or a path: a catalog, collection, item or item collection (JSON),
        or a folder with ``catalog.json``.
    area
        Outline in longitude and latitude, degrees (WGS 84).
    start, end
        Period, inclusive, UTC.
    collections
        Names of collections.
    allow_network
        Whether assets of a catalog on disk may be ``http(s)`` addresses. Those of a search API always may.

    Raises
    ------
    CatalogError
        If the catalog cannot be read or searched; if a link of a catalog on disk leaves its folder; if an item lacks
        what a search needs.
    """
    if urlsplit(catalog).scheme in ("http", "https"):
        found: Iterator[tuple[dict[str, Any], RemoteHrefs | ConfinedHrefs]] = _search_api(
            catalog, area=area, start=start, end=end, collections=collections
        )
    else:
        found = _walk(Path(catalog), allow_network=allow_network)
    items = []
    for record, resolve in found:
        if record.get("collection") not in collections:
            continue
        item = read_item(record, resolve=resolve, href=resolve.item(record))
        # A search API may be generous; and a static catalog leaves the question to us.
        if start <= item.acquired <= end and item.footprint.intersects(area):
            items.append(item)
    return sorted(items, key=lambda item: (item.acquired, item.id))


def _search_api(
    url: str, *, area: BaseGeometry, start: datetime, end: datetime, collections: Sequence[str]
) -> Iterator[tuple[dict[str, Any], RemoteHrefs | ConfinedHrefs]]:
    client = _open_api(url)
    search = client.search(
        collections=list(collections), intersects=mapping(area), datetime=(start, end), limit=100
    )  # fmt: skip
    try:
        for number, record in enumerate(search.items_as_dicts(), start=1):
            if number > MOST_ITEMS:
                raise CatalogError(
                    f"{url}: found more than {MOST_ITEMS} items; wanted fewer; ask for a smaller area or period"
                )
            yield record, RemoteHrefs(f"{url}: item '{record.get('id')}'")
    except CatalogError:
        raise
    except Exception as error:  # what a server answers decides what the client stumbles over
        raise _no_answer(url, error) from error


def _open_api(url: str) -> Any:
    # pystac-client takes half a second to import, which only a search needs.
    from pystac_client import Client, ConformanceClasses
    from pystac_client.stac_api_io import StacApiIO
    from pystac_client.warnings import PystacClientWarning
    from urllib3 import Retry

    retries = Retry(
        total=RETRIES, connect=UNREACHED_RETRIES, read=UNREACHED_RETRIES, backoff_factor=BACKOFF,
        status_forcelist=[429, 500, 502, 503, 504], allowed_methods=None,
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PystacClientWarning)  # what they warn of is the error below
            client = Client.open(url, stac_io=StacApiIO(timeout=TIMEOUT, max_retries=retries))
        can_search = client.conforms_to(ConformanceClasses.ITEM_SEARCH)
    except Exception as error:  # what a server answers decides what the client stumbles over
        raise _no_answer(url, error) from error
    if not can_search:
        raise CatalogError(
            f"{url}: found a catalog without item search; wanted a STAC search API; copy a static catalog to disk and "
            "give its path"
        )
    return client


def _no_answer(url: str, error: Exception) -> CatalogError:
    code, text = getattr(error, "status_code", None), " ".join(str(error).split())[:300]
    said = [
        f"{type(error).__name__}" if code is None else f"HTTP status {code}",
        *([text] if text and not text.startswith("<") else []),  # a web page says nothing in one line
    ]
    return CatalogError(
        f"{url}: found no STAC search API that answers ({': '.join(said)}); wanted one; check the address and the "
        "network"
    )


def _walk(path: Path, *, allow_network: bool) -> Iterator[tuple[dict[str, Any], RemoteHrefs | ConfinedHrefs]]:
    """Yield the items below a file, each with the rule for its hrefs."""
    start = next((path / name for name in ("catalog.json", "collection.json") if (path / name).is_file()), path)
    root = start.resolve().parent
    pending, seen = [start.resolve()], set()
    while pending:
        file = pending.pop(0)
        if file in seen:
            continue
        seen.add(file)
        if len(seen) > MOST_FILES:
            raise CatalogError(
                f"{path}: found more than {MOST_FILES} files; wanted a smaller catalog; name a part of it"
            )
        record, resolve = _read_json(file), ConfinedHrefs(file, root, allow_network)
        kind = record.get("type")
        if kind == "FeatureCollection":
            yield from ((item, resolve) for item in _objects(record, "features", file))
        elif kind == "Feature":
            yield record, resolve
        elif kind in ("Catalog", "Collection"):
            links = [link for link in _objects(record, "links", file) if link.get("rel") in ("child", "item")]
            pending.extend(Path(_local(link, resolve)) for link in links)
        else:
            raise CatalogError(
                f"{file}: found JSON of type {kind!r}; wanted a STAC catalog, collection, item or item collection; "
                "correct the path"
            )


def _objects(record: Mapping[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    """Return a list of JSON objects; none where the key is absent."""
    found = record.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise CatalogError(
            f"{file}: found '{key}' that is no list of JSON objects ({json.dumps(found)[:60]}); wanted one as STAC 1.0 "
            "defines it; correct the file"
        )
    return found


def _local(link: Mapping[str, Any], resolve: ConfinedHrefs) -> str:
    place = ConfinedHrefs(resolve.file, resolve.root, allow_network=False)(str(link.get("href")))
    if not Path(place).is_file():
        raise CatalogError(f"{resolve.file}: found a link to {place}, which is not there; wanted the file; copy it")
    return place


def _read_json(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CatalogError(
            f"{file}: found no readable JSON ({' '.join(str(error).split())[:200]}); wanted a STAC catalog; correct "
            "the path"
        ) from error
    if not isinstance(record, dict):
        raise CatalogError(f"{file}: found JSON that is no object; wanted a STAC catalog; correct the path")
    return record
