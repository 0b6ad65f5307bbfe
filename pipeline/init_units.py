"""What a file's values look like, where the file tells no unit: a proposal, and never more than that."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..datasets.modality import Unit
from ..datasets.product import BandFile
from ..datasets.raster_product import raster_product
from ..datasets.scene import Scene
from .file_modality import LOOK, POLARISATIONS

#: Names that tell what sort of sensor it is.
_RADAR = {"sar", "radar"}
_THERMAL = {"ir", "tir", "thermal"}
_OPTICAL = {"eo", "optical", "msi"}

#: Reflectance of bright cloud and of sun glint in the mirror direction.
_MOST_REFLECTANCE = 1.6

#: Reflectance as Sentinel-2 has it is times this.
_COUNTS = 10_000


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What the values in the middle of a file look like.

    Attributes
    ----------
    low, high
        Percentiles 1 and 99 of the valid values, with the file's own scale and offset; NaN where there are none.
    unit
        That they may be in; None: in none that is known of this sort of sensor.
    scale
        To that unit; None: 1, or the file's own.
    """

    low: float
    high: float
    unit: Unit | None
    scale: float | None = None

    @property
    def range(self) -> str:
        """The values in words."""
        return "no valid values in its middle" if np.isnan(self.low) else f"values {self.low:.4g} to {self.high:.4g}"


def looks_of(scene: Scene, name: str) -> Looks:
    """Return what the values of a file without a unit look like.

    Parameters
    ----------
    scene
        A plain raster, opened as digital numbers; the middle of it is read.
    name
        Of the modality, or of the file: words in it, and the names of the bands, tell optical, radar and thermal apart.
    """
    values = _scaled(scene, middle_of(scene))
    values = values[np.isfinite(values)]
    if not values.size:
        return Looks(low=float("nan"), high=float("nan"), unit=None)
    low, high = (float(edge) for edge in np.percentile(values, (1, 99)))
    unit, scale = _unit(_kind(scene, name), low, high, float(values.max()))
    return Looks(low=low, high=high, unit=unit, scale=scale)


def middle_of(scene: Scene) -> NDArray[np.float32]:
    """Read the middle of a scene, float32 (band, y, x) in its working units."""
    rows, columns = (slice(max(0, edge // 2 - LOOK), edge // 2 + LOOK) for edge in scene.geobox.shape)
    return scene.read((rows, columns))


def _scaled(scene: Scene, layers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values (band, y, x) with the scale and offset of the file's header: these hold once a unit is declared."""
    headers = raster_product(scene.path, None).bands
    # Bands of a NetCDF file lie in rasters of their own, all at place 1; bands of others may share a name.
    names = {band.name: band for band in headers}
    places: dict[int | None, BandFile] = {band.index: band for band in headers}
    # A band without a place in the file is that of its turn.
    found = [
        names[band.name] if band.name in names else places[band.index or turn]
        for turn, band in enumerate(scene.modality.bands, start=1)
    ]
    factors = np.array([[1.0 if item.scale is None else item.scale, item.offset or 0.0] for item in found], np.float32)
    return layers * factors[:, 0, None, None] + factors[:, 1, None, None]


def _kind(scene: Scene, name: str) -> str:
    polarised = all(band.lower() in POLARISATIONS for band in scene.modality.band_names)
    words = set(re.findall("[a-z]+", name.lower()))
    for kind, names in (("radar", _RADAR), ("thermal", _THERMAL), ("optical", _OPTICAL)):
        if words & names or (kind == "radar" and polarised):
            return kind
    return "other"


def _unit(kind: str, low: float, high: float, top: float) -> tuple[Unit | None, float | None]:
    if kind == "radar":
        if low < 0:
            return (Unit.DB if low > -70 and high < 30 else None), None
        return (Unit.LINEAR_POWER if high < 10 else None), None
    if kind == "thermal":
        return (Unit.KELVIN if low >= 150 and high <= 400 and top > 255 else None), None
    if kind == "optical" and low > -0.3:
        if high <= _MOST_REFLECTANCE:
            return Unit.REFLECTANCE, None
        if top > 255 and high <= _MOST_REFLECTANCE * _COUNTS:
            return Unit.REFLECTANCE, 1 / _COUNTS
    return None, None
