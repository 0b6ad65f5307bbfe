"""Statistics of scenes and of the training split: each pixel counts once, however often patches overlap on it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .modality import Modality
from .patches import PatchIndex
from .stack import AlignedStack, StackReader, StackWindow
from .statistics import BandStatistics, RunningStatistics

#: Edge of the windows over which pixels are streamed, px: two of the internal tiles of the aligned rasters.
WINDOW = 512


def training_statistics(
    index: PatchIndex, stacks: Mapping[str, AlignedStack], modalities: Sequence[Modality]
) -> dict[str, BandStatistics]:
    """Return the statistics of each modality over the valid pixels of the training patches, in network units.

    A pixel that several patches of a scene show counts once.

    Parameters
    ----------
    index
        Patches of all splits.
    stacks
        Scene -> where its pixels are.
    modalities
        What the statistics are taken of, in order.

    Raises
    ------
    DatasetError
        If no training patch has a valid pixel of a modality.
    """
    running = {item.name: RunningStatistics(bands=len(item.bands)) for item in modalities}
    table = index.of_split("train").table
    for scene, rows in table.groupby("scene", sort=False):
        boxes = rows[["row", "col", "height", "width"]].to_numpy(dtype=np.int64)
        stack = stacks[str(scene)]
        reader, shape = StackReader(stack), (int(stack.geobox.shape[0]), int(stack.geobox.shape[1]))
        for row, col, shown in covered(boxes, shape, edge=WINDOW):
            window = reader.read(row, col, height=shown.shape[0], width=shown.shape[1])
            _update(running, window, modalities, shown=shown)
    return {name: item.result() for name, item in running.items()}


def scene_statistics(stack: AlignedStack, modalities: Sequence[Modality]) -> dict[str, BandStatistics]:
    """Return the statistics of one scene's present modalities, over all its valid pixels, in network units.

    Raises
    ------
    DatasetError
        If a modality that is present has no valid pixel.
    """
    reader, shape = StackReader(stack), (int(stack.geobox.shape[0]), int(stack.geobox.shape[1]))
    running = {item.name: RunningStatistics(bands=len(item.bands)) for item in modalities if item.name in stack.present}
    for row, col, shown in covered(np.array([[0, 0, *shape]], dtype=np.int64), shape, edge=WINDOW):
        window = reader.read(row, col, height=shown.shape[0], width=shown.shape[1])
        _update(running, window, modalities, shown=shown)
    return {name: item.result() for name, item in running.items()}


def covered(
    boxes: NDArray[np.int64], shape: tuple[int, int], *, edge: int
) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Yield the part of a grid that boxes cover, window by window, each pixel once.

    Parameters
    ----------
    boxes
        int64 (n, 4): first row, first column, height, width; may reach beyond the grid and overlap.
    shape
        Rows and columns of the grid.
    edge
        Edge of the windows, px; those at the grid's end are smaller.

    Yields
    ------
    First row, first column, and bool (y, x): True where a box covers the window.
    """
    top, left = np.clip(boxes[:, 0], 0, shape[0]), np.clip(boxes[:, 1], 0, shape[1])
    bottom, right = np.clip(boxes[:, 0] + boxes[:, 2], 0, shape[0]), np.clip(boxes[:, 1] + boxes[:, 3], 0, shape[1])
    members: dict[tuple[int, int], list[int]] = {}
    for n in np.flatnonzero((bottom > top) & (right > left)).tolist():
        for row in range(top[n] // edge, (bottom[n] - 1) // edge + 1):
            for col in range(left[n] // edge, (right[n] - 1) // edge + 1):
                members.setdefault((row * edge, col * edge), []).append(n)
    for (row, col), boxes_here in sorted(members.items()):
        shown = np.zeros((min(edge, shape[0] - row), min(edge, shape[1] - col)), dtype=bool)
        for n in boxes_here:
            shown[max(top[n] - row, 0) : bottom[n] - row, max(left[n] - col, 0) : right[n] - col] = True
        yield row, col, shown


def _update(
    running: Mapping[str, RunningStatistics],
    window: StackWindow,
    modalities: Sequence[Modality],
    *,
    shown: NDArray[np.bool_],
) -> None:
    for modality in modalities:
        if modality.name in window.image:
            values = modality.to_network(window.image[modality.name])
            running[modality.name].update(values, window.valid[modality.name] & shown)
