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
from numpy.typing import NDArray

from ..figures import INK, png
from .map_places import panels, place_words, places
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
    """Draw the units over longitude and latitude by state, and the regions' names, place by place; PNG."""
    shown = places(Outlines.of(ledger))
    columns = {1: 1, 2: 2, 4: 2}.get(len(shown), 3)
    highest = max(item.proportion for item in shown)
    figure, drawn = panels(shown, columns=columns, width=min(9.6, columns * _HIGHEST / highest))
    states = ledger["state"].to_numpy(dtype=str)
    for outlines, axes in zip(shown, drawn, strict=True):
        outlines.frame(axes, place_words(outlines) if len(shown) > 1 else "")
        _draw_states(axes, outlines, states)
        _name_regions(axes, outlines, ledger["regions"])
    # A legend takes tuples, drawn upon each other, which its stubs do not know.
    handles: dict[str, Any] = {}
    for state in STATES:
        if count := int((states == state).sum()):
            mark = [Line2D([], [], **_mark(state), markersize=7)] if LOOKS[state][1] else []
            handles[f"{state} {number(count)}"] = (Patch(color=LOOKS[state][0]), *mark)
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower left", ncols=len(STATES), frameon=False, fontsize=9
    )
    return png(figure)


def _draw_states(axes: Axes, outlines: Outlines, states: NDArray[np.str_]) -> None:
    size = float(np.clip(0.6 * outlines.edge(axes), 2.0, 9.0))
    for state, (colour, mark) in LOOKS.items():
        chosen = np.asarray(states == state)
        outlines.collection(chosen, axes, facecolor=colour)
        if mark:
            middles = outlines.centres[chosen[outlines.owner]]
            axes.add_line(Line2D(*middles.T, **_mark(state), markersize=size, zorder=3))


def _mark(state: str) -> dict[str, Any]:
    mark = LOOKS[state][1]
    return {"marker": mark, "color": INK, "linestyle": "", "fillstyle": "full" if mark == "." else "none"}


def _name_regions(axes: Axes, outlines: Outlines, regions: Sequence[str]) -> None:
    """Write the names of the regions with the most units where they lie, but no name upon another."""
    found: dict[str, list[int]] = {}
    for unit, names in enumerate(regions):
        for name in str(names or "").split("\n"):
            found.setdefault(name, []).append(unit)
    west, south, east, north = outlines.box
    taken: list[tuple[float, float, float]] = []
    for name, units in sorted(found.items(), key=lambda item: -len(item[1])):
        text, middles = plain_text(name), outlines.centres[np.isin(outlines.owner, units)]
        # What the font cannot write is left to the tables.
        if not name.strip() or "?" in text or not len(middles) or len(taken) == _NAMED:
            continue
        x, y = middles.mean(axis=0)
        # A letter takes about 1 % of the map's width.
        half = (0.005 * len(text) + 0.01) * (east - west)
        if any(abs(x - a) < half + other and abs(y - b) < 0.04 * (north - south) for a, b, other in taken):
            continue
        taken.append((x, y, half))
        drawn = axes.text(x, y, text, fontsize=9, ha="center", va="center", color=INK, zorder=4, clip_on=True)
        drawn.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground="white")])
