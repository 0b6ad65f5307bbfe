"""Delivered products as they come: a folder, a zip or a tar, read in place without unpacking."""

import ntpath
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, cast
from xml.etree import ElementTree

from .errors import SceneError
from .scene import first_line

#: Most members that a product may have: a Sentinel-2 SAFE has about 150, a wrongly named home folder far more.
MEMBER_LIMIT = 20_000

#: Largest metadata file that is read into memory, bytes; the largest real ones (Sentinel-1 noise tables) have 10 MB.
READ_LIMIT = 64 * 2**20

#: A raster member larger than BOMB_SIZE bytes that shrank by more than BOMB_RATIO is a zip bomb, not an image.
BOMB_SIZE, BOMB_RATIO = 64 * 2**20, 200


@dataclass(frozen=True)
class Member:
    """One file of an archive.

    Attributes
    ----------
    stored
        Name inside the zip or tar, or path relative to the folder.
    size
        Bytes after decompression, as declared.
    packed
        Bytes as stored.
    """

    stored: str
    size: int
    packed: int


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A product's files under names relative to the product, whether it is a folder, a zip or a tar.

    A single folder that holds everything (``S2A_....SAFE/`` in a zip) is not part of the names, so that all forms look
    alike. Nothing is unpacked to disk, and no name leads out of the product.

    Attributes
    ----------
    root
        The folder or the archive file.
    members
        Name with ``/`` -> where it lies; sorted by name.
    kind
        ``folder``, ``zip`` or ``tar``.
    """

    root: Path
    members: Mapping[str, Member]
    kind: str

    def names(self) -> tuple[str, ...]:
        """Names of all files, sorted, with ``/`` between folders."""
        return tuple(self.members)

    def find(self, pattern: str) -> tuple[str, ...]:
        """Names that match, sorted.

        Parameters
        ----------
        pattern
            Glob in which ``*`` does not cross ``/``; upper and lower case are the same: ``GRANULE/*/MTD_TL.xml``.
        """
        wanted = pattern.lower().split("/")
        return tuple(
            name
            for name in self.members
            if len(parts := name.lower().split("/")) == len(wanted)
            and all(fnmatchcase(part, want) for part, want in zip(parts, wanted, strict=True))
        )

    def one(self, pattern: str) -> str:
        """Name of the only file that matches ``pattern`` (see :meth:`find`).

        Raises
        ------
        SceneError
            If none or several match.
        """
        found = self.find(pattern)
        if len(found) != 1:
            listed = f" ({', '.join(found[:3])})" if found else ""
            raise SceneError(
                f"{self.root}: found {len(found)} files '{pattern}'{listed}; wanted exactly one; "
                "download the product again, complete and unchanged"
            )
        return found[0]

    def read_bytes(self, name: str, *, limit: int = READ_LIMIT) -> bytes:
        """Read a file.

        Parameters
        ----------
        name
            One of :meth:`names`.
        limit
            Most bytes that are accepted; more are never read.

        Raises
        ------
        SceneError
            If the file is absent, damaged or larger than ``limit``.
        """
        member = self._member(name)
        if member.size > limit:
            raise self._too_large(name, member.size, limit)
        with self._opened(member) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise self._too_large(name, len(content), limit)
        return content

    def read_blocks(self, name: str, *, size: int = 2**20) -> Iterator[bytes]:
        """Yield a whole file in blocks of ``size`` bytes; a zip's own checksum is compared at its end.

        Raises
        ------
        SceneError
            If the file is absent or damaged.
        """
        with self._opened(self._member(name)) as file:
            while block := file.read(size):
                yield block

    def read_xml(self, name: str) -> ElementTree.Element:
        """Parse an XML file, without DTD and entities, into its root element.

        Raises
        ------
        SceneError
            If it is not well-formed UTF-8 XML, or declares a document type.
        """
        content = self.read_bytes(name)
        try:
            # Parsed as text, never as bytes: a declared exotic encoding could hide a DTD from the check.
            text = content.decode("utf-8-sig")
            if "<!DOCTYPE" in text or "<!ENTITY" in text:
                raise SceneError(
                    f"{self.root}: found a document type in '{name}'; wanted plain XML metadata, which has none; "
                    "do not use this file"
                )
            # Without a DTD there are no entities to expand: the attacks that the linter knows need one.
            return ElementTree.fromstring(text)  # noqa: S314
        except (UnicodeDecodeError, ElementTree.ParseError) as error:
            raise SceneError(
                f"{self.root}: found '{name}' that is not well-formed XML ({first_line(error)}); wanted complete "
                "metadata; copy or download the product again"
            ) from error

    def href(self, name: str) -> str:
        """Path under which GDAL opens the file: a plain path, ``/vsizip/...`` or ``/vsitar/...``.

        Raises
        ------
        SceneError
            If the file is absent, or is a zip bomb.
        """
        member = self._member(name)
        if member.size > BOMB_SIZE and member.size > BOMB_RATIO * member.packed:
            raise SceneError(
                f"{self.root}: found '{name}' that grows from {member.packed} to {member.size} bytes; wanted image "
                "data, which does not shrink that much; do not use this file"
            )
        if self.kind == "folder":
            return str(self.root / member.stored)
        # Braces end the archive's name whatever its extension is.
        root = str(self.root.absolute())
        braced = root if "{" in root or "}" in root else f"{{{root}}}"
        # GDAL drops a leading "./" from the names that it lists; PurePosixPath does the same.
        return f"/vsi{self.kind}/{braced}/{PurePosixPath(member.stored)}"

    @contextmanager
    def _opened(self, member: Member) -> Iterator[IO[bytes]]:
        try:
            with _OPENERS[self.kind](self.root, member.stored) as file:
                yield file
        except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
            raise SceneError(
                f"{self.root}: found member '{member.stored}' that cannot be read ({first_line(error)}); wanted a "
                "complete product; copy or download it again"
            ) from error

    def _member(self, name: str) -> Member:
        if name not in self.members:
            raise SceneError(
                f"{self.root}: found no file '{name}'; wanted a complete product; download it again, or correct the "
                "name that refers to it"
            )
        return self.members[name]

    def _too_large(self, name: str, size: int, limit: int) -> SceneError:
        return SceneError(
            f"{self.root}: found '{name}' of {size} bytes; wanted at most {limit}; this is no metadata of a product"
        )


def open_archive(path: Path) -> Archive:
    """List a product: a folder, a ``.zip``, or an uncompressed ``.tar``.

    Parameters
    ----------
    path
        The folder or file; what a file is, its first bytes decide.

    Raises
    ------
    SceneError
        If it is none of these, is damaged, encrypted, has too many members, the same member twice, or a member whose
        name or link leads out of the product.
    """
    if path.is_dir():
        return Archive(root=path, members=_without_top(_listed_folder(path)), kind="folder")
    if not path.is_file():
        raise SceneError(f"{path}: found nothing; wanted a product's folder, .zip or .tar; correct the path")
    try:
        if zipfile.is_zipfile(path):
            return Archive(root=path, members=_without_top(_listed_zip(path)), kind="zip")
        if tarfile.is_tarfile(path):
            return Archive(root=path, members=_without_top(_listed_tar(path)), kind="tar")
    except (OSError, EOFError, UnicodeDecodeError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise SceneError(
            f"{path}: found an archive that cannot be listed ({first_line(error)}); wanted a complete .zip or an "
            "uncompressed .tar; unpack it, or download it again"
        ) from error
    raise SceneError(f"{path}: found neither folder, .zip nor .tar; wanted a product; download it again")


def is_safe_name(name: str) -> bool:
    """Whether a relative name stays inside the folder it is relative to, on every system."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    rooted = name.startswith(("/", "\\")) or bool(ntpath.splitdrive(name)[0])
    return bool(parts) and not rooted and "\0" not in name and ".." not in parts


def _listed_folder(path: Path) -> dict[str, Member]:
    root = path.resolve()
    found = {}
    walked = (Path(folder) / name for folder, _, names in os.walk(root) for name in names)
    for file in islice(walked, MEMBER_LIMIT + 1):
        stored = file.relative_to(root).as_posix()
        if not file.exists():
            continue  # a dangling link: as good as a file that is not there
        if file.is_symlink() and not file.resolve().is_relative_to(root):
            raise SceneError(
                f"{path}: found '{stored}' that links to a place outside; wanted files inside the product; copy the "
                "file in"
            )
        size = file.stat().st_size
        found[stored] = Member(stored, size, size)
    return _bounded(path, found)


def _listed_zip(path: Path) -> dict[str, Member]:
    with zipfile.ZipFile(path) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
    if any(info.flag_bits & 1 for info in files):
        raise SceneError(f"{path}: found an encrypted archive; wanted an open one; unpack it with its password")
    return _unique(path, [Member(info.filename, info.file_size, info.compress_size) for info in files])


def _listed_tar(path: Path) -> dict[str, Member]:
    with tarfile.open(path, "r:") as archive:  # compressed tars have no random access: pixels would be read in hours
        files = [info for info in islice(archive, MEMBER_LIMIT + 1) if info.isfile()]
    return _unique(path, [Member(info.name, info.size, info.size) for info in files])


def _unique(path: Path, members: list[Member]) -> dict[str, Member]:
    found = {str(PurePosixPath(member.stored)): member for member in members}
    if len(found) != len(members):
        raise SceneError(f"{path}: found two members of one name; wanted one of each; download the product again")
    if unsafe := next((name for name in found if not is_safe_name(name)), None):
        raise SceneError(
            f"{path}: found the file name {unsafe!r} that leads out of the product; wanted names inside; do not use it"
        )
    return _bounded(path, found)


def _bounded(path: Path, found: dict[str, Member]) -> dict[str, Member]:
    if len(found) > MEMBER_LIMIT:
        raise SceneError(
            f"{path}: found more than {MEMBER_LIMIT} files; wanted one product; name the product's own folder"
        )
    return dict(sorted(found.items()))


def _without_top(found: dict[str, Member]) -> dict[str, Member]:
    """Drop the one folder that holds everything."""
    # Archives made on macOS carry a shadow tree beside the product.
    found = {name: member for name, member in found.items() if not name.startswith("__MACOSX/")}
    tops = {name.partition("/")[0] for name in found}
    if len(tops) == 1 and all("/" in name for name in found):
        return {name.partition("/")[2]: member for name, member in found.items()}
    return found


@contextmanager
def _open_file(root: Path, stored: str) -> Iterator[IO[bytes]]:
    with (root / stored).open("rb") as file:
        yield file


@contextmanager
def _open_zip(root: Path, stored: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(root) as archive, archive.open(stored) as file:
        yield file


@contextmanager
def _open_tar(root: Path, stored: str) -> Iterator[IO[bytes]]:
    with tarfile.open(root, "r:") as archive:
        # Never None: only regular files are listed.
        yield cast(IO[bytes], archive.extractfile(stored))


#: Kind of archive -> how one of its files is opened.
_OPENERS: dict[str, Callable[[Path, str], AbstractContextManager[IO[bytes]]]] = {
    "folder": _open_file,
    "zip": _open_zip,
    "tar": _open_tar,
}
