"""What raster files tell of their own damage and GDAL does not insist on: checksums and ends of their parts."""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from rasterio.enums import Compression, Interleaving
from rasterio.io import DatasetReader

from .errors import SceneError

#: Compressed bytes that are unpacked at once: memory stays bounded whatever a damaged block claims.
PIECE = 2**20

#: Most directories (image, masks, overviews) and entries of one that are looked at: beyond that is damage.
DIRECTORIES, ENTRIES = 1000, 4096

#: Type of a TIFF's tag -> bytes of one value.
_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def check_stored(source: DatasetReader, path: Path) -> None:
    """Look for damage that reading the pixels would pass over; formats without such marks pass.

    Parameters
    ----------
    source
        The open raster.
    path
        Its plain file.

    Raises
    ------
    SceneError
        If a part is cut off, or disagrees with its checksum.
    """
    if check := _CHECKS.get(source.driver):
        check(source, path)


def check_tags(source: DatasetReader, path: Path) -> None:
    """Refuse a TIFF whose tags reach beyond its end, then compare its deflate blocks (:func:`check_deflate`).

    libtiff leaves out tags that it cannot read: a file whose end is cut may lose its nodata value, or its position, and
    keep all of its pixels. Layout: TIFF 6.0, section 2, and its 64-bit variant.

    Parameters
    ----------
    source
        The open raster.
    path
        Its plain file.

    Raises
    ------
    SceneError
        If a tag or a block is damaged.
    """
    end = path.stat().st_size
    with path.open("rb") as file:
        for tag, offset, size in _long_tags(file):
            if offset + size > end:
                raise SceneError(
                    f"{path}: found tag {tag} at bytes {offset} to {offset + size} of {end}; wanted a complete TIFF; "
                    "copy or download the file again"
                )
    check_deflate(source, path)


def check_deflate(source: DatasetReader, path: Path) -> None:
    """Compare every deflate block of a TIFF with its own Adler-32 (RFC 1950).

    libtiff stops when a block's pixels are full: where a changed bit makes the block too long, it never comes to the
    checksum and gives out wrong numbers (21 of 400 single changed bits in a tiled uint16 file, with GDAL 3.10).

    Parameters
    ----------
    source
        The open raster.
    path
        Its plain file.

    Raises
    ------
    SceneError
        If a block is damaged, or lies beyond the end of the file.
    """
    if source.compression is not Compression.deflate:
        return  # no other compression of TIFF has a checksum
    end = path.stat().st_size
    with path.open("rb") as file:
        for offset, size in _blocks(source):
            file.seek(offset)
            if offset + size > end or not _is_whole(file.read(size)):
                raise SceneError(
                    f"{path}: found a damaged block of {size} bytes at byte {offset}; wanted pixels that agree with "
                    "their checksum; copy or download the file again"
                )


def check_chunks(source: DatasetReader, path: Path) -> None:
    """Compare the chunks of a PNG with their CRC (ISO/IEC 15948, 5.3), to the last one: GDAL fills up what was cut.

    Parameters
    ----------
    source
        The open raster.
    path
        Its plain file.

    Raises
    ------
    SceneError
        If a chunk is damaged, or the last one is missing.
    """
    del source
    start, kind = 8, b""
    with path.open("rb") as file:
        while kind != b"IEND":
            file.seek(start)
            head = file.read(8)
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            crc = zlib.crc32(kind)
            for _ in range(0, length, PIECE):
                piece = file.read(min(PIECE, start + 8 + length - file.tell()))
                if not piece:
                    break
                crc = zlib.crc32(piece, crc)
            if file.read(4) != crc.to_bytes(4, "big"):
                raise SceneError(
                    f"{path}: found a damaged chunk at byte {start}; wanted a complete PNG; copy or convert it again"
                )
            start += 12 + length


def check_codestream(source: DatasetReader, path: Path) -> None:
    """Refuse a JPEG 2000 file that was cut: GDAL decodes the rest of it without an error.

    The boxes of ISO/IEC 15444-1, annex I, are walked by their lengths; the code stream ends with the marker FF D9.

    Parameters
    ----------
    source
        The open raster.
    path
        Its plain file.

    Raises
    ------
    SceneError
        If a box reaches beyond the end of the file, or the code stream has no end.
    """
    del source
    size, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while start < size:
            file.seek(start)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            end = size if length == 0 else start + length
            if end > size or end < start + 8:
                raise _cut(path, f"a box that ends at byte {end} of {size}")
            if kind == b"jp2c":
                file.seek(end - 2)
                if file.read(2) != b"\xff\xd9":
                    raise _cut(path, "a code stream without its end")
                return
            start = end
    raise _cut(path, "no code stream")


def _long_tags(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Tag, offset and bytes of the values that lie outside the directories of a TIFF."""
    order, version = {b"II": "<", b"MM": ">"}.get(file.read(2), "<"), file.read(2)
    is_big = 43 in version
    start, count, entry, inline = (8, "Q", "HHQQ", 8) if is_big else (4, "H", "HHII", 4)
    width = struct.calcsize(f"{order}{entry}")
    word = "Q" if is_big else "I"

    def number(form: str, at: int) -> int:
        size = struct.calcsize(f"{order}{form}")
        file.seek(at)
        content = file.read(size)
        return int(struct.unpack(f"{order}{form}", content)[0]) if len(content) == size else 0

    seen: set[int] = set()
    directory = number(word, start)
    while directory and directory not in seen and len(seen) < DIRECTORIES:
        seen.add(directory)
        entries = number(count, directory)
        first = directory + struct.calcsize(f"{order}{count}")
        file.seek(first)
        content = file.read(min(entries, ENTRIES) * width)
        for tag, kind, values, offset in struct.iter_unpack(
            f"{order}{entry}", content[: len(content) // width * width]
        ):
            if (size := _TYPES.get(kind, 0) * values) > inline:
                yield tag, offset, size
        directory = number(word, first + entries * width)


def _blocks(source: DatasetReader) -> Iterator[tuple[int, int]]:
    """Offset and bytes of each stored block; sparse files lack some."""
    shared = source.interleaving is Interleaving.pixel
    for band in source.indexes[:1] if shared else source.indexes:
        height, width = source.block_shapes[band - 1]
        for row in range(-(-source.height // height)):
            for column in range(-(-source.width // width)):
                offset = source.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
                size = source.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
                if offset and size:
                    yield int(offset), int(size)


def _is_whole(packed: bytes) -> bool:
    stream, rest = zlib.decompressobj(), packed
    try:
        while not stream.eof:
            unpacked = stream.decompress(rest, PIECE)
            rest = stream.unconsumed_tail
            if not unpacked and not rest:
                return False
    except zlib.error:
        return False
    return True


def _cut(path: Path, found: str) -> SceneError:
    return SceneError(f"{path}: found {found}; wanted a complete JPEG 2000 file; copy or download it again")


#: GDAL driver -> what is looked at.
_CHECKS: dict[str, Callable[[DatasetReader, Path], None]] = {
    "GTiff": check_tags,
    "PNG": check_chunks,
    "JP2OpenJPEG": check_codestream,
}
