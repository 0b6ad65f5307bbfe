"""The picture of the utilization study, from saved numbers only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draw wanted against measured shares, and accuracy against optical noise."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), constrained_layout=True)
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    left.fill_between([0, 1], [-0.1, 0.9], [0.1, 1.1], color="0.93", label="within 10 points")
    for task, marker in (("segmentation", "o"), ("classification", "s")):
        runs = [run for run in record["targets"] if run["task"] == task]
        left.scatter([run["target"] for run in runs], [run["share"] for run in runs], marker=marker, s=28, label=task)
    left.axhline(record["exact"]["bayes_reliance_share"][0], color="0.4", linestyle=":", linewidth=1, label="Bayes")
    left.set(xlabel="wanted share of EO", ylabel="measured share of EO (Brier)", xlim=(0.1, 0.9), ylim=(0.1, 0.9))
    left.legend(fontsize=8)
    levels = [
        name for name in next(iter(record["methods"]))["accuracy"] if name == "clear" or name.startswith("eo_noise")
    ]
    variance = [0.0 if name == "clear" else float(name.removeprefix("eo_noise_")) for name in levels]
    right.plot(variance, [record["exact"]["bayes"][name] for name in levels], color="0.4", linestyle=":", label="Bayes")
    for method in record["compared"]:
        rows = [run["accuracy"] for run in record["methods"] if run["method"] == method]
        right.plot(variance, [np.mean([row[name] for row in rows]) for name in levels], marker=".", label=method)
    right.set(xlabel="added variance of EO noise", ylabel="accuracy", xscale="symlog")
    right.set_xscale("symlog", linthresh=0.03)
    right.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=110)
    plt.close(figure)
