"""Value tables: weather, angles and other numbers that hold for a whole scene, read from CSV onto its grid."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from .acquisition_dates import parse_time
from .errors import SceneError
from .modality import Modality
from .scene import Scene

#: Columns that are no values: of which scene a row is, and of when.
SCENE, DATE = "id", "date"

_BLOCK = 1024


def spans(days: int, every: int) -> list[tuple[int, int]]:
    """Return how many days before the mapped day each average begins and ends, the oldest first."""
    return [(start, start - every) for start in range(days, 0, -every)]


def series_band(column: str, span: tuple[int, int]) -> str:
    """Return the name of the band that holds the average of a column over a span of days."""
    return f"{column} {span[0]}-{span[1]} d"


def table_scene(
    path: Path, modality: Modality, grid: GeoBox, *, values: Mapping[str, float], acquired: str | None
) -> Scene:
    """Return a scene whose every pixel holds the same values.

    Parameters
    ----------
    path
        File that they are from.
    modality
        Its bands are keys of ``values``; scale and offset apply as to a raster's numbers.
    grid
        Grid of the stack.
    values
        Band -> number as stored.
    acquired
        Time that they hold for, ISO 8601.
    """
    stored = np.array([values[name] for name in modality.band_names], dtype=np.float32)
    working = [band.to_working(stored[place : place + 1])[0] for place, band in enumerate(modality.bands)]
    layers = [da.full(tuple(grid.shape), value, dtype=np.float32, chunks=(_BLOCK, _BLOCK)) for value in working]
    data = wrap_xr(da.stack(layers).rechunk({0: -1}), grid, axis=1, dims=("band", *grid.dimensions))
    return Scene(
        modality=modality, path=path, data=data.assign_coords(band=list(modality.band_names)), geobox=grid,
        acquired=acquired, provenance={"kind": "table"}, uniform=True,
    )  # fmt: skip


def read_values(path: Path, columns: Sequence[str], *, scene: str) -> dict[str, float]:
    """Return the values of a table without dates: those of its only row, or of the row whose ``id`` is the scene.

    Raises
    ------
    SceneError
        If the table cannot be read, lacks a column, or has no or several rows for the scene, or one without a number.
    """
    table = _read(path, columns, scene=scene)
    if DATE in table:
        raise SceneError(
            f"{path}: found a column '{DATE}'; wanted none, since `table` names no `days`; set them, or leave it out"
        )
    if len(table) != 1:
        raise SceneError(
            f"{path}: found {len(table)} rows for scene '{scene}'; wanted one; mark rows of several scenes by a column "
            f"'{SCENE}'"
        )
    found = {name: float(table[name].iloc[0]) for name in columns}
    if unknown := [name for name, value in found.items() if not np.isfinite(value)]:
        raise SceneError(
            f"{path}: found no number for {', '.join(unknown)} of scene '{scene}'; wanted one; complete the row, or "
            "leave the file out where it is not known"
        )
    return found


def read_series(
    path: Path, columns: Sequence[str], *, scene: str, until: str, days: int, every: int
) -> dict[str, float]:
    """Return averages of a table with dates over spans of days before the day that is mapped.

    A row counts for the span in which its time lies, the end included: what came later than ``until`` is not read.

    Parameters
    ----------
    path, columns
        CSV with a column ``date`` (ISO 8601), the columns named, and optionally ``id``.
    scene
        Rows of other ids are left out.
    until
        Time that is mapped, ISO 8601.
    days, every
        How far back, and how many days make one average.

    Returns
    -------
    :func:`series_band` -> mean, for every span, the oldest first, and every column.

    Raises
    ------
    SceneError
        If the table cannot be read, a column is missing, a date is none, or a span holds no number: nothing is guessed.
    """
    table = _read(path, columns, scene=scene)
    if DATE not in table:
        raise SceneError(
            f"{path}: found no column '{DATE}'; wanted it for `table: {{days: {days}}}`; add it, or leave `days` out"
        )
    times = [parse_time(str(text), where=f"{path}, column '{DATE}'") for text in table[DATE]]
    end = parse_time(until, where=f"scene '{scene}'")
    return {
        series_band(column, span): _mean(table[column].to_numpy(float), times, end, span, column=column, path=path)
        for span in spans(days, every) for column in columns
    }  # fmt: skip


def _mean(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    times: Sequence[datetime],
    end: datetime,
    span: tuple[int, int],
    *,
    column: str,
    path: Path,
) -> float:
    first, last = (end - timedelta(days=before) for before in span)
    inside = np.array([first < time <= last for time in times], dtype=bool)
    known = values[inside & np.isfinite(values)]
    if known.size == 0:
        raise SceneError(
            f"{path}: found no '{column}' from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}; wanted one value at "
            "least for every span; extend the table, lower `days`, or raise `every`"
        )
    return float(known.mean())


def _read(path: Path, columns: Sequence[str], *, scene: str) -> pd.DataFrame:
    try:
        # Not unpacked, whatever its name: a small archive can hold more than any memory.
        table = pd.read_csv(
            path, dtype={SCENE: str, DATE: str}, encoding="utf-8-sig", compression=None, skipinitialspace=True
        )
        if missing := [name for name in columns if name not in table]:
            raise KeyError(f"no column {', '.join(missing)} among {', '.join(map(str, table.columns))}")
        table = table.assign(**{name: pd.to_numeric(table[name]) for name in columns})
    except (OSError, KeyError, ValueError, pd.errors.ParserError) as error:
        reason = str(error.args[0] if error.args else error).splitlines()[0]
        raise SceneError(
            f"{path}: found no usable table ({reason}); wanted CSV with the columns {', '.join(columns)}; correct it, "
            "or the modality's `bands`"
        ) from error
    return table[table[SCENE] == scene] if SCENE in table else table
