"""The command `equipoise view`: a run's maps in a browser."""

from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, answer


def view(
    folder: Annotated[Path, typer.Argument(metavar="RUN_OR_FOLDER", help="Of a run, a batch run, or of GeoTIFFs.")],
    port: Annotated[int | None, typer.Option(help="Default: 8760, or any that is free.", min=1, max=65535)] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; others than this machine's own let others look.")] = (
        "127.0.0.1"
    ),
    browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser, too.")] = False,
    json: Json = False,
) -> None:
    """Show imagery before and after alignment, and the maps, in a browser, until Ctrl-C."""
    from .viewer.app import Viewed
    from .viewer.folder import scenes_of
    from .viewer.server import is_loopback, serve

    viewed = Viewed(root=folder, scenes=scenes_of(folder))

    def announce(address: str) -> None:
        words = f"{len(viewed.scenes)} scene(s)" if len(viewed.scenes) > 1 else viewed.scenes[0].name
        answer(
            [f"view        {words} in {folder}", f"page        {address}  (Ctrl-C ends it)"],
            {"page": address, "folder": folder, "scenes": [scene.name for scene in viewed.scenes]},
            as_json=json,
        )
        if not is_loopback(host):
            typer.echo(f"equipoise: {host} is no address of this machine alone: others can look at it", err=True)
        if browser:
            import webbrowser

            webbrowser.open(address)

    try:
        serve(viewed, host=host, port=port, announce=announce)
    except KeyboardInterrupt:
        if not json:
            typer.echo("ended; nothing was written")
