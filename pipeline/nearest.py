"""Nearest: the key, value or file that was probably meant, where one is near; nothing where none is."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel

#: Least likeness of two words, 0 to 1: `epoch` and `epochs` have 0.91, `sea` and `eo` 0.4.
LIKENESS = 0.7

#: A sentence about a file that is not there, as the modules that read files write it.
_NO_FILE = re.compile(
    r"^(?:scene '[^']*': )?(?:found no file (?P<after>.+?); |(?P<before>.+?): found no (?:readable )?file\b)"
)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that is most like ``word``, or None where none is near; case does not count."""
    by_fold = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), by_fold, n=1, cutoff=LIKENESS)
    return by_fold[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?``, or nothing where nothing is near: the end of a sentence about ``word``."""
    near = nearest(word, known)
    return "" if near is None else f"; did you mean '{near}'?"


def with_nearest_file(text: str) -> str:
    """Add the nearest name in its folder to a sentence about a file that is not there; others return unchanged."""
    match = _NO_FILE.match(text)
    if match is None:
        return text
    path = Path(match["after"] or match["before"])
    try:
        names = [] if path.exists() else [item.name for item in path.parent.iterdir() if not item.name.startswith(".")]
    except OSError:
        return text
    near = nearest(path.name, names)
    return text if near is None else f"{text}; did you mean '{path.with_name(near)}'?"


def unknown_key(schema: "type[BaseModel]", place: tuple[str | int, ...]) -> str:
    """Return what may be done about a key that a schema does not know.

    Parameters
    ----------
    schema
        Class of the whole file.
    place
        Location of the key, as pydantic gives it.

    Returns
    -------
    ``did you mean 'epochs'?``, or where the key stands elsewhere in the file, or nothing.
    """
    word = str(place[-1])
    here = {name for model in _models_at(schema, place[:-1]) for name in model.model_fields}
    elsewhere = {name: name for name in schema.model_fields} | {
        f"{section}.{name}": name
        for section, info in schema.model_fields.items()
        for model in _models(info.annotation)
        for name in model.model_fields
    }
    # A key that is right in another place is likelier than one that is spelt otherwise in this one.
    exact = [path for path, name in elsewhere.items() if name == word]
    near = exact[0] if exact else nearest(word, here)
    if near is None and (other := nearest(word, elsewhere.values())) is not None:
        near = next(path for path, name in elsewhere.items() if name == other)
    return "" if near is None else f"did you mean '{near}'?"


def wrong_value(item: Any) -> str:
    """Return ``; did you mean 'x'?`` for an error of pydantic about one of several words, or nothing."""
    if item["type"] not in ("literal_error", "enum") or not isinstance(item["input"], str):
        return ""
    return did_you_mean(item["input"], re.findall(r"'([^']*)'", item["ctx"]["expected"]))


def _models_at(schema: "type[BaseModel]", place: tuple[str | int, ...]) -> "list[type[BaseModel]]":
    """Return the classes that may stand at a place; names of a union's members are steps of it, too."""
    current: list[Any] = [schema]
    for step in place:
        after: list[Any] = []
        for kind in current:
            if getattr(kind, "__name__", None) == step:
                after = [kind]
                break
            if hasattr(kind, "model_fields"):
                info = kind.model_fields.get(str(step))
                after += [] if info is None else _members(info.annotation)
            elif get_origin(kind) in (list, dict):
                after += _members(get_args(kind)[-1])
        current = after
    return [kind for kind in current if hasattr(kind, "model_fields")]


def _models(annotation: Any) -> "list[type[BaseModel]]":
    return [kind for kind in _members(annotation) if hasattr(kind, "model_fields")]


def _members(annotation: Any) -> list[Any]:
    """Return what a union is made of; anything else alone."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [member for part in get_args(annotation) for member in _members(part)]
    return [annotation]
