"""Unlabelled patches: what stage distill may learn from, apart from all that is measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from ..datasets.ground_distance import areas_of, near_pairs

#: Split of patches of training places that have too few labels to train on.
UNLABELLED = "unlabelled"

Rows = Sequence[Mapping[str, Any]]


def apart(rows: Mapping[str, Rows], grids: Mapping[str, GeoBox], *, buffer: int) -> dict[str, Rows]:
    """Leave out patches without labels that come near what validation and test measure, on the ground.

    Another date of a place would show a network without labels what it is tested on.

    Parameters
    ----------
    rows
        Scene -> its patches, with ``split``, ``row``, ``col``, ``height`` and ``width``.
    grids
        Scene -> its grid; scenes without a CRS have no place and keep all of their patches.
    buffer
        Least distance, px of the larger pixels of the two.

    Returns
    -------
    The same scenes, in order, with the patches that stay.
    """
    placed = [name for name in rows if rows[name] and grids[name].crs is not None]
    every = [(name, number) for name in placed for number in range(len(rows[name]))]
    if not every:
        return dict(rows)
    kind = np.array([_kind(rows[name][number]["split"]) for name, number in every])
    boxes = [np.array([_box(row) for row in rows[name]], dtype=np.int64) for name in placed]
    first, second = near_pairs(areas_of([grids[name] for name in placed], boxes), kind, buffer=buffer)
    mixed = kind[first] + kind[second] == _kind(UNLABELLED) + _kind("test")
    near = {every[n] for pair in (first[mixed], second[mixed]) for n in pair.tolist() if kind[n] == _kind(UNLABELLED)}
    return {name: [row for n, row in enumerate(found) if (name, n) not in near] for name, found in rows.items()}


def _kind(split: str) -> int:
    """Return 0 for training, 1 for what is measured, 3 for what has no labels: sums tell pairs apart."""
    return {"train": 0, UNLABELLED: 3}.get(split, 1)


def _box(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    return row["row"], row["col"], row["row"] + row["height"], row["col"] + row["width"]
