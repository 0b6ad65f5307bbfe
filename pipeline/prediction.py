"""Predictions as arrays: the maps of one scene in xarray, with a figure and a view for notebooks."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np
import rasterio
import rioxarray
import xarray as xr
from matplotlib.figure import Figure

from .errors import PipelineError
from .map_figure import map_figure
from .map_files import map_names
from .notebook_map import NotebookMap, notebook_map
from .scene_options import ClassOptions
from .trust import DEFECTS, FLAG_NAMES

#: Edge of the pieces that maps are read in, px: maps of large scenes are not held in memory.
PIECE = 1024


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The maps of one scene.

    Attributes
    ----------
    scene
        Its name.
    classes
        uint8 (y, x): class values, 255 = nothing was observed. The attribute ``flag_meanings`` names them (CF
        conventions).
    confidence
        float32 (y, x): probability of the class, 0 to 1, NaN = nothing was observed.
    reliance
        float32 (modality, y, x), a pixel a tile: shares, 0 to 1, that sum to 1; NaN = indeterminate. None where it was
        not asked for. The attributes tell the metric, the tile's edge in px, and whether it is ``approximate``.
    trust
        uint8 (y, x), a pixel a tile: the flags of docs/map-files.md, 255 = nothing was observed. The attribute
        ``flag_meanings`` names them. None where it was not asked for.
    legend
        The classes with their colours, in the model's order.
    """

    scene: str
    classes: xr.DataArray
    confidence: xr.DataArray
    reliance: xr.DataArray | None
    trust: xr.DataArray | None
    legend: tuple[ClassOptions, ...]

    @classmethod
    def open(cls, folder: Path, scene: str, *, legend: tuple[ClassOptions, ...]) -> "Prediction":
        """Open the maps of a scene in a folder; pixels are read when they are asked for.

        Raises
        ------
        PipelineError
            If the scene's maps are not there, or cannot be read.
        """
        files = map_names(folder, scene, with_reliance=True)
        try:
            classes, confidence = _layer(files.classes), _layer(files.confidence)
            classes.attrs |= {
                "flag_values": [item.value for item in legend], "flag_meanings": " ".join(item.name for item in legend)
            }  # fmt: skip
            trust = _flags(folder / f"{scene}.trust.tif")
            return cls(
                scene=scene, classes=classes, confidence=confidence, legend=legend,
                reliance=_shares(files.reliance) if files.reliance is not None and files.reliance.is_file() else None,
                trust=trust,
            )  # fmt: skip
        except rasterio.RasterioIOError as error:
            raise PipelineError(
                f"{folder}: found no usable maps of scene '{scene}' ({error}); wanted those of `equipoise predict`; "
                "run it again"
            ) from error

    def load(self) -> "Prediction":
        """Read every pixel into memory; return the prediction itself."""
        for layer in (self.classes, self.confidence, self.reliance, self.trust):
            if layer is not None:
                layer.load()
        return self

    @cached_property
    def shares(self) -> dict[str, float] | None:
        """Mean reliance on each modality over the tiles that have one, 0 to 1; None where there is none."""
        if self.reliance is None:
            return None
        means = self.reliance.mean(dim=("y", "x"), skipna=True).to_numpy()
        if not np.isfinite(means).all():
            return None
        return {str(name): float(value) for name, value in zip(self.reliance["modality"].values, means, strict=True)}

    @cached_property
    def class_shares(self) -> dict[str, float]:
        """Share of each class in what was mapped, 0 to 1, by name; empty where nothing was."""
        counts = {item.name: int((self.classes == item.value).sum()) for item in self.legend}
        total = sum(counts.values())
        return {name: count / total for name, count in counts.items()} if total else {}

    @cached_property
    def trust_shares(self) -> dict[str, float]:
        """Share of the observed tiles under each flag that occurs, 0 to 1, by name; empty where there is no layer."""
        counts = {} if self.trust is None else {
            name: int((self.trust == flag).sum()) for flag, name in FLAG_NAMES.items()
        }  # fmt: skip
        total = sum(counts.values())
        return {name: count / total for name, count in counts.items() if count}

    @property
    def doubtful(self) -> xr.DataArray:
        """Tiles whose answer rests on input that was not good, whatever is wrong with it: bool (y, x).

        Raises
        ------
        PipelineError
            If there is no trust layer.
        """
        if self.trust is None:
            raise PipelineError(f"'{self.scene}': found no trust layer; wanted one; predict with reliance")
        return self.trust.isin([int(flag) for flag in DEFECTS])

    def plot(self) -> Figure:
        """Draw classes, confidence and reliance beside each other, at most 800 px a picture, with their legends."""
        return map_figure(self.classes, self.confidence, self.reliance, legend=self.legend)

    def map(self, *, background: xr.DataArray | None = None) -> NotebookMap:
        """Return a map to look around in: classes, confidence, reliance and trust over each other, with an opacity.

        A notebook shows it in a frame; ``map().save("map.html")`` writes it as one file. It needs no network. Pictures
        have at most 1024 px along their longer edge.

        Parameters
        ----------
        background
            Image (band, y, x) of the same place and grid, drawn beneath the maps; in its bands ``red``, ``green`` and
            ``blue`` where it names them.

        Raises
        ------
        PipelineError
            If the background lies on another grid.
        """
        return notebook_map(
            self.classes, self.confidence, self.reliance, self.trust, legend=self.legend, title=f"Map of {self.scene}",
            background=background,
        )  # fmt: skip

    def _repr_html_(self) -> str:
        """Return the figure and the main numbers, for notebooks."""
        from .figures import png

        picture = base64.b64encode(png(self.plot())).decode("ascii")
        rows = {"classes": _percent(self.class_shares), "rests on": _percent(self.shares or {}) or "indeterminate"}
        size = f"{self.classes.sizes['x']} x {self.classes.sizes['y']} px"
        table = "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
        alternative = f"Classes, confidence and reliance of {escape(self.scene)}"
        return (
            f"<b>Prediction</b> of {escape(self.scene)}, {size}<br>"
            f'<img alt="{alternative}" src="data:image/png;base64,{picture}">'
            f"<table>{table}</table>"
        )


def _percent(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def _layer(path: Path) -> xr.DataArray:
    return _opened(path).isel(band=0, drop=True)


def _opened(path: Path) -> xr.DataArray:
    opened = rioxarray.open_rasterio(path, chunks={"x": PIECE, "y": PIECE})
    assert isinstance(opened, xr.DataArray)  # noqa: S101 (for the type checker: a list only of files with subdatasets)
    return opened


def _flags(path: Path) -> xr.DataArray | None:
    if not path.is_file():
        return None
    layer = _layer(path)
    words = " ".join(name.replace(" ", "_") for name in FLAG_NAMES.values())
    layer.attrs |= {"flag_values": [int(flag) for flag in FLAG_NAMES], "flag_meanings": words}
    return layer


def _shares(path: Path) -> xr.DataArray:
    with rasterio.open(path) as source:
        names, tags = [str(name) for name in source.descriptions], source.tags()
    layer = _opened(path).rename(band="modality").assign_coords(modality=names)
    layer.attrs = {key: tags[key] for key in ("metric", "approximate", "tile_px") if key in tags}
    return layer
