"""Mosaic quicklooks: pictures of the maps of regions, from their overviews."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from ...datasets.product import quiet_open
from .. import figures
from ..evaluation_page import embed
from ..registration_pictures import slim
from ..trust import FLAG_COLOURS, FLAG_NAMES
from .unit_outlines import plain_text

log = logging.getLogger(__name__)

#: Regions that are shown.
REGIONS = 6

#: Largest edge of a picture, px of the mosaic.
_EDGE = 360

#: Largest edge of a mosaic that is read although it has no overviews.
_WHOLE = 4096

_KINDS = ("classes", "confidence", "reliance", "trust")
_NAME = re.compile(rf"(?P<region>.+)\.(?P<kind>{'|'.join(_KINDS)})\.tiff?$")


def quicklooks(mosaics: Sequence[Path], classes: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, str]]]:
    """Return the first regions' names and pictures: kind of map -> address that holds it.

    Parameters
    ----------
    mosaics
        COGs ``<region>.<kind>.tif``; other files, and those that cannot be read, are left out.
    classes
        Of the model: ``value``, ``name``, ``color``.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in mosaics:
        if match := _NAME.match(path.name):
            found.setdefault(match["region"], {})[match["kind"]] = path
    palette = {int(item["value"]): rgb(item.get("color")) for item in classes if "value" in item}
    shown = []
    for region, paths in found.items():
        pictures = {kind: _picture(paths[kind], kind, palette) for kind in _KINDS if kind in paths}
        if drawn := {kind: embed(picture) for kind, picture in pictures.items() if picture is not None}:
            shown.append((region, drawn))
        if len(shown) == REGIONS:
            break
    return shown


def rgb(colour: object) -> tuple[int, int, int]:
    """Return a colour of a model, 0 to 255 each; grey for what is none."""
    if not mpl.colors.is_color_like(colour):
        return (153, 153, 153)
    red, green, blue = (round(255 * part) for part in mpl.colors.to_rgb(colour))  # type: ignore[arg-type]  # it is one
    return red, green, blue


def _picture(path: Path, kind: str, palette: Mapping[int, tuple[int, int, int]]) -> bytes | None:
    try:
        read = _overview(path)
    except (RasterioError, OSError) as error:
        log.warning("%s is not shown: %s", path.name, error)
        return None
    if read is None:
        log.warning("%s is not shown: it has no overviews, and would be read whole", path.name)
        return None
    values, names = read
    # Few exact colours are small as they are; a palette would shift those of classes.
    if kind == "classes":
        return figures.class_picture(values[0].astype(np.uint8), colours=palette)
    if kind == "confidence":
        return slim(figures.confidence_picture(values[0]))
    if kind == "reliance":
        return slim(figures.reliance_picture(values, modalities=[plain_text(name) for name in names]))
    return figures.flag_picture(values[0].astype(np.uint8), colours=FLAG_COLOURS, names=FLAG_NAMES)


def _overview(path: Path) -> tuple[NDArray[np.float32], list[str]] | None:
    """Return a mosaic float32 (band, y, x), reduced to a picture, and its bands' names; None if that reads it whole."""
    with quiet_open(path) as source:
        if max(source.shape) > _WHOLE and not source.overviews(1):
            return None
        step = max(1, -(-max(source.shape) // _EDGE))
        shape = (source.count, -(-source.height // step), -(-source.width // step))
        values: NDArray[np.float32] = source.read(out_shape=shape).astype(np.float32)
        return values, [str(name or number) for number, name in enumerate(source.descriptions, start=1)]
