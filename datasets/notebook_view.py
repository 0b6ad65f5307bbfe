"""How the objects of this package show themselves in a notebook: a title and a table, escaped, without a script."""

from collections.abc import Mapping
from html import escape

from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox


def notebook_view(kind: str, name: str, rows: Mapping[str, str]) -> str:
    """Return HTML.

    Parameters
    ----------
    kind
        What the object is.
    name
        Of the object; from a file or a user, so it is escaped, as ``rows`` are.
    rows
        Text by heading.
    """
    lines = "".join(f"<tr><th>{escape(key)}</th><td>{escape(text)}</td></tr>" for key, text in rows.items())
    return f"<b>{escape(kind)}</b> {escape(name)}<table>{lines}</table>"


def grid_words(geobox: GeoBox) -> str:
    """Say size and coordinate reference system of a grid."""
    rows, cols = geobox.shape
    return f"{rows} rows x {cols} columns, {crs_words(geobox.crs) or 'no CRS'}"


def crs_words(crs: CRS | None) -> str:
    """Name a reference system: by its EPSG code where it has one, else in full; empty where there is none."""
    if crs is None:
        return ""
    return str(crs) if crs.epsg is None else f"EPSG:{crs.epsg}"
