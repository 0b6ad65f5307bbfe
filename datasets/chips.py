"""Synthetic chips for classification: small optical and radar images with one label each."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from .fractal import fractal_field
from .ground import CLASS_NAMES, Ground, backscatter, reflectance
from .sensing import CRS, FINE, detected, observe, speckled, write_raster

CHIP_NAMES = ("bare", "grassland", "flooded_forest")
"""Label names: ``grassland`` is told by ``eo`` alone, ``flooded_forest`` by ``sar`` alone."""

_BACKGROUND = CLASS_NAMES.index("unheated_buildings")  # looks like any other ground to eo and to sar
_PIXEL, _MARGIN, _LOOKS = 10.0, 8, 4.4
_SPLITS = ("train", "train", "train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class SyntheticChips:
    """Files and truth of a set of synthetic chips."""

    folder: Path
    """Holds ``eo/<id>.tif`` and ``sar/<id>.tif``: the same grid for each id."""

    labels: Path
    """CSV with the columns ``id``, ``label`` (0-2) and ``split`` (train, validation or test)."""

    class_names: tuple[str, ...] = CHIP_NAMES
    """Name of each label."""

    modalities: tuple[str, ...] = ("eo", "sar")
    """Modality order."""


def write_chips(folder: Path, *, count: int = 60, size: int = 64, seed: int = 0) -> SyntheticChips:
    """Invent chips whose label one modality alone can tell.

    A chip holds plain ground and a patch over about 40 % of it. In a ``grassland`` chip ``eo`` sees the patch, in a
    ``flooded_forest`` chip ``sar`` does, in a ``bare`` chip no sensor does. Bands, units and nodata are as in
    `equipoise.datasets.synthetic.write_scene`; there are no clouds, no nodata and no misregistration.

    Parameters
    ----------
    folder
        Where to write; made if absent.
    count
        Number of chips. Labels take turns; of every 15 chips 9 are for training, 3 for validation, 3 for testing.
    size
        Side of a chip in pixels of 10 m, at least 16.
    seed
        Seed of all randomness.

    Returns
    -------
    SyntheticChips
        Paths and truth.

    Raises
    ------
    ValueError
        If the chips are too small to hold a patch.
    """
    if size < 16:
        raise ValueError(f"found size={size}; wanted at least 16 px, so that a patch has room")
    rng = np.random.default_rng(seed)
    for modality in ("eo", "sar"):
        (folder / modality).mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        name, label = f"chip_{number:04d}", number % len(CHIP_NAMES)
        _write_chip(folder, name=name, number=number, patch=CHIP_NAMES[label], size=size, rng=rng)
        rows.append((name, label, _SPLITS[number // len(CHIP_NAMES) % len(_SPLITS)]))
    labels = folder / "labels.csv"
    with labels.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("id", "label", "split"), *rows])
    return SyntheticChips(folder=folder, labels=labels)


def _write_chip(folder: Path, *, name: str, number: int, patch: str, size: int, rng: np.random.Generator) -> None:
    left, top = 600_000.0 + 2 * size * _PIXEL * (number % 10), 5_340_000.0 - 2 * size * _PIXEL * (number // 10)
    box = GeoBox((size, size), Affine(_PIXEL, 0.0, left, 0.0, -_PIXEL, top), CRS)
    step, edge = _PIXEL / FINE, _MARGIN * _PIXEL
    side = (size + 2 * _MARGIN) * FINE
    fine = GeoBox((side, side), Affine(step, 0.0, left - edge, 0.0, -step, top + edge), CRS)
    shape = fractal_field((side, side), rng=rng, longest=float(side), shortest=8.0 * FINE)
    inside = CLASS_NAMES.index(patch) if patch in CLASS_NAMES else _BACKGROUND
    classes = np.where(shape > np.quantile(shape, 0.6), inside, _BACKGROUND).astype(np.uint8)
    ground = Ground(geobox=fine, classes=classes, structure=np.zeros_like(classes))
    tables = {"eo": reflectance(ground, rng=rng), "sar": backscatter(ground, rng=rng)}
    seen = {
        modality: observe(field, ground=fine, box=box, shift=(0.0, 0.0), footprint_m=4.0)
        for modality, field in tables.items()
    }
    write_raster(
        folder / "eo" / f"{name}.tif", detected(seen["eo"], rng=rng), box=box, nodata=0, scale=1e-4,
        names=("blue", "green", "red", "nir"), tags={"modality": "eo", "units": "reflectance"},
    )  # fmt: skip
    write_raster(
        folder / "sar" / f"{name}.tif", speckled(seen["sar"], looks=_LOOKS, rng=rng), box=box, nodata=0.0,
        names=("VV", "VH"), tags={"modality": "sar", "units": "linear_power"},
    )  # fmt: skip
