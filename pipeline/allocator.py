"""The C library's memory allocator, told to keep less of what several threads have freed."""

import ctypes
import sys

#: Parameter of mallopt (malloc.h of the GNU C library): how many arenas threads may share.
_M_ARENA_MAX = -8

#: Arenas that are left. Measured on maps by two streams: with one for each thread, 60 MB more stay with the process.
ARENAS = 1


def few_arenas() -> bool:
    """Let all threads share the allocator's arenas; return whether this C library could be told.

    By itself the GNU C library gives each thread an arena of its own, and what a thread frees there stays with the
    process. To be called before threads are started.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS))
    except (AttributeError, OSError):  # another C library
        return False
