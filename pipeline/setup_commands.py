"""Commands around a configuration: config prints one, validate checks one."""

from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, answer
from .init_command import TEMPLATES
from .stage_commands import ConfigFile


def config(
    print_: Annotated[bool, typer.Option("--print", help="Print all options with defaults and descriptions.")] = False,
    path: Annotated[Path | None, typer.Argument(help="Print this configuration in full instead.")] = None,
    json: Json = False,
) -> None:
    """Print all options with defaults, units and descriptions."""
    from .commented_yaml import commented_yaml
    from .config import load_config
    from .templates import template_config

    del print_  # printing is all that this command does; the flag is what people type
    shown = load_config(path) if path else template_config(next(iter(TEMPLATES)))
    answer(commented_yaml(shown).splitlines(), shown.model_dump(mode="json"), as_json=json)


def validate(config: ConfigFile, json: Json = False) -> None:
    """Say what is wrong with a configuration or its inputs before anything runs."""
    from .config import load_config
    from .nearest import with_nearest_file
    from .validate import validate_inputs

    found = validate_inputs(load_config(config))
    problems = [with_nearest_file(problem) for problem in found.problems]
    if json or not problems:
        record = {"config": config, "scenes": found.scenes, "problems": problems, "notes": found.notes}
        lines = [f"note: {note}" for note in found.notes]
        answer([*lines, f"{config}: {found.scenes} scene(s), nothing wrong found"], record, as_json=json)
    if not problems:
        return
    if not json:
        for problem in problems:
            typer.echo(problem, err=True)
        typer.echo(f"{config}: {len(problems)} problem(s) in {found.scenes} scene(s)", err=True)
    raise typer.Exit(1)
