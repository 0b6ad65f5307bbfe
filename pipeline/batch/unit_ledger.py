"""UnitLedger: the state of every unit, in a GeoPackage that QGIS opens while the run goes on."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from ..errors import RunFolderError
from .unit import Unit

#: Layer of the GeoPackage.
LAYER = "units"

#: States of a unit. ``empty``: there is nothing to map in it; ``failed``: it was set aside.
PENDING, RUNNING, DONE, EMPTY, FAILED = "pending", "running", "done", "empty", "failed"


@dataclass(frozen=True, kw_only=True)
class UnitRow:
    """What the ledger knows of a unit.

    Attributes
    ----------
    name, state, fingerprint
        Of the unit.
    attempts, losses
        How often it ended with an error, and how many workers died with it.
    error
        The last error, or why it is empty.
    record
        What its worker reported (``unit.json``), where it is done.
    """

    name: str
    state: str
    fingerprint: str
    attempts: int = 0
    losses: int = 0
    error: str = ""
    record: Mapping[str, Any] | None = None


class UnitLedger:
    """One row a unit, in ``ledger.gpkg``; written by one process, readable by all.

    A GeoPackage is an SQLite file: changes of state are transactions of it (journal in WAL mode: readers and the writer
    do not wait for each other), a process that is killed at any moment leaves the last state that it had written, and
    the same file is a layer of polygons to look at. The layer has no spatial index, whose triggers only GDAL could run.

    Parameters
    ----------
    path
        As made by :meth:`create`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=NORMAL")

    @classmethod
    def create(cls, path: Path, units: Sequence[Unit], *, known: Mapping[str, UnitRow]) -> "UnitLedger":
        """Write the ledger of some units, in the place of one that may be there, and open it.

        Parameters
        ----------
        path
            File.
        units
            All units of the run, in the order in which they shall be done.
        known
            What was known of them; a unit whose fingerprint is another one begins anew.
        """
        import geopandas  # a second to import, which only a run needs

        rows = [_row(unit, known.get(unit.name)) for unit in units]
        frame = geopandas.GeoDataFrame(rows, geometry=[_outline(unit.geobox) for unit in units], crs="EPSG:4326")
        temporary = path.with_name(f".{path.name}.tmp.gpkg")
        temporary.unlink(missing_ok=True)
        frame.to_file(temporary, driver="GPKG", layer=LAYER, SPATIAL_INDEX="NO")
        with closing(sqlite3.connect(temporary)) as base:
            base.execute(f"CREATE UNIQUE INDEX unit_names ON {LAYER} (name)")
            base.execute(f"CREATE INDEX unit_order ON {LAYER} (state, attempts + losses, fid)")
            base.commit()
        for suffix in ("-wal", "-shm"):  # of the file that is replaced
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        temporary.replace(path)
        return cls(path)

    @classmethod
    def read(cls, path: Path) -> dict[str, UnitRow]:
        """Return what a ledger on disk knows; nothing where there is none.

        Raises
        ------
        RunFolderError
            If it is damaged.
        """
        if not path.exists():
            return {}
        try:
            # As it is: a finished ledger is one file, which no reader may turn into three (journal in WAL mode).
            with closing(sqlite3.connect(path)) as base:
                return {row.name: row for row in _rows(base)}
        except (sqlite3.Error, ValueError) as error:
            raise RunFolderError(
                f"{path}: found a damaged ledger ({error}); wanted the one that was written here; move it away: units "
                "that are complete are found again"
            ) from error

    def rows(self) -> Iterator[UnitRow]:
        """Yield all units in order."""
        return _rows(self._base)

    def next_unit(self) -> tuple[str, str] | None:
        """Take the unit that is to be done next, and return its name and its JSON; None where none waits.

        Units that failed or were lost come after all others.
        """
        row = self._base.execute(
            f"SELECT name, payload FROM {LAYER} WHERE state = ? ORDER BY attempts + losses, fid LIMIT 1",  # noqa: S608
            (PENDING,),
        ).fetchone()
        if row is None:
            return None
        self._set(row[0], state=RUNNING, started=_now())
        return str(row[0]), str(row[1])

    def finish(self, name: str, record: Mapping[str, Any], *, state: str, worker: str) -> None:
        """Note that a unit is done, or empty."""
        self._set(name, state=state, error=record.get("reason") or "", **_recorded({**record, "worker": worker}))

    def fail(self, name: str, *, error: str, most: int, lost: bool = False, worker: str = "") -> bool:
        """Note an attempt that failed, or a worker that died with the unit; return whether the unit is set aside.

        Parameters
        ----------
        name
            Unit.
        error
            In one line.
        most
            Attempts after which a unit is set aside; as many losses do the same.
        lost
            Whether the worker died.
        worker
            Its address.
        """
        column = "losses" if lost else "attempts"
        count = (
            1
            + self._base.execute(
                f"SELECT {column} FROM {LAYER} WHERE name = ?",  # noqa: S608
                (name,),
            ).fetchone()[0]
        )
        aside = bool(count >= most)
        self._set(
            name, state=FAILED if aside else PENDING, error=error, finished=_now(), worker=worker, **{column: count}
        )
        return aside

    def give_back(self, name: str) -> None:
        """Let a unit wait again, as if it had not been taken."""
        self._set(name, state=PENDING)

    def give_back_running(self) -> None:
        """Let all units wait again that nobody has in hand any more; a disk that is still full leaves them as they are.

        Whoever opens the ledger next takes them for waiting in any case.
        """
        with suppress(sqlite3.OperationalError):
            self._base.execute(f"UPDATE {LAYER} SET state = ? WHERE state = ?", (PENDING, RUNNING))  # noqa: S608

    def counts(self) -> dict[str, int]:
        """Return the number of units in each state that occurs."""
        return dict(self._base.execute(f"SELECT state, count(*) FROM {LAYER} GROUP BY state"))  # noqa: S608

    def close(self) -> None:
        """Write all into the one file and close it."""
        with closing(self._base), suppress(sqlite3.OperationalError):
            self._base.execute("PRAGMA wal_checkpoint")
            # Refused where another program shows the layer just now: then it removes the journal when it closes.
            self._base.execute("PRAGMA journal_mode=DELETE")

    def _set(self, name: str, **values: Any) -> None:
        names = ", ".join(f"{key} = ?" for key in values)
        self._base.execute(f"UPDATE {LAYER} SET {names} WHERE name = ?", (*values.values(), name))  # noqa: S608


def _rows(base: sqlite3.Connection) -> Iterator[UnitRow]:
    names = "name, state, fingerprint, attempts, losses, error, record"
    for name, state, fingerprint, attempts, losses, error, record in base.execute(
        f"SELECT {names} FROM {LAYER} ORDER BY fid"  # noqa: S608 (no value of a stranger is in it)
    ):
        yield UnitRow(
            name=name, state=state, fingerprint=fingerprint, attempts=attempts, losses=losses, error=error or "",
            record=json.loads(record) if record else None,
        )  # fmt: skip


def _outline(grid: GeoBox) -> BaseGeometry | None:
    """Return the outline of a unit in longitude and latitude; none of one without a position."""
    extent = grid.extent
    return None if grid.crs is None else extent.to_crs("EPSG:4326", resolution=extent.boundingbox.span_x / 8).geom


def _row(unit: Unit, known: UnitRow | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": unit.name, "crs": str(unit.geobox.crs or ""), "regions": "\n".join(unit.regions),
        "state": PENDING if unit.reason is None else EMPTY, "attempts": 0, "losses": 0, "worker": "", "started": "",
        "finished": "", "seconds": 0.0, "pixels": 0, "km2": unit.km2, "error": unit.reason or "",
        "fingerprint": unit.fingerprint, "record": "", "payload": unit.to_json(),
    }  # fmt: skip
    if known is None or known.fingerprint != unit.fingerprint:
        return row
    row |= {"attempts": known.attempts, "losses": known.losses, "error": known.error}
    row["state"] = PENDING if known.state == RUNNING else known.state
    record = known.record
    if record is not None:
        row |= _recorded(record)
    return row


def _recorded(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that repeat what a record says."""
    return {
        "record": json.dumps(record), "pixels": sum(record["figures"].get("class_pixels", {}).values()),
        **{name: record[name] for name in ("worker", "started", "finished", "seconds")},
    }  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
