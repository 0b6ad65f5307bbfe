"""Layers: what can be shown of a scene, each with its colours and its legend."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from ...datasets.stack import IGNORE
from ..figures import CLASS_COLOURS, INK, modality_colours
from ..raster_kind import category_tags
from ..registration_views import rgb_of
from .before import position_before
from .drawing import Drawing, Mixture, NamedValues, Picture, Ramp
from .folder import SceneFiles
from .rasters import LOOK, Raster

#: A correction that an affine transform misses by more than this many pixels is said to be shown in part.
TELLING = 0.5

#: Zoom levels beyond the one at which a pixel of the scene is one of the screen.
CLOSER = 4

#: Width in metres of a pixel of the Web Mercator pyramid at zoom 0, on the equator.
_WIDEST = 156543.034


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Something that can be shown.

    Attributes
    ----------
    key
        Its name, unique in a scene.
    title
        What it is, for people.
    role
        ``image``, ``before`` (an image at its file's own position) or ``map``.
    raster
        Where its values are.
    drawing
        Their colours.
    note
        What is to be known of it, if anything.
    """

    key: str
    title: str
    role: str
    raster: Raster
    drawing: Drawing
    note: str = ""

    @property
    def is_sharp(self) -> bool:
        """Whether its pixels stay squares: names have no mean, and a tile is one answer."""
        return self.role == "map" or self.drawing.is_named


@dataclass(frozen=True, kw_only=True)
class ViewedScene:
    """A scene that is open.

    Attributes
    ----------
    files
        Its files.
    root
        Folder that they lie in.
    layers
        In the order in which they are offered.
    shape
        Rows and columns.
    transform
        Pixels to units of the CRS.
    crs
        That of its files.
    box
        South, west, north, east, degrees; None: it has no position.
    zoom
        Web Mercator level up to which it can be looked at.
    """

    files: SceneFiles
    root: Path
    layers: tuple[Layer, ...]
    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None
    box: tuple[float, float, float, float] | None
    zoom: int

    @property
    def crs_name(self) -> str:
        """What the CRS is called."""
        return "no position" if self.crs is None else self.crs.to_string()[:60]

    def layer(self, key: str) -> Layer | None:
        """Return the layer of that name, if there is one."""
        return next((layer for layer in self.layers if layer.key == key), None)


def open_scene(files: SceneFiles, root: Path) -> ViewedScene:
    """Open a scene: read its headers, and thinned pixels to choose stretches by.

    Raises
    ------
    PipelineError, SceneError, RasterioError
        If one of its files cannot be read, or lies out of the folder.
    """
    assert files.first is not None  # noqa: S101 (scenes without rasters are not offered)
    with Raster(path=files.first, root=root).opened() as source:
        shape, crs, bounds, affine = source.shape, source.crs, source.bounds, source.transform
        metres = float(np.hypot(affine.a, affine.d)) * (111_320.0 if crs is not None and crs.is_geographic else 1.0)
    box = None
    if crs is not None:
        west, south, east, north = transform_bounds(crs, "EPSG:4326", *bounds)
        box = (south, west, north, east + 360 * (east < west))  # beyond the 180th meridian
    layers = (*_images(files, root), *_maps(files, root))
    return ViewedScene(
        files=files, root=root, layers=layers, shape=shape, transform=affine, box=box,
        crs=crs,
        zoom=min(24, round(np.log2(_WIDEST / max(metres, 0.01))) + CLOSER),
    )  # fmt: skip


def _images(files: SceneFiles, root: Path) -> Iterator[Layer]:
    for name, path in files.images.items():
        raster = Raster(path=path, root=root)
        drawing = _picture(raster)
        yield Layer(key=name, title=name, role="image", raster=raster, drawing=drawing)
        if name in files.registration:
            with raster.opened() as source:
                own, pixel = source.transform, abs(source.transform.a)
            # Read by its own reader below, which would open any format.
            with Raster(path=files.registration[name], root=root).opened():
                pass
            transform, missed = position_before(files.registration[name], own)
            if transform.almost_equals(own, 1e-3 * pixel):
                continue
            note = f"bends of up to {missed:.1f} m are not shown" if missed > TELLING * pixel else ""
            yield Layer(
                key=f"{name}-before", title=f"{name} before alignment", role="before", drawing=drawing, note=note,
                raster=Raster(path=path, root=root, transform=transform),
            )  # fmt: skip


def _picture(raster: Raster) -> Drawing:
    with raster.opened() as source:
        names = [name or f"band {number}" for number, name in enumerate(source.descriptions, start=1)]
        has_palette = source.count == 1 and source.dtypes[0] == "uint8" and "palette" in str(source.colorinterp)
    if has_palette:
        return _named(raster)
    bands = rgb_of(names) or (0,)
    return Picture.of(
        raster.thinned(LOOK, nearest=False, bands=bands), bands=bands, names=names, units=raster.units * len(names)
    )


def _maps(files: SceneFiles, root: Path) -> Iterator[Layer]:
    rasters = {name: Raster(path=path, root=root) for name, path in files.maps.items()}
    named = {name: _named(rasters[name]) for name in ("classes", "trust") if name in rasters}
    if "classes" in rasters:
        yield _map("classes", "Prediction", rasters["classes"], named["classes"])
    if "confidence" in rasters:
        ramp = Ramp(band=0, colours=("viridis",), low=0, high=1)
        yield _map("confidence", "Confidence", rasters["confidence"], ramp)
    if "reliance" in rasters:
        yield from _reliance(rasters["reliance"])
    if "trust" in rasters:
        yield _map("trust", "Trust: what tiles rest on", rasters["trust"], named["trust"])
    if "quality" in rasters:
        yield from _quality(rasters["quality"])
    if files.labels is not None:
        raster = Raster(path=files.labels, root=root)
        yield _map("labels", "Labels", raster, _labels(raster, named.get("classes")))


def _reliance(raster: Raster) -> Iterator[Layer]:
    names = _descriptions(raster)
    yield _map("reliance", "Reliance, all sensors", raster, Mixture(names=names))
    for band, (name, colour) in enumerate(zip(names, modality_colours(len(names)), strict=True)):
        ramp = Ramp(band=band, colours=("#ffffff", colour, INK), low=0, high=1)
        yield _map(f"reliance-{name}", f"Reliance on {name}", raster, ramp)


def _quality(raster: Raster) -> Iterator[Layer]:
    for band, name in enumerate(_descriptions(raster)):
        title = "Quality of what tiles rest on" if name == "prediction" else f"Quality of {name}"
        ramp = Ramp(band=band, colours=("cividis",), low=0, high=1)
        yield _map(f"quality-{name}", title, raster, ramp)


def _map(key: str, title: str, raster: Raster, drawing: Drawing) -> Layer:
    return Layer(key=key, title=title, role="map", raster=raster, drawing=drawing)


def _descriptions(raster: Raster) -> Sequence[str]:
    with raster.opened() as source:
        return [name or f"band {number}" for number, name in enumerate(source.descriptions, start=1)]


def _named(raster: Raster) -> NamedValues:
    """Return the palette and the names that a map carries."""
    with raster.opened() as source:
        names = category_tags(source.tags())
        palette = source.colormap(1) if "palette" in str(source.colorinterp) else {}
    if not palette:
        return NamedValues(colours=_unnamed(raster), names=names)
    known = names or _unnamed(raster)  # of a palette without names, the values that occur
    shown = {value: rgba for value, rgba in palette.items() if value != IGNORE and value in known}
    return NamedValues(colours={value: rgba[:3] for value, rgba in shown.items()}, names=names)


def _labels(raster: Raster, classes: NamedValues | None) -> NamedValues:
    """Labels carry colours, but no names: they are those of the classes that they teach."""
    return replace(_named(raster), names={} if classes is None else classes.names)


def _unnamed(raster: Raster) -> dict[int, tuple[int, int, int]]:
    values = raster.thinned(LOOK, nearest=True)
    found = np.unique(values[np.isfinite(values)]).astype(int)
    colours = [mpl.colors.to_rgb(code) for code in CLASS_COLOURS]
    parts = np.round(255 * np.array(colours)).astype(int).tolist()
    return {int(value): tuple(parts[place % len(parts)]) for place, value in enumerate(found) if 0 <= value < IGNORE}
