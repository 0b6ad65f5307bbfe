"""Invented grids, masks and stacks for property tests: drawn by hypothesis, written as ordinary rasters."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from equipoise.datasets.registration_layer import RegistrationLayer
from equipoise.datasets.stack import IGNORE, AlignedStack

#: Zones on both sides of the equator, the first and the last of them at the antimeridian.
UTM_ZONES = ("EPSG:32601", "EPSG:32631", "EPSG:32633", "EPSG:32660", "EPSG:32721", "EPSG:32756")

#: Sides that have broken tilers: one pixel, primes, one less and one more than a power of two.
ODD_SIDES = (1, 2, 3, 7, 13, 31, 33, 61)


def north_up(
    height: int,
    width: int,
    *,
    pixel: float = 10.0,
    left: float = 500_000.0,
    top: float = 5_300_000.0,
    crs: str | None = "EPSG:32633",
) -> GeoBox:
    """An ordinary grid, its upper left corner at (`left`, `top`)."""
    return GeoBox((height, width), Affine(pixel, 0.0, left, 0.0, -pixel, top), crs)


def sides(*, largest: int = 64) -> st.SearchStrategy[int]:
    """Rows or columns of a grid, awkward ones often."""
    return st.sampled_from([side for side in ODD_SIDES if side <= largest]) | st.integers(1, largest)


@st.composite
def geoboxes(
    draw: st.DrawFn,
    *,
    largest: int = 64,
    rotated: bool | None = None,
    zones: tuple[str, ...] = UTM_ZONES,
) -> GeoBox:
    """Grids in several UTM zones at any sub-pixel position; ``rotated`` None draws north-up and rotated ones."""
    turned = draw(st.booleans()) if rotated is None else rotated
    angle = draw(st.floats(-60.0, 60.0)) if turned else 0.0
    pixel = draw(st.sampled_from([0.3, 1.5, 10.0, 30.0]))
    left, top = draw(st.floats(300_000.0, 700_000.0)), draw(st.floats(1_000_000.0, 9_000_000.0))
    affine = Affine.translation(left, top) * Affine.rotation(angle) * Affine.scale(pixel, -pixel)
    return GeoBox((draw(sides(largest=largest)), draw(sides(largest=largest))), affine, draw(st.sampled_from(zones)))


def valid_masks(shape: tuple[int, int]) -> st.SearchStrategy[NDArray[np.bool_]]:
    """Masks (y, x), True = usable: nothing, everything, half a swath, single pixels."""
    half = np.zeros(shape, dtype=bool)
    half[:, : shape[1] // 2] = True
    return st.sampled_from([np.zeros(shape, bool), np.ones(shape, bool), half]) | hnp.arrays(np.bool_, shape)


@dataclass(frozen=True, kw_only=True)
class InventedStack:
    """A stack in memory: what its files will hold.

    Attributes
    ----------
    geobox
        The common grid.
    modalities
        Names in order; those without an entry in ``image`` are missing.
    image
        Modality -> float32 (band, y, x), NaN where not valid.
    labels
        uint8 (y, x), 255 = not labelled.
    """

    geobox: GeoBox
    modalities: tuple[str, ...]
    image: dict[str, NDArray[np.float32]]
    labels: NDArray[np.uint8] | None

    def write(self, folder: Path, *, name: str = "invented") -> AlignedStack:
        """Write every modality and the labels as a GeoTIFF below ``folder`` and return their stack."""
        folder.mkdir(parents=True, exist_ok=True)
        present = {
            modality: write_tiff(folder / f"{modality}.tif", values, self.geobox, nodata=np.nan)
            for modality, values in self.image.items()
        }
        labels = None
        if self.labels is not None:
            labels = write_tiff(folder / "labels.tif", self.labels[None], self.geobox, nodata=IGNORE)
        absent = {modality: "never flown" for modality in self.modalities if modality not in present}
        return AlignedStack(
            name=name, geobox=self.geobox, modalities=self.modalities, present=present, missing=absent, labels=labels
        )


@st.composite
def stacks(draw: st.DrawFn, *, largest: int = 40, classes: int = 3) -> InventedStack:
    """Stacks of one to three modalities with holes; a modality or the labels may be missing."""
    geobox = draw(geoboxes(largest=largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    modalities = draw(st.permutations(["eo", "sar", "ir"]))[: draw(st.integers(1, 3))]
    image = {}
    for modality in modalities:
        if modality != modalities[0] and draw(st.booleans()):
            continue
        values = rng.uniform(0.01, 1.0, (draw(st.integers(1, 4)), *geobox.shape)).astype(np.float32)
        values[:, ~draw(valid_masks(tuple(geobox.shape)))] = np.nan
        image[modality] = values
    labels = rng.choice([*range(classes), IGNORE], geobox.shape).astype(np.uint8) if draw(st.booleans()) else None
    return InventedStack(geobox=geobox, modalities=tuple(modalities), image=image, labels=labels)


def registration_layer(confidence: NDArray[np.floating], geobox: GeoBox) -> RegistrationLayer:
    """A layer of that confidence (y, x), two nodes or more a side, its outermost nodes on the edges of ``geobox``."""
    rows, cols = confidence.shape
    steps = Affine.scale(geobox.shape[1] / (cols - 1), geobox.shape[0] / (rows - 1))
    lattice = GeoBox((rows, cols), geobox.affine * steps * Affine.translation(-0.5, -0.5), geobox.crs)
    radius90 = np.where(confidence > 0, 20 - 15 * confidence, np.nan)
    zero = np.zeros((rows, cols))
    return RegistrationLayer(grid=lattice, confidence=confidence, radius90=radius90, east=zero + 3, north=zero)


def write_tiff(
    path: Path,
    values: NDArray[np.generic],
    geobox: GeoBox,
    *,
    nodata: float | None = None,
    tags: dict[str, str] | None = None,
    **creation: object,
) -> Path:
    """Write (band, y, x) with rasterio alone, as a user's own file would be; return ``path``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # files without a position are wanted here
        with rasterio.open(
            path, "w", driver="GTiff", count=values.shape[0], height=values.shape[1], width=values.shape[2],
            dtype=values.dtype, crs=None if geobox.crs is None else geobox.crs.to_wkt(), transform=geobox.affine,
            nodata=nodata, **creation,
        ) as file:  # fmt: skip
            file.write(values)
            file.update_tags(**(tags or {}))
    return path
