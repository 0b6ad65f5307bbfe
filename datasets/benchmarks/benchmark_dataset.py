"""Benchmark chips as a torch data set: the same sample as that of patches, whatever the publishers' layout."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.warp import rio_reproject
from torch.utils.data import Dataset

from ..modality import Modality
from ..stack import IGNORE
from ..statistics import BandStatistics, RunningStatistics
from ..warp import AVERAGE_FROM
from .chip_reader import ChipPixels, chip_grid, read_chip
from .errors import BenchmarkError
from .pixel_window import PixelWindow
from .public_dataset import Chip, ChipGrid, PublicDataset, Task


class BenchmarkDataset(Dataset[dict[str, Any]]):
    """Samples of a public data set.

    A sample holds what a sample of the project's own patches (``PatchDataset``) holds: ``image`` (modality ->
    float32 (band, y, x) in network units: dB for radar of known units, reflectance, or numbers as stored; 0 where not
    valid), ``valid`` (modality -> bool (y, x)), ``available`` (bool (M,), False = the whole modality is missing), and
    ``mask`` (int64 (y, x), position of the class, 255 = not labelled) or ``label`` (int64 (), 255 = unknown); besides
    ``id`` (text), and for chips with a position ``crs`` (text: the EPSG code, or WKT where there is none),
    ``transform`` (float64 (6,), affine of the upper left corner) and ``bounds`` (float64 (4,): left, bottom, right, top
    in units of the CRS).

    Files are opened at each read and closed again, so that worker processes share no handle.

    Parameters
    ----------
    public
        The data set.
    chips
        What ``public.chips(root, split)`` listed, or some of it (for splits by :attr:`Chip.group`).
    modalities
        Names of those wanted, in order; None takes all. The first that a chip has gives the grid.
    statistics
        Modality -> statistics by which it is normalised; None leaves network units.
    patch
        Edge in pixels of the windows into which chips are cut, row by row; windows at the lower and right edges reach
        beyond the chip, where nothing is valid. None gives whole chips.
    common_size
        For data sets whose modalities have pixels of their own: stretch each to so many pixels squared.

    Raises
    ------
    BenchmarkError
        If a modality is unknown, or ``patch`` and ``common_size`` do not fit how the data set's pixels lie.
    """

    def __init__(
        self,
        public: PublicDataset,
        chips: Sequence[Chip],
        *,
        modalities: Sequence[str] | None = None,
        statistics: Mapping[str, BandStatistics] | None = None,
        patch: int | None = None,
        common_size: int | None = None,
    ) -> None:
        known = {modality.name: modality for modality in public.modalities}
        wanted = tuple(known) if modalities is None else tuple(modalities)
        if unknown := [name for name in wanted if name not in known]:
            raise BenchmarkError(f"found modality '{unknown[0]}'; wanted some of {', '.join(known)} of {public.name}")
        own_pixels = public.grid is ChipGrid.OWN
        if (common_size is not None and not own_pixels) or (patch is not None and own_pixels):
            raise BenchmarkError(
                f"found {'`patch`' if own_pixels else '`common_size`'} for {public.name}, whose modalities have "
                f"{'pixels of their own' if own_pixels else 'one pixel grid'}; wanted "
                f"{'`common_size`' if own_pixels else '`patch`'} or neither"
            )
        self.public = public
        self.modalities = tuple(known[name] for name in wanted)
        self._statistics = statistics
        self._common_size = common_size
        self._items = [(chip, window) for chip in chips for window in self._windows(chip, patch)]
        self._lookup = np.full(256, IGNORE, dtype=np.uint8)
        self._lookup[list(public.class_values)] = np.arange(len(public.classes), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, position: int) -> dict[str, Any]:
        chip, pixels = self.pixels(position)
        sample: dict[str, Any] = {"id": chip.id, "image": {}, "valid": {}}
        available = []
        for modality in self.modalities:
            values, valid = self._network(modality, pixels)
            sample["image"][modality.name] = torch.from_numpy(values)
            sample["valid"][modality.name] = torch.from_numpy(valid)
            available.append(bool(valid.any()))
        sample["available"] = torch.tensor(available)
        if self.public.task is Task.CLASSIFICATION:
            value = IGNORE if chip.label is None else int(self._lookup[chip.label])
            sample["label"] = torch.tensor(value, dtype=torch.int64)
        else:
            unlabelled = np.full(tuple(pixels.geobox.shape), IGNORE, dtype=np.uint8)
            labels = unlabelled if pixels.labels is None else self._lookup[pixels.labels]
            sample["mask"] = torch.from_numpy(labels.astype(np.int64))
        return sample | _position(pixels.geobox)

    def pixels(self, position: int) -> tuple[Chip, ChipPixels]:
        """Return a sample's chip and its pixels in working units, before they become tensors."""
        chip, window = self._items[position]
        pixels = read_chip(self.public, chip, self.modalities, window=window)
        if self._common_size is None:
            return chip, pixels
        size = (self._common_size, self._common_size)
        image = {modality.name: _stretched(pixels.image[modality.name], modality, size)
                 for modality in self.modalities if modality.name in pixels.image}  # fmt: skip
        return chip, ChipPixels(image=image, labels=None, geobox=GeoBox(size, Affine.identity(), None))

    def _windows(self, chip: Chip, patch: int | None) -> list[PixelWindow | None]:
        if patch is None:
            return [None]
        height, width = chip_grid(self.public, chip, self.modalities).shape
        return [
            PixelWindow(row=row, col=col, height=patch, width=patch)
            for row in range(0, height, patch)
            for col in range(0, width, patch)
        ]

    def _network(self, modality: Modality, pixels: ChipPixels) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        working = pixels.image.get(modality.name)
        if working is None:
            shape = tuple(pixels.geobox.shape)
            return np.zeros((len(modality.bands), *shape), dtype=np.float32), np.zeros(shape, dtype=bool)
        valid = np.asarray(np.isfinite(working).all(axis=0))
        values = modality.to_network(working)
        if self._statistics is not None:
            values = self._statistics[modality.name].normalise(values)
        return np.where(valid, values, np.float32(0)), valid


def chip_statistics(dataset: BenchmarkDataset) -> dict[str, BandStatistics]:
    """Return mean and standard deviation of every band over the valid pixels of a data set, in network units.

    Parameters
    ----------
    dataset
        Training chips only, or what is measured leaks into what is judged.

    Raises
    ------
    DatasetError
        If a modality has no valid pixel.
    """
    running = {modality.name: RunningStatistics(bands=len(modality.bands)) for modality in dataset.modalities}
    for position in range(len(dataset)):
        _, pixels = dataset.pixels(position)
        for modality in dataset.modalities:
            if (working := pixels.image.get(modality.name)) is not None:
                valid = np.asarray(np.isfinite(working).all(axis=0))
                running[modality.name].update(modality.to_network(working), valid)
    return {name: item.result() for name, item in running.items()}


def _stretched(values: NDArray[np.float32], modality: Modality, size: tuple[int, int]) -> NDArray[np.float32]:
    """Bring (band, y, x) to another size: both are taken to show the same square of ground."""
    ratio = min(values.shape[1] / size[0], values.shape[2] / size[1])
    out = np.full((values.shape[0], *size), np.nan, dtype=np.float32)
    for number, band in enumerate(modality.bands):
        rule = "average" if ratio >= AVERAGE_FROM else band.resampling
        source, target = _square(values.shape[1:]), _square(size)
        rio_reproject(values[number], out[number], source, target, rule, np.nan, np.nan)
    return out


def _square(shape: tuple[int, ...]) -> GeoBox:
    """Return a grid over a kilometre squared: somewhere, since only the two sizes matter."""
    height, width = shape
    return GeoBox((height, width), Affine(1000 / width, 0, 0, 0, -1000 / height, 1000), "EPSG:3857")


def _position(geobox: GeoBox) -> dict[str, Any]:
    if geobox.crs is None:
        return {}
    box = geobox.extent.boundingbox
    return {
        "crs": str(geobox.crs) if geobox.crs.epsg is None else f"EPSG:{geobox.crs.epsg}",
        "transform": torch.tensor(list(geobox.affine)[:6], dtype=torch.float64),
        "bounds": torch.tensor([box.left, box.bottom, box.right, box.top], dtype=torch.float64),
    }
