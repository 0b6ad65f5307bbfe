"""Configuration as YAML in which every option is explained by the schema's own description."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

WIDTH = 100


def commented_yaml(options: BaseModel) -> str:
    """Return all options of ``options`` with their values, each under a comment that describes it.

    Lists and mappings of options explain the first entry only.
    """
    return "\n".join(_fields(options, indent=0, comments=True)) + "\n"


def _fields(options: BaseModel, *, indent: int, comments: bool) -> Iterator[str]:
    for name, info in type(options).model_fields.items():
        value = getattr(options, name)
        if comments and info.description:
            if indent == 0 and isinstance(value, BaseModel):
                yield ""
            yield from textwrap.wrap(
                info.description, WIDTH, initial_indent=" " * indent + "# ", subsequent_indent=" " * indent + "# "
            )
        yield from _entry(name, value, indent=indent, comments=comments)


def _entry(name: str, value: Any, *, indent: int, comments: bool) -> Iterator[str]:
    lead = " " * indent
    if isinstance(value, BaseModel):
        yield f"{lead}{name}:"
        yield from _fields(value, indent=indent + 2, comments=comments)
    elif isinstance(value, Mapping) and any(isinstance(item, BaseModel) for item in value.values()):
        yield f"{lead}{name}:"
        for position, (key, item) in enumerate(value.items()):
            # Quoted where YAML would read a name such as `no` or `1` as something else.
            yield from _entry(_inline(key), item, indent=indent + 2, comments=comments and position == 0)
    elif isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(x, BaseModel) for x in value):
        yield f"{lead}{name}:"
        for position, item in enumerate(value):
            yield from _item(item, indent=indent + 2, comments=comments and position == 0)
    else:
        yield f"{lead}{name}: {_inline(value)}"


def _item(value: Any, *, indent: int, comments: bool) -> Iterator[str]:
    if not isinstance(value, BaseModel):
        yield f"{' ' * indent}- {_inline(value)}"
        return
    if not comments:
        yield f"{' ' * indent}- {_inline(_plain(value, only_set=True))}"
        return
    yield f"{' ' * indent}-"
    yield from _fields(value, indent=indent + 2, comments=True)


def _inline(value: Any) -> str:
    text = yaml.safe_dump(_plain(value), default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(value: Any, *, only_set: bool = False) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=only_set)
    if isinstance(value, Path | StrEnum):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
