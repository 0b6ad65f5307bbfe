"""Unit ledger: states, order and counts of units; a GeoPackage that opens during a run and outlives a kill."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from equipoise.pipeline.batch.unit import Unit
from equipoise.pipeline.batch.unit_ledger import UnitLedger, UnitRow
from equipoise.pipeline.errors import RunFolderError

COLUMNS = {
    "name", "crs", "regions", "state", "attempts", "losses", "worker", "started", "finished", "seconds", "pixels",
    "km2", "error", "fingerprint", "record", "payload",
}  # fmt: skip


def _unit(number: int, *, reason: str | None = None, crs: str | None = "EPSG:32633") -> Unit:
    col, row = number % 100, number // 100
    grid = GeoBox((64, 64), Affine(10, 0, 500_000 + 640 * col, 0, -10, 5_300_000 - 640 * row), crs)
    return Unit(
        name=f"unit_{number:05d}", geobox=grid, before=(16, 16), after=(16, 16), margin=8, outline=None,
        regions=("Á/B", "c d"), source={"kind": "stack", "path": "stack.json"}, fingerprint=f"mark{number}",
        reason=reason,
    )  # fmt: skip


def _record(number: int = 0, **more) -> dict:
    return {
        "unit": f"unit_{number:05d}", "state": "done", "reason": None, "files": {"a.tif": [3, "00"]},
        "figures": {"class_pixels": {"water": 30, "forest": 12}}, "worker": "host:1", "started": "2026-01-01T00:00:00",
        "finished": "2026-01-01T00:00:02", "seconds": 2.0, **more,
    }  # fmt: skip


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ledger.gpkg"


def _rows(path: Path) -> gpd.GeoDataFrame:
    return gpd.read_file(path, layer="units").set_index("name")


def _taken(ledger: UnitLedger) -> list[str]:
    """Take all units that wait."""
    names = []
    while (found := ledger.next_unit()) is not None:
        names.append(found[0])
    return names


def test_a_unit_goes_from_waiting_to_done(path):
    ledger = UnitLedger.create(path, [_unit(0), _unit(1)], known={})
    assert ledger.counts() == {"pending": 2}
    name, text = ledger.next_unit()
    assert (name, Unit.from_json(text)) == ("unit_00000", _unit(0))
    assert ledger.counts() == {"pending": 1, "running": 1}
    ledger.finish(name, _record(), state="done", worker="tcp://there:1")
    assert ledger.counts() == {"pending": 1, "done": 1}
    ledger.close()
    row = _rows(path).loc[name]
    assert (row["state"], row["pixels"], row["seconds"], row["worker"]) == ("done", 42, 2.0, "tcp://there:1")
    assert (row["started"], row["finished"], row["error"]) == ("2026-01-01T00:00:00", "2026-01-01T00:00:02", "")
    # The worker is where the client saw it, in the column and in the record.
    assert json.loads(row["record"]) == {**_record(), "worker": "tcp://there:1"}


def test_the_file_is_a_layer_of_outlines_with_all_columns(path):
    UnitLedger.create(path, [_unit(0), _unit(5, reason="nothing there")], known={}).close()
    frame = _rows(path)
    assert {frame.index.name, *frame.columns} == COLUMNS | {"geometry"}
    assert frame.crs == "EPSG:4326"
    assert frame["state"].tolist() == ["pending", "empty"]
    assert frame["error"].tolist() == ["", "nothing there"]
    assert frame["regions"].tolist() == ["Á/B\nc d"] * 2
    assert frame["km2"].tolist() == pytest.approx([0.4096, 0.4096])
    to_degrees = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    for number, shape in zip((0, 5), frame.geometry, strict=True):
        bounds = _unit(number).geobox.boundingbox
        x, y = np.random.default_rng(0).uniform((bounds.left, bounds.bottom), (bounds.right, bounds.top), (50, 2)).T
        assert shapely.contains_xy(shape, *to_degrees.transform(x, y)).all()
        assert not shapely.contains_xy(shape, *to_degrees.transform(x + 640, y)).any()


READER = """
import sys
import geopandas, pyogrio
for line in sys.stdin:
    whole = geopandas.read_file(line.strip(), layer="units")
    done = pyogrio.read_dataframe(line.strip(), layer="units", where="state = 'done'")
    print("|".join(whole["state"]), "|".join(done["name"]), sep=";", flush=True)
"""


def test_the_file_opens_in_other_programs_while_it_is_written(path):
    """In another process, as QGIS is: two SQLite libraries in one process do not see each other's locks."""
    ledger = UnitLedger.create(path, [_unit(number) for number in range(3)], known={})
    with subprocess.Popen([sys.executable, "-c", READER], stdin=-1, stdout=-1, text=True) as reader:

        def read() -> str:
            reader.stdin.write(f"{path}\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        name, _ = ledger.next_unit()
        assert read() == "running|pending|pending;"
        ledger.finish(name, _record(), state="done", worker="w")
        assert read() == "done|pending|pending;unit_00000"
        ledger.fail(ledger.next_unit()[0], error="no", most=1)  # a reader does not stop the writer
        assert read() == "done|failed|pending;unit_00000"
        reader.stdin.close()
    assert [row.state for row in UnitLedger.read(path).values()] == ["done", "failed", "pending"]
    ledger.close()
    assert sorted(item.name for item in path.parent.iterdir()) == [path.name]


def test_units_that_failed_or_were_lost_come_after_all_others(path):
    ledger = UnitLedger.create(path, [_unit(number) for number in range(4)], known={})
    assert ledger.next_unit()[0] == "unit_00000"
    assert not ledger.fail("unit_00000", error="first", most=5)
    assert ledger.next_unit()[0] == "unit_00001"
    assert not ledger.fail("unit_00001", error="died", most=5, lost=True)
    assert ledger.next_unit()[0] == "unit_00002"
    ledger.give_back("unit_00002")  # as if it had not been taken
    assert ledger.next_unit()[0] == "unit_00002"
    assert ledger.next_unit()[0] == "unit_00003"
    assert ledger.next_unit()[0] == "unit_00000"
    ledger.fail("unit_00000", error="again", most=5)  # twice now: after the one that was lost once
    assert _taken(ledger) == ["unit_00001", "unit_00000"]
    ledger.close()


@pytest.mark.parametrize("lost", [False, True])
def test_as_many_errors_or_dead_workers_set_a_unit_aside(path, lost):
    ledger = UnitLedger.create(path, [_unit(0)], known={})
    for attempt in range(3):
        name, _ = ledger.next_unit()
        aside = ledger.fail(name, error=f"number {attempt}", most=3, lost=lost, worker="w")
        assert aside == (attempt == 2)
    assert ledger.next_unit() is None
    (row,) = ledger.rows()
    assert (row.state, row.error, row.attempts, row.losses) == (
        "failed",
        "number 2",
        0 if lost else 3,
        3 if lost else 0,
    )
    ledger.close()


def test_errors_and_dead_workers_are_counted_apart(path):
    ledger = UnitLedger.create(path, [_unit(0)], known={})
    for lost in (False, True, False):
        assert not ledger.fail(ledger.next_unit()[0], error="no", most=3, lost=lost)
    assert ledger.fail(ledger.next_unit()[0], error="no", most=3, lost=False)
    ledger.close()


def test_an_unfinished_run_goes_on_where_it_was(path):
    units = [_unit(number) for number in range(5)]
    ledger = UnitLedger.create(path, units, known={})
    names = [ledger.next_unit()[0] for _ in range(4)]
    ledger.finish(names[0], _record(0), state="done", worker="w")
    ledger.finish(names[1], _record(1, reason="dry", figures={}), state="empty", worker="w")
    for _ in range(2):
        ledger.fail(names[2], error="broken", most=2)
    ledger.close()  # the fourth is running
    known = UnitLedger.read(path)
    assert [known[unit.name].state for unit in units] == ["done", "empty", "failed", "running", "pending"]
    again = UnitLedger.create(path, units, known=known)
    rows = list(again.rows())
    assert [row.state for row in rows] == ["done", "empty", "failed", "pending", "pending"]
    assert [row.error for row in rows] == ["", "dry", "broken", "", ""]
    assert rows[0] == known[units[0].name]
    assert (rows[2].attempts, rows[2].losses) == (2, 0)
    assert _taken(again) == ["unit_00003", "unit_00004"]
    again.close()
    frame = _rows(path)
    assert frame["pixels"].tolist() == [42, 0, 0, 0, 0]
    assert frame["seconds"].tolist() == [2.0, 2.0, 0.0, 0.0, 0.0]


def test_a_unit_that_changed_begins_anew_and_one_that_is_gone_is_forgotten(path):
    units = [_unit(0), _unit(1), _unit(2)]
    ledger = UnitLedger.create(path, units, known={})
    for number, unit in enumerate(units):
        ledger.next_unit()
        ledger.finish(unit.name, _record(number), state="done", worker="w")
    ledger.close()
    changed = [units[0], replace(units[1], fingerprint="another"), _unit(7)]
    again = UnitLedger.create(path, changed, known=UnitLedger.read(path))
    assert [(row.name, row.state) for row in again.rows()] == [
        ("unit_00000", "done"), ("unit_00001", "pending"), ("unit_00007", "pending")
    ]  # fmt: skip
    assert list(again.rows())[1] == UnitRow(name="unit_00001", state="pending", fingerprint="another")
    again.close()


def test_what_is_known_to_be_empty_is_not_done(path):
    ledger = UnitLedger.create(path, [_unit(0, reason="nothing in the catalog"), _unit(1)], known={})
    assert _taken(ledger) == ["unit_00001"]
    assert next(ledger.rows()).error == "nothing in the catalog"
    ledger.close()


def test_a_unit_without_a_position_has_no_outline(path):
    unit = _unit(0, crs=None)
    ledger = UnitLedger.create(path, [unit, _unit(1)], known={})
    assert Unit.from_json(ledger.next_unit()[1]) == unit
    ledger.close()
    frame = _rows(path)
    assert frame["crs"].tolist() == ["", "EPSG:32633"]
    assert frame.geometry.isna().tolist() == [True, False]


def test_a_name_is_unique(path):
    with pytest.raises(sqlite3.IntegrityError):
        UnitLedger.create(path, [_unit(0), _unit(0)], known={})
    assert not path.exists()


def test_text_of_strangers_is_text(path):
    name = "x'); DROP TABLE units; --"
    unit = replace(_unit(0), name=name, regions=('"quoted" \U0001f6f0',))
    ledger = UnitLedger.create(path, [unit], known={})
    assert Unit.from_json(ledger.next_unit()[1]) == unit
    ledger.fail(name, error='it\'s "broken"; <b>', most=1)
    ledger.close()
    (row,) = UnitLedger.read(path).values()
    assert (row.name, row.error, row.state) == (name, 'it\'s "broken"; <b>', "failed")


def test_a_ledger_takes_the_place_of_another_with_all_of_its_files(path):
    left = UnitLedger.create(path, [_unit(0)], known={})
    left.next_unit()
    # As a kill leaves it: pages in the log that the file does not have.
    kept = {suffix: path.with_name(path.name + suffix).read_bytes() for suffix in ("-wal", "-shm")}
    assert len(kept["-wal"]) > 0
    left.close()
    for suffix, content in kept.items():
        path.with_name(path.name + suffix).write_bytes(content)
    ledger = UnitLedger.create(path, [_unit(8), _unit(9)], known={})
    assert [row.name for row in ledger.rows()] == ["unit_00008", "unit_00009"]
    assert ledger.next_unit()[0] == "unit_00008"
    ledger.close()
    assert sorted(item.name for item in path.parent.iterdir()) == [path.name]
    assert _rows(path)["state"].tolist() == ["running", "pending"]


@pytest.mark.parametrize("damage", ["text", "nothing", "cut", "overwritten", "other", "record"])
def test_a_damaged_ledger_is_refused_in_one_line(path, damage):
    UnitLedger.create(path, [_unit(number) for number in range(200)], known={}).close()
    content = path.read_bytes()
    if damage == "text":
        path.write_text("not a ledger\nat all" * 100)
    elif damage == "nothing":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "overwritten":
        half = len(content) // 8
        path.write_bytes(content[:half] + b"\xff" * (len(content) - 2 * half) + content[-half:])
    elif damage == "other":
        path.unlink()
        gpd.GeoDataFrame({"name": ["a"]}, geometry=[shapely.Point(0, 0)], crs="EPSG:4326").to_file(path, layer="towns")
    else:
        with closing(sqlite3.connect(path)) as base, base:
            base.execute("UPDATE units SET record = '{\"unit\": '")
    with pytest.raises(RunFolderError, match=re.escape(f"{path}: found a damaged ledger")) as raised:
        UnitLedger.read(path)
    assert "\n" not in str(raised.value)
    assert "move it away" in str(raised.value)


def test_where_there_is_no_ledger_nothing_is_known(path):
    assert UnitLedger.read(path) == {}
    assert list(path.parent.iterdir()) == []


WRITER = """
import itertools, sys
from collections import deque
from pathlib import Path
from equipoise.pipeline.batch.unit_ledger import UnitLedger
ledger, done = UnitLedger(Path(sys.argv[1])), deque()
record = {"reason": None, "figures": {"class_pixels": {"water": 42}}, "started": "a", "finished": "b"}
for step in itertools.count():
    name, _ = ledger.next_unit()
    ledger.finish(name, {**record, "seconds": float(step)}, state="done", worker="w")
    print(step, name, flush=True)
    done.append(name)
    if len(done) > 100:
        ledger.give_back(done.popleft())
"""


def test_a_kill_while_it_is_written_leaves_what_was_written(path):
    units = [_unit(number) for number in range(150)]
    UnitLedger.create(path, units, known={}).close()
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        told = [writer.stdout.readline() for _ in range(2000)]
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.read().splitlines(keepends=True)
    assert writer.returncode == -signal.SIGKILL
    assert path.with_name(path.name + "-wal").exists()
    # The pipe may end within a line.
    steps = {name: int(step) for step, name in (line.split() for line in told[-100:] if line.endswith("\n"))}
    known = UnitLedger.read(path)
    assert list(known) == [unit.name for unit in units]
    # All that was said to be done is, with what was said of it; the oldest may wait again, as the writer wanted.
    for name in list(steps)[1:]:
        assert (known[name].state, known[name].record["seconds"]) == ("done", steps[name])
    counts = {state: sum(row.state == state for row in known.values()) for state in ("done", "running")}
    assert 99 <= counts["done"] <= 102
    assert counts["running"] <= 1
    again = UnitLedger.create(path, units, known=known)
    assert again.counts() == {"done": counts["done"], "pending": 150 - counts["done"]}
    again.close()
    with closing(sqlite3.connect(path)) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_many_units_take_no_longer_each_than_few(path):
    count, measured = 10_000, 1000
    UnitLedger.create(path, [_unit(number) for number in range(100)], known={}).close()
    with closing(sqlite3.connect(path)) as base, base:  # copies: outlines take a while to draw
        names = ", ".join([*sorted(COLUMNS - {"name"}), "geom"])
        for part in range(1, count // 100):
            copy = f"SELECT name || '_{part}', {names} FROM units WHERE fid <= 100"  # noqa: S608 (columns of ours)
            base.execute(f"INSERT INTO units (name, {names}) {copy}")
    ledger = UnitLedger(path)
    assert ledger.counts() == {"pending": count}
    for step in range(100):  # in the middle of a run, with some that were tried before
        name, _ = ledger.next_unit()
        ledger.fail(name, error="no", most=9, lost=step % 2 == 0)
    began = time.perf_counter()
    for number in range(measured):
        name, _ = ledger.next_unit()
        ledger.finish(name, _record(number), state="done", worker="w")
    each = (time.perf_counter() - began) / measured
    ledger.close()
    print(f"of {count} units, one taken and finished in {1000 * each:.3f} ms")  # noqa: T201 (the figure is of interest)
    # A scan of all rows takes tens of ms; a shared machine may be slow, not as slow as that.
    assert each < 0.01
