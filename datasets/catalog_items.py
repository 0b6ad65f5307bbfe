"""Items of a catalog: what each claims of its place, its time and its files, and where those files may be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shapely import make_valid
from shapely.errors import ShapelyError
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from .errors import DatasetError

#: Largest longitude of an outline, degrees: some catalogs go on beyond 180 where an item crosses the antimeridian.
LONGITUDE_LIMIT = 360.0

#: Properties by which items are told apart and grouped.
_PLAIN = ("platform", "sat:relative_orbit", "s2:mgrs_tile", "grid:code")


class CatalogError(DatasetError):
    """A catalog cannot be searched, or one of its items cannot be used."""


@dataclass(frozen=True, kw_only=True)
class AssetBand:
    """What an item declares of one band of an asset; None where it says nothing."""

    name: str | None = None
    common_name: str | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None


@dataclass(frozen=True, kw_only=True)
class CatalogAsset:
    """One file of an item.

    Attributes
    ----------
    key
        Its name in the item.
    href
        ``http(s)://`` address, or an absolute path on this machine.
    bands
        Declared bands, in file order; empty where the item declares none.
    roles
        ``data``, ``metadata``, ``thumbnail``, ...
    size
        Declared bytes (``file:size``).
    checksum
        Declared multihash in hexadecimal (``file:checksum``).
    problem
        Why the file may not be used (its address is no ``http(s)``, or leaves the catalog's folder); None: it may.
    """

    key: str
    href: str
    bands: tuple[AssetBand, ...] = ()
    roles: tuple[str, ...] = ()
    size: int | None = None
    checksum: str | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class CatalogItem:
    """One item: what it claims, which its files may contradict.

    Attributes
    ----------
    id, collection
        Names in the catalog.
    acquired
        Time of acquisition, UTC.
    footprint
        Claimed outline, longitude and latitude in degrees (WGS 84).
    cloud
        Claimed cloud share, 0 to 1; None where it says nothing.
    properties
        All properties, as they are.
    assets
        Files by key.
    href
        Where the item itself is, an address or a file; None where a search API does not say.
    """

    id: str
    collection: str
    acquired: datetime
    footprint: BaseGeometry
    cloud: float | None
    properties: Mapping[str, Any]
    assets: Mapping[str, CatalogAsset] = field(default_factory=dict)
    href: str | None = None


@dataclass(frozen=True)
class RemoteHrefs:
    """Hrefs of a search API: addresses only, never files of this machine."""

    where: str

    def __call__(self, href: str) -> str:
        """Return the address, or raise :class:`CatalogError` where it is none."""
        if _scheme(href) in ("http", "https"):
            return href
        raise CatalogError(
            f"{self.where}: found asset address {href[:200]!r}; wanted http(s); use a catalog that serves its files "
            "over http(s), or one on disk"
        )

    def item(self, record: Mapping[str, Any]) -> str | None:
        """Return the address that an item gives as its own."""
        links = record.get("links")
        own = [link.get("href") for link in links if link.get("rel") == "self"] if isinstance(links, list) else []
        return own[0] if own and isinstance(own[0], str) and _scheme(own[0]) in ("http", "https") else None


@dataclass(frozen=True)
class ConfinedHrefs:
    """Hrefs of a catalog on disk: relative ones that stay inside its folder; addresses where they are allowed."""

    file: Path
    root: Path
    allow_network: bool

    def __call__(self, href: str) -> str:
        """Return the absolute path or the address, or raise :class:`CatalogError` where it leads out."""
        scheme = _scheme(href)
        if scheme in ("http", "https") and self.allow_network:
            return href
        try:
            place = (self.file.parent / href).resolve()
        except (ValueError, OSError) as error:
            raise CatalogError(
                f"{self.file}: found a reference to {href[:200]!r} ({error}); wanted a file's name; correct it"
            ) from error
        if scheme or not place.is_relative_to(self.root):
            what = "allow it with --allow-network" if scheme in ("http", "https") else "copy the file there"
            raise CatalogError(
                f"{self.file}: found a reference to {href[:200]!r}; wanted only relative ones that stay inside "
                f"{self.root}; {what}"
            )
        return str(place)

    def item(self, record: Mapping[str, Any]) -> str | None:
        """Return the file that an item stands in."""
        del record
        return str(self.file)


def read_item(
    record: Mapping[str, Any], *, resolve: RemoteHrefs | ConfinedHrefs, href: str | None = None
) -> CatalogItem:
    """Read one item, which is at ``href``, from its JSON; an asset that ``resolve`` refuses carries the reason.

    Raises
    ------
    CatalogError
        If it lacks a name, a time or a place, or these are none.
    """
    name = str(record.get("id"))
    try:
        properties = dict(record["properties"])
        acquired = _time(properties.get("datetime") or properties["start_datetime"])
        outline = record.get("geometry")
        footprint = box(*_flat(record["bbox"])) if outline is None else make_valid(shape(outline))
        if not (footprint.area > 0 and math.isfinite(footprint.area)):
            raise ValueError("the outline encloses nothing")
        west, south, east, north = footprint.bounds
        if west < -LONGITUDE_LIMIT or east > LONGITUDE_LIMIT or south < -90 or north > 90:
            raise ValueError(f"an outline from {west:g}, {south:g} to {east:g}, {north:g} lies on no map")
        for key in _PLAIN:
            if isinstance(properties.get(key), list | dict):
                raise ValueError(f"{key} is {str(properties[key])[:60]}, which is neither text nor number")
        cloud = _number(properties.get("eo:cloud_cover"))
        assets = {key: _asset(key, asset, resolve) for key, asset in record["assets"].items()}
        return CatalogItem(
            id=name, collection=str(record["collection"]), acquired=acquired, footprint=footprint,
            cloud=None if cloud is None else min(max(cloud / 100, 0.0), 1.0), properties=properties, assets=assets,
            href=href,
        )  # fmt: skip
    except CatalogError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, ShapelyError) as error:
        raise CatalogError(
            f"item '{name}': found no usable item ({type(error).__name__}: {error}); wanted id, time, outline and "
            "assets as STAC 1.0 defines them; leave it out of the catalog"
        ) from error


def _asset(key: str, record: Mapping[str, Any], resolve: RemoteHrefs | ConfinedHrefs) -> CatalogAsset:
    # STAC 1.1 has one list of bands; 1.0 has one for each extension, in the same order.
    lists = [record.get(name) or [] for name in ("bands", "eo:bands", "raster:bands")]
    merged: list[dict[str, Any]] = [{} for _ in range(max(map(len, lists)))]
    for entries in lists:
        for target, entry in zip(merged, entries, strict=False):
            target.update(entry)
    bands = tuple(
        AssetBand(
            name=band.get("name"),
            common_name=band.get("eo:common_name") or band.get("common_name"),
            scale=_number(band.get("raster:scale", band.get("scale", record.get("raster:scale")))),
            offset=_number(band.get("raster:offset", band.get("offset", record.get("raster:offset")))),
            nodata=_nodata(band.get("nodata", record.get("nodata"))),
        )
        for band in merged or [{}]
    )
    href, problem = str(record["href"]), None
    try:
        href = resolve(href)
    except CatalogError as error:
        # The s3:// twin of an asset that is not used is no reason to refuse the item.
        problem = str(error)
    size, checksum = record.get("file:size"), record.get("file:checksum")
    return CatalogAsset(
        key=key, href=href, bands=bands, roles=tuple(record.get("roles") or ()), problem=problem,
        size=size if isinstance(size, int) else None, checksum=checksum if isinstance(checksum, str) else None,
    )  # fmt: skip


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _scheme(href: str) -> str:
    try:
        return urlsplit(href).scheme
    except ValueError as error:
        raise CatalogError(f"found the address {href[:200]!r} ({error}); wanted a valid one; correct it") from error


def _flat(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    half = len(bbox) // 2  # with heights it has six numbers
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _nodata(value: object) -> float | None:
    # STAC writes not-a-number as text, since JSON cannot.
    return float(value) if value in ("nan", "inf", "-inf") else _number(value)
