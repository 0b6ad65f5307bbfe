"""Command line: which commands there are, what they share, and how failures are told."""

import json
import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from .. import __version__
from .acquire_command import acquire
from .allocator import few_arenas
from .batch_command import batch
from .export_command import export
from .init_command import init
from .look_commands import doctor, explain, inspect, samples
from .setup_commands import config, validate
from .stage_commands import coregister, demo, predict, run, stage_command, train
from .view_command import view

app = typer.Typer(
    name="equipoise",
    help="Fuse optical, radar and infrared imagery with a sensor reliance that you choose.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

#: Exit code of a command that Ctrl-C ended (128 + SIGINT).
INTERRUPTED = 130

_INTERRUPTED_WORDS = "interrupted; the same command goes on where it stopped"


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say more of what happens.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)
    # Threads that spin while they wait make a training step ten times slower where another process wants the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    few_arenas()
    # GDAL's own default is a twentieth of the machine's memory: stages stay bounded on small machines, too.
    os.environ.setdefault("GDAL_CACHEMAX", "256")
    # GDAL's own words for a broken file come before ours and say less; ours carry them.
    logging.getLogger("rasterio").setLevel(logging.INFO if verbose else logging.CRITICAL)
    # The same of the network: what it says of each try comes before our one line.
    logging.getLogger("urllib3").setLevel(logging.INFO if verbose else logging.ERROR)
    if not verbose:
        warnings.simplefilter("ignore")


app.command()(run)
app.command()(coregister)
app.command(name="tile")(stage_command("tile"))
app.command()(train)
app.command(name="evaluate")(stage_command("evaluate"))
app.command()(predict)
app.command(name="report")(stage_command("report"))
app.command()(init)
app.command()(config)
app.command()(validate)
app.command()(inspect)
app.command()(explain)
app.command()(view)
app.command()(doctor)
app.command()(samples)
app.command()(demo)
app.command()(acquire)
app.command()(batch)
app.add_typer(export, name="export")


def main() -> None:
    """Run the command line; every expected failure is one line on standard error and a non-zero exit.

    With ``--json`` that line is one JSON object with the key ``error``.
    """
    as_json = "--json" in sys.argv[1:]
    try:
        # Without its own mode, typer leaves the words about a wrong option to us.
        code = app(standalone_mode=not as_json)
    except SystemExit as stop:
        # Typer turns Ctrl-C into this code without a word.
        if stop.code == INTERRUPTED:
            typer.echo(_INTERRUPTED_WORDS, err=True)
        raise
    except Exception as error:
        if os.environ.get("EQUIPOISE_DEBUG"):
            raise
        _tell(_one_line(error), as_json=as_json)
        sys.exit(getattr(error, "exit_code", 1))
    if code == INTERRUPTED:
        _tell(_INTERRUPTED_WORDS, as_json=as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _tell(text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps({"error": text}) if as_json else f"equipoise: {text}", err=True)


def _one_line(error: Exception) -> str:
    from ..datasets.errors import DatasetError
    from ..models.errors import ModelError
    from .errors import PipelineError
    from .nearest import with_nearest_file

    if hasattr(error, "format_message"):  # typer's own, about commands and options
        return " ".join(str(error.format_message()).split())
    text = " ".join(str(error).split())
    if isinstance(error, DatasetError | ModelError | PipelineError):
        return with_nearest_file(text)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}found a file or folder that cannot be used ({error.strerror or text}); check it"
    if type(error).__module__.startswith("rasterio"):
        return f"found a raster that cannot be read or written ({text}); check the file, and the space left on the disk"
    return (
        f"found an unexpected {type(error).__name__} ({text}); this is a fault of Equipoise: set EQUIPOISE_DEBUG=1 and "
        "report what it prints"
    )
