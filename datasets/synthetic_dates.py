"""An invented place that was photographed twice, where each date tells what the other cannot.

Three classes: ``meadow``, ``winter_crop``, which differs from the meadow in the image of May alone, and
``summer_crop``, which differs from it in that of July alone. To either image the two other classes look the same (same
mean, same texture), so that a network must read both; no bound of nature is claimed for the spectra.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .ground import draw_ground
from .sensing import CRS, FINE, area_box, detected, ground_box, ground_margin, write_raster

CLASS_NAMES = ("meadow", "winter_crop", "summer_crop")
CLASS_COLORS = ("#7fb069", "#e9b824", "#b5651d")
MODALITIES = ("july", "may")
"""Order that the values of ``informative.tif`` count in; the first is the day that is mapped."""

ACQUIRED = {"july": "2024-07-12T10:30:00Z", "may": "2024-05-03T10:30:00Z"}
"""Acquisition times that the files carry."""

_BANDS = ("blue", "green", "red", "nir")
_BACKGROUND, _OWN = (0.045, 0.075, 0.060, 0.300), (0.085, 0.120, 0.170, 0.210)
_TELLS = {"may": 1, "july": 2}
_TEXTURE = 0.06  # of the brightness, one standard deviation
_NONE = 255


@dataclass(frozen=True, kw_only=True)
class TwoDates:
    """Files of one place at two dates."""

    paths: dict[str, Path]
    """Image of each date: uint16, reflectance times 10000 of blue, green, red and nir, tagged with its time."""

    labels: Path
    """True classes, uint8 0-2."""

    informative: Path
    """Index into `MODALITIES` of the date that tells the class, uint8, 255 where neither does alone."""

    crs: str = CRS
    """Coordinate reference system of all of them."""


def write_two_dates(
    folder: Path, *, size: int = 256, seed: int = 0, acquired: dict[str, str] | None = None
) -> TwoDates:
    """Invent a place and write its images as GeoTIFFs; equal arguments give equal pixels.

    Parameters
    ----------
    folder
        Where to write; made if absent.
    size
        Side in pixels of 10 m, at least 128.
    seed
        Seed of all randomness.
    acquired
        Date -> acquisition time that its file carries, ISO 8601; a date that is left out carries none. None:
        :data:`ACQUIRED`.

    Raises
    ------
    ValueError
        If the place is too small for its classes.
    """
    if size < 128:
        raise ValueError(f"found size={size}; wanted at least 128 px, so that all classes have room")
    times = ACQUIRED if acquired is None else acquired
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    margin = ground_margin(size) * FINE
    fine = draw_ground(ground_box(size), rng=rng, pixel=FINE).classes[margin:-margin:FINE, margin:-margin:FINE]
    classes = (fine // 2).astype(np.uint8)  # pairs of the six classes of the other invented scene
    box = area_box(size)
    paths = {
        name: write_raster(
            folder / f"{name}.tif", detected(_seen(classes, told=_TELLS[name], rng=rng), rng=rng), box=box,
            names=_BANDS, nodata=0, tags={"acquired": times[name]} if name in times else {},
        )
        for name in MODALITIES
    }  # fmt: skip
    informative = np.full_like(classes, _NONE)
    for name, told in _TELLS.items():
        informative[classes == told] = MODALITIES.index(name)
    return TwoDates(
        paths=paths,
        labels=write_raster(
            folder / "labels.tif", classes[None], box=box, names=("class",), nodata=_NONE, tags={}
        ),
        informative=write_raster(
            folder / "informative.tif", informative[None], box=box, names=("informative_modality",), nodata=_NONE,
            tags={"modalities": ",".join(MODALITIES)},
        ),
    )  # fmt: skip


def _seen(classes: npt.NDArray[np.uint8], *, told: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return reflectance (band, y, x), 0-1, of a date on which one class looks unlike the others."""
    own = np.where((classes == told)[..., None], np.asarray(_OWN), np.asarray(_BACKGROUND))
    texture = ndimage.gaussian_filter(rng.normal(size=classes.shape), 2.0)
    bright = np.exp(_TEXTURE * texture / texture.std())
    return np.moveaxis(own * bright[..., None], -1, 0).astype(np.float32)
