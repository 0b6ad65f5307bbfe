"""Dispatch: units to workers, a bounded number at a time; what fails is tried again, what is lost is given back."""

import errno
import logging
import queue
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PipelineError
from .cluster import interrupts_held
from .job import Job
from .unit_ledger import DONE, EMPTY, UnitLedger
from .unit_work import LEAST_ROOM, finished_unit, map_unit

if TYPE_CHECKING:
    from distributed import Client, Future

#: Units in flight for each thread of the workers: a worker need not wait for the client to hear of it.
AHEAD = 1.25

#: Units that are set aside, none being done, after which it is not the units: the run ends.
MOST_ALIKE = 8

#: Workers that may die while a unit waits for its turn, before that is taken for the unit's fault.
MOST_UNBEGUN = 10

#: Seconds after which the state of the cluster is looked at where nothing happens.
LOOK = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a unit.

    Attributes
    ----------
    kind
        ``done``, ``empty``, ``retry`` (to be tried again), ``failed`` (set aside), ``lost`` (its worker died).
    unit
        Name.
    error
        In one line, where there is one.
    record
        Of a unit that is done.
    worker
        Address, where it is known.
    """

    kind: str
    unit: str
    error: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    worker: str = ""


class Dispatch:
    """Gives the units of a ledger to workers until none waits.

    The client holds no more than what is in flight: everything else is in the ledger.

    Parameters
    ----------
    client
        Of the cluster.
    ledger
        Units and their state.
    job
        What all units share.
    attempts
        Errors, or dead workers, after which a unit is set aside.
    resources
        Resource tags that a unit needs of its worker.
    patience
        Seconds for which workers, or a scheduler that went away, are waited for.
    """

    def __init__(
        self,
        client: "Client",
        ledger: UnitLedger,
        job: Job,
        *,
        attempts: int,
        resources: Mapping[str, float] | None = None,
        patience: float = 60.0,
    ) -> None:
        self._client, self._ledger, self._job = client, ledger, job
        self._attempts, self._resources, self._patience = attempts, dict(resources or {}), patience
        self._flying: dict[Future[Any], str] = {}
        self._landed: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._room, self._looked = 1, -LOOK
        self._alone_since: float | None = None
        self._aside, self._is_any_done = 0, False
        self._waited: Counter[str] = Counter()

    def run(self, tell: Callable[[Event], None]) -> None:
        """Work until every unit is done, empty or set aside.

        Parameters
        ----------
        tell
            Called with what happens, on the caller's thread.

        Raises
        ------
        PipelineError
            If the disk is full, or the cluster stays away. Units in flight wait again; nothing is lost.
        """
        try:
            while self._fill() or self._flying:
                try:
                    future = self._landed.get(timeout=LOOK)
                except queue.Empty:
                    self._look_for_lost(tell)
                    continue
                if future in self._flying:
                    self._land(future, tell)
        except sqlite3.OperationalError as error:  # of the ledger
            if _is_full(error, self._job.out):
                raise self._no_room() from error
            raise
        finally:
            self._recall()

    def _fill(self) -> bool:
        """Submit while there is room; return whether anything was submitted."""
        self._measure_room()
        submitted = False
        while len(self._flying) < self._room:
            taken = self._ledger.next_unit()
            if taken is None:
                break
            future = self._submitted(*taken)
            self._flying[future] = taken[0]
            future.add_done_callback(self._landed.put)
            submitted = True
        return submitted

    def _submitted(self, name: str, text: str) -> "Future[Any]":
        from distributed.client import ClosedClientError

        try:
            with interrupts_held():
                return self._client.submit(
                    map_unit, text, self._job, key=f"unit-{name}-{time.monotonic_ns()}", pure=False,
                    resources=self._resources or None,
                )  # fmt: skip
        except ClosedClientError as error:
            self._ledger.give_back(name)
            raise self._gone() from error

    def _gone(self) -> PipelineError:
        return PipelineError(
            "found a scheduler that went away and did not come back; wanted the one that the run was begun with; "
            "start it and its workers again, then the same command: it goes on where it stopped"
        )

    def _measure_room(self) -> None:
        """Ask, not too often, how many threads there are; complain where there are none for long."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        if self._client.status == "closed":
            raise self._gone()
        try:
            threads = sum(self._client.nthreads().values())
        except (AttributeError, OSError, TimeoutError, RuntimeError, ValueError):  # the first: of a client just closed
            threads = 0
        if threads:
            self._alone_since = None
            self._room = threads + max(1, int(threads * (AHEAD - 1)))
            return
        self._alone_since = self._alone_since or now
        if now - self._alone_since > self._patience:
            raise PipelineError(
                f"found no worker for {self._patience:.0f} s; wanted one at least; start workers or the scheduler "
                "again, then the same command: it goes on where it stopped"
            )

    def _land(self, future: "Future[Any]", tell: Callable[[Event], None]) -> None:
        name = self._flying.pop(future)
        if future.status == "finished":
            self._take(name, future, tell)
            return
        if future.status != "error":  # cancelled or lost with its scheduler: nobody's fault
            self._ledger.give_back(name)
            tell(Event(kind="lost", unit=name, error="the scheduler went away"))
            return
        from distributed import KilledWorker

        error = future.exception()
        if isinstance(error, KilledWorker):
            worker = str(getattr(error.last_worker, "address", error.last_worker))
            self._lose(name, worker, tell)
            return
        self._refuse_full_disk(name, error)
        words = one_line(error)
        self._fail(name, words, tell)

    def _take(self, name: str, future: "Future[Any]", tell: Callable[[Event], None]) -> None:
        """Fetch the record of a unit that is mapped; where its worker went with it, whoever is next finds the unit."""
        from distributed import KilledWorker

        try:
            record = future.result(timeout=self._patience)
        except (CancelledError, KilledWorker, OSError, TimeoutError) as error:
            self._ledger.give_back(name)
            tell(Event(kind="lost", unit=name, error=f"its worker died before it could tell ({one_line(error)})"))
            return
        self._finish(name, record, tell)

    def _finish(self, name: str, record: Mapping[str, Any], tell: Callable[[Event], None]) -> None:
        worker = str(record["worker"])
        if record["state"] == EMPTY:
            self._ledger.finish(name, record, state=EMPTY, worker=worker)
            tell(Event(kind="empty", unit=name, error=str(record["reason"]), record=record, worker=worker))
            return
        if finished_unit(self._job.units / name, record["fingerprint"]) is None:
            words = f"{self._job.units / name}: found not what its worker wrote; wanted a folder that all share"
            self._fail(name, words, tell, worker=worker)
            return
        self._is_any_done = True
        self._ledger.finish(name, record, state=DONE, worker=worker)
        tell(Event(kind="done", unit=name, record=record, worker=worker))

    def _fail(self, name: str, words: str, tell: Callable[[Event], None], *, worker: str = "") -> None:
        aside = self._ledger.fail(name, error=words, most=self._attempts, worker=worker)
        tell(Event(kind="failed" if aside else "retry", unit=name, error=words, worker=worker))
        self._aside += aside
        if self._aside >= MOST_ALIKE and not self._is_any_done:
            raise PipelineError(
                f"found {self._aside} units that failed and none that was done; the last one: {words}; wanted a unit "
                "that can be mapped; mend what is wrong, then the same command with --retry-failed"
            )

    def _lose(self, name: str, worker: str, tell: Callable[[Event], None]) -> None:
        """Count a worker's death against the unit that it had in hand, not against one that waited for its turn."""
        begun = list(self._job.scratch.glob(f"{name}.*"))
        for leftover in begun:
            shutil.rmtree(leftover, ignore_errors=True)
        self._waited[name] += not begun
        # A worker that always dies before it has begun anything, for want of memory say, must come to an end, too.
        if not begun and self._waited[name] <= MOST_UNBEGUN:
            self._ledger.give_back(name)
            tell(Event(kind="lost", unit=name, error=f"worker {worker} died before this unit's turn", worker=worker))
            return
        words = f"worker {worker} died while it had this unit (killed, or out of memory)"
        aside = self._ledger.fail(name, error=words, most=self._attempts, lost=True, worker=worker)
        tell(Event(kind="failed" if aside else "lost", unit=name, error=words, worker=worker))

    def _refuse_full_disk(self, name: str, error: BaseException | None) -> None:
        if not _is_full(error, self._job.out):
            return
        self._ledger.give_back(name)
        raise self._no_room()

    def _no_room(self) -> PipelineError:
        return PipelineError(
            f"{self._job.out}: found no space left on the disk; wanted room for the maps; make some, then the same "
            "command: it goes on where it stopped"
        )

    def _look_for_lost(self, tell: Callable[[Event], None]) -> None:
        """Give back what no answer will come for: a client that was reconnected has forgotten its futures."""
        for future in [future for future in self._flying if future.status in ("lost", "cancelled")]:
            self._land(future, tell)

    def _recall(self) -> None:
        """Let units that are in flight wait again."""
        from distributed.client import ClosedClientError

        for name in self._flying.values():
            # On a full disk they stay "running" until there is room.
            with suppress(sqlite3.OperationalError):
                self._ledger.give_back(name)
        try:
            self._client.cancel(list(self._flying), force=True)
        except (ClosedClientError, OSError, TimeoutError, RuntimeError, ValueError) as error:
            log.info("units in flight could not be called back: %s", error)
        self._flying.clear()


def one_line(error: BaseException | None) -> str:
    """Return an error of a worker in one line, with its kind where the words alone may say nothing."""
    from ...datasets.errors import DatasetError
    from ...models.errors import ModelError

    text = " ".join(str(error).split())[:1000]
    plain = isinstance(error, DatasetError | ModelError | PipelineError)
    return text if plain and text else f"{type(error).__name__}: {text}"


def _is_full(error: BaseException | None, folder: Path) -> bool:
    """Whether an error, or what led to it, comes of a full disk."""
    seen = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left" in str(seen) or "disk is full" in str(seen):  # of files; of SQLite
            return True
        seen = seen.__cause__ or seen.__context__
    # What is raised where a raster cannot be written does not always say why.
    return "rasterio" in type(error).__module__ and shutil.disk_usage(folder).free < LEAST_ROOM
