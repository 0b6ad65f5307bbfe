"""Opening: from what a user names to a scene, whatever product it is."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from .archive import open_archive
from .errors import SceneError
from .landsat import read_landsat
from .modality import Modality
from .product import product_scene, with_quality
from .quality import QualityScheme
from .raster_product import band_set, quality_file, raster_product
from .scene import Scene
from .sentinel1 import open_sentinel1
from .sentinel2 import read_sentinel2
from .source import Source, as_source
from .speckle import SpeckleFilter, filtered
from .terrain import terrain_corrected


@dataclass(frozen=True, kw_only=True)
class Handling:
    """What is done to a scene when it is opened, beyond units and nodata.

    Attributes
    ----------
    clouds
        ``mask``: cloud and shadow are not valid; ``keep``: they stay, and are only recorded.
    quality
        How the numbers of a quality raster that is named beside the scene are to be read.
    speckle
        Filter on linear power, or None.
    calibration
        Backscatter of a Sentinel-1 product: ``sigma0``, ``gamma0`` or ``beta0``.
    dem
        Heights in metres for the terrain correction of a Sentinel-1 product; None: its tie points alone.
    geoid_height
        Added to the DEM's heights, m: height of the geoid over the ellipsoid at the scene.
    """

    clouds: Literal["mask", "keep"] = "mask"
    quality: QualityScheme = QualityScheme.MASK
    speckle: SpeckleFilter | None = None
    calibration: Literal["sigma0", "gamma0", "beta0"] = "sigma0"
    dem: Path | None = None
    geoid_height: float = 0.0


def open_scene(
    source: Path | Source, modality: Modality, *, georeferenced: bool = True, handling: Handling | None = None
) -> Scene:
    """Open a raster or a delivered product as a scene of ``modality``; only headers and metadata are read.

    Recognised are Sentinel-2 L1C and L2A and Sentinel-1 GRD as SAFE folders or their .zip, Landsat Level 1 and 2 as
    folders with their MTL file, one file a band, and every raster that GDAL reads (GeoTIFF, COG, VRT, PNG, NetCDF).

    Parameters
    ----------
    source
        What was delivered.
    modality
        Bands wanted. Scale, offset, nodata and unit that it declares go before those of the product.
    georeferenced
        False for chips that share a pixel grid but carry no position.
    handling
        Clouds, speckle, calibration; None: clouds are masked, nothing is filtered.

    Raises
    ------
    SceneError
        If something is missing, unreadable, without CRS, or disagrees with the declaration.
    """
    given, wanted = as_source(source), handling or Handling()
    scene = _recognised(given, modality, georeferenced=georeferenced, handling=wanted)
    if given.quality is not None:
        scene = with_quality(scene, quality_file(given.quality, wanted.quality))
    if wanted.speckle is not None and all(band.is_backscatter for band in scene.modality.bands):
        scene = filtered(scene, wanted.speckle)
    return scene.without_clouds() if wanted.clouds == "mask" else scene


def _recognised(source: Source, modality: Modality, *, georeferenced: bool, handling: Handling) -> Scene:
    if source.path is None:
        return product_scene(band_set(source, modality), modality, georeferenced=georeferenced)
    family, path = family_of(source.path)
    if family == "sentinel-2":
        return product_scene(read_sentinel2(path), modality)
    if family == "sentinel-1":
        if handling.dem is None:
            return open_sentinel1(path, modality, calibration=handling.calibration)
        return terrain_corrected(
            path, modality, handling.dem, calibration=handling.calibration, geoid_height=handling.geoid_height
        )
    if family == "landsat":
        return product_scene(read_landsat(path), modality)
    return product_scene(raster_product(path, modality), modality, georeferenced=georeferenced)


def family_of(path: Path) -> tuple[str, Path]:
    """Say what a path names: ``sentinel-1``, ``sentinel-2``, ``landsat`` or ``raster``, and what their readers take.

    A product's metadata file (``MTD_MSIL2A.xml``, ``manifest.safe``, ``..._MTL.txt``) stands for its product.

    Raises
    ------
    SceneError
        If it is a folder or an archive that holds none of these products.
    """
    for family, pattern in _MARKS:
        if path.is_file() and fnmatchcase(path.name.lower(), pattern.lower()):
            return family, path
    if not path.is_dir() and path.suffix.lower() not in (".zip", ".tar"):
        return "raster", path
    archive = open_archive(path)
    for family, pattern in _MARKS:
        if archive.find(pattern):
            return family, path
    raise SceneError(
        f"{path}: found a folder or archive that is no product known here; wanted a Sentinel-1 GRD or Sentinel-2 SAFE, "
        "or a Landsat folder with its MTL file; name one raster, or one file a band"
    )


#: Files by which products are told apart. Both Sentinels have a manifest: Sentinel-2 is looked for first.
_MARKS = (
    ("sentinel-2", "MTD_MSIL*.xml"),
    ("sentinel-1", "manifest.safe"),
    ("landsat", "*_MTL.txt"),
    ("landsat", "*_MTL.json"),
)
