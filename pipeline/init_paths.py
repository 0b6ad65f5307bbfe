"""Names of files as the command line takes them: one file, or a pattern with {id} or one ``*`` for many."""

import os
from pathlib import Path

from .errors import ConfigError

#: Stands for the part of a file's name that tells scenes apart, as in a configuration.
PLACEHOLDER = "{id}"


def pattern_of(text: str) -> Path:
    """Return a name with ``*`` written as {id}.

    Raises
    ------
    ConfigError
        If either stands in it twice, or in the name of a folder.
    """
    path = Path(text.replace("*", PLACEHOLDER)).expanduser()
    if str(path).count(PLACEHOLDER) > 1 or PLACEHOLDER in str(path.parent):
        raise ConfigError(
            f"found pattern '{text}'; wanted {PLACEHOLDER} or * once, in the name of the file; correct it"
        )
    return path


def matches(pattern: Path) -> list[Path]:
    """Return the files that a name stands for.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if PLACEHOLDER in pattern.name:
        found = sorted(pattern.parent.glob(pattern.name.replace(PLACEHOLDER, "*")))
    else:
        found = [pattern] if pattern.exists() else []
    if not found:
        raise ConfigError(f"{pattern}: found no file; wanted a raster or product; correct the path")
    return found


def first(pattern: Path) -> Path:
    """Return the first file that a name stands for."""
    return matches(pattern)[0]


def relative(path: Path, folder: Path) -> str:
    """Return a path as the configuration in ``folder`` names it."""
    return str(path) if path.is_absolute() else os.path.relpath(path, folder)
