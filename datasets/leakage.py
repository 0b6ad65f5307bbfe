"""The leakage check: no pixel of one split comes within the buffer of a pixel of another."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from .errors import SplitError
from .ground_distance import areas_of, near_pairs

#: Windows that are looked up at once: bounds the memory of candidate pairs.
_CHUNK = 10_000

#: Split, first row, first column, height, width of a patch on its scene's grid.
PatchWindow = tuple[str, int, int, int, int]


def check_leakage(windows: Sequence[PatchWindow], *, buffer: int) -> None:
    """Refuse windows of different splits that come closer than ``buffer`` pixels on one grid.

    The distance is the larger of the rows and the columns that lie between.

    Parameters
    ----------
    windows
        (split, row, column, height, width) of one grid.
    buffer
        Pixels.

    Raises
    ------
    SplitError
        Naming the first pair that leaks.
    """
    splits = np.array([window[0] for window in windows])
    if len(np.unique(splits)) < 2:
        return
    boxes = np.array([window[1:] for window in windows], dtype=np.int64).reshape(-1, 4)
    top, left = boxes[:, 0], boxes[:, 1]
    bottom, right = top + boxes[:, 2], left + boxes[:, 3]
    whole = shapely.box(left, top, right, bottom)
    grown = shapely.box(left - buffer, top - buffer, right + buffer, bottom + buffer)
    for split, part in _parts(splits):
        # A tree of the others alone: patches of one split overlap by the hundred, and their pairs fill the memory.
        others = np.flatnonzero(splits != split)
        i, j = shapely.STRtree(whole[others]).query(grown[part]).astype(np.int64)
        i, j = part[i], others[j]
        vertical = np.maximum(top[i] - bottom[j], top[j] - bottom[i])
        horizontal = np.maximum(left[i] - right[j], left[j] - right[i])
        if (leaks := np.flatnonzero(np.maximum(vertical, horizontal) < buffer)).size:
            pair = min(sorted((int(i[leak]), int(j[leak]))) for leak in leaks)
            raise SplitError(_refusal(windows[pair[0]], windows[pair[1]], buffer=buffer))


def _parts(splits: NDArray[np.str_]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield each split but the largest, and some of its windows at a time."""
    names, counts = np.unique(splits, return_counts=True)
    for name in names[np.argsort(counts, kind="stable")][:-1]:
        own = np.flatnonzero(splits == name)
        yield from ((str(name), own[start : start + _CHUNK]) for start in range(0, len(own), _CHUNK))


def _refusal(one: PatchWindow, other: PatchWindow, *, buffer: int) -> str:
    return (
        f"found a {one[0]} patch at row {one[1]}, column {one[2]} within {buffer} px of a {other[0]} patch at row "
        f"{other[1]}, column {other[2]}; wanted no such pair; tile again with a larger `tile.buffer`"
    )


def check_scenes(
    windows: Mapping[str, Sequence[PatchWindow]], grids: Mapping[str, GeoBox], *, buffer: int
) -> None:  # fmt: skip
    """Refuse patches of different splits that come too close: on each grid, and on the ground between scenes.

    Between scenes the buffer is ``buffer`` of the larger pixels of the two, measured on the ground (see
    :func:`~equipoise.datasets.ground_distance.near_pairs`); where it is 0, patches may touch and not overlap. Scenes
    without a CRS have no place: they are checked by themselves only.

    Parameters
    ----------
    windows
        Scene -> its patches, (split, row, column, height, width).
    grids
        Scene -> its grid.
    buffer
        Pixels.

    Raises
    ------
    SplitError
        Naming a pair that leaks.
    """
    for found in windows.values():
        check_leakage(found, buffer=buffer)
    placed = [name for name in windows if windows[name] and grids[name].crs is not None]
    if len(placed) < 2:
        return
    boxes = []
    for name in placed:
        box = np.array([window[1:] for window in windows[name]], dtype=np.int64)
        box[:, 2:] += box[:, :2]
        boxes.append(box)
    every = [(name, window) for name in placed for window in windows[name]]
    kind = np.unique([window[0] for _, window in every], return_inverse=True)[1]
    scenes = np.repeat(np.arange(len(placed)), [len(box) for box in boxes])
    first, second = near_pairs(areas_of([grids[name] for name in placed], boxes), kind, buffer=buffer)
    between = np.flatnonzero(scenes[first] != scenes[second])
    if between.size == 0:
        return
    (scene, one), (neighbour, other) = every[first[between[0]]], every[second[between[0]]]
    raise SplitError(
        f"found a {one[0]} patch of scene '{scene}' (row {one[1]}, column {one[2]}) within {buffer} px of a {other[0]} "
        f"patch of scene '{neighbour}' (row {other[1]}, column {other[2]}) on the ground; wanted no such pair; give "
        "overlapping scenes the same `split`, or a larger `tile.buffer`"
    )
