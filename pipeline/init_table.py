"""Labels of chips: a table with one row a chip, and the classes that occur in it."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .init_classes import classes_of_values

#: What a table is called at its end; anything else is a raster.
TABLES = (".csv", ".tsv", ".txt")

_WANTED = "wanted CSV with the columns id and label, one row a chip, and optionally split and group"


def is_table(labels: str | None) -> bool:
    """Whether labels are named that are a table."""
    return labels is not None and Path(labels).suffix.lower() in TABLES


def read_table_classes(path: Path, given: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the classes of a label table, as a configuration has them.

    Parameters
    ----------
    path
        CSV with the columns id and label.
    given
        Names in the order of the labels, or ``value=name``.

    Raises
    ------
    ConfigError
        If it is no such table, or its labels are no classes.
    """
    try:
        # Spreadsheets begin the file with a mark.
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or ())
            texts = [row.get("label") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: found no table that can be read ({reason}); {_WANTED}; correct --labels") from error
    if absent := [name for name in ("id", "label") if name not in columns]:
        raise ConfigError(f"{path}: found columns {columns} without {' and '.join(absent)}; {_WANTED}; rename them")
    if not texts:
        raise ConfigError(f"{path}: found no row under the columns; {_WANTED}; add the chips")
    if words := [text for text in texts if not (text or "").strip().isdecimal()]:
        raise ConfigError(
            f"{path}: found label {words[0]!r}; wanted whole numbers from 0; write a number for each class, and give "
            "their names with --classes"
        )
    return classes_of_values({int(str(text)) for text in texts}, path=path, given=given)
