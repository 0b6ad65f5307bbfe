"""Command init: writes a configuration, for files that are given or asked for, or from a template."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .answers import Json, answer

if TYPE_CHECKING:
    from .init_given import Given

#: Template -> its task.
TEMPLATES = {"landcover": "segmentation", "flood": "segmentation", "chips": "classification"}

TASKS = ("segmentation", "classification")

Pairs = list[str] | None


def templates(incomplete: str) -> list[str]:
    """Return the templates that begin so, for the shell."""
    return [name for name in TEMPLATES if name.startswith(incomplete)]


def tasks(incomplete: str) -> list[str]:
    """Return the tasks that begin so, for the shell."""
    return [name for name in TASKS if name.startswith(incomplete)]


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("config.yaml"),
    template: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(TEMPLATES)}; default without files: landcover.", autocompletion=templates
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="segmentation: a class a pixel; classification: a class a chip; default: as the labels or the model "
            "tell.",
            autocompletion=tasks,
        ),
    ] = None,
    eo: Annotated[str | None, typer.Option(metavar="FILE", help="Optical file; {id} or * stands for many.")] = None,
    sar: Annotated[str | None, typer.Option(metavar="FILE", help="Radar file.")] = None,
    ir: Annotated[str | None, typer.Option(metavar="FILE", help="Thermal file.")] = None,
    modality: Annotated[Pairs, typer.Option(metavar="NAME=FILE", help="A file of another sensor.")] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="To train: label raster; of chips a CSV with id,label.")
    ] = None,
    model: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Trained model, to map without labels.")] = None,
    classes: Annotated[str | None, typer.Option(help="forest,water or 1=forest,2=water; default: the labels'.")] = None,
    unit: Annotated[Pairs, typer.Option(help="eo=reflectance, where a file does not tell.")] = None,
    scale: Annotated[Pairs, typer.Option(help="eo=0.0001, where a file does not tell.")] = None,
    bands: Annotated[Pairs, typer.Option(help="eo=3,2,1: bands by place; default: all, or the model's.")] = None,
    name: Annotated[str, typer.Option(help="Name of the run.")] = "run",
    no_input: Annotated[bool, typer.Option("--no-input", help="Ask nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Write a commented configuration: for files that are given, or a template to start from."""
    from .errors import ConfigError
    from .init_given import Given, number_of, places_of

    _require_place(path, force=force)
    _require_task(task)
    files = {key: file for key, file in (("eo", eo), ("sar", sar), ("ir", ir)) if file is not None}
    files |= _pairs(modality, "--modality")
    given = Given(
        files=files, task=task, labels=labels, model=model, classes=tuple(classes.split(",")) if classes else (),
        units=_pairs(unit, "--unit"), name=name,
        scales={key: number_of(text, f"--scale {key}:") for key, text in _pairs(scale, "--scale").items()},
        bands={key: places_of(text, f"--bands {key}:") for key, text in _pairs(bands, "--bands").items()},
    )  # fmt: skip
    about_files = bool(files or labels or model)
    if template is not None and about_files:
        raise ConfigError("found --template beside files; wanted one of them; take the other away")
    # Questions that go into a file are seen by nobody.
    ask = sys.stdin.isatty() and sys.stdout.isatty() and not no_input and not json
    asked = _asked(given) if ask and template is None else given
    if asked is None or not (about_files or asked.files):
        _from_template(path, template, task, as_json=json)
        return
    _from_files(path, asked, as_json=json, force=force)


def _asked(given: "Given") -> "Given | None":
    """Ask for what is missing; None: no file was named."""
    if given.files:
        from .init_questions import ask_labels

        return given if given.labels or given.model else ask_labels(given)
    if given.labels or given.model:
        return given
    from .init_questions import ask_all

    return ask_all(given)


def _from_files(path: Path, given: "Given", *, as_json: bool, force: bool) -> None:
    from .commented_yaml import commented_yaml
    from .init_files import config_of_files
    from .init_words import found_record, found_words
    from .run_folder import write_text

    made = config_of_files(given, folder=path.parent)
    words = found_words(made, path=path, force=force)
    write_text(path, commented_yaml(made.config))
    answer(words, found_record(made, path=path), as_json=as_json)


def _from_template(path: Path, template: str | None, task: str | None, *, as_json: bool) -> None:
    from .commented_yaml import commented_yaml
    from .errors import ConfigError
    from .nearest import did_you_mean
    from .run_folder import write_text
    from .templates import template_config

    chosen = template or next(name for name, of in TEMPLATES.items() if task in (None, of))
    if chosen not in TEMPLATES:
        raise ConfigError(
            f"found no template '{chosen}'; wanted one of {', '.join(TEMPLATES)}{did_you_mean(chosen, TEMPLATES)}"
        )
    if task not in (None, TEMPLATES[chosen]):
        raise ConfigError(
            f"found --template {chosen}, which is of {TEMPLATES[chosen]}, with --task {task}; take one of them away"
        )
    write_text(path, commented_yaml(template_config(chosen)))
    line = f"wrote {path}, the template {chosen}; put your files' names under `scenes`, then: equipoise validate {path}"
    answer([line], {"config": path, "template": chosen}, as_json=as_json)


def _require_place(path: Path, *, force: bool) -> None:
    from .errors import ConfigError

    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{path}: found no place for a file; wanted a file name in a folder that exists; correct it")
    if path.exists() and not force:
        raise ConfigError(f"{path}: found a file that exists; wanted a new name; add --force to replace it")


def _require_task(task: str | None) -> None:
    from .errors import ConfigError
    from .nearest import did_you_mean

    if task is not None and task not in TASKS:
        raise ConfigError(f"found --task {task}; wanted one of {', '.join(TASKS)}{did_you_mean(task, TASKS)}")


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    from .errors import ConfigError

    pairs = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"found {option} {text}; wanted NAME=VALUE, such as eo=...; correct it")
        pairs[name] = value
    return pairs
