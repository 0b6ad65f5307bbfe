"""The manifest of a SAFE product: which files it has, how large, with which checksum; damage is found before use.

Source: CCSDS 661.0-B (XFDU), as used in ``manifest.safe`` of Sentinel products: dataObject, byteStream, checksum.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .archive import READ_LIMIT, Archive, open_archive
from .errors import SceneError

MANIFEST = "manifest.safe"

#: Name in a manifest -> name in hashlib.
_CHECKSUMS = {"MD5": "md5", "SHA3-256": "sha3_256", "SHA-256": "sha256"}


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a manifest says of a file.

    Attributes
    ----------
    size
        Bytes.
    kind, checksum
        Name of the algorithm in hashlib and its lower-case digest; None where none that is known is given.
    """

    size: int
    kind: str | None = None
    checksum: str | None = None


def read_manifest(archive: Archive) -> dict[str, Declared]:
    """Return file name -> what the manifest declares of it; empty for products without one.

    Raises
    ------
    SceneError
        If the manifest cannot be parsed.
    """
    if MANIFEST not in archive.names():
        return {}
    found = {}
    for stream in archive.read_xml(MANIFEST).iter("byteStream"):
        location, size = stream.find("fileLocation"), stream.get("size", "")
        if location is None or not size.isdecimal():
            continue
        checksum = stream.find("checksum")
        kind = None if checksum is None else _CHECKSUMS.get(checksum.get("checksumName", ""))
        digest = None if checksum is None or kind is None else (checksum.text or "").strip().lower()
        name = str(PurePosixPath(location.get("href", "")))
        found[name] = Declared(size=int(size), kind=kind, checksum=digest)
    return found


def check_sizes(archive: Archive, names: Iterable[str]) -> None:
    """Refuse files that are smaller than the manifest declares; nothing is read.

    A larger image is not truncated: overviews may have been added to it.

    Raises
    ------
    SceneError
        Naming the first file that is too small.
    """
    declared = read_manifest(archive)
    for name in names:
        if name not in archive.members:
            continue  # whoever needs it says so, with the reason
        if name in declared and (size := archive.members[name].size) < declared[name].size:
            raise SceneError(
                f"{archive.root}: found '{name}' of {size} bytes; wanted the {declared[name].size} that the manifest "
                "declares; copy or download the product again"
            )


def verify(archive: Archive, names: Iterable[str]) -> None:
    """Refuse files that are smaller than declared, and small ones (metadata) that have another checksum.

    A flipped bit in a table of gains would pass as data. Files that the manifest does not list, and products without
    one, pass.

    Raises
    ------
    SceneError
        If a file differs from what is declared, or the manifest cannot be parsed.
    """
    wanted = tuple(names)
    check_sizes(archive, wanted)
    declared = read_manifest(archive)
    for name in wanted:
        if name in declared and name in archive.members and archive.members[name].size <= READ_LIMIT:
            _compare(archive, name, declared[name])


def check_checksums(path: Path, *, report: Callable[[int], None] | None = None) -> tuple[str, ...]:
    """Read every file that the manifest lists with a checksum, and compare.

    Parameters
    ----------
    path
        SAFE folder, or its zip.
    report
        Called with the number of bytes that were read, for progress.

    Returns
    -------
    Names of the files that were compared and agree.

    Raises
    ------
    SceneError
        If a listed file is missing or differs.
    """
    archive = open_archive(path)
    listed = {name: item for name, item in read_manifest(archive).items() if item.checksum is not None}
    for name, item in listed.items():
        _compare(archive, name, item, report=report)
    return tuple(listed)


def _compare(archive: Archive, name: str, declared: Declared, *, report: Callable[[int], None] | None = None) -> None:
    if declared.kind is None or declared.checksum is None:
        return
    digest = hashlib.new(declared.kind, usedforsecurity=False)
    for block in archive.read_blocks(name):
        digest.update(block)
        if report is not None:
            report(len(block))
    if (found := digest.hexdigest()) != declared.checksum:
        raise SceneError(
            f"{archive.root}: found '{name}' with another checksum ({declared.kind} {found[:12]}...); wanted "
            f"{declared.checksum[:12]}... as the manifest declares; copy or download the product again, unchanged"
        )
