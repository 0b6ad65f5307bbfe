"""Sentinel-2 L1C and L2A products as ESA delivers them: every band at its finest resolution, scaled by the metadata."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from .archive import Archive, is_safe_name, open_archive
from .errors import SceneError
from .modality import Unit
from .moment import utc_text
from .product import BandFile, Product, QualityFile
from .quality import QualityScheme
from .safe_manifest import check_sizes

#: Band -> the name that users of several sensors share, as in the STAC catalogues of Sentinel-2.
COMMON_NAMES = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge1",
    "B06": "rededge2",
    "B07": "rededge3",
    "B08": "nir",
    "B8A": "nir08",
    "B09": "nir09",
    "B10": "cirrus",
    "B11": "swir16",
    "B12": "swir22",
}

#: Position in this tuple = ``band_id`` of the metadata (product specification S2-PDGS-TAS-DI-PSD, physical bands).
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")

#: Beyond these a figure is damage: real products divide by 1000 or 10000 and add -1000, in numbers of 16 bits.
LARGEST_QUANTIFICATION, LARGEST_OFFSET = 1e6, 65_535


@dataclass(frozen=True, kw_only=True)
class _Level:
    """Where a processing level keeps its numbers: element names, older ones after newer ones."""

    kind: str
    metadata: str
    quantification: tuple[str, ...]
    offset: str


_LEVELS = (
    # "L2A_...": Level 2A before baseline 02.07.
    _Level(
        kind="sentinel-2-l2a",
        metadata="MTD_MSIL2A.xml",
        quantification=("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"),
        offset="BOA_ADD_OFFSET",
    ),
    _Level(
        kind="sentinel-2-l1c",
        metadata="MTD_MSIL1C.xml",
        quantification=("QUANTIFICATION_VALUE",),
        offset="RADIO_ADD_OFFSET",
    ),
)


def read_sentinel2(path: Path) -> Product:
    """Read the metadata of a Sentinel-2 product; no pixel is read.

    Reflectance = (DN + offset) / quantification, both from the product's own metadata. Products before processing
    baseline 04.00 state no offset and have none; the date is never looked at.

    Parameters
    ----------
    path
        SAFE folder, a zip of one, or the ``MTD_MSIL*.xml`` inside a folder.

    Returns
    -------
    Product with ``B01`` to ``B12`` (L2A has no ``B10``) as reflectance: bottom of atmosphere for L2A, top for L1C.
    Quality is the scene classification for L2A, and the mask of opaque clouds for L1C where it is delivered (cirrus is
    not in it).

    Raises
    ------
    SceneError
        If this is no Sentinel-2 L1C or L2A product of one tile, or a file, the quantification or an offset is missing,
        or a file is not of the size that the manifest states.
    """
    archive = open_archive(path.parent if path.suffix.lower() == ".xml" else path)
    level = _level(archive)
    root = archive.read_xml(archive.one(level.metadata))
    images = _images(archive, root, level)
    check_sizes(archive, images.values())
    quantification, named = _quantification(archive, root, level)
    offsets = _offsets(archive, root, level)
    special = _special_values(archive, root)
    bands = tuple(
        BandFile(
            name=band,
            href=archive.href(images[band]),
            unit=Unit.REFLECTANCE,
            scale=1 / quantification,
            offset=_offset(archive, offsets, band, level) / quantification,
            nodata=special.get("NODATA", 0.0),
            saturated=special.get("SATURATED"),
            common_name=COMMON_NAMES[band],
        )
        for band in BANDS
        if band in images
    )
    acquired = _text(root, "DATATAKE_SENSING_START", "PRODUCT_START_TIME")
    stated = f"offset from {level.offset}" if offsets else f"offset 0: the metadata states no {level.offset}"
    provenance = {
        "product": _text(root, "PRODUCT_URI", "PRODUCT_URI_2A") or archive.root.name,
        "processing_baseline": _text(root, "PROCESSING_BASELINE"),
        "spacecraft": _text(root, "SPACECRAFT_NAME"),
        "relative_orbit": _text(root, "SENSING_ORBIT_NUMBER"),
        "orbit_direction": _text(root, "SENSING_ORBIT_DIRECTION"),
        "scaling": f"scale from {named}, {stated}",
        "saturated": f"{special['SATURATED']:g}" if "SATURATED" in special else None,
    }
    return Product(
        kind=level.kind,
        path=path,
        bands=bands,
        quality=_quality(archive, images),
        acquired=None if acquired is None else utc_text(acquired, where=f"{archive.root}: {level.metadata}"),
        provenance={key: value for key, value in provenance.items() if value is not None},
    )


def _level(archive: Archive) -> _Level:
    found = [level for level in _LEVELS if archive.find(level.metadata)]
    if len(found) != 1:
        names = ", ".join(level.metadata for level in found) or "neither MTD_MSIL2A.xml nor MTD_MSIL1C.xml"
        raise SceneError(
            f"{archive.root}: found {names}; wanted one Sentinel-2 L1C or L2A product (layout since December 2016); "
            "name its SAFE folder or zip"
        )
    return found[0]


def _images(archive: Archive, root: Element, level: _Level) -> dict[str, str]:
    """Band (or SCL) -> name in the archive of its finest file, as the metadata lists them."""
    # The second name is that of Level 2A before baseline 02.07.
    elements = (element for name in ("IMAGE_FILE", "IMAGE_FILE_2A") for element in root.iterfind(f".//{{*}}{name}"))
    listed = [(element.text or "").strip() for element in elements]
    granules = {name.split("/")[1] for name in listed if name.count("/") > 1}
    if len(granules) != 1:
        raise SceneError(
            f"{archive.root}: found {len(granules)} granules in {level.metadata}; wanted one tile with its image "
            "files; download the product again, one tile a product"
        )
    finest: dict[str, tuple[int, str]] = {}
    for name in listed:
        if match := re.search(r"_(B\d\d|B8A|SCL)(?:_(\d\d)m)?$", name):
            if not is_safe_name(name):
                raise SceneError(
                    f"{archive.root}: found the image file name {name!r}; wanted a name inside the product; do not "
                    "use this file"
                )
            resolution = int(match[2] or 0)
            if match[1] not in finest or resolution < finest[match[1]][0]:
                finest[match[1]] = (resolution, f"{name}.jp2")
    if not any(band in finest for band in BANDS):
        raise SceneError(
            f"{archive.root}: found no band among the image files of {level.metadata}; wanted B01 to B12; download the "
            "product again"
        )
    return {band: name for band, (_, name) in finest.items()}


def _quantification(archive: Archive, root: Element, level: _Level) -> tuple[float, str]:
    for name in level.quantification:
        if text := _text(root, name):
            value = _number(archive, name, text)
            if 1 <= value <= LARGEST_QUANTIFICATION:
                return value, name
            raise SceneError(
                f"{archive.root}: found {name} = {value:g} in {level.metadata}; wanted the divisor from digital number "
                f"to reflectance, 1 to {LARGEST_QUANTIFICATION:g}; download the product again"
            )
    raise SceneError(
        f"{archive.root}: found no {level.quantification[0]} in {level.metadata}; wanted the divisor from digital "
        "number to reflectance; download the product again"
    )


def _offsets(archive: Archive, root: Element, level: _Level) -> dict[str, float]:
    """Band -> offset in digital numbers; empty before processing baseline 04.00."""
    names = dict(enumerate(BANDS))
    for element in root.iterfind(".//{*}Spectral_Information[@bandId]"):
        band = re.fullmatch(r"B(\d{1,2})(A?)", element.get("physicalBand", ""))
        if band and (element.get("bandId") or "").isdecimal():
            names[int(element.attrib["bandId"])] = "B8A" if band[2] else f"B{int(band[1]):02d}"
    offsets = {}
    for element in root.iterfind(f".//{{*}}{level.offset}"):
        identifier = element.get("band_id", "")
        if not identifier.isdecimal() or int(identifier) not in names:
            raise SceneError(
                f"{archive.root}: found {level.offset} with band_id {identifier!r}; wanted 0 to 12; download the "
                "product again"
            )
        value = _number(archive, level.offset, element.text or "")
        if abs(value) > LARGEST_OFFSET:
            raise SceneError(
                f"{archive.root}: found {level.offset} = {value:g}; wanted digital numbers, -{LARGEST_OFFSET} to "
                f"{LARGEST_OFFSET}; download the product again"
            )
        offsets[names[int(identifier)]] = value
    return offsets


def _offset(archive: Archive, offsets: Mapping[str, float], band: str, level: _Level) -> float:
    if offsets and band not in offsets:
        raise SceneError(
            f"{archive.root}: found {level.offset} for {len(offsets)} bands, not for {band}; wanted one for every "
            "band; download the product again"
        )
    return offsets.get(band, 0.0)


def _special_values(archive: Archive, root: Element) -> dict[str, float]:
    """``NODATA`` and ``SATURATED`` -> digital number."""
    return {
        name: _number(archive, f"special value {name}", _text(element, "SPECIAL_VALUE_INDEX") or "")
        for element in root.iterfind(".//{*}Special_Values")
        if (name := _text(element, "SPECIAL_VALUE_TEXT"))
    }


def _quality(archive: Archive, images: Mapping[str, str]) -> QualityFile | None:
    if "SCL" in images:
        return QualityFile(href=archive.href(images["SCL"]), scheme=QualityScheme.SCL)
    # Band 1 of this raster is opaque cloud; products before baseline 04.00 carry polygons instead, not read here.
    if masks := archive.find("GRANULE/*/QI_DATA/MSK_CLASSI_B00.jp2"):
        return QualityFile(href=archive.href(masks[0]), scheme=QualityScheme.MASK)
    return None


def _text(root: Element, *names: str) -> str | None:
    """Text of the first element that exists and is not empty, whatever the namespace."""
    for name in names:
        if text := (root.findtext(f".//{{*}}{name}") or "").strip():
            return text
    return None


def _number(archive: Archive, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SceneError(f"{archive.root}: found {name} = {text[:40]!r}; wanted a number; download the product again")
    return value
