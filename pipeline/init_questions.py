"""Questions of `equipoise init` at a terminal: each answer is tried at once, and asked for again where it is wrong."""

import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import typer

from ..datasets.errors import DatasetError
from ..datasets.modality import Unit
from ..models.errors import ModelError
from .errors import ConfigError, PipelineError
from .init_classes import made_up
from .init_files import classes_of, open_given
from .init_given import Given, number_of
from .init_model import read_needs
from .init_paths import PLACEHOLDER, first, pattern_of
from .init_table import is_table
from .init_units import looks_of
from .nearest import did_you_mean, with_nearest_file

#: Sensors that are asked for, in order; the first that is there defines the grid.
SENSORS = {"eo": "Optical file", "sar": "Radar file", "ir": "Thermal file"}

Answer = TypeVar("Answer")


class InitStoppedError(PipelineError):
    """Ctrl-C at a question."""

    exit_code = 130


def ask_all(given: Given) -> Given | None:
    """Ask for files, labels or a model, and for units and names that files do not tell.

    Returns
    -------
    What was given with the answers; None where no file was named.

    Raises
    ------
    InitStoppedError
        After Ctrl-C.
    ConfigError
        If the input ends.
    """
    typer.echo(f"Name files, with {PLACEHOLDER} in a name for many; Ctrl-C stops, and nothing is written.")
    files: dict[str, str] = {}
    for name, words in SENSORS.items():
        if text := _answer(f"{words} (empty: none)", _file_check(name, files)):
            files[name] = text
    if not files:
        return None
    asked = ask_labels(replace(given, files=files))
    asked = _ask_units(asked)
    return asked if asked.labels is None or asked.classes else _ask_names(asked)


def ask_labels(given: Given) -> Given:
    """Ask for labels, or in their place for a model."""
    while True:
        words = "Labels to train: a raster, or a CSV table of chips (empty: map with a trained model)"
        if labels := _answer(words, lambda text: _labels(text, given)):
            return replace(given, labels=labels)
        if model := _answer("Model folder (empty: back to labels)", lambda text: _model(text, given)):
            return replace(given, model=Path(model))


def _ask_units(given: Given) -> Given:
    """Ask for the units of sensors whose files tell none; what the values look like is the proposal."""
    units, scales = dict(given.units), dict(given.scales)
    for name, text in given.files.items():
        if name in units:
            continue
        scene = open_given(first(pattern_of(text)), name, given)
        if scene.modality.bands[0].unit is not Unit.DIGITAL_NUMBER:
            continue
        looks = looks_of(scene, name)
        typer.echo(f"'{name}' tells no unit: {looks.range}. One of {', '.join(Unit)}.")
        proposal = looks.unit or Unit.DIGITAL_NUMBER
        unit = _answer(f"Unit of {name}", _unit, default=str(proposal))
        units[name] = unit
        if unit == Unit.DIGITAL_NUMBER or name in scales:
            continue
        scale = looks.scale if unit == looks.unit else None
        number = _answer(f"Scale of {name}, from values to {unit}", _number, default=f"{scale or 1:g}")
        if number != 1:
            scales[name] = number
    return replace(given, units=units, scales=scales)


def _ask_names(given: Given) -> Given:
    """Ask for the names of classes whose labels tell none."""
    labels = str(given.labels)
    found = classes_of(labels, ())
    values = [item["value"] if item["label_value"] is None else item["label_value"] for item in found]
    if any(item["name"] != made_up(value) for item, value in zip(found, values, strict=True)):
        return given
    words = f"Names of classes {', '.join(map(str, values))}, with commas between (empty: {made_up(values[0])}, ...)"

    def check(text: str) -> tuple[str, ...]:
        names = tuple(text.split(",")) if text else ()
        classes_of(labels, names)
        return names

    return replace(given, classes=_answer(words, check))


def _answer(question: str, check: Callable[[str], Answer], *, default: str = "") -> Answer:
    """Ask until ``check`` takes the answer."""
    try:
        while True:
            text = _typed(question, default)
            try:
                # Files that are dragged into a terminal come with quotes.
                return check(text.strip().strip("'\""))
            except (PipelineError, DatasetError, ModelError) as error:
                typer.echo(with_nearest_file(" ".join(str(error).split())))
    except KeyboardInterrupt as error:
        typer.echo("")
        raise InitStoppedError("interrupted; nothing was written") from error


def _typed(question: str, default: str) -> str:
    """Ask once.

    Raises
    ------
    ConfigError
        At the end of the input, which is no wrong answer: it is not asked for again.
    """
    typer.echo(f"{question} [{default}]: " if default else f"{question}: ", nl=False)
    # Not input(): readline, where something has loaded it, can miss a Ctrl-C that comes with the question.
    if sys.stdin.isatty():
        _await_keys()
    line = sys.stdin.readline()
    if not line:
        typer.echo("")
        raise ConfigError(
            f"found the end of the input at '{question}'; wanted an answer; nothing was written: give files by "
            "flags, as `equipoise init --help` says"
        )
    return line.strip() or default


def _await_keys() -> None:
    """Wait until a line was typed, or Ctrl-C: a read that begins just after the signal would not be woken by it."""
    woken, wake = socket.socketpair()
    with woken, wake:
        wake.setblocking(False)
        before = signal.set_wakeup_fd(wake.fileno())
        try:
            select.select([sys.stdin, woken], [], [])
        finally:
            signal.set_wakeup_fd(before)


def _file_check(name: str, before: Mapping[str, str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text:
            path = pattern_of(text)
            open_given(first(path), name, Given(files={name: text}))
            if any((PLACEHOLDER in str(pattern_of(other))) != (PLACEHOLDER in str(path)) for other in before.values()):
                raise ConfigError(f"found {PLACEHOLDER} or * in some names only; wanted it in all, or in none")
        return text

    return check


def _labels(text: str, given: Given) -> str:
    if text:
        classes_of(text, given.classes)
        many = any(PLACEHOLDER in str(pattern_of(item)) for item in given.files.values())
        if is_table(text) and not many:
            raise ConfigError(
                f"found a table of chips for one file a sensor; wanted {PLACEHOLDER} or * in the files' names; name a "
                "label raster, or press Ctrl-C and begin again"
            )
    return text


def _model(text: str, given: Given) -> str:
    if text:
        needs = read_needs(Path(text).expanduser())
        for name in given.files:
            needs.modality(name)
    return text and str(Path(text).expanduser())


def _unit(text: str) -> str:
    if text not in set(Unit):
        raise ConfigError(f"found unit '{text}'; wanted one of {', '.join(Unit)}{did_you_mean(text, Unit)}")
    return text


def _number(text: str) -> float:
    return number_of(text, "scale")
