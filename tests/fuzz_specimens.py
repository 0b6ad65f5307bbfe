"""One small valid specimen of everything that is read, and how each is read: what the fuzz tests damage."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import xarray as xr
import yaml
from fake_landsat import write_landsat
from fake_orbit import Geometry
from fake_sentinel1 import FakeGrd
from fake_sentinel2 import FakeSafe, write_safe, zip_safe
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.shutil import copy as copy_raster
from strategies import north_up, write_tiff

from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.patches import PatchIndex, footprint
from equipoise.datasets.registration_layer import RegistrationLayer
from equipoise.datasets.stack import AlignedStack

#: Rows and columns of the plain rasters: several tiles of 64 px, the last ones not full.
SHAPE = (150, 180)

GRID = north_up(*SHAPE)


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """Files that make up one input.

    Attributes
    ----------
    name
        For messages.
    folder
        Holds nothing else; a case is a copy of it with one file damaged.
    entry
        What a user names, relative to ``folder``.
    reader
        Which reader takes it, a key of ``fuzz_reading.READERS``.
    modality
        Bands wanted, where a modality is read.
    more
        Other files that are named: ``bands``, ``quality``.
    proven
        Whether a checksum protects every byte: then a damaged copy is refused or right.
    """

    name: str
    folder: Path
    entry: str
    reader: str
    modality: Modality | None = None
    more: dict[str, dict[str, str] | str] = field(default_factory=dict)
    proven: bool = False

    def victims(self) -> list[str]:
        """Files, relative to the folder, sorted."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


def build_specimens(folder: Path, rng: np.random.Generator) -> list[Specimen]:
    """Write every specimen below ``folder``, each in a folder of its own."""
    specimens = []
    for name, write in WRITERS.items():
        place = folder / name
        place.mkdir(parents=True)
        specimens.append(write(place, rng))
    return specimens


def modality(*bands: str, name: str = "eo", unit: Unit = Unit.REFLECTANCE, scale: float | None = None) -> Modality:
    """Bands of one unit."""
    return Modality(name=name, bands=tuple(Band(name=band, unit=unit, scale=scale) for band in bands))


def smooth(rng: np.random.Generator, count: int, shape: tuple[int, int] = SHAPE) -> NDArray[np.uint16]:
    """Digital numbers that compress, 0 in a corner."""
    rows, columns = np.indices(shape)
    wave = 2000 + 800 * np.sin(rows / 17) + 700 * np.cos(columns / 23)
    values = np.stack([wave + 100 * band + rng.integers(0, 40, shape) for band in range(count)]).astype(np.uint16)
    values[:, :9, :11] = 0
    return values


def _tiled(folder: Path, rng: np.random.Generator) -> Specimen:
    write_tiff(
        folder / "eo.tif", smooth(rng, 3), GRID, nodata=0, tags={"ACQUIRED": "2021-06-03T10:00:00Z"},
        tiled=True, blockxsize=64, blockysize=64, compress="deflate", predictor=2,
    )  # fmt: skip
    wanted = modality("blue", "green", "red", scale=1e-4)
    return Specimen(name="tiled", folder=folder, entry="eo.tif", reader="scene", modality=wanted)


def _cog(folder: Path, rng: np.random.Generator) -> Specimen:
    plain = write_tiff(folder / "plain.tif", smooth(rng, 1).astype(np.float32) / 50 + 250, GRID, nodata=np.nan)
    copy_raster(plain, folder / "ir.tif", driver="COG", BLOCKSIZE=128, COMPRESS="DEFLATE", PREDICTOR="YES")
    plain.unlink()
    wanted = modality("B10", name="ir", unit=Unit.KELVIN)
    return Specimen(name="cog", folder=folder, entry="ir.tif", reader="scene", modality=wanted)


def _striped(folder: Path, rng: np.random.Generator) -> Specimen:
    write_tiff(folder / "sar.tif", smooth(rng, 2).astype(np.float32) / 1e5, GRID, nodata=0)
    wanted = modality("VV", "VH", name="sar", unit=Unit.LINEAR_POWER)
    return Specimen(name="striped", folder=folder, entry="sar.tif", reader="scene", modality=wanted)


def _png(folder: Path, rng: np.random.Generator) -> Specimen:
    plain = write_tiff(folder / "plain.tif", (smooth(rng, 3) // 16).astype(np.uint8), GRID)
    copy_raster(plain, folder / "chip.png", driver="PNG", WORLDFILE="NO")
    plain.unlink()
    (folder / "chip.png.aux.xml").unlink(missing_ok=True)  # GDAL's own notes, which tell the position
    wanted = modality("red", "green", "blue", unit=Unit.DIGITAL_NUMBER)
    return Specimen(name="png", folder=folder, entry="chip.png", reader="chip", modality=wanted)


def _vrt(folder: Path, rng: np.random.Generator) -> Specimen:
    for name in ("left", "right"):
        write_tiff(folder / f"{name}.tif", smooth(rng, 1), GRID, nodata=0, compress="deflate")
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{name}.tif</SourceFilename><SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{SHAPE[1]}" ySize="{SHAPE[0]}"/>'
        f'<DstRect xOff="{offset}" yOff="0" xSize="{SHAPE[1]}" ySize="{SHAPE[0]}"/></SimpleSource>'
        for name, offset in (("left", 0), ("right", SHAPE[1]))
    )
    transform = ", ".join(str(value) for value in GRID.affine.to_gdal())
    (folder / "mosaic.vrt").write_text(
        f'<VRTDataset rasterXSize="{2 * SHAPE[1]}" rasterYSize="{SHAPE[0]}"><SRS>EPSG:32633</SRS><GeoTransform>'
        f'{transform}</GeoTransform><VRTRasterBand dataType="UInt16" band="1"><NoDataValue>0</NoDataValue>{sources}'
        "</VRTRasterBand></VRTDataset>"
    )
    wanted = modality("red", scale=1e-4)
    return Specimen(name="vrt", folder=folder, entry="mosaic.vrt", reader="scene", modality=wanted)


def _band_set(folder: Path, rng: np.random.Generator) -> Specimen:
    for name in ("B02", "B03"):
        write_tiff(folder / f"{name}.tif", smooth(rng, 1), GRID, nodata=0, compress="deflate")
    coarse = north_up(SHAPE[0] // 2, SHAPE[1] // 2, pixel=20.0)
    classes = rng.integers(2, 11, (1, *coarse.shape)).astype(np.uint8)
    write_tiff(folder / "SCL.tif", classes, coarse, compress="deflate")
    return Specimen(
        name="band_set", folder=folder, entry="", reader="scene", modality=modality("B02", "B03", scale=1e-4),
        more={"bands": {"B02": "B02.tif", "B03": "B03.tif"}, "quality": "SCL.tif"},
    )  # fmt: skip


def _netcdf(folder: Path, rng: np.random.Generator) -> Specimen:
    values = smooth(rng, 2, (60, 70)).astype(np.int16)
    grid = GeoBox((60, 70), GRID.affine, GRID.crs)
    axes = {name: (name, grid.coordinates[name].values, {"units": "metre"}) for name in ("y", "x")}
    axes["t"] = ("t", np.array([2, 40], dtype=np.int32), {"units": "days since 2020-11-01"})
    data = {
        name: (("t", "y", "x"), values + shift, {"grid_mapping": "crs", "_FillValue": np.int16(0)})
        for name, shift in (("B02", 0), ("B03", 50))
    }
    mapping = ((), np.int8(0), {"crs_wkt": grid.crs.to_wkt(), "spatial_ref": grid.crs.to_wkt()})
    cube = xr.Dataset({**data, "crs": mapping}, coords=axes, attrs={"Conventions": "CF-1.8"})
    cube.to_netcdf(folder / "cube.nc", engine="scipy")
    wanted = modality("B02@2020-11-03", "B03@2020-12-11", scale=1e-4)
    return Specimen(name="netcdf", folder=folder, entry="cube.nc", reader="chip", modality=wanted)


def _sentinel2(folder: Path, rng: np.random.Generator) -> Specimen:
    safe = _small_safe(folder, rng)
    return Specimen(
        name="sentinel2", folder=folder, entry=safe.path.name, reader="scene", modality=modality("blue", "B11"),
        proven=True,
    )  # fmt: skip


def _sentinel2_zip(folder: Path, rng: np.random.Generator) -> Specimen:
    packed = zip_safe(_small_safe(folder, rng), name="product.zip")
    return Specimen(
        name="sentinel2_zip", folder=folder, entry=packed.name, reader="scene", modality=modality("red", "B11"),
        proven=True,
    )  # fmt: skip


def _small_safe(folder: Path, rng: np.random.Generator) -> FakeSafe:
    """Write a product of few bands, so that damage falls on those that are read."""
    safe = write_safe(folder, rng)
    for name in ("B01", "B03", "B05", "B06", "B07", "B08", "B8A", "B09", "B12", "SCL_60m"):
        for file in safe.granule.rglob(f"*_{name}*.jp2"):
            file.unlink()
    kept = {file.stem for file in safe.path.rglob("*.jp2")}
    safe.metadata.write_text(_only(safe.metadata.read_text("utf-8").split("<IMAGE_FILE>"), kept), "utf-8")
    _list_all(safe.path)
    return safe


def _only(lines: list[str], kept: set[str]) -> str:
    text = lines[0]
    for line in lines[1:]:
        name, _, rest = line.partition("</IMAGE_FILE>")
        text += (f"<IMAGE_FILE>{name}</IMAGE_FILE>" if name.rsplit("/", 1)[-1] in kept else "") + rest
    return text


def _sentinel1(folder: Path, rng: np.random.Generator) -> Specimen:
    safe = FakeGrd(geometry=Geometry(shape=(90, 110)), looks=4.4).write(folder, rng=rng)
    _list_all(safe)
    wanted = modality("VV", "VH", name="sar", unit=Unit.LINEAR_POWER)
    return Specimen(name="sentinel1", folder=folder, entry=safe.name, reader="scene", modality=wanted, proven=True)


def _list_all(safe: Path) -> None:
    """Write a manifest that lists every other file with its MD5, keeping what else the manifest says."""
    manifest = safe / "manifest.safe"
    entries = "".join(
        f'<dataObject ID="o{number}"><byteStream mimeType="application/octet-stream" size="{file.stat().st_size}">'
        f'<fileLocation locatorType="URL" href="./{file.relative_to(safe).as_posix()}"/><checksum checksumName="MD5">'
        f"{hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()}</checksum></byteStream></dataObject>"
        for number, file in enumerate(sorted(path for path in safe.rglob("*") if path.is_file()))
        if file != manifest
    )
    before, _, _ = manifest.read_text("utf-8").partition("<dataObjectSection>")
    manifest.write_text(f"{before}<dataObjectSection>{entries}</dataObjectSection></xfdu:XFDU>", "utf-8")


def _landsat(folder: Path, rng: np.random.Generator) -> Specimen:
    product = write_landsat(folder, rng, level=2)
    for file in sorted(product.path.glob("*.TIF")):
        packed = file.with_suffix(".tmp")
        copy_raster(file, packed, driver="GTiff", COMPRESS="DEFLATE")
        packed.replace(file)
    wanted = modality("red", "nir08")
    return Specimen(name="landsat", folder=folder, entry=product.path.name, reader="scene", modality=wanted)


def _labels(folder: Path, rng: np.random.Generator) -> Specimen:
    classes = rng.integers(0, 3, (1, *SHAPE)).astype(np.uint8)
    classes[:, :20] = 255
    write_tiff(folder / "labels.tif", classes, GRID, nodata=255, compress="deflate")
    return Specimen(name="labels", folder=folder, entry="labels.tif", reader="labels")


def _stack(folder: Path, rng: np.random.Generator) -> Specimen:
    values = smooth(rng, 2).astype(np.float32)
    present = {
        name: write_tiff(folder / f"{name}.tif", values, GRID, nodata=np.nan, compress="deflate")
        for name in ("eo", "sar")
    }
    clouds = write_tiff(folder / "clouds.tif", np.zeros((1, *SHAPE), np.uint8), GRID, nodata=255, compress="deflate")
    layer, nodes = folder / "sar.registration.tif", north_up(5, 6, pixel=400.0, left=499_800.0, top=5_300_200.0)
    fields = dict(zip(("confidence", "radius90", "east", "north"), rng.uniform(0, 1, (4, 5, 6)), strict=True))
    RegistrationLayer(grid=nodes, **fields).save(layer)
    stack = AlignedStack(
        name="place", geobox=GRID, modalities=("eo", "sar", "ir"), present=present, missing={"ir": "never flown"},
        labels=None, clouds={"eo": clouds}, confidence={"eo": 1.0, "sar": 0.5}, registration={"sar": layer},
        acquired={"eo": "2021-06-03"}, group="event",
    )  # fmt: skip
    stack.save(folder / "stack.json")
    return Specimen(name="stack", folder=folder, entry="stack.json", reader="stack")


def _patches(folder: Path, rng: np.random.Generator) -> Specimen:
    rows = [
        {
            "scene": "place", "row": row, "col": column, "height": 32, "width": 32, "split": split, "label": 255,
            "valid_eo": float(rng.uniform()), "cloud_eo": float("nan"), "class_0": int(rng.integers(1024)),
            "geometry": footprint(GRID[row : row + 32, column : column + 32]),
        }
        for row in range(0, 128, 16)
        for column, split in zip(range(0, 128, 32), ("train", "train", "validation", "test"), strict=True)
    ]  # fmt: skip
    index = PatchIndex.from_rows(rows, modalities=("eo",), georeferenced=True)
    index.save(folder / "patches.parquet")
    return Specimen(name="patches", folder=folder, entry="patches.parquet", reader="patches")


def _configuration(folder: Path, rng: np.random.Generator) -> Specimen:
    for number in range(3):
        write_tiff(folder / f"{number}_eo.tif", smooth(rng, 1, (8, 8)), north_up(8, 8))
    (folder / "labels.csv").write_text("id,label,split,group\n0,0,train,rhine\n1,1,test,elbe\n2,0,validation,oder\n")
    record = {
        "name": "fuzzed", "seed": 3, "task": "classification",
        "modalities": {"eo": {"unit": "reflectance", "scale": 1e-4, "bands": ["red"], "nodata": 0}},
        "classes": [
            {"value": 0, "name": "dry", "color": "#102030"}, {"value": 1, "name": "wet", "color": "#a0b0c0"},
        ],
        "scenes": [
            {"name": "{id}", "files": {"eo": "{id}_eo.tif"}, "label_table": "labels.csv",
             "acquired": {"eo": "2021-06-03T10:00:00Z"}, "georeferenced": True},
        ],
        "tile": {"patch_size": 8, "min_valid": 0.5},
    }  # fmt: skip
    text = yaml.safe_dump(record, sort_keys=False)
    (folder / "config.yaml").write_text(f"# {json.dumps(record['name'])}\n{text}", encoding="utf-8")
    return Specimen(name="configuration", folder=folder, entry="config.yaml", reader="configuration")


def copy_of(specimen: Specimen, folder: Path, *, victim: str, content: bytes | None) -> Specimen:
    """Copy a specimen to ``folder`` with one file's bytes replaced, or without it, and return the copy."""
    for name in specimen.victims():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name != victim:
            shutil.copyfile(specimen.folder / name, target)
        elif content is not None:
            target.write_bytes(content)
    return replace(specimen, folder=folder)


def forget_checksums(folder: Path) -> None:
    """Take sizes and checksums out of the manifests below ``folder``, so that changed metadata are read."""
    for manifest in folder.rglob("manifest.safe"):
        text = manifest.read_text("utf-8", errors="replace")
        manifest.write_text(re.sub(r'<checksum.*?</checksum>| size="\d+"', "", text), "utf-8")


#: Name -> what writes the specimen into an empty folder.
WRITERS: dict[str, Callable[[Path, np.random.Generator], Specimen]] = {
    "tiled": _tiled, "cog": _cog, "striped": _striped, "png": _png, "vrt": _vrt, "band_set": _band_set,
    "netcdf": _netcdf, "sentinel2": _sentinel2, "sentinel2_zip": _sentinel2_zip, "sentinel1": _sentinel1,
    "landsat": _landsat, "labels": _labels, "stack": _stack, "patches": _patches, "configuration": _configuration,
}  # fmt: skip
