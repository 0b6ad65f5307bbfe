"""The modality of a bare file: which bands it holds, and in which unit they are, where nothing was declared."""

from pathlib import Path

from ..datasets.errors import SceneError
from ..datasets.grd import product_polarisations
from ..datasets.landsat import read_landsat
from ..datasets.modality import Band, Modality, Unit
from ..datasets.opening import Handling, family_of, open_scene
from ..datasets.product import Product
from ..datasets.raster_product import raster_product
from ..datasets.scene import Scene
from ..datasets.sentinel2 import read_sentinel2

#: Beginnings of the names of bands that hold codes, not what was observed.
CODES = ("qa", "bqa", "scl", "mask")

#: Pixels on each side of the middle that are looked at for the sign.
LOOK = 256

#: Names by which radar bands are known.
POLARISATIONS = frozenset({"vv", "vh", "hh", "hv"})


def open_file(path: Path, *, name: str, unit: Unit | None = None) -> Scene:
    """Open a file or product with all bands that share a unit, without a configuration.

    Products tell their units. Of a plain raster, bands called VV, VH, HH or HV are backscatter, in decibels where any
    is negative; others are taken as they are.

    Parameters
    ----------
    path
        A raster, a SAFE folder or archive, or a Landsat folder.
    name
        Name of the modality.
    unit
        Unit of all bands; None: as above. Of a product that has bands of several units, those of this one are taken.

    Raises
    ------
    SceneError
        If it does not open, or has no such band.
    """
    family, place = family_of(path)
    if family == "sentinel-1":
        bands = tuple(Band(name=item, unit=Unit.LINEAR_POWER) for item in sorted(product_polarisations(place)))
        return open_scene(path, Modality(name=name, bands=bands))
    product = product_of(family, place)
    plain = family == "raster"
    chosen = unit or product.bands[0].unit
    members = [
        band for band in product.bands
        if (plain or band.unit is chosen) and not band.name.lower().startswith(CODES)
    ]  # fmt: skip
    if not members:
        raise SceneError(f"{path}: found no band in {chosen}; wanted one of {sorted({b.unit for b in product.bands})}")
    names = [band.name for band in members] if len({band.name for band in members}) == len(members) else None
    bands = tuple(
        Band(
            name=names[number] if names else f"band_{number + 1}", unit=chosen,
            index=member.index if plain else None,
        )
        for number, member in enumerate(members)
    )  # fmt: skip
    if plain and unit is None and all(band.name.lower() in POLARISATIONS for band in bands):
        backscatter = Unit.DB if _any_negative(path, Modality(name=name, bands=bands)) else Unit.LINEAR_POWER
        bands = tuple(Band(name=band.name, unit=backscatter, index=band.index) for band in bands)
    return open_scene(path, Modality(name=name, bands=bands))


def product_of(family: str, place: Path) -> Product:
    """Return what :func:`~equipoise.datasets.opening.family_of` recognised; not for Sentinel-1."""
    if family == "sentinel-2":
        return read_sentinel2(place)
    if family == "landsat":
        return read_landsat(place)
    return raster_product(place, None)


def _any_negative(path: Path, modality: Modality) -> bool:
    scene = open_scene(path, modality, georeferenced=False, handling=Handling(clouds="keep"))
    middle = tuple(slice(max(0, edge // 2 - LOOK), edge // 2 + LOOK) for edge in scene.geobox.shape)
    values = scene.read((middle[0], middle[1]))
    return bool((values < 0).any())  # NaN is not less
