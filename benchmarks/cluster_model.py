"""A batch run as a simulation of events: workers, files that they share, the client's loop, workers that are lost.

Module of `cluster_simulation.py`. What is modelled:

- The client's loop is one desk: it submits units, at most ``in_flight`` times the workers at once, and handles each
  result. The scheduler is another desk.
- A worker takes one unit at a time. It fetches the files that the unit needs where nobody has, or waits while another
  does; reads its window from the shared disk; computes; writes.
- A worker lives for an exponentially distributed time. What it had in hand is lost, and submitted again; a file that
  it was fetching is begun anew by the first that waits for it. After a while the worker is back.
"""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from cluster_events import Action, Clock, Desk, Link, Pipe, Transfer
from numpy.typing import NDArray

#: What a worker's time goes to. ``lost`` is work that its death undid; ``starved`` is waiting for a unit while there
#: are some; ``tail`` is waiting when the last has been taken.
PARTS = ("compute", "fetch", "wait", "disk", "lost", "down", "starved", "tail")


@dataclass(frozen=True, kw_only=True)
class Units:
    """What is to be done: seconds of computing, the files that are needed, and bytes, unit by unit."""

    compute: NDArray[np.float64]  # (unit,) seconds
    files: NDArray[np.int64]  # (kind, unit): number of the file of that kind which the unit reads
    file_bytes: float = 0.0  # of one file, of any kind
    read_bytes: float = 0.0  # of a unit's windows, from the shared disk
    written_bytes: float = 0.0  # of a unit's maps, to the shared disk


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Who does it; times in seconds."""

    workers: int
    store: Link = field(default_factory=Link)
    disk: Link = field(default_factory=Link)
    submit_s: float = 0.0  # of the client's loop, to submit a unit
    result_s: float = 0.0  # of the client's loop, to handle a result or a loss
    scheduler_s: float = 0.0
    in_flight: float = 1.25  # units that are submitted and not handled, for each worker
    start_s: float = 0.0  # from the start of the run until workers are there
    life_s: float = math.inf  # mean life of a worker
    restart_s: float = 0.0  # from a worker's death until another is there in its place
    detect_s: float = 0.0  # from a worker's death until the client hears of it
    mass_loss_at: float = math.inf  # when a share of the workers dies at once
    mass_loss_share: float = 0.0
    attempts: int = 3  # losses after which a unit is set aside

    @property
    def room(self) -> int:
        """Units that may be in flight: at least one more than there are workers."""
        return self.workers + max(1, int(self.workers * (self.in_flight - 1)))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it."""

    makespan: float  # s, until the client has handled the last result
    done: int  # units
    aside: int  # units that were lost too often
    losses: int  # units that died with their worker
    seconds: Mapping[str, float]  # of all workers, by PARTS; the sum is workers * makespan
    client: float  # share of the makespan that the client's loop was busy
    scheduler: float
    store: float  # share of what the store could give that was used; 0 where that is not bounded
    disk: float
    fetched_bytes: float

    def share(self, part: str) -> float:
        """Return the share of the workers' time that went to a part; that of ``compute`` is the efficiency."""
        return self.seconds[part] / sum(self.seconds.values())


class Worker:
    """A place for a worker: it dies, and after a while another is there in its place."""

    def __init__(self) -> None:
        self.number = 0  # how often one has died here: what was planned for an earlier life does not happen
        self.unit: int | None = None
        self.part, self.since = "down", 0.0
        self.hand: defaultdict[str, float] = defaultdict(float)  # seconds at the unit in hand
        self.transfer: Transfer | None = None
        self.pipe: Pipe | None = None
        self.file: tuple[int, int] | None = None  # the one that it fetches, or waits for


class Simulation:
    """One run; ``run()`` once."""

    def __init__(self, units: Units, cluster: Cluster, *, seed: int = 0) -> None:
        self.units, self.cluster = units, cluster
        self.clock = Clock()
        self.client, self.scheduler = Desk(self.clock), Desk(self.clock)
        self.store, self.disk = Pipe(self.clock, cluster.store), Pipe(self.clock, cluster.disk)
        self.pending = deque(range(len(units.compute)))
        self.ready: deque[int] = deque()
        self.idle: dict[Worker, None] = {}  # in the order in which they became so
        self.there: set[tuple[int, int]] = set()
        self.waiting: dict[tuple[int, int], deque[tuple[Worker, int]]] = {}  # for files that are being fetched
        self.workers = [Worker() for _ in range(cluster.workers)]
        self.lives = np.random.default_rng(seed)
        self.lost = Counter[int]()
        self.done = self.aside = 0
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.idle_times: list[tuple[float, float]] = []
        self.last_taken = 0.0

    def run(self) -> Outcome:
        """Simulate until every unit is done or set aside."""
        cluster, count = self.cluster, len(self.units.compute)
        for worker in self.workers:
            self.clock.at(cluster.start_s, lambda worker=worker: self._arrive(worker))
        self.clock.at(cluster.mass_loss_at, self._lose_many)
        for _ in range(min(count, cluster.room)):
            self._submit()
        self.clock.run(until=lambda: self.done + self.aside == count)
        return self._outcome()

    # The client and the scheduler

    def _submit(self) -> None:
        """Submit the next unit, where there is one."""
        if self.pending:
            unit = self.pending.popleft()
            self.client.serve(self.cluster.submit_s, lambda: self._schedule(unit))

    def _schedule(self, unit: int) -> None:
        self.scheduler.serve(self.cluster.scheduler_s, lambda: self._queue(unit))

    def _queue(self, unit: int) -> None:
        self.ready.append(unit)
        self._assign()

    def _assign(self) -> None:
        while self.ready and self.idle:
            worker = next(iter(self.idle))
            del self.idle[worker]
            self._enter(worker, "fetch")
            worker.unit = unit = self.ready.popleft()
            self.last_taken = self.clock.now
            self._acquire(worker, unit, 0)

    def _handled(self, unit: int, *, done: bool) -> None:
        """Go on after a result, or after a loss: such a unit is given back, until it was lost too often."""
        if done:
            self.done += 1
        elif self.lost[unit] >= self.cluster.attempts:
            self.aside += 1
        else:
            self.pending.append(unit)  # behind those that were never tried, as the ledger orders them
        self._submit()

    # A worker at a unit

    def _enter(self, worker: Worker, part: str) -> None:
        """Note what the worker's time goes to from now on."""
        spent = self.clock.now - worker.since
        if worker.unit is not None:
            worker.hand[worker.part] += spent
        elif worker.part == "idle":
            self.idle_times.append((worker.since, self.clock.now))
        else:
            self.seconds[worker.part] += spent
        worker.part, worker.since = part, self.clock.now

    def _if_alive(self, worker: Worker, action: Action) -> Action:
        """Return the action, which does not happen if the worker has died meanwhile."""
        number = worker.number
        return lambda: action() if worker.number == number else None

    def _send(self, worker: Worker, pipe: Pipe, count: float, then: Action) -> None:
        worker.pipe = pipe
        worker.transfer = pipe.send(count, self._if_alive(worker, then))

    def _acquire(self, worker: Worker, unit: int, kind: int) -> None:
        """See to it that the unit's files are there, kind by kind; then read."""
        if kind == len(self.units.files):
            worker.file = None
            self._enter(worker, "disk")
            self._send(worker, self.disk, self.units.read_bytes, lambda: self._compute(worker, unit))
            return
        file = (kind, int(self.units.files[kind, unit]))
        if file in self.there:
            self._acquire(worker, unit, kind + 1)
            return
        worker.file = file
        if file in self.waiting:
            self._enter(worker, "wait")
            self.waiting[file].append((worker, unit))
        else:
            self.waiting[file] = deque()
            self._fetch(worker, unit, file)

    def _fetch(self, worker: Worker, unit: int, file: tuple[int, int]) -> None:
        """Fetch a file: out of the store, then onto the shared disk."""
        self._enter(worker, "fetch")
        count = self.units.file_bytes

        def store_it() -> None:
            self._send(worker, self.disk, count, lambda: self._fetched(worker, unit, file))

        self._send(worker, self.store, count, store_it)

    def _fetched(self, worker: Worker, unit: int, file: tuple[int, int]) -> None:
        self.there.add(file)
        for one, its_unit in ((worker, unit), *self.waiting.pop(file)):
            self._acquire(one, its_unit, file[0] + 1)

    def _compute(self, worker: Worker, unit: int) -> None:
        self._enter(worker, "compute")
        self.clock.after(self.units.compute[unit], self._if_alive(worker, lambda: self._write(worker, unit)))

    def _write(self, worker: Worker, unit: int) -> None:
        self._enter(worker, "disk")
        self._send(worker, self.disk, self.units.written_bytes, lambda: self._publish(worker, unit))

    def _publish(self, worker: Worker, unit: int) -> None:
        self._enter(worker, "idle")
        for part, spent in worker.hand.items():
            self.seconds[part] += spent
        worker.hand.clear()
        worker.unit = None
        self.client.serve(self.cluster.result_s, lambda: self._handled(unit, done=True))
        self.idle[worker] = None
        self._assign()

    # Workers come and go

    def _arrive(self, worker: Worker) -> None:
        self._enter(worker, "idle")
        if self.cluster.life_s < math.inf:
            life = self.lives.exponential(self.cluster.life_s)
            self.clock.after(life, self._if_alive(worker, lambda: self._lose(worker)))
        self.idle[worker] = None
        self._assign()

    def _lose_many(self) -> None:
        for worker in self.workers[: round(self.cluster.mass_loss_share * len(self.workers))]:
            if worker.part != "down":
                self._lose(worker)

    def _lose(self, worker: Worker) -> None:
        """Let a worker die: what it has in hand is lost, and another fetches what it was fetching."""
        self._enter(worker, "down")
        worker.number += 1
        self.idle.pop(worker, None)
        self.clock.after(self.cluster.restart_s, lambda: self._arrive(worker))
        if worker.unit is None:
            return
        unit, worker.unit = worker.unit, None
        self.lost[unit] += 1
        self.seconds["lost"] += sum(worker.hand.values())
        worker.hand.clear()
        if worker.transfer is not None and worker.pipe is not None:
            worker.pipe.cancel(worker.transfer)
        if worker.file is not None:
            self._leave_file(worker, worker.file)
        self.clock.after(self.cluster.detect_s, lambda: self.client.serve(
            self.cluster.result_s, lambda: self._handled(unit, done=False)))  # fmt: skip

    def _leave_file(self, worker: Worker, file: tuple[int, int]) -> None:
        worker.file = None
        waiting = self.waiting[file]
        others = deque(pair for pair in waiting if pair[0] is not worker)
        if len(others) < len(waiting):
            self.waiting[file] = others
        elif others:
            self._fetch(*waiting.popleft(), file)
        else:
            del self.waiting[file]

    def _outcome(self) -> Outcome:
        for worker in self.workers:
            self._enter(worker, "down")
            self.seconds["lost"] += sum(worker.hand.values())  # of none, unless the last unit was set aside
        for begin, end in self.idle_times:
            starved = max(min(end, self.last_taken) - begin, 0)
            self.seconds["starved"] += starved
            self.seconds["tail"] += end - begin - starved
        makespan, cluster = self.clock.now, self.cluster
        return Outcome(
            makespan=makespan, done=self.done, aside=self.aside, losses=self.lost.total(),
            seconds={part: self.seconds[part] for part in PARTS},
            client=self.client.busy / makespan, scheduler=self.scheduler.busy / makespan,
            store=self.store.moved / (cluster.store.total * makespan),
            disk=self.disk.moved / (cluster.disk.total * makespan), fetched_bytes=self.store.moved,
        )  # fmt: skip


def simulate(units: Units, cluster: Cluster, *, seed: int = 0) -> Outcome:
    """Return what comes of a run; the same for the same seed, which decides when workers die."""
    return Simulation(units, cluster, seed=seed).run()
