"""Deliveries: a benchmark's folder on disk, looked through with errors that say how to get what is not there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import BenchmarkError


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A folder into which the publishers' archives were unpacked.

    Attributes
    ----------
    root
        The folder.
    name
        Data set, for messages.
    obtain
        How to get it, for messages.
    """

    root: Path
    name: str
    obtain: str

    def lacks(self, what: str) -> BenchmarkError:
        """Return the error that says what is not there."""
        return BenchmarkError(f"{self.root}: found no {what}; wanted the layout of {self.name}: {self.obtain}")

    def folder(self, *candidates: str) -> Path:
        """Return the first of several places that is there.

        Raises
        ------
        BenchmarkError
            If none is.
        """
        for candidate in candidates:
            if (place := self.root / candidate).is_dir():
                return place
        raise self.lacks(f"folder {' or '.join(candidates)}")

    def lines(self, *candidates: str) -> list[str]:
        """Read the first of several text lists that is there: its lines without blanks at their ends, none empty.

        Raises
        ------
        BenchmarkError
            If none is there, or it is no text.
        """
        for candidate in candidates:
            if (place := self.root / candidate).is_file():
                return [line.strip() for line in self._text(place).splitlines() if line.strip()]
        raise self.lacks(f"list {' or '.join(candidates)}")

    def json(self, path: Path) -> Mapping[str, Any]:
        """Read a JSON object.

        Raises
        ------
        BenchmarkError
            If the file is missing or holds something else.
        """
        if not path.is_file():
            raise self.lacks(f"file {path.relative_to(self.root).as_posix()}")
        try:
            found = json.loads(self._text(path))
        except (json.JSONDecodeError, RecursionError) as error:
            raise BenchmarkError(
                f"{path}: found no readable JSON ({error}); wanted {self.name}'s; unpack it again"
            ) from error
        if not isinstance(found, dict):
            raise BenchmarkError(f"{path}: found a JSON {type(found).__name__}; wanted an object; unpack it again")
        return found

    def required(self, path: Path) -> Path:
        """Return a file that must be there.

        Raises
        ------
        BenchmarkError
            If it is not.
        """
        if not path.is_file():
            raise self.lacks(f"file {path.relative_to(self.root).as_posix()}")
        return path

    def name_of(self, text: str) -> str:
        """Return a relative name that a list or metadata states, refusing one that leaves its folder.

        Raises
        ------
        BenchmarkError
            If it is absolute or climbs upwards.
        """
        name = PurePosixPath(text)
        if name.is_absolute() or ".." in name.parts or "\\" in text:
            raise BenchmarkError(
                f"{self.root}: found the name '{text}' in a list of {self.name}; wanted one inside the data set's "
                "folder; take the list from its publishers again"
            )
        return text

    def _text(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BenchmarkError(
                f"{path}: found no readable text ({error}); wanted {self.name}'s; unpack it again"
            ) from error


def there(**files: Path | None) -> dict[str, Path]:
    """Return the named files that exist: a modality whose file is not there is missing from the chip."""
    return {name: path for name, path in files.items() if path is not None and path.is_file()}
