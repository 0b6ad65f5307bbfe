"""The picture of the laws study, from saved numbers only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

Found = Mapping[str, Any]


def draw(record: Found, exact: Found, path: Path) -> None:
    """Draw information beside the exact one, shares of twins, and how shares and accuracy follow the condition."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.5), constrained_layout=True)
    _oracle(axes[0, 0], record["parts"]["T1"])
    _twins(axes[0, 1], record["parts"]["T2"])
    _response(axes[1, 0], record["parts"]["T7"], exact["standard"])
    _accuracy(axes[1, 1], record["parts"]["T7"], exact["standard"])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _oracle(axes: Axes, runs: list[Found]) -> None:
    most = max(runs[0]["exact_nats"])
    axes.fill_between([0, most], [-0.12, most - 0.12], [0.12, most + 0.12], color="0.93", label="within .12 nats")
    axes.plot([0, most], [0, most], color="0.7", linewidth=1)
    for run in runs:
        axes.scatter(run["exact_nats"], run["nats"], s=22, label=f"seed {run['seed']}")
    axes.set(xlabel="exact information of a coalition, nats", ylabel="measured in the network, nats", title="T1")
    axes.legend(fontsize=8)


def _twins(axes: Axes, runs: list[Found]) -> None:
    for kind, marker, colour in (("information_share", "o", "C0"), ("permutation_share", "s", "C1")):
        for column, face in ((0, colour), (1, "none")):
            axes.scatter(
                [run["seed"] for run in runs], [run[kind][column] for run in runs], marker=marker, edgecolors=colour,
                facecolors=face, s=32, label=f"{kind.removesuffix('_share')}, {runs[0]['modalities'][column]}",
            )  # fmt: skip
    axes.axhline(runs[0]["exact_share"][0], color="0.4", linestyle=":", linewidth=1, label="exact information")
    axes.set(xlabel="initialisation", ylabel="share", title="T2: a sensor and its copy", ylim=(0, 0.6))
    axes.legend(fontsize=8, loc="lower left")


def _response(axes: Axes, runs: list[Found], exact: Found) -> None:
    names = ["clear", *(name for name in runs[0]["conditions"] if name.startswith("eo_noise"))]
    labels = ["0", *(name.removeprefix("eo_noise_") for name in names[1:])]
    axes.plot(labels, [exact[name]["share_permutation"][0] for name in names], color="0.3", label="Bayes, reliance")
    axes.plot(labels, [exact[name]["share_brier"][0] for name in names], color="0.3", ls=":", label="exact information")
    for run in runs:
        shares = [run["conditions"][name]["reliance"] for name in names]
        values = [float("nan") if share is None else share[0] for share in shares]
        axes.plot(labels, values, marker=".", label=f"{run['method']}, reliance")
    axes.set(xlabel="added variance of EO noise", ylabel="share of EO (Brier)", title="T7: response", ylim=(0, 1))
    axes.legend(fontsize=8)


def _accuracy(axes: Axes, runs: list[Found], exact: Found) -> None:
    names = list(runs[0]["conditions"])
    for place in range(len(names)):
        axes.axhline(place, color="0.92", linewidth=0.8, zorder=0)
    for run, marker in zip(runs, "osD^v", strict=True):
        parts = [run["conditions"][name]["accuracy"] / exact[name]["accuracy"]["eo+sar+ir"] for name in names]
        axes.plot(parts, range(len(names)), marker, markersize=4, alpha=0.8, label=run["method"])
    axes.axvline(0.95, color="0.3", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy / Bayes accuracy", title="T7: by condition", xlim=(0.2, 1.05))
    axes.legend(fontsize=8, loc="upper left")
