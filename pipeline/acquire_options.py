"""Options of the stage acquire, and what they mean: area, period and sensors."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from shapely import make_valid
from shapely.geometry.base import BaseGeometry

from ..datasets.modality import Unit
from ..datasets.sensors import COLLECTION_SENSORS, KNOWN_SENSORS, Sensor
from .errors import ConfigError
from .options import Options, Share, Slug

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def parse_gap(text: object) -> object:
    """Read ``3d``, ``12h`` or ``30m`` as a time; anything else is left to the schema."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([dhm])", text.strip()) if isinstance(text, str) else None
    return timedelta(**{_UNITS[found[2]]: float(found[1])}) if found else text


def parse_dates(text: str) -> tuple[datetime, datetime]:
    """Read ``A/B`` or ``A`` (ISO 8601 dates or times, UTC where no zone is given); the last day counts in full.

    Raises
    ------
    ValueError
        If it is no period.
    """
    first, _, last = text.partition("/")
    try:
        start, end = (datetime.fromisoformat(part.strip()) for part in (first, last or first))
    except ValueError:
        raise ValueError(f"found {text!r}; wanted a period such as 2021-07-01/2021-07-31") from None
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", (last or first).strip()):
        end += timedelta(days=1) - timedelta(microseconds=1)
    start, end = (moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC) for moment in (start, end))
    if end < start:
        raise ValueError(f"found {text!r}, which ends before it begins; wanted a period such as 2021-07-01/2021-07-31")
    return start, end


def _is_period(text: str) -> str:
    parse_dates(text)
    return text


class AcquireOptions(Options):
    """What is looked for in a catalog, and how it is paired."""

    dates: Annotated[str, AfterValidator(_is_period)] = Field(description="Period: 2021-07-01/2021-07-31, UTC.")
    sensors: list[Slug] = Field(["eo", "sar"], min_length=1, description="Modalities; the first is the reference.")
    collections: dict[Slug, list[str]] = Field({}, description="Modality -> collections, best first.")
    bands: dict[Slug, list[str]] = Field({}, description="Modality -> bands: asset keys, band or common names.")
    unit: dict[Slug, Unit] = Field({}, description="Modality -> unit of scale * DN + offset.")
    scale: dict[Slug, float] = Field({}, description="Modality -> scale, in the place of the item's.")
    offset: dict[Slug, float] = Field({}, description="Modality -> offset, in the place of the item's.")
    nodata: dict[Slug, float] = Field(
        {}, description="Modality -> number of no observation, in the place of the file's."
    )
    max_gap: Annotated[timedelta, BeforeValidator(parse_gap)] = Field(
        timedelta(days=3), ge=timedelta(0), description="Longest time between the sensors: 3d, 12h, 30m."
    )
    max_cloud: Share = Field(0.4, description="Largest cloud share of an acquisition, as the catalog claims it.")
    min_coverage: Share = Field(0.5, description="Least share of the area of an acquisition, as the catalog claims it.")
    resolution: float = Field(10.0, gt=0, allow_inf_nan=False, description="Pixel size of the common grid, m.")
    limit: int = Field(1, ge=1, description="Most pairs, best first.")
    allow_network: bool = Field(False, description="A catalog on disk may name files on the network.")

    @property
    def period(self) -> tuple[datetime, datetime]:
        """First and last moment, UTC."""
        return parse_dates(self.dates)

    def resolved_sensors(self) -> list[Sensor]:
        """Return the sensors in order, with what the user says in the place of what is known.

        Raises
        ------
        ConfigError
            If an option names a sensor that is not asked for, or nothing is known of one.
        """
        for name in ("collections", "bands", "unit", "scale", "offset", "nodata"):
            if unknown := sorted(set(getattr(self, name)) - set(self.sensors)):
                raise ConfigError(
                    f"--{name}: found sensor '{unknown[0]}'; wanted one of {', '.join(self.sensors)}; add it with "
                    "--sensors"
                )
        if len(set(self.sensors)) < len(self.sensors):
            raise ConfigError(f"--sensors: found {', '.join(self.sensors)}; wanted each once")
        return [self._sensor(name) for name in self.sensors]

    def _sensor(self, name: str) -> Sensor:
        collections = tuple(self.collections.get(name, ()))
        known = next((COLLECTION_SENSORS[item] for item in collections if item in COLLECTION_SENSORS), None)
        if known is None and name in KNOWN_SENSORS:
            known = KNOWN_SENSORS[name]
            if collections:
                # The scale that defines one product says nothing of a collection that is not known.
                known = replace(known, convention=None, has_baseline_offset=False)
        said: dict[str, Any] = {
            "bands": None if name not in self.bands else tuple(self.bands[name]),
            "unit": self.unit.get(name), "scale": self.scale.get(name), "offset": self.offset.get(name),
            "nodata": self.nodata.get(name), "collections": collections or None,
        }  # fmt: skip
        said = {key: value for key, value in said.items() if value is not None}
        if known is not None:
            return replace(known, name=name, **said)
        if missing := [key for key in ("collections", "bands", "unit") if key not in said]:
            raise ConfigError(
                f"sensor '{name}': found nothing that is known of it; wanted one of {', '.join(KNOWN_SENSORS)}; or "
                f"give {', '.join(f'--{key} {name}=...' for key in missing)}"
            )
        return Sensor(name=name, **said)


def read_area(path: Path) -> BaseGeometry:
    """Read the outline of an area from GeoJSON or another vector file, in longitude and latitude (WGS 84).

    Raises
    ------
    ConfigError
        If it cannot be read, or encloses nothing.
    """
    import geopandas  # a second to import, which the checks before need not wait for

    if not path.is_file():
        raise ConfigError(f"{path}: found no file; wanted the area as GeoJSON; correct --aoi")
    try:
        frame = geopandas.read_file(path)
        area = make_valid((frame if frame.crs is None else frame.to_crs("EPSG:4326")).union_all())
    except Exception as error:  # drivers raise what they like
        text = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: found no readable area ({text}); wanted polygons as GeoJSON; correct it") from error
    west, south, east, north = area.bounds if not area.is_empty else (0, 0, 0, 0)
    if area.area == 0 or west < -180 or east > 180 or south < -90 or north > 90:
        raise ConfigError(
            f"{path}: found bounds {west}, {south}, {east}, {north}; wanted polygons in longitude and latitude, "
            "degrees; draw the outline of an area"
        )
    return area


def split_assignments(texts: list[str], *, option: str) -> Mapping[str, str]:
    """Read ``name=value`` arguments of the command line.

    Raises
    ------
    ConfigError
        If one has no ``=``, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark or not name.strip() or not value.strip() or name.strip() in found:
            raise ConfigError(f"--{option}: found {text!r}; wanted sensor=value, each sensor once, such as eo=...")
        found[name.strip()] = value.strip()
    return found


def acquire_options(*, sensors: str, **given: Any) -> AcquireOptions:
    """Read the command line's texts: ``sensor=value`` lists, comma-separated names.

    Parameters
    ----------
    sensors
        Comma-separated; empty: those of ``collections``, or the default.
    given
        Fields of :class:`AcquireOptions`; those by sensor as lists of ``sensor=value``, or None.

    Raises
    ------
    ConfigError
        If they do not fit the schema.
    """
    record: dict[str, Any] = dict(given)
    for option in ("collections", "bands", "unit", "scale", "offset", "nodata"):
        pairs = split_assignments(record[option] or [], option=option)
        listed = option in ("collections", "bands")
        record[option] = {name: _names(value) if listed else value for name, value in pairs.items()}
    if names := _names(sensors) or list(record["collections"]):
        record["sensors"] = names
    try:
        return AcquireOptions.model_validate(record)
    except ValidationError as error:
        problems = "; ".join(
            f"--{str(item['loc'][0]).replace('_', '-')}: {item['msg'].removeprefix('Value error, ')}"
            + (f" (found {item['input']!r})" if isinstance(item["input"], str | int | float) else "")
            for item in error.errors()
        )
        raise ConfigError(f"{problems}; see equipoise acquire --help") from error


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
