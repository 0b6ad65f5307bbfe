"""Commands around a configuration: init writes one, config prints one, validate checks one."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .answers import Json, answer
from .stage_commands import ConfigFile

TEMPLATES = ("landcover", "flood", "chips")


def templates(incomplete: str) -> list[str]:
    """Return the templates that begin so, for the shell."""
    return [name for name in TEMPLATES if name.startswith(incomplete)]


Pairs = list[str] | None

#: What is usual of a sensor whose file tells no unit.
_UNITS = {"eo": "--unit {0}=reflectance --scale {0}=0.0001", "sar": "--unit {0}=db", "ir": "--unit {0}=kelvin"}


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("config.yaml"),
    template: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(TEMPLATES)}; default without files: landcover.", autocompletion=templates
        ),
    ] = None,
    eo: Annotated[str | None, typer.Option(metavar="FILE", help="Optical file; {id} or * stands for many.")] = None,
    sar: Annotated[str | None, typer.Option(metavar="FILE", help="Radar file.")] = None,
    ir: Annotated[str | None, typer.Option(metavar="FILE", help="Thermal file.")] = None,
    modality: Annotated[Pairs, typer.Option(metavar="NAME=FILE", help="A file of another sensor.")] = None,
    labels: Annotated[str | None, typer.Option(metavar="FILE", help="Label raster, to train.")] = None,
    model: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Trained model, to map without labels.")] = None,
    classes: Annotated[str | None, typer.Option(help="forest,water or 1=forest,2=water; default: the labels'.")] = None,
    unit: Annotated[Pairs, typer.Option(help="eo=reflectance, where a file does not tell.")] = None,
    scale: Annotated[Pairs, typer.Option(help="eo=0.0001, where a file does not tell.")] = None,
    name: Annotated[str, typer.Option(help="Name of the run.")] = "run",
    no_input: Annotated[bool, typer.Option("--no-input", help="Ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: Json = False,
) -> None:
    """Write a commented configuration: for files that are given, or a template to start from."""
    from .errors import ConfigError

    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{path}: found no place for a file; wanted a file name in a folder that exists; correct it")
    if path.exists() and not force:
        raise ConfigError(f"{path}: found a file that exists; wanted a new name; add --force to replace it")
    files = {key: file for key, file in (("eo", eo), ("sar", sar), ("ir", ir)) if file is not None}
    files |= _pairs(modality, "--modality")
    ask = sys.stdin.isatty() and not no_input and not json
    if template is None and not files and ask:
        files = _asked_files()
    if not files and labels is None and not modality:
        _from_template(path, template or TEMPLATES[0], as_json=json)
        return
    if template is not None:
        raise ConfigError("found --template beside files; wanted one of them; take the other away")
    if labels is None and model is None and ask and files:
        labels = typer.prompt("Label raster")
    given = {"unit": _pairs(unit, "--unit"), "scale": _pairs(scale, "--scale")}
    _from_files(path, files, labels, model, (classes or "").split(",") if classes else [], given, name, as_json=json)


def _from_files(
    path: Path, files: dict[str, str], labels: str | None, model: Path | None, classes: list[str],
    given: dict[str, dict[str, str]], name: str, *, as_json: bool,
) -> None:  # fmt: skip
    from .commented_yaml import commented_yaml
    from .errors import ConfigError
    from .init_files import Given, config_of_files
    from .run_folder import write_text

    try:
        scales = {key: float(text) for key, text in given["scale"].items()}
    except ValueError as error:
        raise ConfigError(f"found --scale {given['scale']}; wanted NAME=NUMBER, such as eo=0.0001") from error
    made = config_of_files(
        Given(
            files=files, labels=labels, model=model, classes=tuple(classes), units=given["unit"], scales=scales,
            name=name,
        ),
        folder=path.parent,
    )  # fmt: skip
    write_text(path, commented_yaml(made))
    units = {key: str(item.unit) for key, item in made.modalities.items()}
    lines = [f"{key:<11} {len(made.modalities[key].bands)} band(s), {text}" for key, text in units.items()]
    lines += [
        f"{'':<11} {key} tells no unit; if you know it, add {_UNITS.get(key, _UNITS['eo']).format(key)}, or so"
        for key, text in units.items() if text == "digital_number"
    ]  # fmt: skip
    lines += [f"classes     {', '.join(item.name for item in made.classes)}"] if made.classes else []
    lines += [f"wrote {path}; check it with: equipoise validate {path}"]
    record = {"config": path, "units": units, "classes": {item.name: item.value for item in made.classes}}
    answer(lines, record, as_json=as_json)


def _from_template(path: Path, template: str, *, as_json: bool) -> None:
    from .commented_yaml import commented_yaml
    from .errors import ConfigError
    from .nearest import did_you_mean
    from .run_folder import write_text
    from .templates import template_config

    if template not in TEMPLATES:
        raise ConfigError(
            f"found no template '{template}'; wanted one of {', '.join(TEMPLATES)}{did_you_mean(template, TEMPLATES)}"
        )
    write_text(path, commented_yaml(template_config(template)))
    line = f"wrote {path}; put your files' names under `scenes`, then: equipoise validate {path}"
    answer([line], {"config": path, "template": template}, as_json=as_json)


def _asked_files() -> dict[str, str]:
    kinds = {"eo": "Optical file", "sar": "Radar file", "ir": "Thermal file"}
    asked = {
        key: typer.prompt(f"{words} (empty: none)", default="", show_default=False) for key, words in kinds.items()
    }
    return {key: text for key, text in asked.items() if text}


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    from .errors import ConfigError

    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"found {option} {text}; wanted NAME=VALUE, such as eo=...; correct it")
        pairs[name] = value
    return pairs


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
    answer(commented_yaml(shown).splitlines(), shown.model_dump(mode="json"), as_json=json)


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
