"""Explanation: what an output of Equipoise contains, in words, told from the content of the file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Width of the names before what is said.
KEY = 11


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a file or folder is.

    Attributes
    ----------
    path
        As it was named.
    kind
        One of the outputs, such as ``reliance map``; ``unknown`` where it is none.
    what
        One sentence.
    read
        How its values are to be read.
    found
        Name -> number or words, of this very file.
    made
        What made it: tags, versions, the model's digest.
    limits
        What it is not.
    """

    path: Path
    kind: str
    what: str
    read: tuple[str, ...] = ()
    found: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    limits: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return it in words, a fact a line."""
        rows = [("kind", self.kind), ("what", self.what), *(("read", text) for text in self.read)]
        rows += [("found", f"{name}: {told(value)}") for name, value in self.found.items()]
        rows += [("made", f"{name}: {told(value)}") for name, value in self.made.items()]
        rows += [("limits", text) for text in self.limits]
        return [str(self.path), *(f"  {key:<{KEY}} {text}" for key, text in rows)]

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "path": self.path,
            "kind": self.kind,
            "what": self.what,
            "read": list(self.read),
            "found": self.found,
            "made": self.made,
            "is_not": list(self.limits),
        }


def told(value: Any) -> str:
    """Return a value in words: numbers short, mappings and lists with commas between."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {told(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(told(item) for item in value) or "none"
    return " ".join(str(value).split())
