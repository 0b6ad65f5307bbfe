"""MapParts: finished rows of a map, kept on disk until the map is complete, so that a killed run goes on from there."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .map_files import Band
from .run_folder import write_text


@dataclass(frozen=True, kw_only=True)
class MapParts:
    """A folder with one file for each finished row of windows.

    Attributes
    ----------
    folder
        Where they lie; hidden, beside the map.
    """

    folder: Path

    @classmethod
    def begin(cls, folder: Path, *, resume: str) -> "MapParts":
        """Take over what was kept under the same ``resume`` mark; anything else is thrown away."""
        mark = folder / "resume.json"
        known = mark.read_text(encoding="utf-8") if mark.is_file() else None
        if known != json.dumps(resume):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_text(mark, json.dumps(resume))
        return cls(folder=folder)

    def finished(self, rows: int) -> int:
        """Return how many of the first ``rows`` rows of windows are there, without a gap."""
        return next((row for row in range(rows) if not self._path(row).is_file()), rows)

    def save(self, row: int, band: Band) -> None:
        """Keep a row; it is there whole or not at all."""
        temporary = self.folder / f".row-{row:05d}.tmp.npz"
        np.savez(temporary, **{name: values for name, values in vars(band).items() if values is not None})
        temporary.replace(self._path(row))

    def load(self, row: int) -> Band:
        """Return a row that was kept."""
        with np.load(self._path(row), allow_pickle=False) as data:
            return Band(**{name: data[name] for name in data.files})

    def clear(self) -> None:
        """Throw all away."""
        shutil.rmtree(self.folder)

    def _path(self, row: int) -> Path:
        return self.folder / f"row-{row:05d}.npz"
