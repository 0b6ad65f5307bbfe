"""The pictures of docs/scaling.md, from the numbers of cluster_simulation.json alone.

Module of `cluster_simulation.py`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FIGURES = Path(__file__).parents[1] / "docs" / "figures"

#: Parts of the workers' time: what they are called, and their colours (Okabe and Ito's, for all eyes).
PARTS = {
    "compute": ("computing", "#009E73"), "disk": ("shared disk", "#E69F00"), "fetch": ("fetching a file", "#56B4E9"),
    "wait": ("waiting for a file", "#0072B2"), "starved": ("waiting for a unit", "#CC79A7"),
    "tail": ("nothing left to do", "#999999"), "down": ("starting", "#555555"),
    "lost": ("work that was lost", "#D55E00"),
}  # fmt: skip


def write_figures(record: Mapping[str, Any], folder: Path = FIGURES) -> None:
    """Write cluster-scaling.png, cluster-time.png and cluster-sensitivity.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn in (("scaling", scaling), ("time", time), ("sensitivity", sensitivity)):
        figure = drawn(record)
        # No date and no version: the same numbers give the same bytes.
        figure.savefig(folder / f"cluster-{name}.png", dpi=110, metadata={"Software": None})
        plt.close(figure)


def scaling(record: Mapping[str, Any]) -> Figure:
    """Draw speed and efficiency over the number of workers, for each area."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    rows = record["scaling"]
    for km2 in sorted({row["km2"] for row in rows}):
        own = [row for row in rows if row["km2"] == km2]
        workers, label = [row["workers"] for row in own], f"{km2 / 1e6:g} million km²"
        left.plot(workers, [row["km2"] / row["makespan_s"] for row in own], "o-", markersize=3, label=label)
        right.plot(workers, [100 * row["efficiency"] for row in own], "o-", markersize=3, label=label)
    unit = record["calibration"]
    left.plot(workers, [count * unit["km2"] / record["mean_compute_s"] for count in workers], ":", color="grey",
              label="computing alone")  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="workers", ylabel="km² a second")
    right.set(xscale="log", ylim=(0, 100), xlabel="workers", ylabel="efficiency, %")
    left.legend(fontsize=7)
    return figure


def time(record: Mapping[str, Any]) -> Figure:
    """Draw where the workers' time goes, for the larger area and the orders of its units."""
    orders = list(dict.fromkeys(row["order"] for row in record["orders"]))
    figure, axes = plt.subplots(1, len(orders), figsize=(8, 3.4), sharey=True, layout="constrained")
    for axis, order in zip(axes, orders, strict=True):
        stacked(axis, [row for row in record["orders"] if row["order"] == order])
        axis.set(title=order, xlabel="workers")
        axis.tick_params(axis="x", labelsize=7)
    axes[0].set(ylabel="share of the workers' time, %", ylim=(0, 100))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7)
    return figure


def stacked(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw one bar a row, of the parts of its time."""
    bottom = [0.0] * len(rows)
    names = [f"{row['workers']:g}" for row in rows]
    for part, (label, colour) in PARTS.items():
        heights = [100 * row["shares"][part] for row in rows]
        axis.bar(names, heights, bottom=bottom, color=colour, label=label, width=0.8)
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]


def sensitivity(record: Mapping[str, Any]) -> Figure:
    """Draw speed over the unit's size, and efficiency over the shared disk, the workers' life and the client's loop."""
    figure, axes = plt.subplots(2, 2, figsize=(8, 5.4), layout="constrained")
    unit, disk = axes[0]
    life, client = axes[1]
    lines(unit, [{**row, "speed": row["km2"] / row["makespan_s"]} for row in record["edges"]], "edge_px", "speed",
          xlabel="edge of a unit, px")  # fmt: skip
    unit.set(yscale="log", ylabel="km² a second")
    lines(disk, record["disks"], "gb_s", xlabel="shared disk, GB/s")
    lines(client, record["clients"], "client_ms", xlabel="client's loop, ms a unit")
    mortal = [row for row in record["lives"] if row["life_h"]]
    lines(life, mortal, "life_h", xlabel="mean life of a worker, h")
    for axis in (disk, life, client):
        axis.set(ylabel="efficiency, %", ylim=(0, 100))
    return figure


def lines(axis: Axes, rows: Sequence[Mapping[str, Any]], key: str, value: str = "percent", *, xlabel: str) -> None:
    """Draw a line for each number of workers."""
    for workers in sorted({row["workers"] for row in rows}):
        own = [row for row in rows if row["workers"] == workers]
        axis.plot([row[key] for row in own], [row[value] if value in row else 100 * row["efficiency"] for row in own],
                  "o-", markersize=3, label=f"{workers} workers")  # fmt: skip
    axis.set(xscale="log", xlabel=xlabel)
    ticks = sorted({row[key] for row in rows})
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.legend(fontsize=7)
