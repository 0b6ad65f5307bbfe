"""Sensors as catalogs know them: which collections, bands, units and quality layers a short name stands for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .modality import Unit
from .quality import QualityScheme

#: Resolution suffixes of the Copernicus Data Space's asset keys.
_SUFFIXES = ("", "_10m", "_20m", "_60m")


def _keys(**bands: str) -> dict[str, tuple[str, ...]]:
    """Map common names to the asset keys of Earth Search, the Planetary Computer and the Copernicus Data Space."""
    return {name: (name, *(number + suffix for suffix in _SUFFIXES)) for name, number in bands.items()}


_SENTINEL_2 = _keys(
    coastal="B01", blue="B02", green="B03", red="B04", rededge1="B05", rededge2="B06", rededge3="B07", nir="B08",
    nir08="B8A", nir09="B09", swir16="B11", swir22="B12", scl="SCL",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """One sensor that is looked for in a catalog.

    Attributes
    ----------
    name
        Modality name: ``eo``, ``sar``, ``ir``, ...
    collections
        Collections that hold it, best first; the first one with items is used.
    bands
        Band names, in order: asset keys, common names, or keys of ``keys``.
    unit
        Unit of ``scale * DN + offset``.
    keys
        Band name -> asset keys under which known catalogs offer it.
    quality
        Name of the quality band and how its numbers are read; None: there is none.
    scale, offset, nodata
        What the user says; it goes before what the item says. None: as the item says.
    convention
        Scale of the product's definition, used where an item declares none; None: the product defines none.
    has_baseline_offset
        Whether the product's numbers carry an offset from some processing baseline on (Sentinel-2 04.00), so that an
        item which does not say can not be read.
    """

    name: str
    collections: tuple[str, ...]
    bands: tuple[str, ...]
    unit: Unit
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quality: tuple[str, QualityScheme] | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    convention: float | None = None
    has_baseline_offset: bool = False


#: What ``--sensors`` knows. All three store zero as fill.
KNOWN_SENSORS: Mapping[str, Sensor] = {
    "eo": Sensor(
        name="eo",
        collections=("sentinel-2-l2a", "sentinel-2-c1-l2a"),
        bands=("blue", "green", "red", "nir"),
        unit=Unit.REFLECTANCE,
        keys=_SENTINEL_2,
        quality=("scl", QualityScheme.SCL),
        convention=1e-4,  # QUANTIFICATION_VALUE 10000 of every Sentinel-2 product (Products Specification Document)
        has_baseline_offset=True,
    ),
    "sar": Sensor(name="sar", collections=("sentinel-1-rtc",), bands=("vv", "vh"), unit=Unit.LINEAR_POWER),
    "ir": Sensor(
        name="ir",
        collections=("landsat-c2-l2", "landsat-c2l2-st"),
        bands=("lwir11",),
        unit=Unit.KELVIN,
        keys={"lwir11": ("lwir11", "ST_B10"), "qa_pixel": ("qa_pixel", "QA_PIXEL")},
        quality=("qa_pixel", QualityScheme.QA_PIXEL),
    ),
}

#: Collections whose numbers mean something else than those of the sensor's first: the sensor that describes them.
COLLECTION_SENSORS: Mapping[str, Sensor] = {
    **{name: sensor for sensor in KNOWN_SENSORS.values() for name in sensor.collections},
    "sentinel-2-l1c": Sensor(
        name="eo",
        collections=("sentinel-2-l1c",),
        bands=("blue", "green", "red", "nir"),
        unit=Unit.REFLECTANCE,
        keys=_SENTINEL_2,
        convention=1e-4,
        has_baseline_offset=True,
    ),
}
