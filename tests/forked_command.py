"""The command in forks of a process that has imported what takes seconds: `python forked_command.py SOCKET` serves it.

Each call has a process, a working directory, an environment and streams of its own, as the installed command has; only
the imports are shared. What is about processes themselves (signals, terminals, what is imported when) needs the
installed command.
"""

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

#: What commands import for themselves otherwise.
SLOW = (
    "equipoise.pipeline.cli", "equipoise.pipeline.predict_scenes", "equipoise.pipeline.stages",
    "equipoise.pipeline.train", "segmentation_models_pytorch",
)  # fmt: skip

#: Hands over arguments, folder, environment and streams, and ends with the code that comes back.
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    code = server.recv(1)
sys.exit(code[0] if code else "the process ended without a word")
"""

#: Longest wait for the imports, s: generous, for machines that do much else.
PATIENCE = 280


class ForkedCommand:
    """Calls the command.

    Attributes
    ----------
    folder
        Holds an executable ``equipoise`` that shells find where the folder is on their path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "equipoise", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
            check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


@contextmanager
def forked_command(folder: Path) -> Iterator[ForkedCommand]:
    """Serve the command until the block ends; ``folder`` is empty, and its path is short."""
    address, client = folder / "socket", folder / "equipoise"
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    client.chmod(0o755)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, __file__, address], env=environment, stdin=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + PATIENCE
            while not address.exists():
                assert server.poll() is None, "the server of the command ended"
                assert time.monotonic() < until, "the server of the command did not start"
                time.sleep(0.02)
            yield ForkedCommand(folder)
        finally:
            server.terminate()


def serve(address: str) -> NoReturn:
    """Fork for each caller."""
    for name in SLOW:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or each child's collector would copy every page
    waiting = f"{address}.new"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(waiting)
        server.listen()
        os.rename(waiting, address)  # noqa: PTH104 (whoever sees it is answered)
        while True:
            caller, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _answer(caller)
            caller.close()
            _reap()


def _reap() -> None:
    """Let go of children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _answer(caller: socket.socket) -> NoReturn:
    """Do in this process, a fork, what the caller's process would do."""
    size, streams, _, _ = socket.recv_fds(caller, 4, 3)
    call = b""
    while len(call) < int.from_bytes(size, "big"):
        call += caller.recv(1 << 16)
    arguments, folder, environment = json.loads(call)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["equipoise", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    caller.send(bytes([_done()]))
    os._exit(0)  # taking a loaded interpreter apart takes seconds


def _done() -> int:
    """Return the exit code of the command."""
    code: object = 1
    try:
        importlib.import_module("equipoise.pipeline.cli").main()
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:  # as the interpreter would tell it
        sys.excepthook(*sys.exc_info())
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0)


if __name__ == "__main__":
    serve(sys.argv[1])
