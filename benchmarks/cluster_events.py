"""A clock of events, and what workers of a cluster share: servers of one at a time, and links of so many bytes/s.

Modules of `cluster_simulation.py`; nothing here knows what a unit or a worker is.
"""

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

Action = Callable[[], None]


class Clock:
    """Simulated time in seconds, and what is to happen when; of two events of one moment the older goes first."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Action]] = []
        self._numbers = itertools.count()

    def at(self, time: float, action: Action) -> None:
        """Let ``action`` happen at ``time``, which is not before now; never, where it is infinite."""
        if time < math.inf:
            heapq.heappush(self._events, (time, next(self._numbers), action))

    def after(self, seconds: float, action: Action) -> None:
        """Let ``action`` happen so many seconds from now."""
        self.at(self.now + seconds, action)

    def run(self, until: Callable[[], bool]) -> None:
        """Let events happen until ``until()`` is true; RuntimeError where nothing is left to happen before that."""
        while not until():
            if not self._events:
                raise RuntimeError(f"found no event after {self.now:g} s; wanted an end: the model has stalled")
            self.now, _, action = heapq.heappop(self._events)
            action()


class Desk:
    """Serves one job after the other, in the order in which they came: the client's loop, the scheduler."""

    def __init__(self, clock: Clock) -> None:
        self.busy = 0.0
        self._clock = clock
        self._free_at = 0.0

    def serve(self, seconds: float, then: Action) -> None:
        """Work ``seconds`` at a job once those before it are done, and then act."""
        self._free_at = max(self._clock.now, self._free_at) + seconds
        self.busy += seconds
        self._clock.at(self._free_at, then)


@dataclass(frozen=True, kw_only=True)
class Link:
    """What a store or a disk gives: bytes a second in ``total`` and to ``each`` connection, seconds of ``latency``."""

    total: float = math.inf
    each: float = math.inf
    latency: float = 0.0


class Transfer:
    """One transfer on its way; where it was cancelled, it never arrives."""

    def __init__(self, then: Action) -> None:
        self.then = then
        self.started = False
        self.over = False


class Pipe:
    """A link in use: transfers that go on at the same time have equal shares of it.

    All of them advance at one rate, so that one number, how far a transfer that had begun at time 0 would have come,
    says when each is done: a transfer costs O(log n) steps, however often the others' number changes meanwhile.
    """

    def __init__(self, clock: Clock, link: Link) -> None:
        self.moved = 0.0
        self._clock, self._link = clock, link
        self._active = 0
        self._reached, self._since = 0.0, 0.0  # bytes that each has advanced, and the time until which that is counted
        self._ends: list[tuple[float, int, Transfer]] = []
        self._numbers = itertools.count()
        self._plan = 0

    def send(self, count: float, then: Action) -> Transfer:
        """Begin to transfer ``count`` bytes, after the latency; ``then`` happens when the last has arrived."""
        transfer = Transfer(then)
        self._clock.after(self._link.latency, lambda: self._start(transfer, count))
        return transfer

    def cancel(self, transfer: Transfer) -> None:
        """Give up a transfer; its share of the link goes to the others."""
        if transfer.started and not transfer.over:
            self._advance()
            self._active -= 1
            self._schedule()
        transfer.over = True

    @property
    def _rate(self) -> float:
        return min(self._link.each, self._link.total / max(self._active, 1))

    def _start(self, transfer: Transfer, count: float) -> None:
        if transfer.over:
            return
        transfer.started = True
        if count <= 0 or math.isinf(self._rate):
            self.moved += max(count, 0)
            self._arrived(transfer)
            return
        self._advance()
        self._active += 1
        heapq.heappush(self._ends, (self._reached + count, next(self._numbers), transfer))
        self._schedule()

    def _advance(self) -> None:
        if self._active:
            step = self._rate * (self._clock.now - self._since)
            self._reached += step
            self.moved += step * self._active
        self._since = self._clock.now

    def _schedule(self) -> None:
        """Plan for the next arrival; plans that were made before are void."""
        self._plan += 1
        while self._ends and self._ends[0][2].over:
            heapq.heappop(self._ends)
        if self._ends:
            plan, end = self._plan, self._ends[0][0]
            seconds = max(end - self._reached, 0) / self._rate
            self._clock.after(seconds, lambda: self._arrive(plan, end))

    def _arrive(self, plan: int, end: float) -> None:
        if plan != self._plan:
            return
        self._advance()
        self._reached = max(self._reached, end)  # what rounding has left over would be planned for again and again
        _, _, transfer = heapq.heappop(self._ends)
        self._active -= 1
        self._schedule()
        self._arrived(transfer)

    @staticmethod
    def _arrived(transfer: Transfer) -> None:
        transfer.over = True
        transfer.then()
