"""A terminal for tests of questions: a command runs in it as it does before a user, who reads and types."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds to wait for words; the command imports torch for some answers.
PATIENCE = 60

#: Where a question ends: behind what stands in brackets.
_ASKED = re.compile(r"(?:^|[\])]): ")

CTRL_C, END = "\x03", "\x04"

#: Makes the terminal its own, heeds Ctrl-C whatever the tests' own process does about it, and becomes the command.
_BECOME = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """What a user sees of a command, and types at it."""

    def __init__(self, process: subprocess.Popen, screen: int) -> None:
        self.process, self._screen = process, screen
        self.seen = ""

    def wait_for(self, words: str) -> str:
        """Return what came up to ``words``, which are then behind."""
        return self._wait(re.compile(re.escape(words)))

    def wait_at(self, question: str) -> str:
        """Wait until a question is asked to its end; return what stood before it."""
        before = self.wait_for(question)
        self._wait(_ASKED)
        return before

    def type(self, text: str) -> None:
        """Press the keys."""
        os.write(self._screen, text.encode())

    def answer(self, question: str, text: str) -> str:
        """Wait for a question and answer it; return what stood before it."""
        before = self.wait_at(question)
        self.type(f"{text}\n")
        return before

    def end(self) -> tuple[int, str]:
        """Wait until the command is over; return its exit code and the rest of what it said."""
        while self._more():
            pass
        return self.process.wait(timeout=PATIENCE), self.seen.replace("\r\n", "\n")

    def _wait(self, pattern: re.Pattern[str]) -> str:
        end = time.monotonic() + PATIENCE
        while (match := pattern.search(self.seen)) is None:
            more = time.monotonic() < end and self._more()
            assert more, f"{pattern.pattern!r} did not come; on the screen: {self.seen!r}"
        before, self.seen = self.seen[: match.start()], self.seen[match.end() :]
        return before

    def _more(self) -> bool:
        if not select.select([self._screen], [], [], PATIENCE)[0]:
            return False
        try:
            read = os.read(self._screen, 65536)
        except OSError:  # so Linux tells that nobody holds the other side any more
            return False
        self.seen += read.decode(errors="replace")
        return bool(read)


@contextmanager
def terminal(*words: object, cwd: Path) -> Iterator[Terminal]:
    """Run ``equipoise`` with these words in a terminal; what is left of it is ended with the block."""
    command = Path(sys.executable).with_name("equipoise")
    screen, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _BECOME, str(command), *map(str, words)], cwd=cwd, stdin=inner, stdout=inner,
        stderr=inner, start_new_session=True, env={**os.environ, "TERM": "dumb", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    os.close(inner)
    try:
        yield Terminal(process, screen)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
