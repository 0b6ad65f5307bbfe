"""Side by side: two pictures of one place as wide as a page, with scales below them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from .figures import INK

#: Points from one line below a panel to the next.
_LINE = 17


def pair(shape: tuple[int, int], *, between: float = 0.03) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure as wide as a page with two panels, each for a picture of ``shape`` (rows, cols)."""
    figure = Figure(figsize=(10.2, 5.1 * min(shape[0] / shape[1], 2.0)))
    panels = figure.subplots(1, 2, gridspec_kw={"wspace": between, "left": 0, "right": 1, "bottom": 0, "top": 1})
    return figure, panels.tolist()


def ruler(axes: Axes, length: float, text: str, *, line: int = 0, arrow: bool = False) -> None:
    """Draw a length below a panel, and what it stands for.

    Parameters
    ----------
    axes
        The panel.
    length
        Along its columns.
    text
        Beside the ruler.
    line
        Below the first one: rulers of several lines do not touch, whatever the panel's shape is.
    arrow
        Draw an arrow instead of a bar.
    """
    figure = axes.get_figure(root=True)
    below = offset_copy(axes.get_xaxis_transform(), fig=figure, y=-(12 + _LINE * line), units="points")
    style = {
        "arrowstyle": "-|>" if arrow else "|-|,widthA=0.25,widthB=0.25", "color": INK, "lw": 1.4, "shrinkA": 0,
        "shrinkB": 0,
    }  # fmt: skip
    axes.annotate("", (length, 0), (0, 0), xycoords=below, textcoords=below, arrowprops=style, annotation_clip=False)
    gap = 0.02 * abs(float(np.subtract(*axes.get_xlim())))
    axes.text(length + gap, 0, text, transform=below, va="center", fontsize=9, color=INK)


def scale_bar(axes: Axes, *, pixel: float, words: str = "", line: int = 0) -> None:
    """Draw a ruler in round metres or kilometres below a panel whose columns are ``pixel`` metres wide."""
    metres = round_down(0.3 * abs(float(np.subtract(*axes.get_xlim()))) * pixel)
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    ruler(axes, metres / pixel, f"{text}{words}", line=line)


def round_down(value: float) -> float:
    """Return the largest of 1, 2, 5, 10, ... not above a positive value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * max(step for step in (1, 2, 5) if step * power <= value * (1 + 1e-9)))
