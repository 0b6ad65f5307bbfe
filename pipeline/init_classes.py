"""Classes of label rasters: values that occur, and the names and colours that the file tells."""

import colorsys
import html
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from .errors import ConfigError

#: Most classes; more distinct values are no classes.
MOST = 64

#: Most files that are read for their values.
FILES = 50

#: Bytes of a file with category names that are looked at.
_NAMES = 2**20

IGNORE = 255


def read_classes(paths: Sequence[Path], given: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the classes of label rasters, as a configuration has them.

    Parameters
    ----------
    paths
        Label rasters of one kind; at most 50 are read.
    given
        Names in the order of the values, or ``value=name``; they go before those of the files.

    Raises
    ------
    ConfigError
        If a file does not open, or holds no classes.
    """
    found: set[int] = set()
    names: dict[int, str] = {}
    colours: dict[int, str] = {}
    for path in paths[:FILES]:
        try:
            with rasterio.open(path) as source:
                found |= _values(source, path)
                names = {**_names(source.tags(), path), **names}
                colours = {**_colours(source), **colours}
        except (RasterioError, OSError) as error:
            raise ConfigError(
                f"{path}: found no raster that opens ({error}); wanted labels; correct --labels"
            ) from error
    return classes_of_values(found, path=paths[0], given=given, names=names, colours=colours)


def classes_of_values(
    found: Collection[int],
    *,
    path: Path,
    given: Sequence[str],
    names: Mapping[int, str] | None = None,
    colours: Mapping[int, str] | None = None,
) -> list[dict[str, Any]]:
    """Return a class for each value.

    Parameters
    ----------
    found
        Values that occur.
    path
        Where, for messages.
    given
        Names in the order of the values, or ``value=name``; they go before ``names``.
    names, colours
        That the file tells, by value; others are called class_<value>, and take a colour of a circle of hues.

    Raises
    ------
    ConfigError
        If there are too few or too many, or names are given of others.
    """
    values = sorted(found)
    if not 2 <= len(values) <= MOST:
        raise ConfigError(
            f"{path}: found {len(values)} values ({', '.join(map(str, values[:5]))}); wanted 2 to {MOST} classes "
            f"beside nodata and {IGNORE}; name other labels in --labels"
        )
    named = {**(names or {}), **_given(given, values)}
    # The map holds values up to 254; others in the labels are given a new one.
    fits = values[-1] < IGNORE
    return [
        {
            "value": value if fits else number,
            "label_value": None if fits else value,
            "name": named.get(value, made_up(value)),
            "color": (colours or {}).get(value, _colour(number, len(values))),
        }
        for number, value in enumerate(values)
    ]


def made_up(value: int) -> str:
    """Return the name of a class whose name nothing tells."""
    return f"class_{value}"


def _values(source: Any, path: Path) -> set[int]:
    layer = source.read(1)
    values = np.unique(layer[np.isfinite(layer)])
    nodata = source.nodata
    kept = [value for value in values.tolist() if value != IGNORE and value != nodata]
    if any(value < 0 or value != int(value) for value in kept):
        raise ConfigError(f"{path}: found values that are no classes; wanted whole numbers from 0; correct --labels")
    return {int(value) for value in kept}


def _names(tags: dict[str, str], path: Path) -> dict[int, str]:
    """Return names from the file's tags, or from the categories that GDAL keeps beside it."""
    named = {int(key[6:]): text for key, text in tags.items() if re.fullmatch(r"class_\d{1,9}", key)}
    if not named and "class_names" in tags:
        named = dict(enumerate(tags["class_names"].split(",")))
    beside = path.with_name(f"{path.name}.aux.xml")
    if not named and beside.is_file():
        # As text, because the file may be a stranger's, and reading XML runs what it defines.
        text = beside.read_bytes()[:_NAMES].decode("utf-8", errors="replace")
        named = dict(enumerate(html.unescape(name) for name in re.findall(r"<Category>([^<]*)</Category>", text)))
    return {value: name.strip() for value, name in named.items() if name.strip()}


def _colours(source: Any) -> dict[int, str]:
    try:
        palette = source.colormap(1)
    except ValueError:
        return {}
    return {value: "#{:02x}{:02x}{:02x}".format(*rgba[:3]) for value, rgba in palette.items()}


def _given(texts: Sequence[str], values: Sequence[int]) -> dict[int, str]:
    named: dict[int, str] = {}
    for number, text in enumerate(texts):
        before, equals, name = text.partition("=")
        if equals and (not before.strip().isdigit() or int(before) not in values):
            raise ConfigError(f"found --classes {text}; wanted a value of the labels ({values}) before '='; correct it")
        if not equals and number >= len(values):
            raise ConfigError(f"found {len(texts)} names in --classes; wanted at most {len(values)}: values {values}")
        value, label = (int(before), name) if equals else (values[number], text)
        named[value] = label.strip()
    return named


def _colour(number: int, count: int) -> str:
    """Return a colour: told apart with any colour vision where classes are few, else by hue."""
    from .figures import CLASS_COLOURS

    if count <= len(CLASS_COLOURS):
        return CLASS_COLOURS[number]
    red, green, blue = colorsys.hsv_to_rgb(number / count, 0.6, 0.8)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
