"""Registration figures: what blocks ask for before and after, and how sure the position is; from saved numbers only."""

from typing import Any

import numpy as np
from affine import Affine
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .figures import INK, MODALITY_COLOURS, UNKNOWN, bare, plain, png
from .registered import Blocks
from .side_by_side import pair, round_down, ruler, scale_bar

BEFORE, AFTER = MODALITY_COLOURS[5], MODALITY_COLOURS[0]
_MOMENTS = (("before", BEFORE), ("after", AFTER))

#: Length of a usual arrow before, as a multiple of the way between blocks.
_REACH = 1.3

#: Blocks with less than this share of the middle block's weight are pale: they contradict the others.
_LITTLE = 0.5


def residual_vectors(
    blocks: Blocks, *, affine: Affine, shape: tuple[int, int], ground: NDArray[np.float32] | None = None
) -> bytes:
    """Draw the correction that each block asks for, before and after, at one scale.

    Parameters
    ----------
    blocks
        What single blocks say.
    affine, shape
        Of the scene's grid: pixels to units of the CRS (m); rows and columns.
    ground
        float32 (y, x, 3), 0 to 1: picture of the whole grid under the arrows; None leaves it blank.
    """
    inverse, pixel = ~affine, float(np.hypot(affine.a, affine.d))
    cols = inverse.a * blocks.x + inverse.b * blocks.y + inverse.c
    rows = inverse.d * blocks.x + inverse.e * blocks.y + inverse.f
    spacing = np.sqrt(shape[0] * shape[1] / max(len(cols), 1)) * pixel
    usual = max(float(np.percentile(np.hypot(*blocks.before.T), 90)), 0.05 * pixel)
    larger = max(1.0, float(np.floor(_REACH * spacing / usual)))
    figure, panels = pair(shape)
    pale = blocks.weight < _LITTLE * np.median(blocks.weight)
    for axes, (moment, colour) in zip(panels, _MOMENTS, strict=True):
        residual = blocks.before if moment == "before" else blocks.after
        _ground(axes, ground, shape)
        # On the ground, then in pixels of the picture, whose rows may run either way.
        right = (inverse.a * residual[:, 0] + inverse.b * residual[:, 1]) * larger
        down = (inverse.d * residual[:, 0] + inverse.e * residual[:, 1]) * larger
        for chosen, alpha in ((pale, 0.35), (~pale, 1.0)):
            arrows: dict[str, Any] = {
                "angles": "xy", "scale_units": "xy", "scale": 1.0, "width": 0.0036, "headwidth": 4.0,
                "headlength": 4.5, "headaxislength": 4.0, "minlength": 0.5, "alpha": alpha, "color": colour,
            }  # fmt: skip
            axes.quiver(cols[chosen], rows[chosen], right[chosen], down[chosen], **arrows)
        bare(axes, f"{moment}: RMSE {blocks.rmse(residual):.1f} m")
    metres = round_down(usual)
    words = f"{metres:g} m (arrows are {larger:g} times longer than on the ground)"
    ruler(panels[0], metres * larger / pixel, words, arrow=True)
    few = f"; pale: {pale.sum()} blocks that contradict the others" if pale.any() else ""
    scale_bar(panels[0], pixel=pixel, words=few, line=1)
    return png(figure)


def residual_histogram(blocks: Blocks, *, circle: float | None) -> bytes:
    """Draw how far single blocks are off, before and after.

    Parameters
    ----------
    blocks
        What single blocks say.
    circle
        Median radius of the circle that holds the true position with 90 %, m; None where it is not known.
    """
    figure = Figure(figsize=(6.4, 3.0))
    axes = figure.subplots()
    lengths = {moment: np.hypot(*getattr(blocks, moment).T) for moment, _ in _MOMENTS}
    longest = max(float(np.percentile(values, 99.5)) for values in lengths.values())
    bins = np.linspace(0, max(longest, 1e-6), 49).tolist()
    tallest = 0.0
    for moment, colour in _MOMENTS:
        counts, _, _ = axes.hist(
            np.minimum(lengths[moment], longest), bins=bins, weights=blocks.weight, color=colour, alpha=0.75,
            label=f"{moment}, RMSE {blocks.rmse(getattr(blocks, moment)):.1f} m",
        )  # fmt: skip
        tallest = max(tallest, float(np.max(counts)))
        axes.axvline(blocks.rmse(getattr(blocks, moment)), color=colour, linewidth=1.5, linestyle="--")
    if circle is not None:
        label = f"90 % circle of the position, {circle:.1f} m"
        axes.axvline(circle, color=INK, linewidth=1.5, linestyle=":", label=label)
    axes.set_ylim(0, 1.08 * tallest)
    axes.set_xlim(0, bins[-1])
    axes.set_yticks([])
    axes.set_xlabel("length of what a block asks for, m", fontsize=9)
    axes.set_ylabel("trust in blocks", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, columnspacing=1.2)
    plain(axes)
    return png(figure)


def confidence_maps(
    confidence: NDArray[np.floating], radius: NDArray[np.floating], *, places: NDArray[np.float64]
) -> bytes:
    """Draw how sure the position is, place by place, and where blocks said something.

    Parameters
    ----------
    confidence
        (y, x): probability to be right within a pixel, 0 to 1.
    radius
        (y, x): radius of the circle that holds the true position with 90 %, m.
    places
        float64 (block, 2): column and row of the middle of each block, px of these maps.
    """
    rows, cols = confidence.shape
    figure, panels = pair((rows, cols), between=0.16)
    known = radius[np.isfinite(radius)]
    # Far corners, where the field is extrapolated, would otherwise leave the rest in one colour.
    top = max(float(np.percentile(known, 97)), 2 * float(np.median(known))) if known.size else 1.0
    maps = (
        ("probability to be right within a pixel", confidence, "viridis", 1.0),
        ("radius of the 90 % circle, m", radius, "magma_r", max(top, 1e-6)),
    )
    for axes, (title, values, colours, highest) in zip(panels, maps, strict=True):
        drawn = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=highest, interpolation="nearest")
        axes.scatter(places[:, 0], places[:, 1], s=7, facecolors="none", edgecolors="white", linewidths=0.7, alpha=0.9)
        beyond = "max" if (values > highest).any() else "neither"
        bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.025, extend=beyond)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8)
        bare(axes, title)
        axes.set_facecolor((UNKNOWN,) * 3)
        axes.set_xlim(-0.5, cols - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
    return png(figure)


def _ground(axes: Axes, ground: NDArray[np.float32] | None, shape: tuple[int, int]) -> None:
    """Draw a picture in pale grey, so that arrows are read, or a frame."""
    if ground is None:
        axes.set_facecolor("#f5f7fa")
    else:
        grey = 0.5 + 0.5 * ground.mean(axis=2)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=(0, shape[1], shape[0], 0), interpolation="antialiased")
    axes.set_xlim(0, shape[1])
    axes.set_ylim(shape[0], 0)
    axes.set_aspect("equal")
