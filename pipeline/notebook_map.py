"""A map to look around in: one page without a network, in a notebook's frame or a file of its own."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from ..datasets.notebook_view import crs_words
from .errors import PipelineError
from .figures import UNKNOWN, display, hex_code, mixture, modality_colours, palette
from .map_figure import observed_box, pixel_size, step_of, thinned
from .page import rendered
from .registration_views import rgb_of
from .scene_options import ClassOptions
from .trust import FLAG_COLOURS, FLAG_NAMES, Flag

#: Largest edge of a picture, px: a page of four stays below some megabytes.
EDGE = 1024

#: Colours of confidence along its scale.
RAMP = "viridis"

#: What grey means.
_GREY = mpl.colors.to_hex((UNKNOWN,) * 3)

Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One theme of a map.

    Attributes
    ----------
    name
        For people.
    picture
        uint8 (y, x, 4): red, green, blue, alpha; none of alpha where nothing is known.
    colours
        Legend: what a colour means -> ``#rrggbb``.
    note
        One line below the legend.
    ramp
        Colours of a scale from 0 to 1; empty where there is none.
    """

    name: str
    picture: Picture
    colours: Mapping[str, str]
    note: str
    ramp: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class NotebookMap:
    """A page with a map, which a notebook shows in a frame.

    Attributes
    ----------
    title
        Of page and frame.
    page
        HTML that needs no other file and no network.
    height
        Of the frame, px.
    """

    title: str
    page: str
    height: int = 520

    def save(self, path: Path | str) -> Path:
        """Write the page; any browser opens it."""
        target = Path(path)
        target.write_text(self.page, encoding="utf-8")
        return target

    def _repr_html_(self) -> str:
        """Return the frame. It may run its own script and nothing else: not reach the notebook, nor send anything."""
        return (
            f'<iframe title="{escape(self.title)}" sandbox="allow-scripts" srcdoc="{escape(self.page)}" '
            f'style="width: 100%; height: {self.height}px; border: 1px solid #cbd2d9"></iframe>'
        )


def notebook_map(
    classes: xr.DataArray,
    confidence: xr.DataArray,
    reliance: xr.DataArray | None,
    trust: xr.DataArray | None,
    *,
    legend: Sequence[ClassOptions],
    title: str,
    background: xr.DataArray | None = None,
) -> NotebookMap:
    """Draw the maps of a scene over each other, to choose among, with their legends.

    Parameters
    ----------
    classes, confidence, reliance, trust
        As a :class:`~equipoise.pipeline.prediction.Prediction` holds them; None leaves a layer out.
    legend
        Classes with their colours.
    title
        Of the map.
    background
        Image (band, y, x) of the same place, drawn beneath; its bands ``red``, ``green``, ``blue`` where it names them.

    Raises
    ------
    PipelineError
        If the background lies on another grid.
    """
    layers = [(_of_classes(classes, legend), classes), (_of_confidence(confidence), confidence)]
    layers += [] if reliance is None else [(_of_reliance(reliance), reliance)]
    layers += [] if trust is None else [(_of_trust(trust), trust)]
    grid, box = classes.odc.geobox, observed_box(classes)
    plan = {
        "view": [[-box.bottom, box.left], [-box.top, box.right]], "affine": list(grid.affine)[:6],
        "crs": crs_words(grid.crs) or "pixels", "digits": 0 if abs(grid.affine.a) > 0.5 else 5,
        "layers": [
            {**_shown(layer.picture, source, classes), "alt": f"{title}: {layer.name}"} for layer, source in layers
        ],
        "background": None if background is None else {
            **_shown(_of_image(background, classes), background, classes), "alt": f"{title}: image"
        },
    }  # fmt: skip
    return NotebookMap(title=title, page=_page(title, [layer for layer, _ in layers], plan))


def _of_classes(classes: xr.DataArray, legend: Sequence[ClassOptions]) -> Layer:
    values = thinned(classes, EDGE).to_numpy()
    present = set(np.unique(values).tolist())
    colours = palette({item.value: item.rgb for item in legend})[values]
    return Layer(
        name="classes", picture=_rgba(colours, np.isin(values, [item.value for item in legend])),
        colours={item.name: item.color for item in legend if item.value in present},
        note="Clear: nothing was observed.",
    )  # fmt: skip


def _of_confidence(confidence: xr.DataArray) -> Layer:
    values, scale = thinned(confidence, EDGE).to_numpy(), mpl.colormaps[RAMP]
    seen = np.isfinite(values)
    return Layer(
        name="confidence", picture=_rgba(scale(np.where(seen, values, 0))[..., :3], seen), colours={},
        ramp=[mpl.colors.to_hex(scale(place)) for place in np.linspace(0, 1, 9)], note="Probability of the class.",
    )  # fmt: skip


def _of_reliance(reliance: xr.DataArray) -> Layer:
    shares = thinned(reliance, EDGE).to_numpy()
    names = [str(name) for name in reliance["modality"].values]
    colours = dict(zip(names, modality_colours(len(names)), strict=True))
    return Layer(
        name="reliance", picture=_rgba(mixture(shares), np.ones(shares.shape[1:], dtype=bool)),
        colours={**colours, "indeterminate, or not observed": _GREY},
        note="What each tile rests on: the more of a colour, the larger that sensor's share.",
    )  # fmt: skip


def _of_trust(trust: xr.DataArray) -> Layer:
    values = thinned(trust, EDGE).to_numpy()
    present = set(np.unique(values).tolist())
    return Layer(
        name="trust", picture=_rgba(palette(FLAG_COLOURS)[values], values != Flag.UNOBSERVED),
        colours={
            name: hex_code(FLAG_COLOURS[flag])
            for flag, name in FLAG_NAMES.items() if flag in present
        },
        note="What is wrong with the input that each tile rests on.",
    )  # fmt: skip


def _of_image(image: xr.DataArray, classes: xr.DataArray) -> Picture:
    """Return an image as a picture, stretched for display."""
    if image.odc.geobox != classes.odc.geobox:
        raise PipelineError("found a background on another grid; wanted that of the prediction; reproject it")
    stacked = image if image.ndim == 3 else image.expand_dims("band")
    values = thinned(stacked.transpose(..., *image.odc.spatial_dims), EDGE).to_numpy().astype(np.float32)
    return np.rint(255 * display(values, rgb=rgb_of(_band_names(stacked)))).astype(np.uint8)


def _band_names(image: xr.DataArray) -> list[str]:
    told = image.attrs.get("long_name")
    if isinstance(told, tuple) and len(told) == len(image):
        return [str(name) for name in told]
    axis = image.coords.get(image.dims[0])
    return [str(place) for place in (range(len(image)) if axis is None else axis.values)]


def _shown(picture: Picture, layer: xr.DataArray, classes: xr.DataArray) -> dict[str, Any]:
    """Return a picture and its size in pixels of the scene: tiles along the edges reach beyond it."""
    scale = step_of(layer, EDGE) * (pixel_size(layer) / pixel_size(classes))
    return {"source": _source(picture), "rows": picture.shape[0] * scale, "columns": picture.shape[1] * scale}


def _rgba(colours: NDArray[Any], seen: NDArray[np.bool_]) -> Picture:
    alpha = np.where(seen, 255, 0)[..., None]
    return np.concatenate([np.rint(np.asarray(colours) * 255), alpha], axis=-1).astype(np.uint8)


def _source(picture: Picture) -> str:
    """Return a picture as an address; images, which have no alpha, as JPEG: noise is most of their PNG."""
    buffer, kind = io.BytesIO(), "png" if picture.shape[-1] == 4 else "jpeg"
    Image.fromarray(picture).save(buffer, format=kind)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _page(title: str, layers: Sequence[Layer], plan: Mapping[str, Any]) -> str:
    static = files(__package__).joinpath("viewer", "static")
    return rendered(
        "map.html", title=title, layers=layers, background=plan["background"] is not None,
        # A title such as "</script>" must not end the script that it stands in.
        plan=json.dumps(plan).replace("<", "\\u003c"),
        leaflet=static.joinpath("leaflet.js").read_text(encoding="utf-8"),
        leaflet_style=static.joinpath("leaflet.css").read_text(encoding="utf-8"),
    )  # fmt: skip
