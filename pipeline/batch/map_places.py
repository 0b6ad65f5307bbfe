"""Map places: a run whose regions lie far apart is drawn place by place, each as large as it can be seen."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import label

from .unit_outlines import Outlines, degrees, padded

#: Places that get a map of their own; a run with more is drawn as a whole.
PLACES = 6

#: Units further apart than this many of their usual edges lie in different places.
_APART = 8.0

#: How many times larger units must be drawn for places to be worth losing the view of the whole.
_WORTH = 2.0


def places(outlines: Outlines) -> list[Outlines]:
    """Return the places of a run, those with the most units first, or the whole where that shows it well.

    Parameters
    ----------
    outlines
        Of all units.
    """
    if len(outlines.rings) < 2:
        return [outlines]
    place = _places(outlines)
    count = int(place.max()) + 1
    found = [_part(outlines, place == number) for number in np.argsort(-np.bincount(place), kind="stable")]
    widest = max(_extent(part) for part in found)
    columns = 2 if count in (2, 4) else 3
    if not 2 <= count <= PLACES or _extent(outlines) < _WORTH * columns * widest:
        return [outlines]
    return found


def place_words(place: Outlines) -> str:
    """Say where the middle of a place is."""
    west, south, east, north = place.box
    return f"around {degrees(round((south + north) / 2, 1), 'NS')} {degrees(round((west + east) / 2, 1), 'EW')}"


def panels(shown: Sequence[Outlines], *, columns: int, width: float) -> tuple[Figure, list[Axes]]:
    """Make a figure, ``width`` inches wide, with a map of each outlines in rows of ``columns``."""
    columns = min(columns, len(shown))
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    # An axis of degrees takes some of the width; a title and another axis come on top of the height.
    heights = [width / columns * 0.86 * max(item.proportion for item in row) + 0.6 for row in rows]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    drawn = list(figure.subplots(len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights}).flat)
    for axes in drawn[len(shown) :]:
        axes.remove()
    return figure, drawn[: len(shown)]


def _places(outlines: Outlines) -> NDArray[np.intp]:
    """Return the number of each ring's place, intp (ring,): cells of a coarse grid that touch are one place."""
    spans = np.array([np.ptp(ring, axis=0).max() for ring in outlines.rings])
    step = max(_APART * float(np.median(spans)), 0.1)
    cells = np.floor((outlines.centres - outlines.centres.min(axis=0)) / step).astype(np.intp)
    occupied = np.zeros(cells.max(axis=0) + 1, dtype=bool)
    occupied[tuple(cells.T)] = True
    numbers, _ = label(occupied, structure=np.ones((3, 3)))
    return np.asarray(numbers[tuple(cells.T)] - 1, dtype=np.intp)


def _part(outlines: Outlines, chosen: NDArray[np.bool_]) -> Outlines:
    rings = [ring for ring, kept in zip(outlines.rings, chosen, strict=True) if kept]
    points = np.concatenate(rings)
    return replace(
        outlines, rings=rings, owner=outlines.owner[chosen], centres=outlines.centres[chosen],
        box=padded(points.min(axis=0), points.max(axis=0)),
    )  # fmt: skip


def _extent(outlines: Outlines) -> float:
    west, _, east, _ = outlines.box
    return (east - west) * max(1.0, outlines.proportion)
