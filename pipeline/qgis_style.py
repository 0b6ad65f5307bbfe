"""QGIS styles: a palette with names beside a map of classes, so that QGIS shows both without a click."""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from .run_folder import write_text


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
    root = ElementTree.Element("qgis", styleCategories="AllStyleCategories")
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for value, name in names.items():
        colour = "#" + "".join(f"{part:02x}" for part in colours[value])
        ElementTree.SubElement(palette, "paletteEntry", value=str(value), color=colour, alpha="255", label=name)
    ElementTree.indent(root)
    path = raster.with_suffix(".qml")
    write_text(path, ElementTree.tostring(root, encoding="unicode") + "\n")
    return path
