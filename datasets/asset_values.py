"""Assets of catalog items: which file holds a band, and what its numbers mean by the item's own words."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from .catalog_items import AssetBand, CatalogAsset, CatalogError, CatalogItem
from .modality import Unit
from .sensors import Sensor

#: Flags by which Earth Search (v1, v0) says that the radiometric offset is already in the numbers of its COGs. They go
#: before the offset in ``raster:bands``, which stays -0.1 there (Element84/earth-search issues 9 and 41).
_APPLIED_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")

#: Keys under which catalogs offer the product's own metadata (MTD_MSIL2A.xml).
_METADATA_KEYS = ("product_metadata", "product-metadata")

#: Sentinel-2 processing baseline from which on the numbers carry an offset.
_OFFSET_BASELINE = 4.0

#: Largest metadata file that is parsed, bytes.
_MOST_XML = 32 << 20


@dataclass(frozen=True, kw_only=True)
class FileValues:
    """What a raster's own header says of a band; None where it says nothing.

    Attributes
    ----------
    is_integer
        Whether the numbers are integers: counts that mean nothing without a scale.
    scale, offset
        As GDAL reports them, if they are not 1 and 0.
    """

    is_integer: bool
    scale: float | None = None
    offset: float | None = None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Scale and offset from digital number to the sensor's unit, and where each came from, in words."""

    scale: float
    offset: float
    scale_source: str
    offset_source: str


def find_band(item: CatalogItem, name: str, sensor: Sensor) -> tuple[CatalogAsset, int]:
    """Return the asset that holds a band, and the band's 1-based position in it.

    Asset keys go first (``name`` itself, then the sensor's ``keys``), then declared band names, then common names of
    assets with one band: pictures made for the eye carry common names, too.

    Raises
    ------
    CatalogError
        If there is none, or its file may not be used.
    """
    by_key = {key.lower(): asset for key, asset in item.assets.items()}
    for key in (name, *sensor.keys.get(name, ())):
        if key.lower() in by_key:
            return _usable(by_key[key.lower()]), 1
    data = [asset for asset in item.assets.values() if not {"thumbnail", "overview", "visual"} & set(asset.roles)]
    for asset in data:
        for position, band in enumerate(asset.bands, start=1):
            if band.name is not None and band.name.lower() == name.lower():
                return _usable(asset), position
    named = [asset for asset in data if len(asset.bands) == 1 and asset.bands[0].common_name == name]
    if len(named) == 1:
        return _usable(named[0]), 1
    raise CatalogError(
        f"item '{item.id}': found assets {', '.join(item.assets)}; wanted one with band '{name}' of '{sensor.name}'; "
        f"name the bands with --bands {sensor.name}=..."
    )


def product_metadata(item: CatalogItem, sensor: Sensor) -> CatalogAsset | None:
    """Return the asset with the product's own metadata, if the item's words alone do not tell the offset."""
    if sensor.offset is not None or not _may_carry_offset(item, sensor) or _applied(item) is True:
        return None
    found = [find_band(item, name, sensor) for name in sensor.bands]
    if all(index <= len(asset.bands) and asset.bands[index - 1].offset is not None for asset, index in found):
        return None
    for key in _METADATA_KEYS:
        asset = item.assets.get(key)
        if asset is not None and asset.problem is None:
            return asset
    return None


def calibration(
    item: CatalogItem,
    asset: CatalogAsset,
    index: int,
    sensor: Sensor,
    *,
    file: FileValues,
    metadata: Path | None = None,
) -> Calibration:
    """Return scale and offset of a band: as the user, the item, the file or the product's metadata say, in this order.

    Where numbers may or may not carry Sentinel-2's radiometric offset and nothing says which, the item is refused: a
    guess from its date or baseline would be wrong by a reflectance of 0.1 for one archive or another.

    Parameters
    ----------
    item, asset, index
        Band ``index`` (1-based) of ``asset``.
    sensor
        What the user says, and the product's conventions.
    file
        What the raster's header says.
    metadata
        The product's own metadata (XML), if it was fetched.

    Raises
    ------
    CatalogError
        If scale or offset cannot be told, or the declarations contradict each other.
    """
    declared = asset.bands[index - 1] if index <= len(asset.bands) else AssetBand()
    scale, scale_source = _scale(item, asset, sensor, declared, file)
    offset, offset_source = _offset(item, asset, sensor, declared, file, metadata)
    return Calibration(scale=scale, offset=offset, scale_source=scale_source, offset_source=offset_source)


def _scale(
    item: CatalogItem, asset: CatalogAsset, sensor: Sensor, declared: AssetBand, file: FileValues
) -> tuple[float, str]:
    if sensor.scale is not None:
        return sensor.scale, "user"
    if sensor.unit is Unit.DIGITAL_NUMBER:
        return 1.0, "unit"
    if declared.scale is not None:
        return declared.scale, "item"
    if file.scale is not None:
        return file.scale, "file"
    if not file.is_integer:
        return 1.0, "none declared"
    if sensor.convention is not None:
        return sensor.convention, "product definition"
    raise CatalogError(
        f"item '{item.id}': found integers in '{asset.key}' without a scale; wanted one that makes them {sensor.unit}; "
        f"give it with --scale {sensor.name}=..."
    )


def _offset(
    item: CatalogItem,
    asset: CatalogAsset,
    sensor: Sensor,
    declared: AssetBand,
    file: FileValues,
    metadata: Path | None,
) -> tuple[float, str]:
    if sensor.offset is not None:
        return sensor.offset, "user"
    if sensor.unit is Unit.DIGITAL_NUMBER:
        return 0.0, "unit"
    applied, baseline = _applied(item), _baseline(item)
    may_carry = _may_carry_offset(item, sensor)
    if may_carry and applied is True:
        return 0.0, "already applied, says the item"
    if declared.offset is not None:
        if may_carry and declared.offset < 0 and baseline is not None and baseline < _OFFSET_BASELINE:
            raise CatalogError(
                f"item '{item.id}': found offset {declared.offset} in '{asset.key}' at processing baseline "
                f"{baseline:05.2f}; wanted none before 04.00; look at the pixels and give --offset {sensor.name}=0 or "
                f"--offset {sensor.name}={declared.offset}"
            )
        return declared.offset, "item"
    if file.offset is not None:
        return file.offset, "file"
    if not may_carry:
        return 0.0, "none declared"
    if metadata is not None:
        return read_boa_offset(metadata), "product metadata"
    if baseline is not None and baseline < _OFFSET_BASELINE:
        return 0.0, f"none before processing baseline 04.00 (this is {baseline:05.2f})"
    says = "no processing baseline" if baseline is None else f"processing baseline {baseline:05.2f}"
    raise CatalogError(
        f"item '{item.id}': found {says}, but nothing that says whether '{asset.key}' carries the radiometric offset; "
        f"wanted an offset in the item or the product's metadata; give --offset {sensor.name}=-0.1 if its darkest "
        f"pixels are near 1000, --offset {sensor.name}=0 if they are near 0"
    )


def read_boa_offset(path: Path) -> float:
    """Read the radiometric offset of a Sentinel-2 product from its metadata (MTD_MSIL2A.xml, MTD_MSIL1C.xml).

    ``reflectance = (DN + ADD_OFFSET) / QUANTIFICATION_VALUE`` (Sentinel-2 Products Specification Document).

    Returns
    -------
    Offset as reflectance; 0 where the product has none.

    Raises
    ------
    CatalogError
        If the file is no such metadata, or bands have different offsets.
    """
    # Entities are the one danger of XML for this parser; the products have none.
    if path.stat().st_size > _MOST_XML:
        raise CatalogError(f"{path}: found {path.stat().st_size} bytes; wanted a product's metadata; check the catalog")
    try:
        # Parsed as text, never as bytes: a declared exotic encoding could hide a DTD from the check.
        text = path.read_bytes().decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise CatalogError(f"{path}: found XML with definitions of its own; wanted plain XML; check the catalog")
        nodes = [(node.tag.rsplit("}", 1)[-1], (node.text or "").strip()) for node in ET.fromstring(text).iter()]  # noqa: S314 - neither DTD nor entities, see above
        offsets = {float(value) for tag, value in nodes if tag in ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")}
        quantification = {
            float(value) for tag, value in nodes if tag in ("BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
        }
    except CatalogError:
        raise
    except (ET.ParseError, ValueError) as error:
        raise CatalogError(
            f"{path}: found no readable XML ({error}); wanted a product's metadata; fetch it again"
        ) from error
    if len(quantification) != 1 or len(offsets) > 1 or 0.0 in quantification:
        raise CatalogError(
            f"{path}: found quantification values {sorted(quantification)} and offsets {sorted(offsets)}; wanted one "
            "of each for all bands; give --scale and --offset"
        )
    return offsets.pop() / quantification.pop() if offsets else 0.0


def _usable(asset: CatalogAsset) -> CatalogAsset:
    if asset.problem is not None:
        raise CatalogError(asset.problem)
    return asset


def _may_carry_offset(item: CatalogItem, sensor: Sensor) -> bool:
    """Tell whether the numbers may carry Sentinel-2's radiometric offset, also in collections of another name."""
    return sensor.unit is Unit.REFLECTANCE and (
        sensor.has_baseline_offset or "s2:processing_baseline" in item.properties
    )


def _applied(item: CatalogItem) -> bool | None:
    values = [item.properties[name] for name in _APPLIED_FLAGS if isinstance(item.properties.get(name), bool)]
    return values[0] if values else None


def _baseline(item: CatalogItem) -> float | None:
    for name in ("s2:processing_baseline", "processing:version", "sentinel:processing_baseline"):
        try:
            return float(item.properties[name])
        except (KeyError, TypeError, ValueError):
            continue
    return None
