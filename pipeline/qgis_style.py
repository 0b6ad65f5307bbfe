"""QGIS styles beside maps: palettes with names, ramps and composites, so that QGIS shows them without a click."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from .run_folder import write_text

#: From low to high: dark to light, and told apart by eyes of every kind (after viridis).
RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")

#: From below 0 over 0 to above: blue, white, red.
DIVERGING = ("#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b")

#: Channels of a composite, in the order in which bands fill them.
_CHANNELS = ("red", "green", "blue")


def write_style(raster: Path, names: Mapping[int, str], *, colours: Mapping[int, tuple[int, int, int]]) -> Path:
    """Write the layer style that QGIS loads with a raster of one band.

    Parameters
    ----------
    raster
        The map; the style gets its name with ``.qml``.
    names
        Value -> name, in the order of the legend.
    colours
        Value -> (red, green, blue), 0-255.

    Returns
    -------
    The style file.
    """
    renderer = _renderer("paletted", band="1")
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for value, name in names.items():
        colour = "#" + "".join(f"{part:02x}" for part in colours[value])
        ElementTree.SubElement(palette, "paletteEntry", value=str(value), color=colour, alpha="255", label=name)
    return _written(raster, renderer)


def write_ramp(
    raster: Path, *, band: int = 1, low: float = 0.0, high: float = 1.0, colours: Sequence[str] = RAMP
) -> Path:
    """Write the style of one band whose values go from ``low`` to ``high``.

    Parameters
    ----------
    raster
        The map, as for :func:`write_style`.
    band
        Which of its bands is shown, from 1.
    low, high
        Values of the first and of the last colour.
    colours
        As ``#rrggbb``, at equal steps; two or more.

    Returns
    -------
    The style file.
    """
    limits = {"classificationMin": f"{low:g}", "classificationMax": f"{high:g}"}
    renderer = _renderer("singlebandpseudocolor", band=str(band), **limits)
    ramp = ElementTree.SubElement(
        ElementTree.SubElement(renderer, "rastershader"), "colorrampshader", colorRampType="INTERPOLATED",
        classificationMode="1", clip="0", minimumValue=f"{low:g}", maximumValue=f"{high:g}",
    )  # fmt: skip
    for step, colour in enumerate(colours):
        value = f"{low + (high - low) * step / (len(colours) - 1):g}"
        ElementTree.SubElement(ramp, "item", value=value, label=value, color=colour, alpha="255")
    return _written(raster, renderer)


def write_composite(raster: Path, *, bands: int, low: float = 0.0, high: float = 1.0) -> Path:
    """Write the style of several bands of one kind: the first three as red, green and blue; of a single one, a ramp.

    Parameters
    ----------
    raster
        The map, as for :func:`write_style`.
    bands
        Their number.
    low, high
        Values of black and of the full colour.

    Returns
    -------
    The style file.
    """
    if bands == 1:
        return write_ramp(raster, low=low, high=high)
    shown = range(1, min(bands, 3) + 1)
    return write_picture(raster, bands=shown, limits=[(low, high)] * len(shown))


def write_picture(raster: Path, *, bands: Sequence[int], limits: Sequence[tuple[float, float]]) -> Path:
    """Write the style of bands as red, green and blue, each with limits of its own; of a single one, in grey.

    Parameters
    ----------
    raster
        As for :func:`write_style`.
    bands
        One to three, from 1.
    limits
        Value of black, and of white or the full colour, of each of them.

    Returns
    -------
    The style file.
    """
    if len(bands) == 1:
        renderer = _renderer("singlebandgray", grayBand=str(bands[0]), gradient="BlackToWhite")
        _stretch(renderer, "contrastEnhancement", limits[0])
        return _written(raster, renderer)
    numbers = [*bands, -1, -1][:3]
    renderer = _renderer(
        "multibandcolor", **{f"{name}Band": str(number) for name, number in zip(_CHANNELS, numbers, strict=True)}
    )
    for name, pair in zip(_CHANNELS, limits, strict=False):
        _stretch(renderer, f"{name}ContrastEnhancement", pair)
    return _written(raster, renderer)


def _stretch(renderer: ElementTree.Element, name: str, limits: tuple[float, float]) -> None:
    stretch = ElementTree.SubElement(renderer, name)
    for end, value in zip(("minValue", "maxValue"), limits, strict=True):
        ElementTree.SubElement(stretch, end).text = f"{value:g}"
    ElementTree.SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"


def write_map_style(raster: Path, kind: str, *, bands: int) -> Path | None:
    """Write the style of a map of numbers.

    Parameters
    ----------
    raster
        The map, as for :func:`write_style`.
    kind
        ``confidence``, ``probability`` (the first class), ``reliance``, ``contribution`` (the first sensor) or
        ``quality`` (its last band: all sensors, weighted).
    bands
        Of the map.

    Returns
    -------
    The style file, or None for another kind.
    """
    if kind == "reliance":
        return write_composite(raster, bands=bands)
    if kind == "contribution":
        return write_ramp(raster, low=-1, high=1, colours=DIVERGING)
    if kind == "quality":
        return write_ramp(raster, band=bands)
    return write_ramp(raster) if kind in ("confidence", "probability") else None


def _renderer(kind: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.Element("rasterrenderer", {"type": kind, "opacity": "1", "alphaBand": "-1", **attributes})


def _written(raster: Path, renderer: ElementTree.Element) -> Path:
    root = ElementTree.Element("qgis", styleCategories="AllStyleCategories")
    ElementTree.SubElement(root, "pipe").append(renderer)
    ElementTree.indent(root)
    path = raster.with_suffix(".qml")
    write_text(path, ElementTree.tostring(root, encoding="unicode") + "\n")
    return path
