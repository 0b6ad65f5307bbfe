"""Unlabelled patches: what stage distill may learn from, apart from all that is measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from ..datasets.ground_distance import areas_of, near_pairs

#: Split of patches of training places that have too few labels to train on.
UNLABELLED = "unlabelled"

Rows = Sequence[Mapping[str, Any]]


def apart(
    rows: Mapping[str, Rows], grids: Mapping[str, GeoBox], *, groups: Mapping[str, str | None], buffer: int
) -> dict[str, Rows]:
    """Leave out patches without labels that come near what validation and test measure, on the ground or by group.

    Another date of a place would show a network without labels what it is tested on.

    Parameters
    ----------
    rows
        Scene -> its patches, with ``split``, ``row``, ``col``, ``height`` and ``width``.
    grids
        Scene -> its grid; of scenes without a CRS no place is known but their group.
    groups
        Scene -> event or place that it belongs to, or None.
    buffer
        Least distance, px of the larger pixels of the two.

    Returns
    -------
    The same scenes, in order, with the patches that stay.
    """
    measured = {groups[name] for name, found in rows.items() for row in found if _measured(row)} - {None}
    taken = {
        (name, number) for name, found in rows.items() if groups[name] in measured
        for number, row in enumerate(found) if row["split"] == UNLABELLED
    } | _near(rows, grids, buffer=buffer)  # fmt: skip
    return {name: [row for n, row in enumerate(found) if (name, n) not in taken] for name, found in rows.items()}


def _near(rows: Mapping[str, Rows], grids: Mapping[str, GeoBox], *, buffer: int) -> set[tuple[str, int]]:
    """Return scene and number of the patches without labels that lie near those that measure."""
    every = [
        (name, number, row) for name, found in rows.items() if grids[name].crs is not None
        for number, row in enumerate(found) if row["split"] == UNLABELLED or _measured(row)
    ]  # fmt: skip
    placed = list(dict.fromkeys(name for name, _, _ in every))
    if not placed:
        return set()
    boxes = [np.array([_box(row) for name, _, row in every if name == scene], dtype=np.int64) for scene in placed]
    bare = np.array([row["split"] == UNLABELLED for _, _, row in every])
    pairs = near_pairs(areas_of([grids[name] for name in placed], boxes), bare.astype(np.int64), buffer=buffer)
    return {every[n][:2] for side in pairs for n in side[bare[side]].tolist()}


def _measured(row: Mapping[str, Any]) -> bool:
    return row["split"] not in ("train", UNLABELLED)


def _box(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    return row["row"], row["col"], row["row"] + row["height"], row["col"] + row["width"]
