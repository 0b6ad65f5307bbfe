"""Looks once at what `equipoise view` shows, and ends it as Ctrl-C does: `viewed_briefly.py COMMAND view ...`."""

import re
import signal
import subprocess
import sys
from urllib.request import urlopen


def main(*command: str) -> int:
    """Return the command's exit code; 1 where it shows no page."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        found = next((match for line in process.stdout if (match := re.match(r"page +(http://\S+)", line))), None)
        if found is None:
            return process.wait() or 1
        try:
            with urlopen(found[1]) as page:  # noqa: S310 (of the server that was just started)
                assert page.status == 200
        finally:
            process.send_signal(signal.SIGINT)
        sys.stdout.write(process.stdout.read())
        return process.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
