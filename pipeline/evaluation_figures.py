"""Evaluation figures: robustness, response, calibration, classes by sensor; from saved numbers only."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .figures import INK, MODALITY_COLOURS, UNKNOWN, png

_GREY = "#7b8794"
_COLUMNS = 3

#: What the two scores are called in figures.
SCORE_LABELS = {"mean_iou": "mean IoU", "accuracy": "accuracy"}

Record = Mapping[str, Any]


def robustness_curves(robustness: Record, *, measures: Sequence[str]) -> bytes:
    """Draw scores against strength, a panel a family, with the spread over draws; the dotted line is clear.

    Parameters
    ----------
    robustness
        As :func:`~equipoise.pipeline.robustness.robustness` gives it, with one family at least.
    measures
        Of ``mean_iou`` and ``accuracy``, the first drawn in colour.
    """
    figure, panels = _panels(robustness["families"])
    clear = robustness["clear"]
    styles: dict[str, dict[str, Any]] = dict(
        zip(measures, ({"color": MODALITY_COLOURS[0]}, {"color": _GREY, "linestyle": "--"}), strict=False)
    )
    for axes, family in zip(panels, robustness["families"], strict=False):
        for measure, style in styles.items():
            points = [clear[measure], *(item[measure] for item in family["conditions"])]
            mean = np.array([_number(point["mean"]) for point in points])
            spread = np.array([point["spread"] or 0.0 for point in points])
            axes.axhline(mean[0], color=style["color"], linewidth=0.8, linestyle=":")
            axes.errorbar(
                _places(family), mean, yerr=spread, marker="o", markersize=4, linewidth=1.6, capsize=2.5, **style
            )
        _strengths(axes, family)
    handles = [Line2D([], [], marker="o", markersize=4, label=SCORE_LABELS[name], **styles[name]) for name in measures]
    _legend(figure, handles)
    return png(figure)


def response_curves(robustness: Record, *, modalities: Sequence[str]) -> bytes:
    """Draw shares against strength, a panel a family: reliance solid, information dashed, in the modality's colour.

    Bars are 95 % intervals. What is indeterminate is left out, so that a line may have a gap.

    Parameters
    ----------
    robustness
        As :func:`~equipoise.pipeline.robustness.robustness` gives it, with one family at least.
    modalities
        Names in the order of the shares.
    """
    figure, panels = _panels(robustness["families"])
    for axes, family in zip(panels, robustness["families"], strict=False):
        points, places = [robustness["clear"], *family["conditions"]], _places(family)
        nudge = 0.012 * (places[-1] or 1.0)  # so that intervals at one strength do not cover each other
        for column in range(len(modalities)):
            for meter, side, style in (("reliance", -1, "-"), ("information", 1, "--")):
                shares, low, high = _with_intervals(points, meter, column)
                axes.errorbar(
                    places + nudge * (side + 0.5 * column), shares, yerr=np.stack([shares - low, high - shares]),
                    color=MODALITY_COLOURS[column % len(MODALITY_COLOURS)], linestyle=style, marker="o",
                    markersize=3.5, linewidth=1.5, elinewidth=0.8, markerfacecolor=None if side < 0 else "white",
                )  # fmt: skip
        _strengths(axes, family)
    colours = [MODALITY_COLOURS[i % len(MODALITY_COLOURS)] for i in range(len(modalities))]
    handles = [Line2D([], [], color=colour, label=name) for colour, name in zip(colours, modalities, strict=True)]
    handles += [Line2D([], [], color=INK, label="reliance"), Line2D([], [], color=INK, ls="--", label="information")]
    _legend(figure, handles)
    return png(figure)


def reliability_diagram(calibration: Record) -> bytes:
    """Draw accuracy against confidence by bin, over the share of places in each bin."""
    figure = Figure(figsize=(4.4, 4.6))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1), gridspec_kw={"hspace": 0.1})
    bins = [item for item in calibration["bins"] if item["count"]]
    left = [item["from"] for item in bins]
    width = [item["to"] - item["from"] for item in bins]
    bars = {"align": "edge", "edgecolor": "white", "linewidth": 0.6}
    upper.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=":", label="as often right as it says")
    upper.bar(left, [item["accuracy"] for item in bins], width, color=MODALITY_COLOURS[0], label="accuracy", **bars)
    confidence = [item["confidence"] for item in bins]
    upper.plot(
        confidence, confidence, linestyle="none", marker="_", markersize=11, color=INK, label="mean confidence"
    )  # fmt: skip
    upper.set_ylim(0, 1)
    upper.set_ylabel("accuracy", fontsize=9)
    upper.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, columnspacing=1)
    total = sum(item["count"] for item in bins)
    lower.bar(left, [item["count"] / total for item in bins], width, color="#9aa5b1", **bars)
    lower.set_ylabel("share of places", fontsize=9)
    lower.set_xlabel("confidence", fontsize=9)
    lower.set_xlim(0, 1)
    lower.locator_params(axis="y", nbins=3)
    for axes in (upper, lower):
        _plain(axes)
    return png(figure)


def share_bars(reliance: Record, information: Record, *, modalities: Sequence[str]) -> bytes:
    """Draw what each modality tells beside what is relied on, with 95 % intervals; indeterminate shares are said so."""
    figure = Figure(figsize=(6.4, 0.62 * len(modalities) + 1.0))
    axes = figure.subplots()
    for column in range(len(modalities)):
        colour = MODALITY_COLOURS[column % len(MODALITY_COLOURS)]
        for record, side, alpha in ((reliance, -1, 1.0), (information, 1, 0.45)):
            place = column + 0.19 * side
            if record["share"] is None:
                axes.text(0.01, place, "indeterminate", va="center", fontsize=8, color=_GREY)
                continue
            axes.barh(place, record["share"][column], height=0.34, color=colour, alpha=alpha)
            axes.plot(record["share_interval"][column], [place, place], color=INK, linewidth=1.3)
    axes.set_yticks(range(len(modalities)), list(modalities), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share; upper bar: reliance, lower and paler bar: information", fontsize=9)
    _plain(axes)
    return png(figure)


def class_heat_map(classes: Record, *, names: Sequence[str]) -> bytes:
    """Draw the share of the reliance by true class and modality, intervals in the cells, grey where indeterminate."""
    modalities = classes["modalities"]
    figure = Figure(figsize=(1.25 * len(modalities) + 1.8, 0.52 * len(names) + 0.8))
    axes = figure.subplots()
    shares = [share or [np.nan] * len(modalities) for share in classes["share"]]
    values = np.ma.masked_invalid(np.array(shares, dtype=float))
    axes.set_facecolor((UNKNOWN,) * 3)
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(len(names)):
        for column in range(len(modalities)):
            text = "-"
            if classes["share"][row] is not None:
                low, high = classes["share_interval"][row][column]
                text = f"{shares[row][column]:.2f}\n({low:.2f} to {high:.2f})"
            dark = shares[row][column] > 0.55
            axes.text(
                column, row, text, ha="center", va="center", fontsize=8, linespacing=1.25,
                color="white" if dark else INK,
            )  # fmt: skip
    axes.set_xticks(range(len(modalities)), modalities, fontsize=9)
    axes.set_yticks(range(len(names)), list(names), fontsize=9)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    return png(figure)


def _panels(families: Sequence[Record]) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, len(families))
    rows = -(-len(families) // columns)
    figure = Figure(figsize=(3.5 * columns, 2.5 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel().tolist()
    for axes in panels[len(families) :]:
        axes.set_visible(False)
    for position in range(len(families)):  # a row's first panel alone has numbers where axes are shared
        panels[position].tick_params(labelleft=True)
    return figure, panels


def _places(family: Record) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([0.0, *(item["strength"] for item in family["conditions"])])


def _strengths(axes: Axes, family: Record) -> None:
    places = _places(family)
    seen = ", seen in training" if family["seen_in_training"] else ""
    axes.set_title(f"{family['modality']}: {family['kind'].replace('_', ' ')}{seen}", fontsize=9, color=INK, loc="left")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(-0.06 * places[-1], 1.08 * places[-1])
    if family["kind"] == "outage":
        axes.set_xticks([0, 1], ["clear", "gone"])
    else:
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(family["axis"], fontsize=8)
    _plain(axes)
    axes.tick_params(labelsize=8)


def _with_intervals(points: Sequence[Record], meter: str, column: int) -> tuple[Any, Any, Any]:
    """Return shares, lower and upper ends of one modality; NaN where indeterminate."""
    rows = []
    for point in points:
        record = point[meter]
        known = record["share"] is not None
        # A percentile interval need not hold its share; a bar cannot have a negative length.
        share = record["share"][column] if known else np.nan
        low, high = record["share_interval"][column] if known else (np.nan, np.nan)
        rows.append((share, min(low, share), max(high, share)))
    return tuple(np.array(rows).T)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)


def _plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9)
