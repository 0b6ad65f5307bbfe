"""Progress map: which units of a run are done, told apart by colour and by shape."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from geopandas import GeoDataFrame
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..figures import INK, png
from .run_units import STATES
from .run_words import number
from .unit_outlines import Outlines, plain_text

#: Colour, and mark on top of it, of each state (colours of Okabe and Ito 2008; lightness alone tells them apart too).
LOOKS = {
    "done": ("#0072b2", ""), "running": ("#e69f00", "o"), "pending": ("#dde3e9", ""), "empty": ("#9aa5b1", "."),
    "failed": ("#d55e00", "x"),
}  # fmt: skip

#: Height of the map at most, inches.
_HIGHEST = 7.6

#: Regions whose names are written on the map; more would cover it.
_NAMED = 16


def write_progress_map(out: Path, ledger: GeoDataFrame) -> Path:
    """Write the map of a run that may still go on.

    Parameters
    ----------
    out
        Folder of the run.
    ledger
        Its units: ``state``, ``regions`` and outlines in degrees.

    Returns
    -------
    ``out/progress.png``, replaced as a whole.
    """
    path = out / "progress.png"
    # Two that draw at once do not write into one file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(state_map(ledger))
    return temporary.replace(path)


def state_map(ledger: GeoDataFrame) -> bytes:
    """Draw the units over longitude and latitude by state, and the regions' names; PNG."""
    outlines = Outlines.of(ledger)
    figure, (axes,) = outlines.panels(1, columns=1, width=min(9.6, _HIGHEST / outlines.proportion))
    states = ledger["state"].to_numpy(dtype=str)
    # A legend takes tuples, drawn upon each other, which its stubs do not know.
    handles: dict[str, Any] = {}
    size = float(np.clip(0.6 * outlines.edge(axes), 2.0, 9.0))
    for state in STATES:
        colour, mark = LOOKS[state]
        chosen = np.asarray(states == state)
        if not chosen.any():
            continue
        outlines.collection(chosen, axes, facecolor=colour)
        patch, label = Patch(color=colour), f"{state} {number(int(chosen.sum()))}"
        handles[label] = (patch,)
        if mark:
            looks: dict[str, Any] = {
                "marker": mark,
                "color": INK,
                "linestyle": "",
                "fillstyle": "full" if mark == "." else "none",
            }
            axes.add_line(Line2D(*outlines.centres[chosen[outlines.owner]].T, **looks, markersize=size, zorder=3))
            handles[label] = (patch, Line2D([], [], **looks, markersize=7))
    outlines.frame(axes)
    _name_regions(axes, outlines, ledger["regions"])
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower left", ncols=len(STATES), frameon=False, fontsize=9
    )
    return png(figure)


def _name_regions(axes: Axes, outlines: Outlines, regions: Sequence[str]) -> None:
    """Write the names of the regions with the most units where they lie, but no name upon another."""
    found: dict[str, list[int]] = {}
    for unit, names in enumerate(regions):
        for name in str(names or "").split("\n"):
            found.setdefault(name, []).append(unit)
    west, south, east, north = outlines.box
    taken: list[tuple[float, float, float]] = []
    for name, units in sorted(found.items(), key=lambda item: -len(item[1])):
        text, places = plain_text(name), outlines.centres[np.isin(outlines.owner, units)]
        # What the font cannot write is left to the tables.
        if not name.strip() or "?" in text or not len(places) or len(taken) == _NAMED:
            continue
        x, y = places.mean(axis=0)
        # A letter takes about 1 % of the map's width.
        half = (0.005 * len(text) + 0.01) * (east - west)
        if any(abs(x - a) < half + other and abs(y - b) < 0.04 * (north - south) for a, b, other in taken):
            continue
        taken.append((x, y, half))
        drawn = axes.text(x, y, text, fontsize=9, ha="center", va="center", color=INK, zorder=4, clip_on=True)
        drawn.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground="white")])
