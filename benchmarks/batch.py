"""Batch runs: what the engine costs, what two workers gain, what kills leave behind, how memory grows.

Every figure is of the command itself, `equipoise batch`, in processes of its own, on scenes and catalogs that are
invented:

- speed: units of half a minute (default network, reliance of two sensors, one thread), on one worker and on two;
- kills: 200 units of four regions in two UTM zones on two workers; a worker is killed every 20 s and the client once;
  against a run that was left in peace;
- cluster: the same regions by `dask scheduler` and two `dask worker` over tcp;
- memory: of workers; and of the client, with 10 000 units of one window, of which a fifth has something to map.

Writes batch.json beside this file, from which `cluster_simulation.py` takes its times. `--part speed` measures one part
and keeps the others; `--small` tries all of it on a few units, and writes nothing.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import batch_inputs as inputs
import geopandas
import numpy as np
import psutil

RESULT = Path(__file__).with_name("batch.json")
COMMAND = Path(sys.executable).with_name("equipoise")
PARTS = ("speed", "kills", "cluster", "memory")
PARTS_OF_A_UNIT = ("acquire", "coregister", "predict", "write")
PERIOD = "2021-07-01/2021-07-31"


class Watched:
    """A command in a process of its own, looked at while it runs."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.began = time.monotonic()
        self.stream = log.open("ab")
        self.process = subprocess.Popen([COMMAND, "batch", *arguments], stdout=self.stream, stderr=subprocess.STDOUT)
        self.client = psutil.Process(self.process.pid)
        self.highest = self.cpu = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes, which multiprocessing has spawned."""
        try:
            children = self.client.children(recursive=True)
            return [item for item in children if "spawn_main" in " ".join(item.cmdline())]
        except psutil.Error:
            return []

    def look(self) -> float:
        """Return the client's memory, MiB."""
        try:
            found = self.client.memory_info().rss / 2**20
            self.cpu = sum(self.client.cpu_times()[:2])
        except psutil.Error:
            return 0.0
        self.highest = max(self.highest, found)
        return found

    def end(self) -> float:
        """Wait for the end; return the seconds that it took."""
        code = self.process.wait()
        self.stream.close()
        if code != 0:
            raise SystemExit(f"equipoise batch ended with {code}: {Path(self.stream.name).read_text()[-2000:]}")
        return time.monotonic() - self.began


def run(arguments: list[str], log: Path) -> float:
    """Run the command to its end, in peace."""
    return Watched(arguments, log).end()


def ledger(out: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_file(out / "ledger.gpkg", layer="units")


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("units/*/unit.json"))]


def hashes(out: Path) -> dict[str, dict[str, Any]]:
    """Return unit -> what its files hold, as they are on disk now, without what a run or a moment is named in."""
    import hashlib

    found: dict[str, dict[str, Any]] = {}
    for folder in sorted((out / "units").iterdir()):
        files = (path for path in folder.iterdir() if path.suffix in (".tif", ".xml", ".qml"))
        found[folder.name] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
    return found


def leftovers(out: Path) -> list[str]:
    """Return hidden files, and those that no record names."""
    named = {f"units/{item['unit']}/{name}" for item in records(out) for name in (*item["files"], "unit.json")}
    found = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    marks = re.compile(r"regions/\.[^/]+\.json")
    return [name for name in found if (name.startswith("units/") and name not in named)
            or (any(part.startswith(".") for part in name.split("/")) and not marks.fullmatch(name))]  # fmt: skip


def speed(folder: Path, *, small: bool) -> dict[str, Any]:
    """Time the same units on one worker and on two."""
    rows, cols = (480, 864) if small else (2976, 6048)
    options = inputs.HEAVY | ({"chunk": 384} if small else {})
    place, model = inputs.scene(folder, rows=rows, cols=cols), inputs.default_model(folder / "model")
    arguments = [str(place), "--model", str(model), "--options", str(inputs.options_file(folder, options)),
                 "--mosaic", "none"]  # fmt: skip
    found: dict[str, Any] = {}
    began = time.time()
    for workers in (1, 2):
        out = folder / f"on-{workers}"
        run([*arguments, "-o", str(out), "--workers", str(workers)], folder / "speed.log")
        found[str(workers)] = _pace(out)
    one, two = found["1"], found["2"]
    return {
        "units": one["units"], "px_a_unit": one["px_a_unit"], "on": found,
        "gain": round(one["makespan_s"] / two["makespan_s"], 3),
        "gain_of_pace": round(one["unit_s"] / (two["makespan_s"] / two["units"]), 3),
        "engine_share": round(one["engine_s"] / one["makespan_s"] * one["units"], 4),
        "beyond_maps_share": round(1 - one["maps_s"] * one["units"] / one["makespan_s"], 4),
        "start_s": round(ledger(folder / "on-1")["started"].map(_seconds).min() - began, 2),
        "times": [_times(item) for item in records(folder / "on-1")],
    }  # fmt: skip


def _pace(out: Path) -> dict[str, Any]:
    """Say how long units took, and what was between them."""
    rows, known = ledger(out), records(out)
    started, finished = (rows[name].map(_seconds) for name in ("started", "finished"))
    makespan = finished.max() - started.min()
    workers = rows["worker"].nunique()
    unit = statistics.mean(item["seconds"] for item in known)
    return {
        "units": len(rows), "workers": workers, "px_a_unit": int(rows["pixels"].mean()),
        "makespan_s": round(makespan, 2), "unit_s": round(unit, 3),
        "maps_s": round(statistics.mean(item["timings"]["predict"] for item in known), 3),
        "engine_s": round(makespan * workers / len(rows) - unit, 4),
        "peak_mib": max(item["peak_mib"] for item in known),
    }  # fmt: skip


def _times(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the simulation takes of a unit; what it reads are 15 bands of float32, less what zeros save."""
    return {
        "seconds": record["seconds"], "timings": record["timings"], "km2": record["mapped_km2"],
        "bytes_in": int(record["mapped_km2"] * 1e4 * 15 * 2),  # of a product: 16 bits a band
        "bytes_out": sum(size for size, _ in record["files"].values()),
    }  # fmt: skip


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def kills(folder: Path, *, small: bool) -> dict[str, Any]:
    """Kill workers, and the client once; compare with a run in peace."""
    size, count, every = (640, 3, 12.0) if small else (1800, 4, 20.0)
    arguments = regional(folder, size=size, count=count)
    peace, war, log = folder / "peace", folder / "war", folder / "kills.log"
    run([*arguments, "-o", str(peace), "--workers", "2"], log)
    chance, total = np.random.default_rng(0), len(records(peace))
    killed, clients, is_client_due = 0, 1, True
    began = time.monotonic()
    arguments = [*arguments, "-o", str(war), "--workers", "2", "--attempts", "6"]
    watched, due = Watched(arguments, log), float("inf")
    while watched.is_alive:
        time.sleep(0.2)
        done = len(list(war.glob("units/*/unit.json")))
        if due == float("inf") and any((war / ".work").glob("*")):  # work has begun: so does the clock
            due = time.monotonic() + every
        if is_client_due and done > total * 0.45:
            watched.client.kill()
            watched.process.wait()
            watched, due = Watched(arguments, log), float("inf")
            is_client_due, clients = False, clients + 1
        if time.monotonic() >= due and done < total and (found := watched.workers()):
            found[chance.integers(len(found))].kill()
            killed, due = killed + 1, due + every
    watched.end()
    rows, known = ledger(war), records(war)
    return {
        "units": total, "regions": count, "zones": sorted(rows["crs"].unique()), "every_s": every,
        "workers_killed": killed, "clients": clients, "states": rows["state"].value_counts().to_dict(),
        "losses": int(rows["losses"].sum()), "attempts": int(rows["attempts"].sum()),
        "ledger_agrees": _agree(war, rows, known), "hashes_equal": hashes(peace) == hashes(war),
        "leftovers": leftovers(war) + leftovers(peace), "peace_s": _pace(peace)["makespan_s"],
        "war_s": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _agree(out: Path, rows: geopandas.GeoDataFrame, known: list[dict[str, Any]]) -> bool:
    """Whether ledger, records and files tell the same."""
    import hashlib

    by_name = {item["unit"]: item for item in known}
    if set(rows["name"]) != set(by_name) or not rows["name"].is_unique:
        return False
    for name, text in zip(rows["name"], rows["record"], strict=True):
        record = json.loads(text)
        if record["files"] != by_name[name]["files"]:
            return False
        for file, (size, sha256) in record["files"].items():
            content = (out / "units" / name / file).read_bytes()
            if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
                return False
    return True


def regional(folder: Path, *, size: int, count: int) -> list[str]:
    """Write a catalog with regions, unless it is there; return the command's arguments."""
    place = folder / "catalog-and-regions"
    if not place.exists():
        inputs.catalog(place, size=size, count=count)
    return [str(place / "regions.geojson"), "--model", str(place / "model"), "--catalog", str(place / "catalog"),
            "--dates", PERIOD, "--options", str(inputs.options_file(folder, inputs.LIGHT))]  # fmt: skip


def cluster(folder: Path, *, small: bool) -> dict[str, Any]:
    """Map the same regions by workers of this machine and by a cluster over tcp."""
    arguments = regional(folder, size=400 if small else 640, count=3)
    log, here, there = folder / "cluster.log", folder / "here", folder / "there"
    run([*arguments, "-o", str(here), "--workers", "2"], log)
    dask = Path(sys.executable).with_name("dask")
    note = folder / "scheduler.json"
    with log.open("ab") as stream:
        options: dict[str, Any] = {"stdout": stream, "stderr": subprocess.STDOUT}
        started = [subprocess.Popen([dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                                     "--scheduler-file", str(note)], **options)]  # fmt: skip
        while not note.exists():
            time.sleep(0.1)
        address = json.loads(note.read_text(encoding="utf-8"))["address"]
        started += [subprocess.Popen([dask, "worker", address, "--nthreads", "1", "--no-dashboard", "--host",
                                      "127.0.0.1"], **options) for _ in range(2)]  # fmt: skip
        try:
            run([*arguments, "-o", str(there), "--scheduler", address], log)
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()
    one, other = hashes(here), hashes(there)
    return {
        "units": len(one), "address": address.split("://")[0],
        "same_class_maps": _of(one, ".classes.tif") == _of(other, ".classes.tif"), "same_maps": one == other,
    }  # fmt: skip


def _of(found: Mapping[str, Mapping[str, Any]], ending: str) -> dict[str, Any]:
    return {name: digest for files in found.values() for name, digest in files.items() if name.endswith(ending)}


def memory(folder: Path, *, small: bool) -> dict[str, Any]:
    """Watch the client over many tiny units."""
    place, model = inputs.tiny_scene(folder, edge=640 if small else 3200)
    out = folder / "tiny"
    arguments = [str(place), "--model", str(model), "-o", str(out), "--workers", "2", "--options",
                 str(inputs.options_file(folder, inputs.TINY))]  # fmt: skip
    watched, seen = Watched(arguments, folder / "memory.log"), []
    while watched.is_alive:
        time.sleep(1.0)
        seen.append((_finished(out), watched.look(), watched.cpu))
    seconds = watched.end()
    rows = ledger(out)
    began = next(item for item in seen if item[0] >= min(100, len(rows) // 10))
    at_work = [item for item in seen if began[0] <= item[0] < len(rows)]
    span = rows["finished"].map(_seconds).max() - rows["started"].map(_seconds).min()
    return {
        "units": len(rows), "states": rows["state"].value_counts().to_dict(),
        "client_at_100_units_mib": round(began[1]), "client_at_work_mib": round(max(item[1] for item in at_work)),
        "client_with_mosaics_and_report_mib": round(watched.highest),
        "worker_peak_mib": max(item["peak_mib"] for item in records(out)), "wall_s": round(seconds, 1),
        "work_s": round(span, 1),
        "client_cpu_s_a_unit": round((at_work[-1][2] - began[2]) / max(1, at_work[-1][0] - began[0]), 5),
        "worker_s_a_unit": round(float(rows["seconds"].median()), 4),
    }  # fmt: skip


def _finished(out: Path) -> int:
    """Return how many units the ledger says are finished, while the command writes it."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{out / 'ledger.gpkg'}?mode=ro", uri=True)) as base:
            return int(base.execute("SELECT count(*) FROM units WHERE state IN ('done', 'empty')").fetchone()[0])
    except sqlite3.Error:
        return 0


def calibration(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the simulation is made of: units of half a minute, and the client's time for tiny ones."""
    units = record["speed"]["times"]
    return {
        "unit_seconds": [item["seconds"] for item in units],
        "parts": {name: [item["timings"].get(name, 0.0) for item in units] for name in PARTS_OF_A_UNIT},
        "client_seconds_per_unit": record["memory"]["client_cpu_s_a_unit"],
        "km2_per_unit": statistics.mean(item["km2"] for item in units),
        "bytes_in_per_unit": statistics.mean(item["bytes_in"] for item in units),
        "bytes_out_per_unit": statistics.mean(item["bytes_out"] for item in units),
        "worker_start_s": record["speed"]["start_s"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder that is used and kept, in the place of a temporary one")
    given = parser.parse_args()
    measures = {"speed": speed, "kills": kills, "cluster": cluster, "memory": memory}
    record = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() and not given.small else {}
    for part in given.part or PARTS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (given.keep or Path(temporary)) / part
            folder.mkdir(parents=True, exist_ok=True)
            record[part] = measures[part](folder, small=given.small)
            print(part, json.dumps(record[part], indent=1))
        if not given.small:
            record["machine"] = {"cores": os.cpu_count(), "cpu": platform.machine()}
            if {"speed", "memory"} <= set(record):
                record["calibration"] = calibration(record)
            RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
