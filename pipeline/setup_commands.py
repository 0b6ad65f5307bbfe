"""Commands around a configuration: init writes one, config prints one, validate checks one."""

from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, answer
from .stage_commands import ConfigFile, finite

TEMPLATES = ("landcover", "flood", "chips")


def templates(incomplete: str) -> list[str]:
    """Return the templates that begin so, for the shell."""
    return [name for name in TEMPLATES if name.startswith(incomplete)]


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("config.yaml"),
    template: Annotated[
        str, typer.Option(help=f"One of {', '.join(TEMPLATES)}.", autocompletion=templates)
    ] = TEMPLATES[0],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: Json = False,
) -> None:
    """Write a commented configuration to start from."""
    from .commented_yaml import commented_yaml
    from .errors import ConfigError
    from .nearest import did_you_mean
    from .run_folder import write_text
    from .templates import template_config

    if template not in TEMPLATES:
        raise ConfigError(
            f"found no template '{template}'; wanted one of {', '.join(TEMPLATES)}{did_you_mean(template, TEMPLATES)}"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{path}: found no place for a file; wanted a file name in a folder that exists; correct it")
    if path.exists() and not force:
        raise ConfigError(f"{path}: found a file that exists; wanted a new name; add --force to replace it")
    write_text(path, commented_yaml(template_config(template)))
    line = f"wrote {path}; put your files' names under `scenes`, then: equipoise validate {path}"
    answer([line], {"config": path, "template": template}, as_json=json)


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
    shown = load_config(path) if path else template_config(TEMPLATES[0])
    answer(commented_yaml(shown).splitlines(), finite(shown.model_dump(mode="json")), as_json=json)


def validate(config: ConfigFile, json: Json = False) -> None:
    """Say what is wrong with a configuration or its inputs before anything runs."""
    from .config import load_config
    from .nearest import with_nearest_file
    from .validate import validate_inputs

    found, scenes = validate_inputs(load_config(config))
    problems = [with_nearest_file(problem) for problem in found]
    if json or not problems:
        record = {"config": config, "scenes": scenes, "problems": problems}
        answer([f"{config}: {scenes} scene(s), nothing wrong found"], record, as_json=json)
    if not problems:
        return
    if not json:
        for problem in problems:
            typer.echo(problem, err=True)
        typer.echo(f"{config}: {len(problems)} problem(s) in {scenes} scene(s)", err=True)
    raise typer.Exit(1)
