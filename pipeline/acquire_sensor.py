"""One acquisition of one sensor: its files fetched and verified, its bands written onto the grid."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.asset_rasters import LocalBand, file_values
from ..datasets.asset_values import calibration, find_band, product_metadata
from ..datasets.catalog_items import CatalogAsset, CatalogError, CatalogItem
from ..datasets.download import fetch
from ..datasets.gridded import LocalItem, load_rows
from ..datasets.ledger import Ledger, bare, digest, safe_name, verify
from ..datasets.modality import Band, Unit, implausible_unit
from ..datasets.pairing import Acquisition
from ..datasets.quality import Quality
from ..datasets.raster import cog_writer
from ..datasets.sensors import Sensor
from .progress import track

#: Reflectance below which a pixel is impossible, and the share of such pixels that proves a doubled offset: a surface
#: of 0.08 less 0.1 is below; the noise and over-correction of real products stay above or are rare.
_IMPOSSIBLE, _DOUBLED_SHARE = -0.02, 0.1

#: Beginning of the keys under which Sentinel-1 GRD items offer their calibration tables.
_CALIBRATION = "schema-calibration"

#: Every so many-th pixel is kept to judge the unit by.
_SAMPLE = 97


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Files of one acquisition on this machine.

    Attributes
    ----------
    items
        What is loaded, in order of precedence.
    record
        For the user: item by item its files (address, size, SHA-256, how verified) and bands (scale, offset, sources).
    """

    items: tuple[LocalItem, ...]
    record: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Written:
    """Rasters of one acquisition on the grid.

    Attributes
    ----------
    raster, quality
        Bands in working units; `Quality` codes, or None where the sensor has none.
    valid, cloud
        Measured shares of the grid: valid in every band; cloud or shadow. ``cloud`` is None where it is unknown.
    """

    raster: Path
    quality: Path | None
    valid: float
    cloud: float | None


@dataclass
class _Tally:
    """Counts and a sample over rows: what the written numbers look like."""

    bands: int
    valid: int = 0
    cloudy: int = 0
    impossible: NDArray[np.int64] = field(init=False)
    samples: list[NDArray[np.float32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.impossible = np.zeros(self.bands, dtype=np.int64)

    def add(self, values: NDArray[np.float32], codes: NDArray[np.uint8] | None) -> None:
        usable = np.isfinite(values[0])
        self.valid += int(usable.sum())
        self.impossible += (values < _IMPOSSIBLE).sum(axis=(1, 2))
        self.samples.append(values[:, usable][:, ::_SAMPLE])
        if codes is not None:
            self.cloudy += int(np.isin(codes, (Quality.CLOUD, Quality.SHADOW)).sum())


def wanted_assets(item: CatalogItem, sensor: Sensor) -> dict[str, CatalogAsset]:
    """Return the files of an item that are needed, by key.

    Raises
    ------
    CatalogError
        If a band or the quality layer is not there, or may not be used; if the product is in radar geometry.
    """
    if calibrations := [key for key in item.assets if key.startswith(_CALIBRATION)]:
        # Said before gigabytes are fetched, of which nothing could be used.
        raise CatalogError(
            f"item '{item.id}': found an uncalibrated product in radar geometry (asset '{calibrations[0]}'); wanted "
            "one on a map grid; use sentinel-1-rtc, or name the SAFE folder in a configuration's `scenes`"
        )
    names = (*sensor.bands, *([] if sensor.quality is None else [sensor.quality[0]]))
    assets = [find_band(item, name, sensor)[0] for name in names]
    metadata = product_metadata(item, sensor)
    if metadata is not None:
        assets.append(metadata)
    return {asset.key: asset for asset in assets}


def fetch_acquisition(acquisition: Acquisition, sensor: Sensor, *, ledger: Ledger) -> Fetched:
    """Fetch the files of an acquisition, unless they are there, and say what their numbers mean.

    Raises
    ------
    CatalogError
        If an item cannot be used.
    DownloadError
        If a file cannot be fetched, or is not what was declared.
    """
    wanted = [(item, wanted_assets(item, sensor)) for item in acquisition.items]
    jobs = [(item, asset) for item, assets in wanted for asset in assets.values()]
    places: dict[tuple[str, str], dict[str, Any]] = {}
    for item, asset in track(jobs, f"fetch {sensor.name}", total=len(jobs)):
        places[item.id, asset.key] = _fetched(item, asset, ledger)
    items, records = [], []
    for item, assets in wanted:
        found = {key: places[item.id, key] for key in assets}
        paths = {key: ledger.folder.parent / place["path"] for key, place in found.items()}
        local, bands = _local_item(item, sensor, paths)
        items.append(local)
        records.append(
            {
                "id": item.id,
                "collection": item.collection,
                "acquired": item.acquired.isoformat(),
                "assets": found,
                "bands": bands,
            }
        )
    return Fetched(items=tuple(items), record=records)


def write_acquisition(
    fetched: Fetched, sensor: Sensor, geobox: GeoBox, *, folder: Path, scratch: Path, acquired: str
) -> Written:
    """Write an acquisition onto the grid: one raster of bands, one of quality codes where there is such a layer.

    Nothing is left where no pixel is valid (``valid`` is then 0).

    Raises
    ------
    CatalogError
        If the numbers cannot be of the sensor's unit, or carry a doubled offset.
    """
    raster, quality = folder / f"{sensor.name}.tif", folder / f"{sensor.name}.quality.tif"
    working = Band(name=sensor.name, unit=sensor.unit).working_unit
    tally, tags = _Tally(bands=len(sensor.bands)), {"datetime": acquired, "unit": str(working)}
    with ExitStack() as stack:
        bands = stack.enter_context(
            cog_writer(
                raster,
                geobox,
                count=len(sensor.bands),
                dtype="float32",
                nodata=float("nan"),
                overview_resampling="average",
                descriptions=sensor.bands,
                tags=tags,
            )
        )
        codes_writer = None
        if sensor.quality is not None:
            codes_writer = stack.enter_context(
                cog_writer(
                    quality,
                    geobox,
                    count=1,
                    dtype="uint8",
                    nodata=int(Quality.UNKNOWN),
                    overview_resampling="mode",
                    descriptions=("quality",),
                    tags={"codes": "0 clear, 1 cloud, 2 shadow, 3 unusable, 255 unknown"},
                )
            )
        for row, values, codes in load_rows(fetched.items, geobox, scratch=scratch):
            window = ((row, row + values.shape[1]), (0, geobox.shape[1]))
            bands.write(values, window=window)
            if codes_writer is not None and codes is not None:
                codes_writer.write(codes, 1, window=window)
            tally.add(values, codes)
        _require_plausible(tally, sensor, fetched, working)
    if tally.valid == 0:
        raster.unlink()
        quality.unlink(missing_ok=True)
    size = geobox.shape[0] * geobox.shape[1]
    return Written(
        raster=raster, quality=quality if sensor.quality is not None else None, valid=tally.valid / size,
        cloud=tally.cloudy / size if sensor.quality is not None else None,
    )  # fmt: skip


def _require_plausible(tally: _Tally, sensor: Sensor, fetched: Fetched, working: Unit) -> None:
    if tally.valid == 0:
        return
    names = ", ".join(item.id for item in fetched.items[:3])
    for name, layer in zip(sensor.bands, np.concatenate(tally.samples, axis=1), strict=True):
        if reason := implausible_unit(working, layer):
            raise CatalogError(f"items {names}: band '{name}' should be {working}: found {reason}")
    offsets = sorted({band["offset"] for item in fetched.record for band in item["bands"].values()})
    share = tally.impossible.max() / tally.valid
    if sensor.unit is Unit.REFLECTANCE and offsets[0] < 0 and share > _DOUBLED_SHARE:
        raise CatalogError(
            f"items {names}: found reflectance below {_IMPOSSIBLE} in {share:.0%} of the pixels with offset "
            f"{offsets[0]}; wanted few; the offset is in the numbers already, whatever the item says: give --offset "
            f"{sensor.name}=0"
        )


def _fetched(item: CatalogItem, asset: CatalogAsset, ledger: Ledger) -> dict[str, Any]:
    """Return path, address, size and hash of one file, fetched or verified in place."""
    address = urlsplit(asset.href)
    if address.scheme not in ("http", "https"):
        path = Path(asset.href)
        if not path.is_file():
            raise CatalogError(f"item '{item.id}': found no file {path}; wanted asset '{asset.key}'; copy it there")
        status = path.stat()
        verified, sha256 = _verified(path, status.st_mtime_ns, status.st_size, asset.size, asset.checksum)
        size = status.st_size
    else:
        suffix = PurePosixPath(address.path).suffix
        name = safe_name(asset.key) + (safe_name(suffix[1:]).join((".", "")) if 1 < len(suffix) <= 6 else "")
        path = ledger.folder / safe_name(item.id) / name
        entry = fetch(asset.href, path, ledger=ledger, size=asset.size, checksum=asset.checksum)
        verified, size, sha256 = entry.verified, entry.size, entry.sha256
    root = ledger.folder.parent
    place = path.relative_to(root) if path.is_relative_to(root) else path
    return {"href": bare(asset.href), "path": str(place), "size": size, "sha256": sha256, "verified": verified}


@lru_cache(maxsize=4096)
def _verified(path: Path, modified: int, found: int, size: int | None, checksum: str | None) -> tuple[str, str]:
    """Return how a file on this machine was verified, and its SHA-256; one that many areas need is hashed once."""
    del modified, found  # they tell a file that was replaced
    return verify(path, name=str(path), size=size, checksum=checksum), digest(path, "sha256")


def _local_item(
    item: CatalogItem, sensor: Sensor, paths: Mapping[str, Path]
) -> tuple[LocalItem, dict[str, dict[str, Any]]]:
    metadata = product_metadata(item, sensor)
    bands, record = [], {}
    for name, asset, index in _placed(item, sensor):
        found = calibration(
            item, asset, index, sensor, file=file_values(paths[asset.key], index),
            metadata=None if metadata is None else paths[metadata.key],
        )  # fmt: skip
        declared = asset.bands[index - 1].nodata if index <= len(asset.bands) else None
        band = Band(name=name, unit=sensor.unit, scale=found.scale, offset=found.offset, nodata=sensor.nodata)
        bands.append(LocalBand(path=paths[asset.key], index=index, band=band, fallback=declared or 0.0))
        record[name] = {"asset": asset.key, "index": index, "unit": str(sensor.unit), **asdict(found)}
    quality = None
    if sensor.quality is not None:
        asset, index = find_band(item, sensor.quality[0], sensor)
        quality = (paths[asset.key], index, sensor.quality[1])
    return LocalItem(id=item.id, acquired=item.acquired, bands=tuple(bands), quality=quality), record


def _placed(item: CatalogItem, sensor: Sensor) -> Iterator[tuple[str, CatalogAsset, int]]:
    for name in sensor.bands:
        yield (name, *find_band(item, name, sensor))
