"""Metadata of Sentinel-1 GRD products: size, tie points, tables of gain and noise, orbit and processor.

Source of the format: ESA, *Sentinel-1 Product Specification* (S1-RS-MDA-52-7441).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from .archive import Archive, open_archive
from .calibration import LineTable, NoiseTable, Quantity, calibration_table, noise_table
from .errors import SceneError
from .geocoding import TiePoints
from .moment import utc_text
from .product import quiet_open
from .safe_manifest import verify
from .scene import first_line

#: Modes whose ground-range products are read; strip-map products name their beam.
MODES = ("IW", "EW", "SM", "S1", "S2", "S3", "S4", "S5", "S6")

#: Width over length below which tie points lie on a line: no image is as narrow as that.
_FLATTEST = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class PolarisedImage:
    """One polarisation of a product.

    Attributes
    ----------
    name
        ``VV``, ``VH``, ``HH`` or ``HV``.
    href
        What GDAL opens.
    gain
        Calibration gains.
    noise
        Thermal noise, or None if the product tells none.
    """

    name: str
    href: str
    gain: LineTable
    noise: NoiseTable | None


@dataclass(frozen=True, kw_only=True, eq=False)
class GrdProduct:
    """What the metadata of a ground-range product say.

    Attributes
    ----------
    shape
        Rows and columns of every polarisation.
    spacing
        Pixel size in metres: the larger of range and azimuth spacing.
    points
        Tie points.
    acquired
        UTC time of the first line, ISO 8601.
    images
        The polarisations that were asked for, in that order.
    facts
        Provenance: text by name.
    annotation
        Name of the annotation of the first of these polarisations.
    """

    shape: tuple[int, int]
    spacing: float
    points: TiePoints
    acquired: str
    images: tuple[PolarisedImage, ...]
    facts: Mapping[str, str]
    annotation: str


def read_grd(path: Path, polarisations: tuple[str, ...], *, calibration: Quantity = "sigma0") -> GrdProduct:
    """Read the metadata of a GRD product.

    Parameters
    ----------
    path
        The ``.SAFE`` folder, its ``manifest.safe``, or a zip of it.
    polarisations
        Those wanted, upper or lower case.
    calibration
        Which gains are read.

    Raises
    ------
    SceneError
        If it is no GRD product, is incomplete, or lacks a polarisation.
    """
    archive = open_product(path)
    annotations = _annotations(archive)
    missing = [name for name in polarisations if name.upper() not in annotations]
    if missing:
        raise SceneError(
            f"{path}: found polarisations {', '.join(annotations)}; wanted {', '.join(missing)}; name the bands after "
            "those of the product"
        )
    wanted = tuple(dict.fromkeys(name.upper() for name in polarisations))
    if len(wanted) != len(polarisations):
        raise SceneError(f"{path}: found a polarisation declared twice; wanted each once; correct the bands")
    for name in wanted:
        # The image of a whole scene is too large for a checksum at each opening: its size is compared.
        verify(archive, [annotations[name][0], *_companions(archive, annotations[name][0])])
    images = tuple(_image(archive, name, annotations[name][0], calibration) for name in wanted)
    root, where = annotations[wanted[0]][1], f"{path}: {annotations[wanted[0]][0]}"
    information = root.find("imageAnnotation/imageInformation")
    if information is None:
        raise SceneError(f"{where}: found no <imageInformation>; wanted a GRD annotation; download the product again")
    shape = int(number_at(information, "numberOfLines", where)), int(number_at(information, "numberOfSamples", where))
    _check_sizes(path, images, shape)
    spacings = [number_at(information, f"{axis}PixelSpacing", where) for axis in ("range", "azimuth")]
    return GrdProduct(
        shape=shape, spacing=max(spacings), points=_tie_points(root, where), images=images,
        acquired=utc_text(text_at(root, "adsHeader/startTime", where), where=where),
        facts={**_facts(archive, root, where), "polarisations": " ".join(annotations)},
        annotation=annotations[wanted[0]][0],
    )  # fmt: skip


def product_polarisations(path: Path) -> tuple[str, ...]:
    """Return the polarisations of a product: those that are annotated, each with its measurement.

    Raises
    ------
    SceneError
        If it is no GRD product, or a measurement or an annotation is missing.
    """
    archive = open_product(path)
    annotations = _annotations(archive)
    measured = {_companions(archive, name)[0] for name, _ in annotations.values()}
    if unknown := [name for name in archive.find("measurement/*.tif*") if name not in measured]:
        raise SceneError(
            f"{path}: found '{unknown[0]}' without an annotation of its name; wanted one for every measurement; "
            "download the product again"
        )
    return tuple(annotations)


def open_product(path: Path) -> Archive:
    """Open the ``.SAFE`` folder, the folder of a ``manifest.safe``, or a zip."""
    return open_archive(path.parent if path.name == "manifest.safe" else path)


def _annotations(archive: Archive) -> dict[str, tuple[str, Element]]:
    """Polarisation -> name and root of its annotation, of a ground-range product in a known mode."""
    found = {}
    for name in archive.find("annotation/*.xml"):
        root = archive.read_xml(name)
        kind, mode = root.findtext("adsHeader/productType"), root.findtext("adsHeader/mode") or ""
        if kind != "GRD" or mode not in MODES:
            raise SceneError(
                f"{archive.root}: found a {kind} product in mode {mode or '?'}; wanted GRD in IW, EW or SM; "
                "download the GRD product of this acquisition"
            )
        found[text_at(root, "adsHeader/polarisation", f"{archive.root}: {name}").upper()] = name, root
    if not found:
        raise SceneError(
            f"{archive.root}: found no annotation/*.xml; wanted a Sentinel-1 SAFE product; name its .SAFE folder or zip"
        )
    return found


def _companions(archive: Archive, annotation: str) -> list[str]:
    """Names of the image, of its gains and, if there is one, of its noise."""
    stem = PurePosixPath(annotation).stem
    return [
        archive.one(f"measurement/{stem}.tif*"),
        archive.one(f"annotation/calibration/calibration-{stem}.xml"),
        *archive.find(f"annotation/calibration/noise-{stem}.xml"),
    ]


def _image(archive: Archive, polarisation: str, annotation: str, quantity: Quantity) -> PolarisedImage:
    image, gains, *noises = _companions(archive, annotation)
    return PolarisedImage(
        name=polarisation,
        href=archive.href(image),
        gain=calibration_table(archive.read_xml(gains), quantity, where=f"{archive.root}: {gains}"),
        noise=noise_table(archive.read_xml(noises[0]), where=f"{archive.root}: {noises[0]}") if noises else None,
    )


def _check_sizes(path: Path, images: tuple[PolarisedImage, ...], shape: tuple[int, int]) -> None:
    for image in images:
        try:
            with quiet_open(image.href) as source:
                found, kind = source.shape, source.dtypes[0]
        except (RasterioError, OSError) as error:
            raise SceneError(
                f"{path}: found pixels of {image.name} that do not open ({first_line(error)}); wanted a GeoTIFF; "
                "copy or download the product again"
            ) from error
        if found != shape or kind != "uint16":
            raise SceneError(
                f"{path}: found {found[0]} x {found[1]} {kind} pixels of {image.name}; wanted {shape[0]} x {shape[1]} "
                "uint16 as annotated; download the product again"
            )


def _tie_points(root: Element, where: str) -> TiePoints:
    names = ("line", "pixel", "longitude", "latitude")
    points = root.findall("geolocationGrid/geolocationGridPointList/geolocationGridPoint")
    values = np.array([[number_at(point, name, where) for name in names] for point in points], dtype=np.float64)
    if len(values) < 4:
        raise SceneError(f"{where}: found {len(values)} tie points; wanted 4 or more; download the product again")
    if (np.abs(values[:, 2]) > 180).any() or (np.abs(values[:, 3]) > 90).any():
        raise SceneError(f"{where}: found tie points that lie on no map; wanted degrees; download the product again")
    east = (values[:, 2] - values[0, 2] + 180) % 360 - 180  # a scene may cross the antimeridian
    for places, name in ((values[:, :2], "the image"), (np.stack([east, values[:, 3]], axis=1), "the ground")):
        if _flatness(places) < _FLATTEST:
            raise SceneError(
                f"{where}: found tie points on one line of {name}; wanted points that span an area; download the "
                "product again"
            )
    return TiePoints(rows=values[:, 0], columns=values[:, 1], longitudes=values[:, 2], latitudes=values[:, 3])


def _flatness(places: NDArray[np.float64]) -> float:
    """Width of a cloud of points (n, 2) over its length, 0 to 1; 0 for points on a line and for one point."""
    long, wide = np.linalg.svd(places - places.mean(axis=0), compute_uv=False)
    return float(wide / long) if long > 0 else 0.0


def _facts(archive: Archive, root: Element, where: str) -> dict[str, str]:
    facts = {
        "product": archive.root.name if archive.root.suffix else archive.root.resolve().name,
        "mission": text_at(root, "adsHeader/missionId", where),
        "mode": text_at(root, "adsHeader/mode", where),
        "orbit_direction": root.findtext("generalAnnotation/productInformation/pass") or "not stated",
        "absolute_orbit": root.findtext("adsHeader/absoluteOrbitNumber") or "not stated",
    }
    manifest = archive.read_xml("manifest.safe") if "manifest.safe" in archive.names() else Element("none")
    space = "{http://www.esa.int/safe/sentinel-1.0}"
    facts["relative_orbit"] = manifest.findtext(f".//{space}relativeOrbitNumber") or "not stated"
    versions = [
        entry.get("version", "") for entry in manifest.iter(f"{space}software") if "IPF" in entry.get("name", "")
    ]
    facts["processor"] = f"IPF {versions[0]}" if versions else "not stated"
    return facts


def text_at(root: Element, place: str, where: str) -> str:
    """Return the text of an element of a metadata file named ``where``; SceneError if there is none."""
    text = (root.findtext(place) or "").strip()
    if not text:
        raise SceneError(f"{where}: found no <{place}>; wanted a Sentinel-1 annotation; download the product again")
    return text


def number_at(root: Element, place: str, where: str) -> float:
    """Return the number in an element of a metadata file named ``where``; SceneError if there is none."""
    text = text_at(root, place, where)
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise SceneError(f"{where}: found '{text}' as <{place}>; wanted a number; download the product again")
    return value
