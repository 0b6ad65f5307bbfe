"""Pixels of one chip: every modality opened with its units, brought onto the grid of the first, labels beside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from ..errors import SceneError
from ..modality import Modality
from ..product import quiet_open
from ..scene import first_line
from ..warp import warp
from .chip_image import ChipImage, open_image
from .errors import BenchmarkError
from .label_files import read_chip_labels
from .pixel_window import PixelWindow
from .public_dataset import Chip, ChipGrid, PublicDataset


@dataclass(frozen=True, kw_only=True)
class ChipPixels:
    """What a chip holds.

    Attributes
    ----------
    image
        Modality -> float32 (band, y, x) in working units (radar in linear power), NaN where not valid; only modalities
        that the chip has.
    labels
        Class values, uint8 (y, x), 255 = not labelled; None where there are no labels.
    geobox
        Grid of the window on the chip's first modality; its CRS may be None.
    """

    image: dict[str, NDArray[np.float32]]
    labels: NDArray[np.uint8] | None
    geobox: GeoBox


def chip_grid(dataset: PublicDataset, chip: Chip, modalities: Sequence[Modality]) -> GeoBox:
    """Return the grid of the first modality that a chip has; only headers are read.

    Raises
    ------
    BenchmarkError
        If the chip has none of the modalities.
    SceneError
        If a file cannot be opened.
    """
    return next(iter(_images(dataset, chip, modalities).values())).grid


def _images(dataset: PublicDataset, chip: Chip, modalities: Sequence[Modality]) -> dict[str, ChipImage]:
    images = {
        modality.name: open_image(chip.files[modality.name], modality, georeferenced=dataset.georeferenced)
        for modality in modalities
        if modality.name in chip.files
    }
    if not images:
        raise BenchmarkError(
            f"chip '{chip.id}' of {dataset.name}: found modalities {', '.join(chip.files)}; wanted one of "
            f"{', '.join(modality.name for modality in modalities)}; choose others, or leave the chip out"
        )
    return images


def read_chip(
    dataset: PublicDataset, chip: Chip, modalities: Sequence[Modality], *, window: PixelWindow | None = None
) -> ChipPixels:
    """Read a chip, or a window of it.

    Parameters
    ----------
    dataset, chip
        What to read.
    modalities
        Those wanted, in order; the first that the chip has is the reference for position and size.
    window
        Part of the reference grid; None reads all of it.

    Raises
    ------
    BenchmarkError
        If modalities that share a pixel grid differ in size, or the chip has none of them.
    SceneError, LabelError
        If a file cannot be read or is not what the data set declares.
    """
    images = _images(dataset, chip, modalities)
    whole = next(iter(images.values())).grid
    part = PixelWindow.whole(whole) if window is None else window
    pixels = {}
    for name, found in images.items():
        pixels[name] = _on_reference(found, whole, part, dataset)
        if (hidden := chip.masks.get(name)) is not None:
            pixels[name][:, _hidden(hidden, found.grid, part)] = np.nan
    labels = None if chip.labels is None else read_chip_labels(dataset, chip.labels, whole, part)
    return ChipPixels(image=pixels, labels=labels, geobox=part.of(whole))


def _on_reference(image: ChipImage, whole: GeoBox, part: PixelWindow, dataset: PublicDataset) -> NDArray[np.float32]:
    """Return the window's pixels of an image, whatever its own grid."""
    own = image.grid
    if dataset.grid is ChipGrid.OWN:
        return image.read(slice(0, own.shape[0]), slice(0, own.shape[1]))
    placed = own.crs is not None and whole.crs is not None
    if placed and (own.crs != whole.crs or own.shape != whole.shape):
        return warp(image.scene(), part.of(whole))
    if placed and is_elsewhere(own, whole):
        raise BenchmarkError(
            f"{image.paths[0]}: found an image of another place than the other modalities of its chip in "
            f"{dataset.name}; wanted one place; unpack the data set again"
        )
    if own.shape != whole.shape and dataset.grid is ChipGrid.SHARED:
        raise BenchmarkError(
            f"{image.paths[0]}: found {own.shape.x} x {own.shape.y} px without a position; wanted the {whole.shape.x} "
            f"x {whole.shape.y} px of its chip in {dataset.name}; unpack images of one release"
        )
    rows, cols = part.inside(own)
    if part == PixelWindow.whole(own):
        return image.read(rows, cols)
    out = np.full((len(image.modality.bands), part.height, part.width), np.nan, dtype=np.float32)
    if rows.stop > rows.start and cols.stop > cols.start:
        out[:, *part.place(rows, cols)] = image.read(rows, cols)
    return out


def is_elsewhere(one: GeoBox, other: GeoBox) -> bool:
    """Say whether the middle of one grid lies outside of another of the same CRS.

    Chips of one size are published pixel on pixel: what their headers differ by, be it the last digits or a few pixels
    that a manual alignment left in them, does not move them. Another place altogether is a mistake.
    """
    height, width = other.shape
    x, y = ~other.affine * (one.affine * (one.shape[1] / 2, one.shape[0] / 2))
    return not (0 <= x <= width and 0 <= y <= height)


def _hidden(path: Path, grid: GeoBox, part: PixelWindow) -> NDArray[np.bool_]:
    rows, cols = part.inside(grid)
    out = np.zeros((part.height, part.width), dtype=bool)
    try:
        with quiet_open(path) as source:
            if source.shape != tuple(grid.shape):
                raise SceneError(
                    f"{path}: found a mask of {source.width} x {source.height} px; wanted the image's {grid.shape.x} x "
                    f"{grid.shape.y} px; unpack it again"
                )
            out[part.place(rows, cols)] = source.read(1, window=Window.from_slices(rows, cols)) > 0
    except (RasterioError, OSError) as error:
        raise SceneError(f"{path}: found a mask that cannot be read ({first_line(error)}); unpack it again") from error
    return out
