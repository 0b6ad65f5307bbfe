"""Small Sentinel-2 products in the real folder layout, lossless JPEG 2000, whose reflectance is known."""

import hashlib
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

#: Band -> finest pixel, metres; in the order of the metadata's band_id.
PIXEL = {
    "B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10, "B8A": 20, "B09": 60,
    "B10": 60, "B11": 20, "B12": 20,
}  # fmt: skip

#: Upper left corner of every band, EPSG:32632; the tile is SIDE metres wide and high.
LEFT, TOP, SIDE = 600_000.0, 5_100_000.0, 1_200

ACQUIRED = "2022-06-15T10:15:59.024Z"


@dataclass(frozen=True, kw_only=True)
class FakeSafe:
    """What was written.

    Attributes
    ----------
    path
        The SAFE folder.
    truth
        Band -> reflectance float64 (y, x) at the band's finest pixel, NaN where nothing was observed.
    classes
        Scene classification uint8 (y, x) at 20 m; for L1C opaque cloud 0/1 at 60 m.
    metadata, granule
        The product's XML, and the folder of its only tile.
    """

    path: Path
    truth: Mapping[str, NDArray[np.float64]]
    classes: NDArray[np.uint8]
    metadata: Path
    granule: Path


def write_safe(
    folder: Path,
    rng: np.random.Generator,
    *,
    level: str = "L2A",
    baseline: str = "05.09",
    offsets: Mapping[str, int] | int | None = -1000,
    quantification: int = 10_000,
) -> FakeSafe:
    """Write a product below ``folder``.

    Parameters
    ----------
    folder
        Made if it does not exist.
    rng
        Source of the reflectance.
    level
        ``L2A`` or ``L1C``.
    baseline
        As the metadata and the folder's name state it.
    offsets
        Digital numbers added by band, or for all; None writes no offset at all, as before baseline 04.00.
    quantification
        Divisor of the digital numbers.
    """
    added = {band: offsets if isinstance(offsets, int) else (offsets or {}).get(band, 0) for band in PIXEL}
    name = f"S2A_MSI{level}_20220615T101559_N{baseline.replace('.', '')}_R065_T32TPS_20220615T133454.SAFE"
    path, stem = folder / name, "T32TPS_20220615T101559"
    granule = path / "GRANULE" / f"{level}_T32TPS_A036466_20220615T101559"
    truth: dict[str, NDArray[np.float64]] = {}
    images: list[str] = []

    def image(part: str, values: NDArray[np.generic], pixel: int) -> None:
        _write_jp2(granule / f"{part}.jp2", values[None], pixel)
        images.append(f"{granule.relative_to(path).as_posix()}/{part}")

    for band, finest in PIXEL.items():
        if level == "L2A" and band == "B10":
            continue
        side = SIDE // finest
        reflectance = np.round(rng.uniform(-0.02, 0.7, (side, side)) * quantification) / quantification
        # 0 is no observation, and numbers have no sign: without an offset nothing below zero can be stored.
        reflectance = np.maximum(reflectance, (1 + added[band]) / quantification)
        numbers = np.round(reflectance * quantification - added[band]).astype(np.uint16)
        numbers[: side // 10 or 1, : side // 10 or 1] = 0
        truth[band] = np.where(numbers == 0, np.nan, reflectance)
        if level == "L1C":
            image(f"IMG_DATA/{stem}_{band}", numbers, finest)
            continue
        # Coarser copies hold other numbers: a reader that takes them is found out.
        for pixel in (pixel for pixel in (10, 20, 60) if pixel >= finest):
            copy = numbers if pixel == finest else np.full((SIDE // pixel,) * 2, 9_999, np.uint16)
            image(f"IMG_DATA/R{pixel}m/{stem}_{band}_{pixel}m", copy, pixel)
    if level == "L2A":
        classes = rng.integers(0, 12, (SIDE // 20,) * 2).astype(np.uint8)
        image(f"IMG_DATA/R20m/{stem}_SCL_20m", classes, 20)
        image(f"IMG_DATA/R60m/{stem}_SCL_60m", np.zeros((SIDE // 60,) * 2, np.uint8), 60)
    else:
        classes = rng.integers(0, 2, (SIDE // 60,) * 2).astype(np.uint8)
        others = np.zeros((2, *classes.shape), np.uint8)
        _write_jp2(granule / "QI_DATA" / "MSK_CLASSI_B00.jp2", np.concatenate([classes[None], others]), 60)
    metadata = path / f"MTD_MSI{level}.xml"
    listed = None if offsets is None else added
    metadata.write_text(_metadata(level, baseline, name, images, quantification, listed), "utf-8")
    (granule / "MTD_TL.xml").write_text("<n1:Level_Tile_ID xmlns:n1='https://psd-14.sentinel2.eo.esa.int'/>", "utf-8")
    (path / "manifest.safe").write_text(_manifest(path), "utf-8")
    return FakeSafe(path=path, truth=truth, classes=classes, metadata=metadata, granule=granule)


def zip_safe(safe: FakeSafe, *, name: str | None = None) -> Path:
    """Zip the product as the archive delivers it, the SAFE folder inside; the folder is removed."""
    packed = safe.path.parent / (name or f"{safe.path.stem}.zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(safe.path.rglob("*")):
            archive.write(file, file.relative_to(safe.path.parent).as_posix())
    shutil.rmtree(safe.path)
    return packed


def _write_jp2(path: Path, values: NDArray[np.generic], pixel: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", count=values.shape[0], height=values.shape[1], width=values.shape[2],
        dtype=values.dtype, crs="EPSG:32632", transform=Affine(pixel, 0, LEFT, 0, -pixel, TOP),
        QUALITY="100", REVERSIBLE="YES",
    ) as file:  # fmt: skip
        file.write(values)


def _manifest(path: Path) -> str:
    objects = "".join(
        f'<dataObject ID="{number}"><byteStream mimeType="application/octet-stream" size="{file.stat().st_size}">'
        f'<fileLocation locatorType="URL" href="./{file.relative_to(path).as_posix()}"/>'
        f'<checksum checksumName="SHA3-256">{hashlib.sha3_256(file.read_bytes()).hexdigest().upper()}</checksum>'
        "</byteStream></dataObject>"
        for number, file in enumerate(sorted(path.rglob("*.*")))
        # The metadata is left out so that tests may edit it.
        if file.suffix == ".jp2"
    )
    section = f"<dataObjectSection>{objects}</dataObjectSection>"
    return f"<xfdu:XFDU xmlns:xfdu='urn:ccsds:schema:xfdu:1'>{section}</xfdu:XFDU>"


def _metadata(
    level: str,
    baseline: str,
    name: str,
    images: list[str],
    quantification: int,
    offsets: Mapping[str, int] | None,
) -> str:
    files = "".join(f"<IMAGE_FILE>{image}</IMAGE_FILE>" for image in images)
    if level == "L2A":
        scale = (
            "<QUANTIFICATION_VALUES_LIST>"
            f'<BOA_QUANTIFICATION_VALUE unit="none">{quantification}</BOA_QUANTIFICATION_VALUE>'
            '<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE>'
            '<WVP_QUANTIFICATION_VALUE unit="cm">1000.0</WVP_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>'
        )
        group, key = "BOA_ADD_OFFSET_VALUES_LIST", "BOA_ADD_OFFSET"
    else:
        scale = f'<QUANTIFICATION_VALUE unit="none">{quantification}</QUANTIFICATION_VALUE>'
        group, key = "Radiometric_Offset_List", "RADIO_ADD_OFFSET"
    added = "" if offsets is None else "".join(
        f'<{key} band_id="{number}">{offsets[band]}</{key}>' for number, band in enumerate(PIXEL)
    )  # fmt: skip
    added = f"<{group}>{added}</{group}>" if added else ""
    spectral = "".join(
        f'<Spectral_Information bandId="{number}" physicalBand="{band.replace("B0", "B")}">'
        f"<RESOLUTION>{pixel}</RESOLUTION></Spectral_Information>"
        for number, (band, pixel) in enumerate(PIXEL.items())
    )
    number = "2A" if level == "L2A" else "1C"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{number}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{number}.xsd">
<n1:General_Info>
<Product_Info>
<PRODUCT_START_TIME>2022-06-15T10:16:10.000Z</PRODUCT_START_TIME>
<PRODUCT_URI>{name}</PRODUCT_URI>
<PROCESSING_LEVEL>Level-{number}</PROCESSING_LEVEL>
<PRODUCT_TYPE>S2MSI{number}</PRODUCT_TYPE>
<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
<Datatake datatakeIdentifier="GS2A_20220615T101559_036466_N{baseline}">
<SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME>
<DATATAKE_SENSING_START>{ACQUIRED}</DATATAKE_SENSING_START>
<SENSING_ORBIT_NUMBER>65</SENSING_ORBIT_NUMBER>
<SENSING_ORBIT_DIRECTION>DESCENDING</SENSING_ORBIT_DIRECTION>
</Datatake>
<Product_Organisation>
<Granule_List><Granule imageFormat="JPEG2000">{files}</Granule></Granule_List>
</Product_Organisation>
</Product_Info>
<Product_Image_Characteristics>
<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
<Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
{scale}{added}
<Spectral_Information_List>{spectral}</Spectral_Information_List>
</Product_Image_Characteristics>
</n1:General_Info>
</n1:Level-{number}_User_Product>
"""
