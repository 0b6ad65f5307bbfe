"""Prefetch: results of slow work, computed on threads some items ahead of whoever needs them, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    lane: Callable[[Item], int],
    threads: int,
    most: int,
) -> Generator[Result, None, None]:
    """Yield ``work(item)`` for each item, in the order of the items.

    Close the iterator (:func:`contextlib.closing`) where it may not be used up: what waits is then given up, and what
    runs is waited for.

    Parameters
    ----------
    work
        Called on a thread. Its error is raised here, as it was, when its item's turn comes.
    items
        Taken one after the other on the caller's thread.
    lane
        Items with the same ``lane(item) % threads`` run on the same thread, which may keep what it has opened and
        read for them.
    threads
        Number of threads, at least 1.
    most
        Items at most that are begun but not yet yielded.
    """
    lanes = [ThreadPoolExecutor(1, thread_name_prefix="prefetch") for _ in range(threads)]
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(lanes[lane(item) % threads].submit(work, item))
            if len(begun) >= most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for pool in lanes:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in lanes:
            pool.shutdown(wait=True)
