"""Place: what a scene's files hold at one place, and for the tile around it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from affine import Affine
from rasterio.warp import transform

from ..figures import hex_code, modality_colours
from .drawing import NamedValues, Picture, Ramp
from .layers import Layer, ViewedScene
from .rasters import Raster


def place(scene: ViewedScene, x: float, y: float) -> dict[str, Any] | None:
    """Tell what is at a place.

    Parameters
    ----------
    scene
        The scene.
    x, y
        Longitude and latitude, degrees; pixels from the upper left corner where the scene has no position.

    Returns
    -------
    Plain values: ``place`` (position in words), ``prediction`` (name, colour, confidence), ``tile`` (``ring`` of its
    corners, ``reliance`` by sensor, ``trust``, ``quality``), ``images`` (values of bands by sensor), ``labels``. What a
    scene has no map of, or what was not observed, is None. None: the place is out of the scene.
    """
    on_grid = _on_grid(scene, x, y)
    first = Raster(path=scene.files.first, root=scene.root) if scene.files.first is not None else None
    if first is None or first.at(*on_grid) is None:
        return None
    layers = {layer.key: layer for layer in scene.layers}
    return {
        "place": _words(scene, x, y, on_grid),
        "prediction": _prediction(layers, on_grid),
        "tile": _tile(scene, layers, on_grid),
        "labels": _named(layers.get("labels"), on_grid),
        "images": {
            layer.title: _bands(layer, on_grid)
            for layer in scene.layers if layer.role == "image" and isinstance(layer.drawing, Picture)
        },
    }  # fmt: skip


def _on_grid(scene: ViewedScene, x: float, y: float) -> tuple[float, float]:
    """Return x and y in units of the files."""
    if scene.box is None:
        found: tuple[float, float] = scene.transform * (x, y)
        return found
    (east,), (north,) = transform("EPSG:4326", scene.crs, [(x + 180) % 360 - 180], [y])
    return east, north


def _words(scene: ViewedScene, x: float, y: float, on_grid: tuple[float, float]) -> str:
    if scene.box is None:
        return f"row {math.floor(y)}, column {math.floor(x)}"
    return f"{y:.5f}, {x:.5f} (latitude, longitude); {on_grid[0]:.1f}, {on_grid[1]:.1f} in {scene.crs_name}"


def _prediction(layers: Mapping[str, Layer], on_grid: tuple[float, float]) -> dict[str, Any] | None:
    named = _named(layers.get("classes"), on_grid)
    if named is None:
        return None
    confidence = _values(layers.get("confidence"), on_grid)
    return {**named, "confidence": None if confidence is None else _plain(confidence[0])}


def _named(layer: Layer | None, on_grid: tuple[float, float]) -> dict[str, Any] | None:
    """Return name and colour of the value of a map of names."""
    values = _values(layer, on_grid)
    if layer is None or values is None or not np.isfinite(values[0]) or not isinstance(layer.drawing, NamedValues):
        return None
    value, drawing = int(values[0]), layer.drawing
    colour = hex_code(drawing.colours[value]) if value in drawing.colours else "#d1d1d1"
    return {"name": drawing.names.get(value, str(value)), "colour": colour}


def _tile(scene: ViewedScene, layers: Mapping[str, Layer], on_grid: tuple[float, float]) -> dict[str, Any] | None:
    key = next((key for key in ("reliance", "trust") if key in layers), None)
    if key is None:
        return None
    return {
        "ring": _ring(scene, layers[key].raster, on_grid),
        "reliance": _reliance(layers.get("reliance"), on_grid),
        "trust": _named(layers.get("trust"), on_grid),
        "quality": _quality(layers, on_grid),
    }


def _reliance(layer: Layer | None, on_grid: tuple[float, float]) -> list[dict[str, Any]] | None:
    values = _values(layer, on_grid)
    if layer is None or values is None or not np.isfinite(values).all():
        return None
    with layer.raster.opened() as source:
        names = [name or f"band {number}" for number, name in enumerate(source.descriptions, start=1)]
    return [
        {"name": name, "colour": colour, "share": _plain(share)}
        for name, colour, share in zip(names, modality_colours(len(names)), values, strict=True)
    ]


def _quality(layers: Mapping[str, Layer], on_grid: tuple[float, float]) -> dict[str, float | None]:
    found = {}
    for key, layer in layers.items():
        if key.startswith("quality-") and isinstance(layer.drawing, Ramp):
            values = _values(layer, on_grid)
            found[key.removeprefix("quality-")] = None if values is None else _plain(values[layer.drawing.band])
    return found


def _bands(layer: Layer, on_grid: tuple[float, float]) -> list[dict[str, Any]]:
    with layer.raster.opened() as source:
        names = [name or f"band {number}" for number, name in enumerate(source.descriptions, start=1)]
    values = _values(layer, on_grid)
    units = layer.raster.units * len(names)
    return [
        {"name": name, "value": None if values is None else _plain(values[band]), "unit": units[band]}
        for band, name in enumerate(names)
    ]


def _values(layer: Layer | None, on_grid: tuple[float, float]) -> Any:
    return None if layer is None else layer.raster.at(*on_grid)


def _plain(value: Any) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _ring(scene: ViewedScene, raster: Raster, on_grid: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the corners of the pixel of a map of tiles, as :func:`corners` does."""
    with raster.opened() as source:
        row, col = source.index(*on_grid)
        affine = source.transform
    return corners(scene, affine, (row, col, row + 1, col + 1))


def corners(scene: ViewedScene, affine: Affine, window: tuple[int, int, int, int]) -> list[tuple[float, float]]:
    """Return where a window lies, corner by corner.

    Parameters
    ----------
    scene
        The scene.
    affine
        Of the raster that has the window, pixels to units of the CRS.
    window
        First row and column, and those after the last.

    Returns
    -------
    Latitude and longitude; row and column of the scene's grid where it has no position.
    """
    top, left, bottom, right = window
    places = [affine * corner for corner in ((left, top), (right, top), (right, bottom), (left, bottom))]
    if scene.box is None:
        return [(y, x) for x, y in (~scene.transform * place for place in places)]
    lon, lat = transform(scene.crs, "EPSG:4326", *zip(*places, strict=True))
    west = scene.box[1]
    return [(y, x + 360 * (x < west - 180)) for y, x in zip(lat, lon, strict=True)]
