"""Progress of a batch run: a bar for people, or a line of JSON for each unit for programs."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..progress import is_watched
from .dispatch import Event

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
        Where a line of JSON goes for every event; no bar is shown then. None: a bar on standard error, where that is a
        terminal.
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
    with Progress(*columns, console=console, transient=True, disable=not is_watched(console)) as bar:
        task = bar.add_task("batch", total=total, completed=already, rate="", trouble="")
        tally, began = Counter[str](), time.monotonic()
        km2 = 0.0

        def tell(event: Event) -> None:
            nonlocal km2
            tally[event.kind] += 1
            km2 += float(event.record.get("mapped_km2", 0.0))
            bar.update(
                task, advance=1 if event.kind in FINAL else 0,
                rate=f"{km2 / max(time.monotonic() - began, 1e-3):.2f} km2/s", trouble=trouble(tally),
            )  # fmt: skip

        yield tell


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
