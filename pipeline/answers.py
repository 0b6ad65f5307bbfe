"""Answers of commands: lines for people, or one JSON object for scripts."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

#: Option of every command that answers.
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object, for scripts.")]


def answer(lines: Iterable[str], record: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what a command came to, on standard output.

    Parameters
    ----------
    lines
        Its words. They are not drawn where JSON is wanted.
    record
        The same as plain values: paths become text, other types are refused.
    as_json
        Print the record, as one line, in the place of the words.

    Raises
    ------
    TypeError
        If the record holds what JSON has no word for.
    ValueError
        If it holds a number that is not finite: no reader of JSON has to know those.
    """
    if as_json:
        typer.echo(json.dumps(record, default=_plain, allow_nan=False))
        return
    for line in lines:
        typer.echo(line)


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"found {type(value).__name__} in a record; wanted plain values")
