"""Landsat products as USGS delivers them, Collection 2 and the layouts before it, scaled by their MTL metadata."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from .archive import Archive, is_safe_name, open_archive
from .errors import SceneError
from .modality import Unit
from .mtl import Metadata, parse_mtl
from .product import BandFile, Product, QualityFile
from .quality import QualityScheme

#: Band number -> the name that users of several sensors share, as in the USGS STAC catalogue; OLI and TIRS.
OLI_NAMES = {
    "1": "coastal",
    "2": "blue",
    "3": "green",
    "4": "red",
    "5": "nir08",
    "6": "swir16",
    "7": "swir22",
    "8": "pan",
    "9": "cirrus",
    "10": "lwir11",
    "11": "lwir12",
}

#: The same for TM and ETM+. Of the two gains of ETM+ band 6 the low one has the name: it does not saturate over land.
TM_NAMES = {
    "1": "blue",
    "2": "green",
    "3": "red",
    "4": "nir08",
    "5": "swir16",
    "6": "lwir",
    "6_VCID_1": "lwir",
    "7": "swir22",
    "8": "pan",
}

#: Beyond this a factor or constant of calibration is damage: real ones are 1e-5 (reflectance) to 1322 (K2, kelvin).
LARGEST_FIGURE = 1e5


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Names of the groups in one generation of MTL files."""

    files: str
    rescaling: str
    thermal: tuple[str, ...]
    quality: str


_COLLECTION_2 = _Layout(
    files="PRODUCT_CONTENTS",
    rescaling="LEVEL1_RADIOMETRIC_RESCALING",
    thermal=("LEVEL1_THERMAL_CONSTANTS",),
    quality="FILE_NAME_QUALITY_L1_PIXEL",
)
_BEFORE = _Layout(
    files="PRODUCT_METADATA",
    rescaling="RADIOMETRIC_RESCALING",
    thermal=("TIRS_THERMAL_CONSTANTS", "THERMAL_CONSTANTS"),
    quality="FILE_NAME_BAND_QUALITY",
)


@dataclass(frozen=True, kw_only=True)
class _Landsat:
    """What the readers of the bands share: the files, the metadata, and which generation they are of."""

    archive: Archive
    mtl: str
    groups: Metadata
    layout: _Layout

    def text(self, group: str, key: str) -> str:
        value = self.groups.get(group, {}).get(key)
        if value is None:
            raise SceneError(
                f"{self.archive.root}: found no {key} in group {group} of {self.mtl}; wanted the metadata of a "
                "calibrated product; download it again, as Collection 2"
            )
        return value

    def number(self, group: str, key: str) -> float:
        text = self.text(group, key)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise SceneError(
                f"{self.archive.root}: found {key} = {text[:40]!r} in {self.mtl}; wanted a number; download the "
                "product again"
            )
        return value

    def positive(self, group: str, key: str) -> float:
        value = self.number(group, key)
        if not 0 < value <= LARGEST_FIGURE:
            raise SceneError(
                f"{self.archive.root}: found {key} = {value:g} in {self.mtl}; wanted more than 0 and at most "
                f"{LARGEST_FIGURE:g}; download the product again"
            )
        return value

    def sun_elevation(self) -> float:
        elevation = self.number("IMAGE_ATTRIBUTES", "SUN_ELEVATION")
        if not -90 <= elevation <= 90:
            raise SceneError(
                f"{self.archive.root}: found SUN_ELEVATION = {elevation:g} in {self.mtl}; wanted degrees above the "
                "horizon, -90 to 90; download the product again"
            )
        return elevation

    def first(self, key: str) -> str | None:
        """Value of the first group that has the key: the product's own group comes before those of its sources."""
        return next((group[key] for group in self.groups.values() if key in group), None)

    def files(self) -> dict[str, str]:
        """Band as the keys name it (``4``, ``6_VCID_1``, ``ST_B10``) -> file name as the MTL states it."""
        group = self.groups.get(self.layout.files, {})
        prefix = "FILE_NAME_BAND_"
        return {key.removeprefix(prefix): name for key, name in group.items() if re.match(prefix + r"(\d|ST_B\d)", key)}

    def locate(self, name: str) -> str:
        """Name in the archive of a file that the MTL names.

        Raises
        ------
        SceneError
            If it leads out of the product, or is not there.
        """
        if not is_safe_name(name):
            raise SceneError(
                f"{self.archive.root}: found the file name {name!r} in {self.mtl}; wanted a name inside the product; "
                "do not use this file"
            )
        folder = self.mtl.rpartition("/")[0]
        stated = f"{folder}/{name}" if folder else name
        if stated in self.archive.members:
            return stated
        siblings = self._renamed(folder)
        suffix = _suffix(name)
        # Copies are often renamed as a whole. One file that is absent among others that are there is a hole instead.
        if suffix in siblings and not any(
            (f"{folder}/{other}" if folder else other) in self.archive.members for other in self.files().values()
        ):
            return siblings[suffix]
        raise SceneError(
            f"{self.archive.root}: found no file '{name}' that {self.mtl} names; wanted every band of the product; "
            "download it again, complete"
        )

    def _renamed(self, folder: str) -> dict[str, str]:
        """Suffix (``B4.tif``) -> the only file of that suffix beside the MTL."""
        found: dict[str, list[str]] = {}
        for name in self.archive.names():
            if name.rpartition("/")[0] == folder and (suffix := _suffix(name)):
                found.setdefault(suffix, []).append(name)
        return {suffix: names[0] for suffix, names in found.items() if len(names) == 1}


def read_landsat(path: Path) -> Product:
    """Read the metadata of a Landsat 4 to 9 product; no pixel is read.

    Level 1: reflectance at the top of the atmosphere = (REFLECTANCE_MULT * DN + REFLECTANCE_ADD) / sin(sun elevation),
    with the elevation at the scene's centre; thermal bands give radiance in W m-2 sr-1 um-1 and the constants K1, K2 of
    T = K2 / ln(K1 / L + 1) kelvin (Landsat 8-9 Calibration and Validation Algorithm Description, LSDS-1747, 4.4 and
    4.5). Level 2: surface reflectance and surface temperature in kelvin, linear. All figures are the MTL's.

    Parameters
    ----------
    path
        Folder or tar of one product, or its ``*_MTL.txt`` or ``*_MTL.json``.

    Returns
    -------
    Product. Level 1 bands are named ``B1`` ... ``B11`` (``B6_VCID_1`` and ``_2`` for ETM+), level 2 bands ``SR_B1`` ...
    and ``ST_B10`` or ``ST_B6``. With the sun below the horizon the reflective bands hold nothing and are left out.

    Raises
    ------
    SceneError
        If there is no MTL, or several, or it lacks a key, or a file that it names is missing.
    """
    archive = open_archive(path.parent if _is_mtl(path.name) else path)
    mtl = path.name if _is_mtl(path.name) else _only_mtl(archive)
    groups = parse_mtl(archive.read_bytes(mtl), name=f"{archive.root}: {mtl}")
    layout = _COLLECTION_2 if _COLLECTION_2.files in groups else _BEFORE
    landsat = _Landsat(archive=archive, mtl=mtl, groups=groups, layout=layout)
    level = "l2" if "LEVEL2_PROCESSING_RECORD" in groups else "l1"
    bands, scaling = _level2_bands(landsat) if level == "l2" else _level1_bands(landsat)
    if not bands:
        raise SceneError(
            f"{archive.root}: found no band that {mtl} names and calibrates; wanted a Landsat product of level 1 or 2; "
            "download it again"
        )
    collection = landsat.first("COLLECTION_NUMBER")
    generation = f"c{int(collection)}" if collection and collection.isdecimal() else "pre-collection"
    quality, reading = _quality(landsat, generation)
    provenance = {
        "product": landsat.first("LANDSAT_PRODUCT_ID") or landsat.first("LANDSAT_SCENE_ID") or PurePosixPath(mtl).stem,
        "processing_level": landsat.first("PROCESSING_LEVEL") or landsat.first("DATA_TYPE"),
        "collection": collection or "none",
        "spacecraft": landsat.first("SPACECRAFT_ID"),
        "sensor": landsat.first("SENSOR_ID"),
        "path_row": f"{landsat.first('WRS_PATH')}/{landsat.first('WRS_ROW')}",
        "sun_elevation": landsat.first("SUN_ELEVATION"),
        "scaling": scaling,
        "quality": reading,
    }
    return Product(
        kind=f"landsat-{generation}-{level}",
        path=path,
        bands=tuple(bands),
        quality=quality,
        acquired=_acquired(landsat),
        provenance={key: value for key, value in provenance.items() if value is not None},
    )


def _level1_bands(landsat: _Landsat) -> tuple[list[BandFile], str]:
    elevation = landsat.sun_elevation()
    rescaling = landsat.layout.rescaling
    thermal = next((group for group in landsat.layout.thermal if group in landsat.groups), landsat.layout.thermal[0])
    names = _common_names(landsat)
    bands = []
    for band, file in landsat.files().items():
        planck = None
        if f"K1_CONSTANT_BAND_{band}" in landsat.groups.get(thermal, {}):
            quantity, unit, divisor = "RADIANCE", Unit.KELVIN, 1.0
            planck = (
                landsat.positive(thermal, f"K1_CONSTANT_BAND_{band}"),
                landsat.positive(thermal, f"K2_CONSTANT_BAND_{band}"),
            )
        elif elevation > 0:
            quantity, unit, divisor = "REFLECTANCE", Unit.REFLECTANCE, math.sin(math.radians(elevation))
        else:
            continue
        bands.append(
            BandFile(
                name=f"B{band}",
                href=landsat.archive.href(landsat.locate(file)),
                unit=unit,
                scale=landsat.positive(rescaling, f"{quantity}_MULT_BAND_{band}") / divisor,
                offset=landsat.number(rescaling, f"{quantity}_ADD_BAND_{band}") / divisor,
                nodata=0.0,
                common_name=names.get(band),
                planck=planck,
            )
        )
    reflectance = (
        f"REFLECTANCE_MULT and REFLECTANCE_ADD divided by sin({elevation} degrees)"
        if elevation > 0
        else "no reflectance: the sun is below the horizon"
    )
    return bands, f"{reflectance}; RADIANCE_MULT, RADIANCE_ADD, K1 and K2 for thermal bands"


def _level2_bands(landsat: _Landsat) -> tuple[list[BandFile], str]:
    names = _common_names(landsat)
    bands = []
    for band, file in landsat.files().items():
        if band.startswith("ST_"):
            name, quantity, group = band, "TEMPERATURE", "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS"
        else:
            name, quantity, group = f"SR_B{band}", "REFLECTANCE", "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"
        bands.append(
            BandFile(
                name=name,
                href=landsat.archive.href(landsat.locate(file)),
                unit=Unit.KELVIN if quantity == "TEMPERATURE" else Unit.REFLECTANCE,
                scale=landsat.positive(group, f"{quantity}_MULT_BAND_{band}"),
                offset=landsat.number(group, f"{quantity}_ADD_BAND_{band}"),
                nodata=0.0,
                common_name=names.get(band.removeprefix("ST_B")),
            )
        )
    return bands, "REFLECTANCE_MULT, REFLECTANCE_ADD, TEMPERATURE_MULT and TEMPERATURE_ADD of level 2"


def _common_names(landsat: _Landsat) -> Mapping[str, str]:
    sensor = landsat.first("SENSOR_ID") or ""
    if sensor.startswith(("OLI", "TIRS")):
        return OLI_NAMES
    return TM_NAMES if sensor in ("TM", "ETM") else {}  # MSS numbers its bands in two other ways


def _quality(landsat: _Landsat, generation: str) -> tuple[QualityFile | None, str]:
    name = landsat.groups.get(landsat.layout.files, {}).get(landsat.layout.quality)
    if name is None:
        return None, "none: the metadata names no quality band"
    if generation == "c1":
        # The same file name as before, with other bits: read with the old ones it would call clear land cloud.
        return None, "none: the quality bits of Collection 1 are not read"
    scheme = QualityScheme.BQA if generation == "pre-collection" else QualityScheme.QA_PIXEL
    return QualityFile(href=landsat.archive.href(landsat.locate(name)), scheme=scheme), f"{scheme} from {name}"


def _acquired(landsat: _Landsat) -> str | None:
    date, time = landsat.first("DATE_ACQUIRED"), landsat.first("SCENE_CENTER_TIME")
    if not date:
        return None
    try:
        if not time:
            return datetime.strptime(date, "%Y-%m-%d").date().isoformat()
        moment = datetime.fromisoformat(f"{date}T{time}")
    except ValueError as error:
        stated = f"DATE_ACQUIRED = {date[:40]!r}" + (f", SCENE_CENTER_TIME = {time[:40]!r}" if time else "")
        raise SceneError(
            f"{landsat.archive.root}: found {stated} in {landsat.mtl}; wanted a date and a time in UTC; download the "
            "product again"
        ) from error
    return moment.replace(tzinfo=None).isoformat() + "Z"


def _is_mtl(name: str) -> bool:
    return name.upper().endswith(("_MTL.TXT", "_MTL.JSON"))


def _only_mtl(archive: Archive) -> str:
    """Name of the product's MTL; the text goes before the JSON of the same product."""
    texts = archive.find("*_mtl.txt") or archive.find("*_mtl.json")
    if len(texts) != 1:
        raise SceneError(
            f"{archive.root}: found {len(texts)} MTL files; wanted the one of a Landsat product; name the *_MTL.txt "
            "itself where a folder holds several products"
        )
    return texts[0]


def _suffix(name: str) -> str | None:
    """Return the part of a file name that tells the band, in lower case: ``b4.tif``, ``bqa.tif``; None for others."""
    match = re.search(r"_((?:SR_|ST_)?B\d+(?:_VCID_\d)?|BQA|QA_PIXEL)\.TIF$", name, re.IGNORECASE)
    return match[1].lower() if match else None
