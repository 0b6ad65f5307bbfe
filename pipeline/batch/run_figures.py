"""Run figures: what the units of a run rest on, place by place, and where their time went."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ..figures import INK, MODALITY_COLOURS, plain, png
from .map_places import panels
from .progress_map import LOOKS
from .run_units import PARTS, Numbers, RunUnits
from .run_words import number
from .unit_outlines import Outlines, plain_text

#: Colour of a unit of which a value is not known.
_BLANK = "#cfd4da"

#: Workers that get a row of their own.
WORKERS = 32

#: Bars of a histogram of time.
_BINS = 48

#: Columns of so many maps, where three would leave a gap.
_COLUMNS = {1: 1, 2: 2, 4: 2}

_PART_COLOURS = ("#56b4e9", "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#9aa5b1")


def reliance_maps(units: RunUnits, outlines: Outlines) -> bytes:
    """Draw the sensor with the largest share in each unit of a place, and each sensor's share on one scale; PNG."""
    names, shares = units.modalities, units.shares
    columns = _COLUMNS.get(len(names) + 1, 3)
    count, width = len(names) + 1, 9.6 if columns == 3 else 3.7 * columns
    figure, maps = panels([outlines] * count, columns=columns, width=width)
    here = np.isin(np.arange(len(shares)), outlines.owner)
    known = np.isfinite(shares).all(axis=1) & units.state("done") & here
    leading = np.where(known, np.nan_to_num(shares).argmax(axis=1), -1)
    outlines.collection(~known, maps[0], facecolor=_BLANK)
    handles = []
    for column, name in enumerate(names):
        colour = MODALITY_COLOURS[column % len(MODALITY_COLOURS)]
        outlines.collection(leading == column, maps[0], facecolor=colour)
        handles.append(
            Patch(color=colour, label=f"{plain_text(name)} leads in {number(int((leading == column).sum()))}")
        )
    outlines.frame(maps[0], "sensor with the largest share")
    for column, axes in enumerate(maps[1:]):
        drawn = _values(outlines, axes, np.where(known, shares[:, column], np.nan), highest=1.0, colours="viridis")
        outlines.frame(axes, f"share of {plain_text(names[column])}")
    _scale(figure, drawn, maps[1:])
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    return png(figure)


def sureness_maps(units: RunUnits, outlines: Outlines) -> bytes:
    """Draw mean confidence, and the share of the area that rests on doubtful input, of each unit of a place; PNG."""
    shown = [("mean confidence", units.confidence, 1.0, "viridis")]
    if np.isfinite(units.doubtful).any():
        # Doubt is rare where all is well: the scale ends where the values do, at a tenth at least.
        highest = max(0.1, float(np.ceil(10 * np.nanmax(units.doubtful)) / 10))
        shown.append(("share of the area on doubtful input", units.doubtful, highest, "YlOrBr"))
    figure, maps = panels([outlines] * len(shown), columns=2, width=4.8 * len(shown))
    for axes, (title, values, highest, colours) in zip(maps, shown, strict=True):
        drawn = _values(outlines, axes, np.where(units.state("done"), values, np.nan), highest=highest, colours=colours)
        outlines.frame(axes, title)
        _scale(figure, drawn, [axes])
    return png(figure)


def seconds_histogram(units: RunUnits) -> bytes:
    """Draw how long units took, with the middle one and the one that 95 % do not exceed; PNG."""
    seconds = units.seconds[np.isfinite(units.seconds)]
    factor, unit = (60.0, "minutes") if np.median(seconds) >= 120 else (1.0, "seconds")
    middle, high, longest = np.percentile(seconds / factor, [50, 95, 99.5])
    figure, axes = _chart(4.7, 2.8)
    # The few longest lie in the last bar; they would press the others together.
    values = np.minimum(seconds / factor, longest)
    axes.hist(values, bins=min(_BINS, 4 + int(2 * np.sqrt(len(seconds)))), color=MODALITY_COLOURS[0])
    axes.axvline(middle, color=INK, linewidth=1.4, label=f"half within {middle:.3g}")
    axes.axvline(high, color=INK, linewidth=1.4, linestyle="--", label=f"95 % within {high:.3g}")
    axes.set_xlabel(f"{unit} a unit", fontsize=9)
    axes.set_ylabel("units", fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2)
    return png(figure)


def part_bars(parts: dict[str, float]) -> bytes:
    """Draw the hours of work by part; PNG."""
    figure, axes = _chart(4.7, 0.34 * len(parts) + 0.7)
    total = max(sum(parts.values()), 1e-12)
    for position, (name, hours) in enumerate(parts.items()):
        colour = _PART_COLOURS[PARTS.index(name) if name in PARTS else -1]
        axes.barh(position, hours, color=colour, height=0.72)
        axes.text(hours, position, f" {100 * hours / total:.0f} %", va="center", fontsize=9)
    axes.set_yticks(range(len(parts)), list(parts), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.15 * max(parts.values()), 1e-9))
    axes.set_xlabel("hours of workers", fontsize=9)
    return png(figure)


def work_chart(units: RunUnits) -> bytes:
    """Draw when each worker was at work on what came of it, and the area mapped an hour; PNG.

    Workers beyond :data:`WORKERS`, those with the fewest units, are left out of the upper chart.
    """
    names = units.ledger["worker"].fillna("").astype(str).to_numpy()
    at_work = units.charted
    workers, counts = np.unique(names[at_work], return_counts=True)
    shown = sorted(workers[np.argsort(-counts, kind="stable")][:WORKERS])
    end = max(float(np.fmax(units.started, units.finished)[at_work].max()), 1e-6)
    factor, unit = (60.0, "minutes") if end < 2 else (1.0, "hours")
    start, stop, end = (
        factor * units.started,
        factor * np.where(np.isfinite(units.finished), units.finished, end),
        factor * end,
    )
    figure = Figure(figsize=(9.6, 0.2 * len(shown) + 3.0), layout="constrained")
    ratios = [0.2 * len(shown) + 0.4, 1.6]
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": ratios})
    rows = {name: row for row, name in enumerate(shown)}
    row = np.array([rows.get(name, -1) for name in names])
    handles = []
    for state in ("done", "empty", "failed", "running"):
        chosen = at_work & (row >= 0) & units.state(state)
        if chosen.any():
            _bars(upper, start[chosen], stop[chosen], row[chosen], colour=LOOKS[state][0])
            handles.append(Patch(color=LOOKS[state][0], label=state))
    upper.set_ylim(len(shown) - 0.5, -0.5)
    upper.set_yticks(range(len(shown)), [plain_text(name) for name in shown], fontsize=7)
    upper.legend(handles=handles, frameon=False, fontsize=8, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    upper.set_xlim(0, end)
    _rate(lower, units, end=end, factor=factor)
    lower.set_xlabel(f"{unit} since the run began", fontsize=9)
    for axes in (upper, lower):
        plain(axes)
    upper.tick_params(axis="y", labelsize=7, length=0)
    return png(figure)


def _rate(axes: Axes, units: RunUnits, *, end: float, factor: float) -> None:
    """Draw the area mapped an hour, by the time at which units were finished; ``factor`` times on the axis an hour."""
    done = units.state("done") & np.isfinite(units.finished)
    edges = np.linspace(0, end, _BINS + 1)
    area, _ = np.histogram(np.clip(factor * units.finished[done], 0, end), bins=edges, weights=units.mapped_km2[done])
    axes.bar(edges[:-1], factor * area / np.diff(edges), width=np.diff(edges), align="edge", color=LOOKS["done"][0])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}".replace(",", "\N{NO-BREAK SPACE}")))
    axes.set_ylabel("km² an hour", fontsize=9)


def _bars(axes: Axes, start: Numbers, stop: Numbers, row: NDArray[np.intp], *, colour: str) -> None:
    low, high = row - 0.38, row + 0.38
    corners: Any = np.stack([start, low, start, high, stop, high, stop, low], axis=1).reshape(-1, 4, 2)
    # A thin white edge parts units that follow each other; beyond some thousands it would cover them.
    width = 0.4 if len(row) < 2000 else 0.0
    axes.add_collection(PolyCollection(corners, facecolor=colour, edgecolor="white", linewidth=width))


def _values(outlines: Outlines, axes: Axes, values: Numbers, *, highest: float, colours: str) -> PolyCollection:
    """Draw a value of each unit, grey where it is not known."""
    known = np.isfinite(values)
    outlines.collection(~known, axes, facecolor=_BLANK)
    drawn = outlines.collection(known, axes, cmap=mpl.colormaps[colours], norm=mpl.colors.Normalize(0, highest))
    drawn.set_array(values[outlines.owner[known[outlines.owner]]])
    return drawn


def _scale(figure: Figure, drawn: PolyCollection, panels: list[Axes]) -> None:
    bar = figure.colorbar(drawn, ax=panels, fraction=0.046, pad=0.02, aspect=24, shrink=0.8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)


def _chart(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    plain(axes)
    return figure, axes
