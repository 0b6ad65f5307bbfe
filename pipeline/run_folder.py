"""The run folder: what was done, with what, and what need not be done again."""

import hashlib
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .. import __version__
from .errors import RunFolderError

log = logging.getLogger(__name__)

#: Packages whose versions decide what comes out.
RECORDED_PACKAGES = (
    "torch", "torchvision", "lightning", "segmentation-models-pytorch", "timm", "numpy", "rasterio", "odc-geo",
    "xarray", "geopandas", "albumentations",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What the manifest keeps of a finished stage.

    Attributes
    ----------
    fingerprint
        Hash of everything that the result depends on.
    outputs
        Path relative to the run folder -> size in bytes.
    figures
        Numbers and names that later stages and the report use; plain JSON values.
    finished
        UTC time, ISO 8601.
    seconds
        Wall time.
    """

    fingerprint: str
    outputs: Mapping[str, int]
    figures: Mapping[str, Any]
    finished: str
    seconds: float


@dataclass(kw_only=True)
class RunFolder:
    """A run on disk, with its manifest.

    Attributes
    ----------
    root
        Folder of the run.
    stages
        Finished stages by name.
    hashes
        Input path -> (size, modification time in ns, SHA-256), so that unchanged files are hashed once.
    """

    root: Path
    stages: dict[str, StageRecord] = field(default_factory=dict)
    hashes: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def open(cls, root: Path, *, seed: int = 0) -> "RunFolder":
        """Open or create a run folder.

        Raises
        ------
        RunFolderError
            If it cannot be written, holds files that are not of a run, or its manifest is damaged.
        """
        manifest = root / "manifest.json"
        if root.is_dir() and not manifest.exists() and any(root.iterdir()):
            raise RunFolderError(
                f"{root}: found a folder with files that are not of a run; wanted a new, an empty or a run folder, so "
                "that nothing of yours is replaced; choose another with -o"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe = root / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RunFolderError(
                f"{root}: found a folder that cannot be written ({error.strerror}); wanted a writable one; choose "
                "another with -o"
            ) from error
        if not manifest.exists():
            folder = cls(root=root, seed=seed)
            folder.save()
            return folder
        try:
            record = json.loads(manifest.read_text(encoding="utf-8"))
            return cls(
                root=root,
                stages={name: StageRecord(**item) for name, item in record["stages"].items()},
                hashes={path: (item[0], item[1], item[2]) for path, item in record["inputs"].items()},
                seed=seed,
            )
        except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise RunFolderError(
                f"{manifest}: found a damaged manifest ({error}); wanted one that Equipoise wrote; delete it to restart"
            ) from error

    def hash_inputs(self, paths: Iterable[Path]) -> dict[str, str]:
        """Return path -> SHA-256 of its bytes; unchanged size and time reuse the hash that is known."""
        result = {}
        for path in paths:
            status = path.stat()
            known = self.hashes.get(str(path))
            if known is None or known[:2] != (status.st_size, status.st_mtime_ns):
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                known = self.hashes[str(path)] = (status.st_size, status.st_mtime_ns, digest)
            result[str(path)] = known[2]
        return result

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working in this folder; a process that is killed lets go of it.

        Raises
        ------
        RunFolderError
            If another process works in it.
        """
        try:
            with FileLock(self.root / ".lock", timeout=0):
                try:
                    yield
                finally:
                    # While it is held: whoever has opened it is refused, whoever comes later makes a new one.
                    (self.root / ".lock").unlink(missing_ok=True)
        except Timeout as error:
            raise RunFolderError(
                f"{self.root}: found another Equipoise command at work in this run folder; wanted one at a time; wait "
                "for it, or choose another folder with -o"
            ) from error

    def finished(self, stage: str, fingerprint: str) -> StageRecord | None:
        """Return the record of ``stage`` if it was done for this fingerprint and all its outputs are there."""
        record = self.stages.get(stage)
        if record is None or record.fingerprint != fingerprint:
            return None
        for name, size in record.outputs.items():
            path = self.root / name
            if not path.is_file() or path.stat().st_size != size:
                log.info("%s: output %s is gone or changed; doing the stage again", stage, name)
                return None
        return record

    def run(
        self,
        stage: str,
        fingerprint: str,
        action: Callable[[], tuple[list[Path], dict[str, Any]]],
        *,
        force: bool,
        scratch: Sequence[str] = (),
    ) -> tuple[StageRecord, bool]:
        """Do a stage unless it is done; return its record and whether it was done now.

        Parameters
        ----------
        stage, fingerprint
            Name, and hash of all that the result depends on.
        action
            Does the work; returns the files written and the figures to keep.
        force
            Do it again in any case.
        scratch
            Folders that are thrown away first where ``force`` is set.
        """
        if not force and (known := self.finished(stage, fingerprint)) is not None:
            return known, False
        self.stages.pop(stage, None)
        self.save()
        # Only now: a kill in between must not leave a record of what is gone.
        for name in scratch if force else ():
            shutil.rmtree(self.root / name, ignore_errors=True)
        began = time.perf_counter()
        outputs, figures = action()
        record = StageRecord(
            fingerprint=fingerprint,
            outputs={path.relative_to(self.root).as_posix(): path.stat().st_size for path in outputs},
            figures=figures,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - began, 3),
        )
        self.stages[stage] = record
        self.save()
        return record, True

    def save(self) -> None:
        """Write the manifest; renamed into place."""
        record = {
            "equipoise": __version__,
            "seed": self.seed,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            "versions": package_versions(),
            "inputs": self.hashes,
            "stages": {name: vars(stage) for name, stage in self.stages.items()},
        }
        write_text(self.root / "manifest.json", json.dumps(record, indent=2))


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide what comes out."""
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def fingerprint(**parts: Any) -> str:
    """Hash plain JSON values (paths as text) to 64 hex digits."""
    text = json.dumps({"equipoise": __version__, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
