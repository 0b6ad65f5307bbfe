"""The picture of the study, from saved numbers only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draw wanted against measured shares, and flood IoU against optical noise and under what was held out."""
    panels = (_shares, _noise, _held_out) if record["methods"] else (_shares,)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.3 * len(panels), 4.8), constrained_layout=True, squeeze=False
    )
    for panel, axis in zip(panels, axes[0], strict=True):
        panel(axis, record)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _shares(axis: Any, record: Mapping[str, Any]) -> None:
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axis.fill_between([0, 1], [-0.1, 0.9], [0.1, 1.1], color="0.93", label="within 10 points")
    for number, (task, colour) in enumerate((("segmentation", "C0"), ("classification", "C1"))):
        runs = [run for run in record["targets"] if run["task"] == task and run["test"]["share"] is not None]
        for run in runs:
            at = run["target"] + 0.012 * (2 * number - 1) + 0.005 * (run["seed"] - 1)
            axis.plot([at, at], run["test"]["interval"], color=colour, linewidth=0.8, alpha=0.5)
            axis.plot(at, run["test"]["share"], "o", color=colour, markersize=5)
            if run["validation"]["share"] is not None:
                axis.plot(at, run["validation"]["share"], "_", color=colour, markersize=9, markeredgewidth=2)
        axis.plot([], [], "o", color=colour, label=f"{task}: test, 95 % over chips")
        axis.plot([], [], "_", color=colour, markeredgewidth=2, label=f"{task}: validation")
    axis.set(xlabel="wanted share of EO", ylabel="measured share of EO (Brier)", xlim=(0.1, 0.9), ylim=(0, 1))
    axis.legend(fontsize=7)


def _noise(axis: Any, record: Mapping[str, Any]) -> None:
    names = [name for name in record["methods"][0]["flood_iou"] if name == "clear" or name.startswith("eo_noise")]
    variance = [0.0 if name == "clear" else float(name.removeprefix("eo_noise_")) for name in names]
    colours = plt.get_cmap("tab20")
    for number, method in enumerate(record["compared"]):
        rows = [run["flood_iou"] for run in record["methods"] if run["method"] == method]
        values = [np.mean([row[name] for row in rows]) for name in names]
        axis.plot(variance, values, marker=".", color=colours(number % 20), label=method)
    axis.set_xscale("symlog", linthresh=0.003)
    axis.set(xlabel="variance of EO noise (display values 0 to 1)", ylabel="flood IoU, test chips")
    axis.legend(fontsize=6.5, ncols=2)


def _held_out(axis: Any, record: Mapping[str, Any]) -> None:
    methods = list(record["compared"])
    ends = [record["compared"][name]["flood_iou"]["held_out"] for name in methods]
    clear = [record["compared"][name]["flood_iou"]["clear"]["mean"] for name in methods]
    height = np.arange(len(methods))[::-1]
    axis.barh(height, [end["mean"] for end in ends], color="0.75", label="mean over held-out families")
    axis.plot(clear, height, "k|", markersize=10, label="clear")
    for y, end in zip(height, ends, strict=True):
        axis.plot(end["each"], [y] * len(end["each"]), "o", color="C0", markersize=3)
    axis.set_yticks(height, methods, fontsize=8)
    axis.set(xlabel="flood IoU, test chips (points: seeds)")
    axis.legend(fontsize=7, loc="lower left")
