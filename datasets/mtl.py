"""MTL files, the metadata of Landsat products: groups of keys, in the Object Description Language or in JSON."""

import json
from collections.abc import Mapping
from typing import Any

from .errors import SceneError

#: Group -> key -> value as text, without quotes.
Metadata = Mapping[str, Mapping[str, str]]


def parse_mtl(content: bytes, *, name: str) -> dict[str, dict[str, str]]:
    """Parse an MTL file, in the Object Description Language (``GROUP = ...``) or as JSON.

    Parameters
    ----------
    content
        The file.
    name
        How errors call it.

    Returns
    -------
    Group -> key -> value as text, without quotes, in the order of the file. The outermost group, which holds all
    others, is left out.

    Raises
    ------
    SceneError
        If it is neither, or is cut off.
    """
    try:
        text = content.decode("utf-8-sig")
        return _from_json(json.loads(text)) if text.lstrip().startswith("{") else _from_odl(text)
    except (ValueError, RecursionError) as error:
        raise SceneError(
            f"{name}: found no MTL metadata ({str(error).splitlines()[0]}); wanted a complete MTL file; download the "
            "product again"
        ) from error


def _from_odl(text: str) -> dict[str, dict[str, str]]:
    groups: dict[str, dict[str, str]] = {}
    stack: list[str] = []
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if key == "END" and not equals:
            break
        if key == "GROUP":
            stack.append(value)
        elif key == "END_GROUP":
            if not stack or stack.pop() != value:
                raise ValueError(f"group {value} ends before it begins")
        elif equals and stack:
            groups.setdefault(stack[-1], {})[key] = value.strip('"')
        elif key:
            raise ValueError(f"line {line[:40]!r}")
    if stack or not groups:
        raise ValueError(f"group {stack[-1]} does not end" if stack else "no groups")
    return groups


def _from_json(document: Any) -> dict[str, dict[str, str]]:
    if not isinstance(document, dict) or len(document) != 1:
        raise ValueError("not one outermost group")
    (outermost,) = document.values()
    if not isinstance(outermost, dict) or not all(isinstance(group, dict) for group in outermost.values()):
        raise ValueError("not groups of keys")
    return {name: {key: str(value) for key, value in group.items()} for name, group in outermost.items()}
