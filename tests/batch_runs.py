"""Runs of `equipoise batch` in processes of their own, on an invented catalog, for tests that disturb them."""

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from forked_command import ForkedCommand

COMMAND = Path(sys.executable).with_name("equipoise")

#: Longest wait for anything, s: generous, for machines that do much else.
PATIENCE = 280

#: Few windows a unit and nothing to register: what is disturbed is the work, whatever the work is.
OPTIONS = {
    "chunk": 128, "coregister": {"method": "none"},
    "predict": {"tile": 96, "overlap": 32, "reliance_tile": 16, "device": "cpu"},
}  # fmt: skip

#: Columns of the ledger that tests look at.
COLUMNS = ("name", "state", "attempts", "losses", "error", "seconds", "pixels", "record")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's folder, and what it is made of.

    Attributes
    ----------
    inputs
        Holds ``regions.geojson``, ``model/``, ``options.yaml``.
    catalog
        Folder of the catalog.
    out
        Folder of the run. All have one name and one depth below ``inputs``: items lead to their sources relatively.
    """

    inputs: Path
    catalog: Path
    out: Path

    def of(self, case: str, *, catalog: Path | None = None) -> "Run":
        """Return another run of the same inputs."""
        return replace(self, out=self.inputs / case / "out", catalog=catalog or self.catalog)

    def start(self, *more: object) -> subprocess.Popen[str]:
        """Start the command in a process group of its own, as a shell does."""
        self.out.parent.mkdir(exist_ok=True)
        return subprocess.Popen(
            [COMMAND, *self.words(*more)], env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def words(self, *more: object) -> list[str]:
        """Return the command's arguments."""
        return [
            "batch", f"{self.inputs / 'regions.geojson'}", "--model", f"{self.inputs / 'model'}", "--catalog",
            f"{self.catalog}", "--dates", "2021-07-01/2021-07-31", "--options", f"{self.inputs / 'options.yaml'}",
            "-o", f"{self.out}", *map(str, more),
        ]  # fmt: skip

    def __call__(self, *more: object, command: ForkedCommand | None = None) -> subprocess.CompletedProcess[str]:
        """Let the installed command, or another one, end by itself."""
        if command is not None:
            self.out.parent.mkdir(exist_ok=True)
            return command(*self.words(*more))
        with started(self, *more) as process:
            return ended(process)

    def ledger(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the ledger by unit, also while the run goes on; none before there is one."""
        try:
            with closing(sqlite3.connect(f"file:{self.out / 'ledger.gpkg'}?mode=rw", uri=True)) as base:
                rows = base.execute(f"SELECT {', '.join(COLUMNS)} FROM units ORDER BY fid").fetchall()  # noqa: S608
        except sqlite3.OperationalError:
            return {}
        return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows}

    def states(self) -> dict[str, str]:
        return {name: row["state"] for name, row in self.ledger().items()}

    def published(self) -> list[str]:
        """Return the names of the units whose folders are there."""
        return sorted(path.name for path in (self.out / "units").glob("*"))

    def begun(self, unit: str = "") -> list[Path]:
        """Return the folders of units that workers have in hand."""
        return [path for path in (self.out / ".work").glob(f"{unit}*") if path.is_dir()]

    def hashes(self, *, items: bool = True) -> dict[str, str]:
        """Return the SHA-256 of every file of every unit, but for the record, which tells times and workers.

        Parameters
        ----------
        items
            STAC items, too, which tell where the catalog is.
        """
        return {
            path.relative_to(self.out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((self.out / "units").rglob("*"))
            if path.is_file() and path.name != "unit.json" and (items or path.suffix != ".json")
        }

    def leftovers(self) -> list[str]:
        """Return what a finished run must not leave: all that is hidden or half done, but the mosaics' marks."""
        found = [path.relative_to(self.out) for path in self.out.rglob("*")]
        marks = {path for path in found if path.parts[0] == "regions" and path.suffix == ".json"}
        return [
            str(path) for path in found
            if (any(part.startswith(".") for part in path.parts) and path not in marks)
            or path.name.endswith(("-wal", "-shm", "-journal", ".part", ".part.json", ".tmp", ".lock"))
        ]  # fmt: skip

    def check_whole(self) -> None:
        """Compare ledger, records and files: each unit has what its record says, and nothing else is there."""
        ledger = self.ledger()
        done = {name: row for name, row in ledger.items() if row["state"] == "done"}
        assert self.published() == sorted(done), f"{self.published()} are there and {sorted(done)} are done"
        for name, row in done.items():
            folder = self.out / "units" / name
            record = json.loads((folder / "unit.json").read_text())
            kept = json.loads(row["record"])
            # The ledger names a unit's worker as the cluster knew it; all else is what the worker has written.
            assert {**kept, "worker": ""} == {**record, "worker": ""}
            assert record["unit"] == name
            found = {
                path.name: [path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()]
                for path in folder.iterdir() if path.name != "unit.json"
            }  # fmt: skip
            assert found == record["files"], f"{name}: {found}, recorded as {record['files']}"
            assert row["pixels"] == sum(record["figures"]["class_pixels"].values()) > 0
        assert (left := self.leftovers()) == [], left


def write_inputs(folder: Path) -> Run:
    """Write regions in two zones that seven units cover, their catalog, a model, and options."""
    from fake_regions import write_regions  # torch with it, which the workers of `dies_elsewhere` need not wait for

    write_regions(folder, np.random.default_rng(1), size=96, count=3)
    (folder / "options.yaml").write_text(yaml.safe_dump(OPTIONS))
    return Run(inputs=folder, catalog=folder / "catalog", out=folder / "reference" / "out")


@contextmanager
def started(run: Run, *more: object) -> Iterator[subprocess.Popen[str]]:
    """Start a run; whatever happens in the block, nothing of it is left running."""
    with run.start(*more) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a process and return what it said."""
    out, error = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines on standard error, without those that tell once a minute how far a run is."""
    return [line for line in done.stderr.splitlines() if not re.match(r"\d+ of \d+ units", line)]


def wait_for(there: Callable[[], object], *processes: subprocess.Popen[str], what: str = "it") -> Any:
    """Return what ``there()`` gives as soon as that is true.

    Fails where one of the processes has ended before, or the time is over.
    """
    until = time.monotonic() + PATIENCE
    while not (found := there()):
        for process in processes:
            if process.poll() is not None:
                pytest.fail(f"ended before {what} was seen: {process.communicate()}")
        if time.monotonic() > until:
            pytest.fail(f"{what} was not seen in {PATIENCE} s")
        time.sleep(0.005)
    return found


def hold_when(there: Callable[[], object], process: subprocess.Popen[str], *, what: str) -> None:
    """Stop a command and its workers at a moment at which ``there()`` is true; the caller lets them go on.

    A moment that is only waited for may be over before anything is done about it, on a machine that does much else.
    """
    while True:
        wait_for(there, process, what=what)
        os.killpg(process.pid, signal.SIGSTOP)
        if there():
            return
        os.killpg(process.pid, signal.SIGCONT)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the worker processes of a command, oldest first."""
    return workers_of_process(process.pid)


def workers_of_process(number: int) -> list[psutil.Process]:
    """Return the worker processes of a process, oldest first."""
    try:
        children = psutil.Process(number).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    found = []
    for child in children:
        try:
            if any("spawn_main" in part for part in child.cmdline()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return sorted(found, key=psutil.Process.create_time)


def kill(*workers: psutil.Process) -> None:
    for worker in workers:
        try:
            worker.kill()
        except psutil.NoSuchProcess:
            continue


def dies_elsewhere(job: tuple[int, int]) -> int:
    """Return the second number in the process whose identifier is the first one; end any other process at once."""
    process, answer = job
    if os.getpid() != process:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


@dataclass
class Cluster:
    """A scheduler and workers, started one by one as on other machines, over TCP on loopback."""

    folder: Path
    address: str = ""
    scheduler: subprocess.Popen[bytes] | None = None
    workers: tuple[subprocess.Popen[bytes], ...] = ()

    def begin(self, *, count: int = 2) -> None:
        """Start a scheduler, where the last one was if there was one, and workers of one thread."""
        told, port = self.folder / "scheduler.json", self.address.rpartition(":")[2] or "0"
        told.unlink(missing_ok=True)
        self.scheduler = self._start("scheduler", "--port", port, "--scheduler-file", told)
        wait_for(lambda: told.is_file() and told.read_text().rstrip().endswith("}"), what="the scheduler")
        self.address = json.loads(told.read_text())["address"]
        self.workers = tuple(
            self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--local-directory", self.folder)
            for _ in range(count)
        )

    def _start(self, *arguments: object) -> subprocess.Popen[bytes]:
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [COMMAND.with_name("dask"), *map(str, arguments), "--host", "127.0.0.1", "--dashboard-address",
                 "127.0.0.1:0"],
                env={**os.environ, "OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"},
                cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def is_alive(self) -> bool:
        return all(process.poll() is None for process in (self.scheduler, *self.workers) if process is not None)

    def end(self, *, scheduler_first: bool = False) -> None:
        """Kill all of it."""
        processes = [process for process in (self.scheduler, *self.workers) if process is not None]
        for process in processes if scheduler_first else reversed(processes):
            process.kill()
            process.wait()


@contextmanager
def cluster(folder: Path, *, count: int = 2) -> Iterator[Cluster]:
    """Start a cluster, which ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Cluster(folder)
    try:
        made.begin(count=count)
        yield made
    finally:
        made.end()


def changed_catalog(run: Run, name: str, change: Callable[[str, Mapping[str, Any]], None]) -> Path:
    """Write the catalog again, with what ``change(item id, assets)`` makes of its assets; return the folder.

    Its rasters are links to those of the first one: whoever wants another one there removes it before.
    """
    folder = run.inputs / name
    folder.mkdir()
    for path in run.catalog.glob("*.tif"):
        os.link(path, folder / path.name)
    for path in run.catalog.glob("*.json"):
        record = json.loads(path.read_text())
        change(record["id"], record.get("assets", {}))
        (folder / path.name).write_text(json.dumps(record))
    return folder


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as any web server does; yield its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
