"""Answers of commands: lines for people, or one JSON object for scripts."""

import json
import math
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
        The same as plain values: paths become text, numbers that are not finite become null, other types are refused.
    as_json
        Print the record, as one line, in the place of the words.

    Raises
    ------
    TypeError
        If the record holds what JSON has no word for.
    """
    if as_json:
        typer.echo(json.dumps(_finite(record), default=_plain, allow_nan=False))
        return
    for line in lines:
        typer.echo(line)


def _finite(value: Any) -> Any:
    """Return plain values in which what is not finite is None: JSON has no other word for it."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"found {type(value).__name__} in a record; wanted plain values")
