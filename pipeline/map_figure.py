"""A figure of one scene's maps: classes, confidence and reliance beside each other."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import UNKNOWN, bare, mixture, modality_colours, palette
from .scene_options import ClassOptions

#: Largest edge of a picture, px: more is not seen.
EDGE = 800


def map_figure(
    classes: xr.DataArray, confidence: xr.DataArray, reliance: xr.DataArray | None, *, legend: Sequence[ClassOptions]
) -> Figure:
    """Draw the maps of a scene.

    Parameters
    ----------
    classes
        (y, x), values of ``legend``; others are grey.
    confidence
        (y, x), 0 to 1, NaN grey.
    reliance
        (modality, y, x), shares that sum to 1, NaN grey: each tile in the mixture of the modalities' colours. None
        leaves the picture out.
    legend
        Classes with their colours.
    """
    count = 2 if reliance is None else 3
    rows, cols = classes.shape
    figure = Figure(figsize=(4.3 * count, 4.0 * min(rows / cols, 2.0) + 1.2), layout="constrained")
    axes = figure.subplots(1, count)
    _draw_classes(axes[0], classes, legend)
    colours = mpl.colormaps["viridis"].with_extremes(bad=(UNKNOWN,) * 3)
    values = np.ma.masked_invalid(_thinned(confidence).to_numpy())
    drawn = axes[1].imshow(values, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(drawn, ax=axes[1], location="bottom", fraction=0.05, pad=0.02)
    bare(axes[1], "confidence")
    if reliance is not None:
        _draw_reliance(axes[2], reliance)
    return figure


def _draw_classes(axes: Axes, classes: xr.DataArray, legend: Sequence[ClassOptions]) -> None:
    colours = palette({item.value: item.rgb for item in legend})
    axes.imshow(colours[_thinned(classes).to_numpy()], interpolation="nearest")
    bare(axes, "classes")
    _legend(axes, {item.name: item.color for item in legend})


def _draw_reliance(axes: Axes, reliance: xr.DataArray) -> None:
    shares = _thinned(reliance).to_numpy()
    axes.imshow(mixture(shares), interpolation="nearest")
    bare(axes, "reliance, a tile")
    _legend(
        axes,
        {
            str(name): colour
            for name, colour in zip(reliance["modality"].values, modality_colours(len(shares)), strict=True)
        },
    )


def _legend(axes: Axes, colours: dict[str, str]) -> None:
    handles = [mpl.patches.Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(-0.02, -0.01), ncols=2, frameon=False, fontsize=9
    )  # fmt: skip


def _thinned(layer: xr.DataArray) -> xr.DataArray:
    step = max(1, -(-max(layer.sizes["y"], layer.sizes["x"]) // EDGE))
    return layer.isel(y=slice(None, None, step), x=slice(None, None, step))
