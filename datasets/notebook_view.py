"""How the objects of this package show themselves in a notebook: a title and a table, escaped, without a script."""

from collections.abc import Mapping
from html import escape

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
    return f"{rows} rows x {cols} columns, {geobox.crs or 'no CRS'}"
