"""Figures: pictures from saved numbers, as PNG bytes; nothing is computed here that a file does not hold."""

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

#: One colour a modality, the same in every figure, told apart by people with any colour vision (Okabe and Ito 2008).
MODALITY_COLOURS = ("#0072b2", "#e69f00", "#cc79a7", "#009e73", "#56b4e9", "#d55e00")

#: Colours of classes that nobody has given one: the same, and yellow.
CLASS_COLOURS = (*MODALITY_COLOURS, "#f0e442")

#: Grey of places where nothing was observed or nothing can be said.
UNKNOWN = 0.82

INK = "#1f2933"

#: Display white lies at most this many times the distance from dark to middle above the middle.
BRIGHTEST = 4.0


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    return buffer.getvalue()


def display(image: NDArray[np.float32], *, rgb: tuple[int, int, int] | None = None) -> NDArray[np.float32]:
    """Stretch an image for display.

    Parameters
    ----------
    image
        float32 (band, y, x) in network units, NaN where not valid.
    rgb
        Positions of the bands shown as red, green, blue; None shows the first band in grey.

    Returns
    -------
    float32 (y, x, 3), 0 to 1, from the 2nd to at most the 98th percentile of each band; grey where not valid.
    """
    layers = []
    for position in rgb or (0, 0, 0):
        band = image[position]
        low, high = stretch_limits(band)
        stretched = np.clip((band - low) / max(high - low, 1e-12), 0, 1)
        layers.append(np.where(np.isfinite(band), stretched, UNKNOWN))
    return np.stack(layers, axis=-1).astype(np.float32)


def hex_code(rgb: tuple[int, int, int]) -> str:
    """Return the code of a colour whose parts are 0 to 255."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def stretch_limits(band: NDArray[np.float32]) -> tuple[float, float]:
    """Return the values of a band (y, x) that are drawn black and white: its 2nd, and at most its 98th percentile."""
    known = band[np.isfinite(band)]
    low, middle, high = np.percentile(known, [2, 50, 98]) if known.size else (0.0, 0.5, 1.0)
    # A few clouds would otherwise leave the ground black.
    high = min(high, middle + BRIGHTEST * (middle - low)) if middle > low else high
    return float(low), float(high)


def palette(colours: Mapping[int, tuple[int, int, int]]) -> NDArray[np.float32]:
    """Return float32 (256, 3), 0 to 1: the colour of each value, grey where it has none."""
    table = np.full((256, 3), UNKNOWN, dtype=np.float32)
    for value, rgb in colours.items():
        table[value] = np.asarray(rgb, dtype=np.float32) / 255
    return table


def modality_colours(count: int) -> list[str]:
    """Return the colours of modalities in their order."""
    return [MODALITY_COLOURS[position % len(MODALITY_COLOURS)] for position in range(count)]


def mixture(shares: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (y, x, 3), 0 to 1: each tile of shares (modality, y, x) in the mixture of the modalities' colours."""
    colours = np.array([mpl.colors.to_rgb(colour) for colour in modality_colours(len(shares))])
    known = np.asarray(np.isfinite(shares).all(axis=0))
    mixed = np.einsum("myx,mc->yxc", np.where(known, shares, 0), colours)
    return np.where(known[..., None], mixed, UNKNOWN)


def picture(image: NDArray[np.float32] | NDArray[np.uint8], *, title: str = "") -> bytes:
    """Draw one image (y, x, 3)."""
    rows, cols = image.shape[:2]
    figure = Figure(figsize=(4.4, 4.4 * min(rows / cols, 2.0) + 0.3))
    axes = figure.subplots()
    axes.imshow(image, interpolation="nearest")
    bare(axes, title)
    return png(figure)


def class_picture(values: NDArray[np.uint8], *, colours: Mapping[int, tuple[int, int, int]], title: str = "") -> bytes:
    """Draw a class map (y, x) in its palette; values without a colour are grey."""
    return picture(palette(colours)[values], title=title)


def confidence_picture(confidence: NDArray[np.float32], *, title: str = "") -> bytes:
    """Draw a confidence map (y, x), 0 to 1, with its scale."""
    rows, cols = confidence.shape
    figure = Figure(figsize=(4.9, 4.4 * min(rows / cols, 2.0) + 0.3))
    axes = figure.subplots()
    colours = mpl.colormaps["viridis"].with_extremes(bad=(UNKNOWN,) * 3)
    drawn = axes.imshow(np.ma.masked_invalid(confidence), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
    bare(axes, title)
    return png(figure)


def reliance_picture(shares: NDArray[np.float32], *, modalities: Sequence[str], title: str = "") -> bytes:
    """Draw a reliance map (modality, y, x): each tile in the mixture of the modalities' colours, grey where unknown."""
    rows, cols = shares.shape[1:]
    figure = Figure(figsize=(4.4, 4.4 * min(rows / cols, 2.0) + 0.6))
    axes = figure.subplots()
    axes.imshow(mixture(shares), interpolation="nearest")
    bare(axes, title)
    handles = [
        mpl.patches.Patch(color=colour, label=name)
        for name, colour in zip(modalities, modality_colours(len(modalities)), strict=True)
    ]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4, frameon=False, fontsize=9)
    return png(figure)


def flag_picture(
    values: NDArray[np.uint8],
    *,
    colours: Mapping[int, tuple[int, int, int]],
    names: Mapping[int, str],
    title: str = "",
) -> bytes:
    """Draw a map of flags (y, x) with a legend of those that occur; values without a colour are grey."""
    known = palette(colours)
    rows, cols = values.shape
    figure = Figure(figsize=(4.4, 4.4 * min(rows / cols, 2.0) + 1.2))
    axes = figure.subplots()
    axes.imshow(known[values], interpolation="nearest")
    bare(axes, title)
    shown = [value for value in names if (values == value).any()]
    handles = [mpl.patches.Patch(color=tuple(known[value]), label=names[value]) for value in shown]
    if handles:
        axes.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.01), ncols=1, frameon=False, fontsize=9
        )
    return png(figure)


def utilization_bars(
    meters: Mapping[str, Mapping[str, object]], *, modalities: Sequence[str]
) -> bytes:  # fmt: skip
    """Draw shares with their 95 % intervals: meter -> {``share``, ``share_interval``}; both None = indeterminate."""
    figure = Figure(figsize=(6.4, 0.55 * len(meters) * len(modalities) + 0.8))
    axes = figure.subplots()
    position, ticks, labels = 0.0, [], []
    for meter, record in meters.items():
        shares, intervals = record["share"], record["share_interval"]
        for i, name in enumerate(modalities):
            value = shares[i] if isinstance(shares, Sequence) else 0.0
            axes.barh(position, value, color=MODALITY_COLOURS[i % len(MODALITY_COLOURS)], height=0.72)
            if isinstance(intervals, Sequence):
                axes.plot(intervals[i], [position, position], color=INK, linewidth=1.4, solid_capstyle="butt")
            ticks.append(position)
            labels.append(f"{name}  ({meter})")
            position += 1
        position += 0.5
    axes.set_yticks(ticks, labels, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the reliance", fontsize=9)
    plain(axes)
    return png(figure)


def score_bars(scores: Mapping[str, float | None], *, highlight: str, label: str) -> bytes:
    """Draw one bar a competitor, in the order given; ``highlight`` is ours."""
    figure = Figure(figsize=(6.4, 0.34 * len(scores) + 0.8))
    axes = figure.subplots()
    for position, (name, value) in enumerate(scores.items()):
        axes.barh(position, value or 0, color=MODALITY_COLOURS[0] if name == highlight else "#9aa5b1", height=0.72)
        axes.text((value or 0) + 0.01, position, "-" if value is None else f"{value:.3f}", va="center", fontsize=9)
    axes.set_yticks(range(len(scores)), list(scores), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.set_xlabel(label, fontsize=9)
    plain(axes)
    return png(figure)


def history_curve(history: Sequence[Mapping[str, float]]) -> bytes:
    """Draw losses and validation score over epochs."""
    figure = Figure(figsize=(6.4, 2.6))
    left = figure.subplots()
    epochs = [int(row["epoch"]) + 1 for row in history]
    for name, colour in (("train_loss", "#9aa5b1"), ("validation_loss", INK)):
        left.plot(epochs, [row.get(name, np.nan) for row in history], color=colour, label=name.replace("_", " "))
    left.set_xlabel("epoch", fontsize=9)
    left.set_ylabel("loss", fontsize=9)
    right = left.twinx()
    scores = [row.get("validation_score", np.nan) for row in history]
    right.plot(epochs, scores, color=MODALITY_COLOURS[0], label="validation score")
    right.set_ylim(0, 1)
    right.set_ylabel("score", fontsize=9)
    lines = [*left.get_lines(), *right.get_lines()]
    left.legend(lines, [str(line.get_label()) for line in lines], frameon=False, fontsize=8, loc="center right")
    plain(left)
    right.spines["top"].set_visible(False)
    return png(figure)


def confusion_picture(confusion: NDArray[np.int64], *, names: Sequence[str]) -> bytes:
    """Draw a confusion matrix (truth in rows) as shares of each row."""
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    edge = 0.62 * len(names) + 1.6
    figure = Figure(figsize=(edge, edge))
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(names)):
        for col in range(len(names)):
            dark = share[row, col] > 0.55
            axes.text(
                col, row, f"{share[row, col]:.2f}", ha="center", va="center", fontsize=8,
                color="white" if dark else INK,
            )  # fmt: skip
    axes.set_xticks(range(len(names)), list(names), rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), list(names), fontsize=8)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("truth", fontsize=9)
    return png(figure)


def bare(axes: Axes, title: str) -> None:
    """Leave nothing of a picture's axes but a title."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, fontsize=10, color=INK, loc="left")


def plain(axes: Axes) -> None:
    """Leave a plot's left and lower axis, with small numbers."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9)
