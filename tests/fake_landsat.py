"""Small Landsat products in the real layouts, with MTL metadata in text and JSON, whose physical values are known."""

import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from strategies import north_up, write_tiff

#: Rows and columns of the 30 m bands; band 8 has twice as many.
SHAPE = (24, 32)

SUN_ELEVATION = 41.25

#: Sensor -> its bands, and K1 and K2 of those that are thermal.
BANDS = {
    "OLI_TIRS": ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"),
    "ETM": ("1", "2", "3", "4", "5", "6_VCID_1", "6_VCID_2", "7", "8"),
    "TM": ("1", "2", "3", "4", "5", "6", "7"),
}
THERMAL = {
    "OLI_TIRS": {"10": (774.8853, 1321.0789), "11": (480.8883, 1201.1442)},
    "ETM": {"6_VCID_1": (666.09, 1282.71), "6_VCID_2": (666.09, 1282.71)},
    "TM": {"6": (607.76, 1260.56)},
}

Groups = dict[str, dict[str, object]]


@dataclass(frozen=True, kw_only=True)
class FakeLandsat:
    """What was written.

    Attributes
    ----------
    path
        The product's folder.
    truth
        Band as the reader names it -> reflectance or kelvin, float64 (y, x), NaN at fill.
    step
        Band -> largest error that comes from storing integers.
    quality
        The quality band as stored.
    mtl
        The MTL text file; a JSON of the same content lies beside it for Collection 2.
    """

    path: Path
    truth: Mapping[str, NDArray[np.float64]]
    step: Mapping[str, float]
    quality: NDArray[np.uint16]
    mtl: Path


def write_landsat(
    folder: Path,
    rng: np.random.Generator,
    *,
    generation: str = "c2",
    level: int = 1,
    sensor: str = "OLI_TIRS",
    sun_elevation: float = SUN_ELEVATION,
) -> FakeLandsat:
    """Write a product below ``folder``.

    Parameters
    ----------
    folder
        Made if it does not exist.
    rng
        Source of the physical values.
    generation
        ``c2``, ``c1`` or ``pre`` (before collections; as c1, without its number).
    level
        1 or, for ``c2`` only, 2.
    sensor
        ``OLI_TIRS`` (Landsat 8), ``ETM`` (7) or ``TM`` (5).
    sun_elevation
        Degrees; enters the reflectance of level 1.
    """
    spacecraft = {"OLI_TIRS": "LANDSAT_8", "ETM": "LANDSAT_7", "TM": "LANDSAT_5"}[sensor]
    letters = {"OLI_TIRS": "LC08", "ETM": "LE07", "TM": "LT05"}[sensor]
    tail = "_02_T1" if generation == "c2" else "_01_T1"
    product = f"{letters}_L{'2SP' if level == 2 else '1TP'}_197024_20170614_20200903{tail}"
    product = f"{letters}0200392015216LGN00" if generation == "pre" else product
    path = folder / product
    path.mkdir(parents=True)
    files: dict[str, object] = {}
    rescaling: dict[str, object] = {}
    constants: dict[str, object] = {}
    truth: dict[str, NDArray[np.float64]] = {}
    step: dict[str, float] = {}
    for order, band in enumerate(BANDS[sensor]):
        thermal = band in THERMAL[sensor]
        if level == 2 and (band in ("8", "9", "11")):
            continue
        shape = (2 * SHAPE[0], 2 * SHAPE[1]) if band == "8" else SHAPE
        key = f"ST_B{band}" if thermal and level == 2 else band
        if level == 2:
            name = key if thermal else f"SR_B{band}"
            stem, mult, add = ("TEMPERATURE", 0.00341802, 149.0) if thermal else ("REFLECTANCE", 2.75e-05, -0.2)
        else:
            name = f"B{band}"
            stem, mult, add = ("RADIANCE", 3.342e-04, 0.1) if thermal else ("REFLECTANCE", 2e-05, -0.1)
        mult += order * 1e-7 if not thermal else 0.0  # every band its own figures: a neighbour's are found out
        rescaling |= {f"{stem}_MULT_BAND_{key}": repr(mult), f"{stem}_ADD_BAND_{key}": repr(add)}
        physical = rng.uniform(250.0, 320.0, shape) if thermal else rng.uniform(-0.01, 0.6, shape)
        stored = physical
        if level == 1 and thermal:
            first, second = THERMAL[sensor][band]
            constants |= {f"K1_CONSTANT_BAND_{band}": first, f"K2_CONSTANT_BAND_{band}": second}
            stored = first / (np.exp(second / physical) - 1)  # Planck's law for the band: radiance of the temperature
        elif level == 1:
            stored = physical * np.sin(np.radians(sun_elevation))
        numbers = np.round((stored - add) / mult).astype(np.uint16)
        numbers[:3, :5] = 0
        truth[name] = np.where(numbers == 0, np.nan, physical)
        # One step of radiance is at most 0.02 K at these temperatures, one of reflectance mult / sin(elevation).
        step[name] = 0.02 if thermal else mult / (1.0 if level == 2 else np.sin(np.radians(abs(sun_elevation))))
        files[f"FILE_NAME_BAND_{key}"] = f"{product}_{name}.TIF"
        grid = north_up(*shape, pixel=15.0 if band == "8" else 30.0)
        write_tiff(path / f"{product}_{name}.TIF", numbers[None], grid)
    quality = rng.choice([1, 21824, 22280, 23888, 22080], SHAPE).astype(np.uint16)
    suffix = "QA_PIXEL" if generation == "c2" else "BQA"
    write_tiff(path / f"{product}_{suffix}.TIF", quality[None], north_up(*SHAPE, pixel=30.0))
    quality_key = "FILE_NAME_QUALITY_L1_PIXEL" if generation == "c2" else "FILE_NAME_BAND_QUALITY"
    files[quality_key] = f"{product}_{suffix}.TIF"
    sensor_id = "OLI_TIRS" if sensor == "OLI_TIRS" else sensor
    identity = {
        "SPACECRAFT_ID": spacecraft, "SENSOR_ID": sensor_id, "WRS_PATH": 197, "WRS_ROW": 24,
        "DATE_ACQUIRED": "2017-06-14", "SCENE_CENTER_TIME": "10:23:45.1234567Z",
    }  # fmt: skip
    arrange = _collection_2 if generation == "c2" else _before
    groups = arrange(product, files, identity, rescaling, constants, sun_elevation, level)
    if generation == "c1":
        groups["METADATA_FILE_INFO"]["COLLECTION_NUMBER"] = "01"
    root = "LANDSAT_METADATA_FILE" if generation == "c2" else "L1_METADATA_FILE"
    mtl = path / f"{product}_MTL.txt"
    mtl.write_text(as_text(root, groups), "ascii")
    if generation == "c2":
        texts = {group: {key: str(value) for key, value in keys.items()} for group, keys in groups.items()}
        mtl.with_suffix(".json").write_text(json.dumps({root: texts}, indent=2), "ascii")
    return FakeLandsat(path=path, truth=truth, step=step, quality=quality, mtl=mtl)


def as_text(root: str, groups: Groups) -> str:
    """Write groups as USGS does: numbers and dates bare, text in quotes, END at the end."""
    lines = [f"GROUP = {root}"]
    for group, keys in groups.items():
        lines += [f"  GROUP = {group}", *(f"    {key} = {_literal(value)}" for key, value in keys.items())]
        lines.append(f"  END_GROUP = {group}")
    return "\n".join([*lines, f"END_GROUP = {root}", "END", ""])


def tar_landsat(product: FakeLandsat) -> Path:
    """Pack the product's files into an uncompressed tar, without a folder, as USGS delivers it."""
    packed = product.path.with_suffix(".tar")
    with tarfile.open(packed, "w") as archive:
        for file in sorted(product.path.iterdir()):
            archive.add(file, file.name)
    return packed


def _literal(value: object) -> str:
    text = str(value)
    bare = text.replace(".", "").replace("-", "").replace("e", "").replace("+", "").isdigit() and " " not in text
    return text if bare else f'"{text}"'


def _collection_2(
    product: str,
    files: dict[str, object],
    identity: dict[str, object],
    rescaling: dict[str, object],
    constants: dict[str, object],
    sun_elevation: float,
    level: int,
) -> Groups:
    record = {"ORIGIN": "Image courtesy of the U.S. Geological Survey", "COLLECTION_NUMBER": 2}
    named = {"LANDSAT_PRODUCT_ID": product, "PROCESSING_LEVEL": "L2SP" if level == 2 else "L1TP"}
    groups: Groups = {
        "PRODUCT_CONTENTS": {**record, **named, **files},
        "IMAGE_ATTRIBUTES": {**identity, "SUN_AZIMUTH": 140.1, "SUN_ELEVATION": sun_elevation},
    }
    if level == 1:
        return {
            **groups,
            "LEVEL1_PROCESSING_RECORD": record,
            "LEVEL1_RADIOMETRIC_RESCALING": rescaling,
            "LEVEL1_THERMAL_CONSTANTS": constants,
        }
    # The level 1 figures come in the same file under the same keys: taking them would be wrong.
    source = {key: value for key, value in files.items() if "ST_" not in key}
    return {
        **groups,
        "LEVEL2_PROCESSING_RECORD": {**record, "PROCESSING_LEVEL": "L2SP"},
        "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {key: v for key, v in rescaling.items() if key[0] == "R"},
        "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS": {key: v for key, v in rescaling.items() if key[0] == "T"},
        "LEVEL1_PROCESSING_RECORD": {
            "PROCESSING_LEVEL": "L1TP",
            **{key: str(name).replace("L2SP", "L1TP").replace("SR_", "") for key, name in source.items()},
        },
        "LEVEL1_RADIOMETRIC_RESCALING": {key: 2e-05 if "MULT" in key else -0.1 for key in rescaling if key[0] == "R"},
    }


def _before(
    product: str,
    files: dict[str, object],
    identity: dict[str, object],
    rescaling: dict[str, object],
    constants: dict[str, object],
    sun_elevation: float,
    level: int,
) -> Groups:
    thermal = "TIRS_THERMAL_CONSTANTS" if identity["SENSOR_ID"] == "OLI_TIRS" else "THERMAL_CONSTANTS"
    return {
        "METADATA_FILE_INFO": {"LANDSAT_SCENE_ID": product},
        "PRODUCT_METADATA": {"DATA_TYPE": "L1T", **identity, **files},
        "IMAGE_ATTRIBUTES": {"SUN_ELEVATION": sun_elevation},
        "RADIOMETRIC_RESCALING": rescaling,
        thermal: constants,
    }
