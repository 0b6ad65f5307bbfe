"""Stage acquire: from an area, a period and a catalog to aligned stacks on one grid, resumable at every file."""

import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox
from shapely import to_wkt
from shapely.geometry.base import BaseGeometry

from .. import __version__
from ..datasets.catalog import search_items
from ..datasets.catalog_items import CatalogError, CatalogItem
from ..datasets.gridded import area_grid
from ..datasets.ledger import Ledger, bare, safe_name
from ..datasets.pairing import Acquisition, Pairing, acquisitions, pair
from ..datasets.sensors import Sensor
from ..datasets.stack import AlignedStack
from .acquire_config import write_config
from .acquire_options import AcquireOptions, read_area
from .acquire_sensor import Written, fetch_acquisition, wanted_assets, write_acquisition
from .progress import track
from .run_folder import fingerprint, write_text

log = logging.getLogger(__name__)

#: Name of the record of a finished pair, in its folder; and of the record of all of them.
RECORD, SUMMARY = "record.json", "acquired.json"


@dataclass(frozen=True, kw_only=True)
class AcquireResult:
    """What was found and written.

    Attributes
    ----------
    pairings
        Every pair that was found, best first; ``names`` are theirs.
    names
        Names of the pairs that were asked for, best first.
    stacks
        Descriptions of the aligned stacks, in the order of ``names``; empty in a dry run.
    fresh
        Names of those made now; the others were finished before.
    config
        Configuration that continues with them; None in a dry run.
    """

    pairings: tuple[Pairing, ...]
    names: tuple[str, ...]
    stacks: tuple[Path, ...] = ()
    fresh: frozenset[str] = field(default_factory=frozenset)
    config: Path | None = None


def acquire(aoi: Path, catalog: str, options: AcquireOptions, *, folder: Path, dry_run: bool = False) -> AcquireResult:
    """Search, pair, fetch and align.

    Parameters
    ----------
    aoi
        Area: GeoJSON or another vector file.
    catalog
        Address of a STAC search API, or path of a static catalog.
    options
        Period, sensors, time window.
    folder
        Receives ``assets/`` (whole files, with their ledger), one folder a pair, ``acquired.json`` and ``config.yaml``.
    dry_run
        Search and pair only; nothing is fetched or written.

    Raises
    ------
    ConfigError
        If options or the area cannot be used.
    CatalogError
        If the catalog cannot be searched, holds nothing that fits, or its items cannot be used.
    DownloadError
        If a file cannot be fetched, or is not what was declared.
    """
    sensors, area = options.resolved_sensors(), read_area(aoi)
    geobox = area_grid(area, resolution=options.resolution)
    pairings = find_pairs(catalog, area, sensors, options)
    chosen = dict(zip(_names(pairings), pairings, strict=True))
    names = tuple(chosen)[: options.limit]
    if dry_run:
        return AcquireResult(pairings=tuple(pairings), names=names)
    # The loader wants absolute names; what is reported keeps the form in which it was asked for.
    ledger = Ledger.open(folder.absolute() / "assets")
    fresh, records = set(), {}
    for name in names:
        mark = _mark(chosen[name], sensors, geobox)
        known = _finished(folder / name, mark)
        if known is None:
            known = _make(name, chosen[name], sensors, geobox, ledger=ledger, folder=folder / name, group=aoi.stem)
            write_text(folder / name / RECORD, json.dumps({"resume": mark, **known}, indent=2))
            fresh.add(name)
        else:
            log.info("%s: finished before", name)
        records[name] = known
    ledger.clear_locks()
    summary = {
        "equipoise": __version__, "catalog": catalog, "area": to_wkt(area, rounding_precision=7),
        "options": options.model_dump(mode="json"), "grid": _grid(geobox), "found": len(pairings), "pairs": records,
    }  # fmt: skip
    stacks = tuple(folder / name / "stack.json" for name in names)
    config, written = write_config(folder, stacks, sensors, name=aoi.stem, written=_written(folder / SUMMARY))
    write_text(folder / SUMMARY, json.dumps({**summary, "config": written}, indent=2))
    return AcquireResult(pairings=tuple(pairings), names=names, stacks=stacks, fresh=frozenset(fresh), config=config)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a catalog has of an area and a period.

    Attributes
    ----------
    items
        Sensor -> items that can be used, of the first of its collections that has any.
    reasons
        Sensor -> why it has none at all.
    """

    items: Mapping[str, Sequence[CatalogItem]]
    reasons: Mapping[str, str]


def search(catalog: str, area: BaseGeometry, sensors: Sequence[Sensor], options: AcquireOptions) -> Found:
    """Search every sensor's collections."""
    start, end = options.period
    items: dict[str, list[CatalogItem]] = {}
    reasons: dict[str, str] = {}
    for sensor in track(sensors, "search", total=len(sensors)):
        # Partners may lie outside the period by as much as they may be apart.
        answer = search_items(
            catalog, area=area, start=start - options.max_gap, end=end + options.max_gap,
            collections=sensor.collections, allow_network=options.allow_network,
        )  # fmt: skip
        first = next((name for name in sensor.collections if any(item.collection == name for item in answer)), None)
        items[sensor.name] = _with_bands(answer, first, sensor)
        if first is None:
            around = f" and {options.max_gap / timedelta(days=1):g} days around" if options.max_gap else ""
            reasons[sensor.name] = f"no item of {' or '.join(sensor.collections)} in {options.dates}{around}"
    return Found(items=items, reasons=reasons)


def pairs_over(found: Found, area: BaseGeometry, options: AcquireOptions) -> tuple[list[Pairing], str]:
    """Pair what was found over an area, best first; and say what there is, for when nothing fits."""
    start, end = options.period
    passes = {name: acquisitions(items, area) for name, items in found.items.items()}
    pairings = pair(
        passes, max_gap=options.max_gap, max_cloud=options.max_cloud, min_coverage=options.min_coverage, start=start,
        end=end, reasons=found.reasons,
    )  # fmt: skip
    seen = ", ".join(
        f"{name}: {len(items)} acquisition(s)" if items else found.reasons.get(name, "no acquisition")
        for name, items in passes.items()
    )
    return pairings, seen


def find_pairs(catalog: str, area: BaseGeometry, sensors: Sequence[Sensor], options: AcquireOptions) -> list[Pairing]:
    """Search every sensor's collections and pair what is found, best first.

    Raises
    ------
    CatalogError
        If nothing fits.
    """
    pairings, seen = pairs_over(search(catalog, area, sensors, options), area, options)
    if not pairings:
        raise CatalogError(
            f"{catalog}: found nothing that fits ({seen}); wanted an acquisition with at most {options.max_cloud:.0%} "
            f"of cloud over {options.min_coverage:.0%} of the area; widen --dates, --max-cloud or --min-coverage"
        )
    return pairings


def _with_bands(items: Sequence[CatalogItem], collection: str | None, sensor: Sensor) -> list[CatalogItem]:
    """Return the items of a collection that have the bands; some archives join platforms of which one lacks a band."""
    usable, refused = [], []
    for item in items:
        if item.collection != collection:
            continue
        try:
            wanted_assets(item, sensor)
            usable.append(item)
        except CatalogError as error:
            log.info("%s", error)
            refused.append(error)
    if refused and not usable:
        raise refused[0]
    return usable


def _make(
    name: str,
    pairing: Pairing,
    sensors: Sequence[Sensor],
    geobox: GeoBox,
    *,
    ledger: Ledger,
    folder: Path,
    group: str,
) -> dict[str, Any]:
    """Fetch and write one pair; return its record."""
    scratch = folder.absolute() / ".scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True, exist_ok=True)
    missing, written, parts = dict(pairing.missing), {}, {}
    try:
        for sensor in sensors:
            if sensor.name not in pairing.present:
                continue
            acquisition = pairing.present[sensor.name]
            fetched = fetch_acquisition(acquisition, sensor, ledger=ledger)
            result = write_acquisition(
                fetched, sensor, geobox, folder=folder, scratch=scratch / sensor.name,
                acquired=acquisition.acquired.isoformat(timespec="seconds"),
            )  # fmt: skip
            if result.valid == 0:
                missing[sensor.name] = "its files have no valid pixel in the area, whatever the catalog claims"
                continue
            written[sensor.name] = result
            parts[sensor.name] = {"items": fetched.record, **_figures(acquisition, pairing, sensor, result)}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not written:
        raise CatalogError(f"pair '{name}': found no valid pixel in any file; wanted data in the area; see the catalog")
    names = tuple(sensor.name for sensor in sensors)
    AlignedStack(
        name=name, geobox=geobox, modalities=names, present={key: item.raster for key, item in written.items()},
        missing={key: missing[key] for key in names if key in missing}, group=group,
        clouds={key: item.quality for key, item in written.items() if item.quality is not None},
        acquired={key: pairing.present[key].acquired.isoformat(timespec="seconds") for key in written},
    ).save(folder / "stack.json")  # fmt: skip
    outputs = [path for item in written.values() for path in (item.raster, item.quality) if path is not None]
    return {
        "reference": pairing.reference, "score": round(pairing.score, 6), "missing": missing, "sensors": parts,
        "outputs": {path.name: path.stat().st_size for path in (*outputs, folder / "stack.json")},
    }  # fmt: skip


def _figures(acquisition: Acquisition, pairing: Pairing, sensor: Sensor, result: Written) -> dict[str, Any]:
    """Return claims of the catalog beside what the pixels say."""
    return {
        "acquired": acquisition.acquired.isoformat(timespec="seconds"), "platform": acquisition.platform,
        "gap_hours": round(pairing.gaps[sensor.name] / timedelta(hours=1), 3),
        "claimed": {"coverage": round(acquisition.coverage, 4), "cloud": acquisition.cloud},
        "measured": {"valid": round(result.valid, 6), "cloud": result.cloud},
    }  # fmt: skip


def pair_mark(pairing: Pairing, sensors: Sequence[Sensor]) -> dict[str, Any]:
    """Return all that a pair's pixels depend on, as far as the catalog tells it; plain values."""
    parts = {}
    for sensor in sensors:
        if sensor.name not in pairing.present:
            continue
        parts[sensor.name] = [
            {
                "id": item.id, "properties": dict(item.properties),
                "assets": {
                    key: [bare(asset.href), _state(asset.href), asset.size, asset.checksum, [*map(vars, asset.bands)]]
                    for key, asset in wanted_assets(item, sensor).items()
                },
            }
            for item in pairing.present[sensor.name].items
        ]  # fmt: skip
    return {"items": parts, "sensors": [vars(sensor) for sensor in sensors], "missing": dict(pairing.missing)}


def _mark(pairing: Pairing, sensors: Sequence[Sensor], geobox: GeoBox) -> str:
    return fingerprint(**pair_mark(pairing, sensors), grid=_grid(geobox))


def _finished(folder: Path, mark: str) -> dict[str, Any] | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        same = all((folder / name).stat().st_size == size for name, size in record["outputs"].items())
        if record.pop("resume") != mark or not same:
            return None
        return dict(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not finished: a damaged record is no record


def _written(path: Path) -> str | None:
    """Return the hash of the configuration that an earlier run wrote here."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["config"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state(href: str) -> list[int]:
    """Tell a file on this machine that was replaced from the one that was read; nothing for addresses."""
    if href.startswith(("http://", "https://")) or not Path(href).is_file():
        return []
    status = Path(href).stat()
    return [status.st_size, status.st_mtime_ns]


def _names(pairings: Sequence[Pairing]) -> list[str]:
    """Name pairs by the reference's day and platform, told apart by a number where several share them."""
    names: list[str] = []
    for item in pairings:
        anchor = item.present[item.reference]
        plain = safe_name(re.sub(r"[^A-Za-z0-9]+", "-", f"{anchor.acquired:%Y%m%dT%H%M} {anchor.platform}").lower())
        same = sum(name == plain or name.startswith(f"{plain}.") for name in names)
        names.append(f"{plain}.{same + 1}" if same else plain)
    return names


def _grid(geobox: GeoBox) -> Mapping[str, Any]:
    return {"crs": str(geobox.crs), "transform": list(geobox.affine)[:6], "shape": list(geobox.shape)}
