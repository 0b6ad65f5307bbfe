"""The picture of the study, from saved numbers only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

_NAMES = {"oracle": "oracle scene", "floods": "flood chips"}


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Draw, for each recipe, the score of every subset as a dot, the worst and the full set marked."""
    places = record["places"]
    count = len(next(iter(places.values()))["recipes"])
    figure, axes = plt.subplots(
        1, len(places), figsize=(6.2 * len(places), 1.4 + 0.3 * count), constrained_layout=True, squeeze=False
    )
    for axis, (place, found) in zip(axes[0], places.items(), strict=True):
        ordered = sorted(found["recipes"].items(), key=lambda pair: pair[1]["worst"])
        for row, (name, item) in enumerate(ordered):
            axis.plot([item["worst"], item["full"]], [row, row], color="0.8", linewidth=3, zorder=1)
            axis.scatter(item["by_subset"], [row] * len(item["by_subset"]), s=16, color="0.45", zorder=2)
            axis.scatter(
                item["worst"], row, s=46, color="#b2182b", zorder=3, label="worst subset" if row == 0 else None
            )
            axis.scatter(item["full"], row, s=46, color="#2166ac", zorder=3, label="all sensors" if row == 0 else None)
            if name == record["best"]:
                axis.axhspan(row - 0.45, row + 0.45, color="#fff2cc", zorder=0)
        axis.set_yticks(range(len(ordered)), [name for name, _ in ordered], fontsize=8)
        axis.set(xlabel="mean IoU, test", title=_NAMES.get(place, place))
        axis.axvline(found["recipes"]["plain"]["full"], color="#2166ac", linewidth=0.8, linestyle=":")
    figure.legend(*axes[0][0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=110)
    plt.close(figure)
