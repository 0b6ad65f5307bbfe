"""WriteBehind: calls made one after the other on a thread of their own while the caller goes on."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self


class WriteBehind:
    """Makes calls in their order, on one thread; the caller waits only where too many are due.

    The error of a call is raised, as it was, from a later one or at the end of the ``with`` block; no call after it is
    made. Where the block is left by an error, calls that have not begun are given up, and the one that has is waited
    for.

    Parameters
    ----------
    most
        Calls at most that are due or running.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._failed = False
        self._due: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-behind")

    def __enter__(self) -> Self:
        return self

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Have ``work(*arguments)`` called after all that was asked for before."""
        while len(self._due) >= self._most:
            self._due.popleft().result()
        self._due.append(self._thread.submit(self._make, work, arguments))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._due:
                self._due.popleft().result()
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)

    def _make(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if self._failed:  # what follows would build on what is missing
            return
        try:
            work(*arguments)
        except BaseException:
            self._failed = True
            raise
