"""Progress on the terminal: shown where a person watches, silent elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")

#: Whether bars are shown at all in this thread of work.
_WATCHED: ContextVar[bool] = ContextVar("watched", default=True)


@contextmanager
def unwatched() -> Iterator[None]:
    """Show no bars within: whoever started the work shows how far it is."""
    token = _WATCHED.set(False)
    try:
        yield
    finally:
        _WATCHED.reset(token)


def is_watched(console: Console) -> bool:
    """Whether bars are to be shown on a console."""
    return console.is_terminal and _WATCHED.get()


def track(items: Iterable[Item], description: str, *, total: int) -> Iterator[Item]:
    """Yield ``items`` and show a bar on standard error; nothing is written where that is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not is_watched(console)) as progress:
        yield from progress.track(items, total=total, description=description)


@contextmanager
def gauge(description: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of ``total`` bytes as :func:`track` does; what it gives is called with the number of new bytes."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not is_watched(console)) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)
