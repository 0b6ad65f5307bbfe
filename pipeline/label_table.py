"""Label table: what a CSV says of many scenes, a row each: class, split, group, acquisition times."""

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ConfigError
from .nearest import did_you_mean

_SPLITS = ("train", "validation", "test", "predict")
_TIME = "acquired."


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """What a label table says of one scene: its class value, split, group and times, where it says them."""

    label: int | None = None
    split: str | None = None
    group: str | None = None
    acquired: Mapping[str, str] = field(default_factory=dict)


def read_label_table(path: Path, modalities: Collection[str]) -> dict[str, TableRow]:
    """Return id -> row.

    Parameters
    ----------
    path
        CSV with the column ``id`` and some of ``label``, ``split``, ``group`` and ``acquired.<modality>``.
    modalities
        Those that are declared.

    Raises
    ------
    ConfigError
        If the table cannot be read, lacks these columns, or names a split or a modality that there is not.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets begin the file with a mark
            reader = csv.DictReader(stream)
            times = {name: name.removeprefix(_TIME) for name in reader.fieldnames or () if name.startswith(_TIME)}
            if not {"label", "split", "group", *times} & set(reader.fieldnames or ()):
                raise KeyError("label")
            table = {row["id"]: _row(row, times) for row in reader}
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise ConfigError(
            f"{path}: found no usable label table ({error}); wanted CSV with the columns id and some of label, split, "
            "group and acquired.<modality>"
        ) from error
    if unknown := [name for name in times.values() if name not in modalities]:
        raise ConfigError(
            f"{path}: found a column '{_TIME}{unknown[0]}'; wanted a modality that is declared: {', '.join(modalities)}"
            + did_you_mean(unknown[0], modalities)
        )
    for identifier, row in table.items():
        if row.split is not None and row.split not in _SPLITS:
            raise ConfigError(
                f"{path}: found split '{row.split}' of id '{identifier}'; wanted train, validation, test, predict or "
                "nothing; correct it"
            )
    return table


def _row(row: Mapping[str, str], times: Mapping[str, str]) -> TableRow:
    return TableRow(
        label=int(row["label"]) if "label" in row else None,
        split=row.get("split") or None,
        group=row.get("group") or None,
        acquired={modality: row[column].strip() for column, modality in times.items() if (row[column] or "").strip()},
    )
