"""Explanation of rasters: maps, aligned stacks, registration layers and labels, told by bands and tags."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError

from .explanation import KEY, Explanation
from .raster_kind import RasterKind, category_tags, raster_kind

#: Largest edge in pixels that is read; larger rasters are read thinned, and the answer says so.
LOOK = 2048

#: Tags that say what made a raster, and in which words they are told.
_MADE = {
    "equipoise": "Equipoise",
    "model": "model",
    "scene": "scene",
    "metric": "metric",
    "baseline": "baseline",
    "subsets": "subsets of sensors asked",
    "approximate": "approximate",
    "precision": "precision",
    "tile_px": "tile, px",
    "doubt": "flagged from a doubt of",
    "source": "source",
    "source_kind": "kind of source",
}


def raster(path: Path) -> Explanation:
    """Return what a raster is; one that no stage wrote is described as `equipoise inspect` does."""
    try:
        with rasterio.open(path) as source:
            tags, names = source.tags(), [name or "" for name in source.descriptions]
            kind = raster_kind(tags, names, source.dtypes[0])
            if kind is None:
                return _unknown(path)
            shape = _thinned(source.height, source.width)
            values = source.read(out_shape=(source.count, *shape), resampling=Resampling.nearest)
            # By hand: GDAL takes the fourth band of bytes for transparency, and would mask by that.
            values = np.where(values == source.nodata, np.nan, values.astype(np.float64))
            scales, offsets = np.array(source.scales), np.array(source.offsets)
            grid = _grid(source)
            categories = category_tags(tags)
            thinned = shape != (source.height, source.width)
    except RasterioIOError:
        return _unknown(path)
    layers = values * scales[:, None, None] + offsets[:, None, None]
    said = _TELLERS[kind](names=names, layers=layers, tags=tags, categories=categories)
    found = {"grid": grid, **said.pop("found")}
    if thinned:
        found["numbers"] = f"from every {-(-max(source.height, source.width) // LOOK)}th pixel"
    made = {words: tags[name] for name, words in _MADE.items() if name in tags}
    return Explanation(path=path, kind=str(kind), found=found, made=made, **said)


def _classes(*, names: list[str], layers: NDArray[np.float64], tags: dict[str, str], categories: dict[int, str]) -> Any:
    del names, tags
    return {
        "what": "The class that the network finds likeliest, a pixel of the scene.",
        "read": ("one band of class values; 255 = nothing observed; palette and names are in the file",),
        "found": {"share of classes": _shares(layers[0], categories), "mapped": _mapped(layers[0])},
        "limits": ("not a measure of area or of accuracy: see metrics.json for how often it is wrong",),
    }


def _confidence(**given: Any) -> Any:
    layer = given["layers"][0]
    return {
        "what": "The probability of the class that the class map shows, after temperature scaling.",
        "read": ("one band, 0 to 1; NaN = nothing observed",),
        "found": {"mean": _mean(layer), "share below 0.5": _share(layer < 0.5, layer), "mapped": _mapped(layer)},
        "limits": ("not a promise: calibrated on places like those of the training, and too sure elsewhere",),
    }


def _reliance(**given: Any) -> Any:
    layers, names = given["layers"], given["names"]
    limits = ["not a measure of quality, and not what is true of the place: what this network used there"]
    if given["tags"].get("approximate") == "true":
        limits.append(
            "approximate: the network was not trained on subsets of its sensors, so answers without one guess"
        )
    return {
        "what": "Each sensor's share of what the prediction rests on, a tile.",
        "read": (f"bands {', '.join(names)}: shares, 0 to 1, that sum to 1; NaN = indeterminate or nothing seen",),
        "found": {
            "mean reliance": {name: _mean(layer) for name, layer in zip(names, layers, strict=True)},
            "share of tiles that have shares": _mapped(layers[0]),
        },
        "limits": tuple(limits),
    }


def _contribution(**given: Any) -> Any:
    layers, names = given["layers"], given["names"]
    return {
        "what": "What each sensor adds to the probability of the class shown, a tile.",
        "read": (
            f"bands {', '.join(names)}: -1 to 1; below 0 speaks for another class; NaN = nothing observed",
            "synergy: above 0 sensors tell together what none tells alone; below 0 they tell the same",
        ),
        "found": {"mean": {name: _mean(layer) for name, layer in zip(names, layers, strict=True)}},
        "limits": ("not shares: the bands of the sensors sum to the gain over the class prior",),
    }


def _trust(**given: Any) -> Any:
    layer, categories = given["layers"][0], given["categories"]
    sound = next((value for value, name in categories.items() if name == "sound"), 1)
    grey = next((value for value, name in categories.items() if name == "indeterminate"), 2)
    return {
        "what": "Whether the input that the prediction rests on was good, a tile.",
        "read": ("one band of flags; 255 = nothing observed",),
        "found": {
            "share of flags": _shares(layer, categories),
            "flagged": _share(~np.isin(layer, (sound, grey)) & np.isfinite(layer), layer),
        },
        "limits": (
            "not whether the prediction is right: a sound tile can be wrong",
            "blind to clouds that no layer tells",
        ),
    }


def _quality(**given: Any) -> Any:
    layers, names = given["layers"], given["names"]
    return {
        "what": "How good the pixels of each sensor are, a tile, and those relied on (prediction).",
        "read": (f"bands {', '.join(names)}: 0 to 1 after the band's scale; nodata = nothing observed",),
        "found": {"mean quality": {name: _mean(layer) for name, layer in zip(names, layers, strict=True)}},
        "limits": ("not the accuracy of the map",),
    }


def _probability(**given: Any) -> Any:
    layers, names = given["layers"], given["names"]
    return {
        "what": "The probability of every class, a pixel.",
        "read": (f"bands {', '.join(names)}: 0 to 1 after the band's scale; nodata = nothing observed",),
        "found": {"mean": {name: _mean(layer) for name, layer in zip(names, layers, strict=True)}},
        "limits": ("not shares of the pixel's area",),
    }


def _aligned(**given: Any) -> Any:
    layers, names, tags = given["layers"], given["names"], given["tags"]
    units = dict(zip(names, tags["unit"].split(","), strict=False))
    found: dict[str, Any] = {
        "unit": units,
        "median": {name: _median(layer) for name, layer in zip(names, layers, strict=True)},
        "valid": _mapped(layers[0]),
    }
    if "registration_confidence" in tags:
        found["registration confidence"] = float(tags["registration_confidence"])
        found["moved, m"] = {"east": float(tags["shift_east"]), "north": float(tags["shift_north"])}
    return {
        "what": "One sensor's bands on the common grid of the scene.",
        "read": (f"bands {', '.join(names)} in the unit beside each; NaN = no valid observation",),
        "found": found,
        "limits": ("not the file that was delivered: resampled, masked and moved",),
    }


def _labels(**given: Any) -> Any:
    layer = given["layers"][0]
    names = dict(enumerate(given["tags"].get("class_names", "").split(","))) if "class_names" in given["tags"] else {}
    return {
        "what": "Classes as somebody gave them, not as a network found them.",
        "read": ("one band of class values; nodata is not counted",),
        "found": {"share of classes": _shares(layer, names), "labelled": _mapped(layer)},
        "limits": ("not a map of Equipoise: it carries no model",),
    }


def _registration(**given: Any) -> Any:
    layers, names = given["layers"], given["names"]
    return {
        "what": "How sure the position of a sensor is, and how it was corrected, by place.",
        "read": (
            f"bands {', '.join(names)}; confidence 0 to 1: probability of being right within a pixel of matching",
        ),
        "found": {"mean": {name: _mean(layer) for name, layer in zip(names, layers, strict=True)}},
        "limits": ("not the shift of single pixels: it is measured in windows",),
    }


def _unknown(path: Path) -> Explanation:
    from .inspection import inspect

    lines = list(inspect(path))[1:]
    found: dict[str, Any] = {}
    for line in lines:
        found.setdefault(line[: KEY + 3].strip(), []).append(line[KEY + 3 :].strip())
    return Explanation(
        path=path,
        kind="unknown",
        found=found,
        what="No output of Equipoise that its tags tell; this is what `equipoise inspect` says of it.",
    )


def _grid(source: Any) -> str:
    crs = "no CRS" if source.crs is None else source.crs.to_string()[:60]
    return f"{source.width} x {source.height} px of {abs(source.transform.a):.6g}, {crs}"


def _thinned(height: int, width: int) -> tuple[int, int]:
    every = max(1, -(-max(height, width) // LOOK))
    return -(-height // every), -(-width // every)


def _shares(layer: NDArray[np.float64], names: dict[int, str]) -> dict[str, float]:
    values, counts = np.unique(layer[np.isfinite(layer)].astype(int), return_counts=True)
    total = max(1, int(counts.sum()))
    return {names.get(int(value), str(value)): float(n) / total for value, n in zip(values, counts, strict=True)}


def _mapped(layer: NDArray[np.float64]) -> float:
    return float(np.isfinite(layer).mean())


def _share(chosen: NDArray[np.bool_], layer: NDArray[np.float64]) -> float | None:
    seen = int(np.isfinite(layer).sum())
    return float(chosen.sum()) / seen if seen else None


def _mean(layer: NDArray[np.float64]) -> float | None:
    return float(np.nanmean(layer)) if np.isfinite(layer).any() else None


def _median(layer: NDArray[np.float64]) -> float | None:
    return float(np.nanmedian(layer)) if np.isfinite(layer).any() else None


#: What tells of each kind.
_TELLERS: Mapping[RasterKind, Callable[..., dict[str, Any]]] = {
    RasterKind.CLASSES: _classes,
    RasterKind.CONFIDENCE: _confidence,
    RasterKind.RELIANCE: _reliance,
    RasterKind.CONTRIBUTION: _contribution,
    RasterKind.TRUST: _trust,
    RasterKind.QUALITY: _quality,
    RasterKind.PROBABILITY: _probability,
    RasterKind.ALIGNED: _aligned,
    RasterKind.LABELS: _labels,
    RasterKind.REGISTRATION: _registration,
}
