"""Progress of a batch run: a bar for people, or a line of JSON for each unit for programs."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..progress import is_watched
from .dispatch import Event

#: Seconds between the lines of a run that nobody watches.
EVERY = 60.0

#: Kinds of events after which nothing more comes of a unit.
FINAL = frozenset({"done", "empty", "failed"})


@contextlib.contextmanager
def shown(*, total: int, already: int, log: TextIO | None = None) -> Iterator[Callable[[Event], None]]:
    """Show how far a run is; what it gives is called with everything that happens.

    Parameters
    ----------
    total, already
        Number of units, and of those that were finished before.
    log
        Where a line of JSON goes for every event; no bar is shown then. None: a bar on standard error where that is a
        terminal, a line a minute where it is not.
    """
    if log is not None:
        yield lambda event: print(json.dumps(event_record(event)), file=log, flush=True)
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("units"),
        TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[trouble]}"), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    tally = Tally(total=total, finished=already)
    if not is_watched(console):
        yield partial(_print_sometimes, tally, console)
        return
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("batch", total=total, completed=already, rate="", trouble="")

        def tell(event: Event) -> None:
            tally.add(event)
            bar.update(task, completed=tally.finished, rate=f"{tally.rate:.2f} km2/s", trouble=trouble(tally.events))

        yield tell


@dataclass(kw_only=True)
class Tally:
    """What happened so far.

    Attributes
    ----------
    total, finished
        Units, and those of which nothing more comes.
    events
        Number of events by kind.
    km2
        Mapped now.
    began, told
        When it began, and when it was last told, s.
    """

    total: int
    finished: int
    events: Counter[str] = field(default_factory=Counter)
    km2: float = 0.0
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Area mapped, km2/s."""
        return self.km2 / max(time.monotonic() - self.began, 1e-3)

    def add(self, event: Event) -> None:
        """Count an event."""
        self.events[event.kind] += 1
        self.finished += event.kind in FINAL
        self.km2 += float(event.record.get("mapped_km2", 0.0))


def _print_sometimes(tally: Tally, console: Console, event: Event) -> None:
    """Write a line a minute: the log of a job that nobody watches shows that it goes on."""
    tally.add(event)
    if time.monotonic() - tally.told < EVERY:
        return
    tally.told = time.monotonic()
    words = [f"{tally.finished} of {tally.total} units", f"{tally.rate:.2f} km2/s", trouble(tally.events)]
    console.print(", ".join(word for word in words if word), highlight=False, soft_wrap=True)


def trouble(tally: Counter[str]) -> str:
    """Say what went wrong so far."""
    words = {"retry": "errors", "lost": "lost", "failed": "set aside"}
    return ", ".join(f"{tally[kind]} {word}" for kind, word in words.items() if tally[kind])


def event_record(event: Event) -> dict[str, Any]:
    """Return an event as plain values, one line of a log."""
    keys = ("seconds", "timings", "peak_mib", "mapped_km2")
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event.kind, "unit": event.unit,
        "worker": event.worker, "error": event.error, **{key: event.record[key] for key in keys if key in event.record},
    }  # fmt: skip
