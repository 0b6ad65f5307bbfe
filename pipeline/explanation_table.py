"""Explanation of tables: patches, chips, regions and the ledger of a batch run, told by their columns."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import PipelineError
from .explanation import Explanation

#: Rows of a patch index and of chips that are read at most.
ROWS = 1_000_000


def table(path: Path) -> Explanation:
    """Return what a GeoParquet or GeoPackage file is.

    Raises
    ------
    PipelineError
        If it does not open.
    """
    return _geopackage(path) if path.suffix.lower() == ".gpkg" else _parquet(path)


def _parquet(path: Path) -> Explanation:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        wanted = [name for name in names if name in ("split", "scene", "name", "class")]
        rows = file.metadata.num_rows
        content = file.read(columns=wanted).slice(0, ROWS)
    except (OSError, arrow.ArrowException) as error:
        raise PipelineError(f"{path}: found no readable Parquet ({' '.join(str(error).split())}); check it") from error
    counts = {
        name: {str(item["values"]): item["counts"] for item in content[name].value_counts().to_pylist()}
        for name in wanted
    }
    if {"split", "row", "col"} <= set(names):
        sensors = [name.removeprefix("valid_") for name in names if name.startswith("valid_")]
        return Explanation(
            path=path,
            kind="patch index",
            what="The patches that training, validation and test draw from, with outlines.",
            read=(
                "a row a patch; row, col, height, width in px; valid_, cloud_, registration_<sensor>: 0 to 1",
                "class_<value>: labelled pixels of the class in the patch, or 1 for the class of a chip",
            ),
            found={
                "patches": rows,
                "splits": counts["split"],
                "scenes": len(counts.get("scene", {})),
                "sensors": sensors,
            },
            limits=("not pixels: those lie in patches/ beside it",),
        )
    return Explanation(
        path=path,
        kind="table",
        what="A GeoParquet table; its columns say what it holds.",
        found={
            "rows": rows,
            "columns": names,
            **{name: counted for name, counted in counts.items() if len(counted) < 20},
        },
    )


def _geopackage(path: Path) -> Explanation:
    # Read-only: a ledger may be in use, and asking about a file must not change it.
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with sqlite3.connect(address, uri=True) as base:
            layers = [row[0] for row in base.execute("SELECT table_name FROM gpkg_contents")]
            columns = {layer: _columns(base, layer) for layer in layers}
            found: dict[str, Any] = {layer: _rows(base, layer) for layer in layers}
            ledger = next((layer for layer in layers if {"state", "attempts", "losses"} <= set(columns[layer])), None)
            states = _states(base, ledger) if ledger else {}
    except sqlite3.Error as error:
        raise PipelineError(f"{path}: found no readable GeoPackage ({error}); check it") from error
    if ledger is None:
        return Explanation(
            path=path,
            kind="table",
            what="A GeoPackage; its columns say what it holds.",
            found={"rows": found, "columns": columns},
        )
    return Explanation(
        path=path,
        kind="batch ledger",
        what="The units of a batch run with their outlines: what is done, and what is not.",
        read=("state: done, empty (nothing to map), failed (set aside; --retry-failed) or still to do",),
        found={"units": found[ledger], "states": states},
        limits=("not the maps: they lie in units/ beside it",),
    )


def _columns(base: sqlite3.Connection, layer: str) -> Sequence[str]:
    return [row[1] for row in base.execute(f"PRAGMA table_info({_quoted(layer)})")]


def _rows(base: sqlite3.Connection, layer: str) -> int:
    count: int = base.execute(f"SELECT count(*) FROM {_quoted(layer)}").fetchone()[0]  # noqa: S608, quoted
    return count


def _states(base: sqlite3.Connection, layer: str) -> dict[str, int]:
    text = f"SELECT state, count(*) FROM {_quoted(layer)} GROUP BY state ORDER BY state"  # noqa: S608, quoted
    return dict(base.execute(text))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
