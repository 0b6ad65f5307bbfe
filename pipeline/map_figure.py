"""A figure of one scene's maps: classes, confidence and reliance beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..datasets.stack import IGNORE
from .figures import UNKNOWN, bare, mixture, modality_colours, palette
from .scene_options import ClassOptions

#: Largest edge of a picture, px: more is not seen.
EDGE = 800


@dataclass(frozen=True, kw_only=True)
class PixelBox:
    """A part of a map, px of the map from its upper left corner."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left


def observed_box(classes: xr.DataArray, *, most: int = EDGE) -> PixelBox:
    """Return the part of a map (y, x) that something was observed in; all of it where nothing was.

    Large maps are thinned to ``most`` px, so that the box may be wider than the part by so many pixels.
    """
    step = step_of(classes, most)
    seen = classes[::step, ::step].to_numpy() != IGNORE
    rows, cols = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return PixelBox(top=0, left=0, bottom=classes.shape[0], right=classes.shape[1])
    low, high = step - 1, 2 * step - 1  # what lies between the rows that were looked at may be observed, too
    return PixelBox(
        top=max(0, int(rows[0]) * step - low), bottom=min(classes.shape[0], int(rows[-1]) * step + high),
        left=max(0, int(cols[0]) * step - low), right=min(classes.shape[1], int(cols[-1]) * step + high),
    )  # fmt: skip


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

    Returns
    -------
    The figure, of the part that something was observed in.
    """
    count = 2 if reliance is None else 3
    box = observed_box(classes)
    figure = Figure(figsize=(4.3 * count, 4.0 * min(box.height / box.width, 2.0) + 1.2), layout="constrained")
    axes = figure.subplots(1, count)
    _draw_classes(axes[0], classes, legend)
    colours = mpl.colormaps["viridis"].with_extremes(bad=(UNKNOWN,) * 3)
    values = np.ma.masked_invalid(thinned(confidence, EDGE).to_numpy())
    drawn = axes[1].imshow(
        values, cmap=colours, vmin=0, vmax=1, interpolation="nearest", extent=_extent(confidence, classes)
    )
    # Within the picture's own place: beside it, the legends of the others would push it away.
    figure.colorbar(drawn, cax=axes[1].inset_axes((0, -0.08, 1, 0.04)), orientation="horizontal")
    bare(axes[1], "confidence")
    if reliance is not None:
        _draw_reliance(axes[2], reliance, classes)
    for part in axes:
        part.set(xlim=(box.left, box.right), ylim=(box.bottom, box.top))
    return figure


def _draw_classes(axes: Axes, classes: xr.DataArray, legend: Sequence[ClassOptions]) -> None:
    colours = palette({item.value: item.rgb for item in legend})
    axes.imshow(colours[thinned(classes, EDGE).to_numpy()], interpolation="nearest", extent=_extent(classes, classes))
    bare(axes, "classes")
    _legend(axes, {item.name: item.color for item in legend})


def _draw_reliance(axes: Axes, reliance: xr.DataArray, classes: xr.DataArray) -> None:
    shares = thinned(reliance, EDGE).to_numpy()
    axes.imshow(mixture(shares), interpolation="nearest", extent=_extent(reliance, classes))
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


def pixel_size(layer: xr.DataArray) -> float:
    """Return the edge of a layer's pixels in units of its CRS, whichever way the grid is turned."""
    affine = layer.odc.geobox.affine
    return float(np.hypot(affine.a, affine.d))


def thinned(layer: xr.DataArray, most: int) -> xr.DataArray:
    """Return every so-manieth row and column of (..., y, x), so that the longer edge is at most ``most``."""
    step = step_of(layer, most)
    return layer[..., ::step, ::step]


def step_of(layer: xr.DataArray, most: int) -> int:
    """Return the distance of the rows and columns that :func:`thinned` takes."""
    return max(1, -(-max(layer.shape[-2:]) // most))


def _extent(layer: xr.DataArray, classes: xr.DataArray) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of a thinned layer in pixels of the map: tiles may reach beyond it."""
    step = step_of(layer, EDGE)
    scale = step * (pixel_size(layer) / pixel_size(classes))
    rows, cols = (-(-length // step) * scale for length in layer.shape[-2:])
    return 0, cols, rows, 0
