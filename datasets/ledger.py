"""Ledger of fetched files: what was verified and how, so that nothing is fetched twice or trusted blindly."""

import hashlib
import json
import logging
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from .errors import DatasetError

log = logging.getLogger(__name__)

#: Multihash code (multiformats table) -> name in hashlib.
_MULTIHASHES = {
    0x11: "sha1", 0x12: "sha256", 0x13: "sha512", 0x14: "sha3_512", 0x16: "sha3_256", 0x20: "sha384", 0xD5: "md5",
}  # fmt: skip


#: Folder of the lock files.
LOCKS = ".locks"


class DownloadError(DatasetError):
    """A file cannot be fetched, or is not what its publisher declared."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the ledger keeps of a fetched file.

    Attributes
    ----------
    href
        Address without its query (signatures change from day to day).
    size
        Bytes.
    sha256
        Of the bytes on disk, hexadecimal.
    verified
        What it was compared with: ``sha256``, ``md5``, ... as declared; ``size`` where nothing else was.
    modified
        Modification time, ns: an unchanged file is not hashed again.
    """

    href: str
    size: int
    sha256: str
    verified: str
    modified: int


@dataclass(kw_only=True)
class Ledger:
    """Fetched files of a folder, in ``ledger.json``; paths are relative to it."""

    folder: Path
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> "Ledger":
        """Open or create the ledger of a folder.

        Raises
        ------
        DownloadError
            If it is damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "ledger.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            return cls(folder=folder, entries={name: Entry(**item) for name, item in record.items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DownloadError(
                f"{path}: found a damaged ledger ({error}); wanted the one that was written here; delete it to fetch "
                "all files again"
            ) from error

    def note(self, target: Path, entry: Entry) -> None:
        """Write an entry beside those that other processes have written; renamed into place."""
        with FileLock(self._lock("ledger")):
            self.refresh()
            self.entries[str(target.relative_to(self.folder))] = entry
            self._write()

    def refresh(self) -> None:
        """Take over what other processes have written."""
        self.entries = Ledger.open(self.folder).entries

    def locked(self, target: Path) -> FileLock:
        """Return what keeps other processes from fetching the same file; a process that is killed lets go of it."""
        return FileLock(self._lock(str(target.relative_to(self.folder))))

    def clear_locks(self) -> None:
        """Remove the lock files, once no other process works here."""
        shutil.rmtree(self.folder / LOCKS, ignore_errors=True)

    def _lock(self, name: str) -> Path:
        folder = self.folder / LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"

    def _write(self) -> None:
        text = json.dumps({name: asdict(item) for name, item in sorted(self.entries.items())}, indent=2)
        temporary = self.folder / ".ledger.json.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.folder / "ledger.json")

    def finished(self, target: Path, *, href: str, checksum: str | None = None) -> Entry | None:
        """Return the entry of a file that is there and unchanged, or None if it has to be fetched.

        Raises
        ------
        DownloadError
            If the file was altered after it had been fetched.
        """
        entry = self.entries.get(str(target.relative_to(self.folder)))
        if entry is None or entry.href != bare(href) or not target.is_file():
            return None
        status = target.stat()
        if (status.st_size, status.st_mtime_ns) != (entry.size, entry.modified):
            found = digest(target, "sha256")
            if found != entry.sha256:
                raise DownloadError(
                    f"{target}: found a file altered since it was fetched ({status.st_size} bytes, sha256 {found}); "
                    f"wanted {entry.size} bytes, sha256 {entry.sha256}; delete it to fetch it again"
                )
            entry = Entry(**{**asdict(entry), "modified": status.st_mtime_ns})
            self.note(target, entry)
        # The catalog may have declared another checksum since: a new version under the old address.
        return entry if checksum is None or _matches(target, entry, checksum) else None


def verify(path: Path, *, name: str, size: int | None, checksum: str | None) -> str:
    """Compare a file with what is declared of it and return by which property: a hash's name, ``size`` or ``nothing``.

    Raises
    ------
    DownloadError
        If size or checksum differ.
    """
    found = path.stat().st_size
    if size is not None and found != size:
        raise DownloadError(
            f"{name}: found {found} bytes; wanted {size} bytes as declared; the file is truncated or another one: "
            "fetch it again, or correct the catalog"
        )
    declared = _multihash(checksum) if checksum else None
    if declared is None:
        return "nothing" if size is None else "size"
    algorithm, wanted = declared
    if (actual := digest(path, algorithm)) != wanted:
        raise DownloadError(
            f"{name}: found {algorithm} {actual} of {found} bytes; wanted {wanted} as declared; the file is truncated "
            "or altered: fetch it again, or correct the catalog"
        )
    return algorithm


def digest(path: Path, algorithm: str) -> str:
    """Return the hash of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def safe_name(text: str) -> str:
    """Return ``text`` as one file name: no folder, no leading dot; told apart by a hash where it had to change."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".")[:100]
    if plain == text and plain:
        return plain
    return f"{plain or 'item'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _multihash(text: str) -> tuple[str, str] | None:
    """Return hashlib's name and the digest of a multihash in hexadecimal, or None if its kind is unknown."""
    try:
        raw = bytes.fromhex(text)
        code, rest = _varint(raw)
        length, value = _varint(rest)
    except (ValueError, IndexError):
        return None
    if code not in _MULTIHASHES or length != len(value):
        log.warning("found a checksum of unknown kind (%s...); it is not compared", text[:12])
        return None
    return _MULTIHASHES[code], value.hex()


def _varint(raw: bytes) -> tuple[int, bytes]:
    """Read an unsigned integer of seven bits a byte, low bits first (multiformats, unsigned-varint)."""
    value = position = 0
    while raw[position] & 0x80:
        value |= (raw[position] & 0x7F) << (7 * position)
        position += 1
    return value | raw[position] << (7 * position), raw[position + 1 :]


def _matches(target: Path, entry: Entry, checksum: str) -> bool:
    declared = _multihash(checksum)
    if declared is None:
        return True
    algorithm, wanted = declared
    return wanted == (entry.sha256 if algorithm == "sha256" else digest(target, algorithm))


def bare(href: str) -> str:
    """Return an address without query and fragment: signatures change, the file does not."""
    return urlsplit(href)._replace(query="", fragment="").geturl()
