"""Server: the viewer on a port of this machine, until Ctrl-C."""

import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from ..errors import PipelineError
from .app import Viewed, make_app

#: Port that is tried first, so that a bookmark holds.
PORT = 8760

#: Names of this machine for itself.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def serve(viewed: Viewed, *, host: str, port: int | None, announce: Callable[[str], None]) -> None:
    """Serve until the process is interrupted.

    Parameters
    ----------
    viewed
        What is shown.
    host
        Address to listen at.
    port
        None: :data:`PORT`, or any that is free.
    announce
        Is told the page's address as soon as it answers.

    Raises
    ------
    PipelineError
        If the address or the port cannot be used.
    """
    bound = _bound(host, port)
    with bound:
        shown = f"[{host}]" if ":" in host else host
        app = make_app(viewed, hosts=(*LOOPBACK, shown) if is_loopback(host) else ("*",))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off"))
        announce(f"http://{shown}:{bound.getsockname()[1]}/")
        server.run(sockets=[bound])


def is_loopback(host: str) -> bool:
    """Whether only this machine can ask at an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens: who connects before the server runs is answered when it does."""
    wanted = [PORT, 0] if port is None else [port]
    failed: OSError | OverflowError | None = None
    for number in wanted:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, number), family=family)
        except (OSError, OverflowError) as error:
            failed = error
    raise PipelineError(
        f"{host}:{wanted[0]}: found an address that cannot be used ({failed}); wanted one of this machine, and a free "
        "port; choose another with --port, or leave it out"
    ) from failed
