"""The synthetic scene: optical, radar and thermal files whose truth is known.

The scene is a designed experiment, not a simulation of nature. Its six classes form three pairs. Each pair can be
told apart by one sensor alone, and to that sensor all four other classes look the same (same mean, same texture):

============================================  ==================================================
pair                                          is told by
============================================  ==================================================
``forest``, ``flooded_forest``                ``sar`` (4 dB below and 4 dB above the background)
``grassland``, ``cropland``                   ``eo`` (two spectra)
``unheated_buildings``, ``heated_buildings``  ``ir`` (5.5 K below and 6 K above the background)
============================================  ==================================================

So one sensor alone names its own pair and must guess among the other four classes; all three together name all six.
Roads and small patches, drawn without regard to the classes, are seen by every sensor: they give the images the
common edges that co-registration needs. The thermal image was taken on another, clear day; clouds affect ``eo`` only.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .clouds import SHADOW, THICK, THIN, draw_clouds
from .ground import CLASS_COLORS, CLASS_MODALITY, CLASS_NAMES, Ground, draw_ground
from .sensing import (
    CRS,
    FINE,
    area_box,
    eo_unseen,
    ground_box,
    ground_margin,
    sar_unseen,
    write_eo,
    write_ir,
    write_raster,
    write_sar,
)

MODALITIES = ("eo", "sar", "ir")
"""Order that the values of ``informative.tif`` count in."""

_NONE = 255
_BORDER = 2  # pixels on each side of a class border that no sensor tells safely

_Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class SyntheticScene:
    """Files and truth of one synthetic scene."""

    folder: Path
    """Folder that holds the files."""

    paths: dict[str, Path]
    """File of each modality, in the order of `modalities`."""

    labels: Path
    """True classes, uint8 0-5, on the grid of ``eo``."""

    informative: Path
    """Index into `modalities` of the sensor that tells the class, uint8, 255 where none does, on the grid of ``eo``."""

    clouds: Path
    """0 clear, 1 thin cloud, 2 thick cloud, 3 shadow, 255 nodata, uint8, on the grid of ``eo``."""

    truth: Path
    """The figures below and more, as JSON."""

    true_shift_m: dict[str, tuple[float, float]]
    """Per modality the vector (east, north) in metres that must be ADDED to a position read from the file's
    georeferencing to get the true position; (0, 0) for ``eo``."""

    looks: float
    """Equivalent number of looks of the speckle in ``sar``."""

    class_names: tuple[str, ...] = CLASS_NAMES
    """Name of each label value."""

    class_colors: tuple[str, ...] = CLASS_COLORS
    """Colour of each label value, ``#rrggbb``."""

    modalities: tuple[str, ...] = MODALITIES
    """Modality order."""


def write_scene(
    folder: Path,
    *,
    size: int = 1024,
    seed: int = 0,
    looks: float = 4.4,
    sar_shift_m: tuple[float, float] = (37.3, -21.8),
    ir_shift_m: tuple[float, float] = (-24.0, 18.5),
    thick_share: float = 0.08,
    thin_share: float = 0.10,
) -> SyntheticScene:
    """Invent a scene and write it as GeoTIFFs, as a user's own files would be.

    ``eo.tif`` is uint16 reflectance times 10000 (blue, green, red, nir; 10 m; nodata 0), ``sar.tif`` float32 gamma0
    in linear power (VV, VH; 10 m on a grid that is shifted and rotated by 0.6 degrees; nodata 0) and ``ir.tif``
    float32 kelvin (30 m, blurred by its footprint, noise of 0.3 K; nodata -9999). One corner of ``eo`` and another
    of ``sar`` are nodata. Equal arguments give equal bytes.

    Parameters
    ----------
    folder
        Where to write; made if absent, files of the same names are replaced.
    size
        Side of the mapped area in pixels of 10 m, at least 128.
    seed
        Seed of all randomness.
    looks
        Equivalent number of looks: the speckle is multiplicative, gamma distributed, mean 1, variance ``1 / looks``.
    sar_shift_m, ir_shift_m
        Error of the georeferencing, at most 100 m a component, signed as `SyntheticScene.true_shift_m`: (east, north)
        to be added to a position read from the file.
    thick_share, thin_share
        Shares of the area under thick and thin cloud in ``eo``, 0-1.

    Returns
    -------
    SyntheticScene
        Paths and truth.

    Raises
    ------
    ValueError
        If the area is too small, a shift reaches beyond the drawn ground, or the clouds fill the area.
    """
    shifts = {"eo": (0.0, 0.0), "sar": sar_shift_m, "ir": ir_shift_m}
    _check(size=size, shifts=shifts, cloud_share=thick_share + thin_share)
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    ground = draw_ground(ground_box(size), rng=rng, pixel=FINE)
    clouds = draw_clouds((size, size), rng=rng, thick_share=thick_share, thin_share=thin_share)
    paths = {
        "eo": write_eo(folder, ground, clouds=clouds, rng=rng, seed=seed),
        "sar": write_sar(folder, ground, size=size, shift=sar_shift_m, looks=looks, rng=rng, seed=seed),
        "ir": write_ir(folder, ground, size=size, shift=ir_shift_m, rng=rng, seed=seed),
    }
    codes = np.where(eo_unseen(size), _NONE, clouds.codes).astype(np.uint8)
    told = _informative(ground, codes=codes, sar_shift=sar_shift_m)
    classes = _mapped(ground.classes, size=size)
    labels, informative, cloud_file = _write_maps(folder, classes=classes, told=told, codes=codes)
    figures = {"seed": seed, "size": size, **_counted(classes=classes, told=told, codes=codes)}
    scene = SyntheticScene(
        folder=folder, paths=paths, labels=labels, informative=informative, clouds=cloud_file,
        truth=folder / "truth.json", true_shift_m=shifts, looks=looks,
    )  # fmt: skip
    _write_truth(scene, figures)
    return scene


def _check(*, size: int, shifts: Mapping[str, tuple[float, float]], cloud_share: float) -> None:
    if size < 128:
        raise ValueError(f"found size={size}; wanted at least 128 px, so that all six classes have room")
    furthest = max(abs(metres) for shift in shifts.values() for metres in shift)
    if furthest > 100.0:
        raise ValueError(f"found a shift of {furthest:g} m; wanted at most 100 m: the drawn ground ends there")
    if not 0.0 <= cloud_share <= 0.9:
        raise ValueError(f"found clouds over {cloud_share:.0%}; wanted 0-90 %: lower thick_share or thin_share")


def _mapped(fine: _Codes, *, size: int) -> _Codes:
    """Return the most frequent value of `fine` in each 10 m pixel of the area, (y, x)."""
    margin = ground_margin(size) * FINE
    blocks = fine[margin:-margin, margin:-margin].reshape(size, FINE, size, FINE)
    votes = [(blocks == value).sum(axis=(1, 3)) for value in range(int(fine.max()) + 1)]
    return np.argmax(votes, axis=0).astype(np.uint8)


def _informative(ground: Ground, *, codes: _Codes, sar_shift: tuple[float, float]) -> _Codes:
    """Return the index of the modality that tells each pixel's class, 255 where none does, (y, x).

    None does near class borders, on roads and patches (they look alike whatever they cross), and where the one sensor
    that could is blind: behind thick cloud, in shadow, outside the swath. Thin cloud lets the spectra through.
    """
    size = codes.shape[0]
    classes = _mapped(ground.classes, size=size)
    told = np.array([MODALITIES.index(name) for name in CLASS_MODALITY], dtype=np.uint8)[classes]
    reach = 2 * _BORDER + 1
    border = ndimage.maximum_filter(classes, reach) != ndimage.minimum_filter(classes, reach)
    structure = _mapped((ground.structure > 0).astype(np.uint8), size=size) > 0
    blind = {"eo": np.isin(codes, (THICK, SHADOW, _NONE)), "sar": sar_unseen(size, shift=sar_shift)}
    hidden = [unseen & (told == MODALITIES.index(name)) for name, unseen in blind.items()]
    told[border | structure | np.any(hidden, axis=0)] = _NONE
    return told


def _write_maps(folder: Path, *, classes: _Codes, told: _Codes, codes: _Codes) -> tuple[Path, Path, Path]:
    box = area_box(classes.shape[0])
    labels = write_raster(
        folder / "labels.tif", classes[None], box=box, names=("class",), nodata=_NONE, colors=CLASS_COLORS,
        tags={"class_names": ",".join(CLASS_NAMES)},
    )  # fmt: skip
    informative = write_raster(
        folder / "informative.tif", told[None], box=box, names=("informative_modality",), nodata=_NONE,
        tags={"modalities": ",".join(MODALITIES)},
    )  # fmt: skip
    clouds = write_raster(
        folder / "clouds.tif", codes[None], box=box, names=("clouds",), nodata=_NONE,
        tags={"codes": "0 clear,1 thin,2 thick,3 shadow"},
    )  # fmt: skip
    return labels, informative, clouds


def _counted(*, classes: _Codes, told: _Codes, codes: _Codes) -> dict[str, object]:
    """Return shares of the area, 0-1."""
    sky = {"thin": THIN, "thick": THICK, "shadow": SHADOW, "nodata": _NONE}
    return {
        "class_shares": {name: round(float((classes == i).mean()), 4) for i, name in enumerate(CLASS_NAMES)},
        "informative_shares": {name: round(float((told == i).mean()), 4) for i, name in enumerate(MODALITIES)},
        "eo_cover_shares": {name: round(float((codes == code).mean()), 4) for name, code in sky.items()},
    }


def _write_truth(scene: SyntheticScene, figures: Mapping[str, object]) -> None:
    separable = {
        modality: [name for name, teller in zip(CLASS_NAMES, CLASS_MODALITY, strict=True) if teller == modality]
        for modality in scene.modalities
    }
    record = {
        **figures,
        "crs": CRS,
        "modalities": scene.modalities,
        "looks": scene.looks,
        "true_shift_m": scene.true_shift_m,
        "true_shift_convention": "add (east, north) in metres to a position read from the file to get the true one",
        "class_names": scene.class_names,
        "class_colors": scene.class_colors,
        "separable": separable,
    }
    scene.truth.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
