"""Integrity of what was delivered: every byte that carries a checksum compared, every other pixel decoded once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from .archive import Archive, open_archive
from .block_checksums import check_stored
from .errors import SceneError
from .landsat import read_landsat
from .opening import family_of
from .product import quiet_open
from .safe_manifest import MANIFEST, check_checksums, check_sizes, read_manifest
from .scene import first_line

#: Files of a product that hold pixels.
RASTERS = (".tif", ".tiff", ".jp2")

#: Extensions of metadata files that stand for their product.
METADATA = (".xml", ".safe", ".txt", ".json")

#: Edge in pixels, and bands, of what is decoded at once; whole blocks of the file, so that none is decoded twice.
EDGE, BANDS = 1024, 8

#: Largest block of a raster, bytes: rasters in one piece exist, of more than this size they are a damaged header.
BLOCK_LIMIT = 2 * 2**30

#: Pixels of more than HOLLOW_SIZE bytes in less than 1 / HOLLOW_RATIO of that on disk: deflate reaches 1 / 1032.
HOLLOW_SIZE, HOLLOW_RATIO = 2**30, 2000


def verify_product(path: Path) -> str:
    """Compare a product with its own checksums, or decode all of it where it has none; memory stays bounded.

    SAFE folders and zips: every file that ``manifest.safe`` lists, by size and checksum. Zips: the CRC of every other
    member. Whatever raster neither of them covers (Landsat folders, tars, plain rasters) is decoded block by block:
    that finds truncated files, damaged deflate blocks and damaged PNG files, but not changed bytes in uncompressed
    pixels, in headers that stay valid, or in metadata, which nothing protects. Overviews are not read.

    Parameters
    ----------
    path
        A raster, a SAFE folder or its zip, a Landsat folder or its tar, or a product's metadata file.

    Returns
    -------
    A line that tells what was compared.

    Raises
    ------
    SceneError
        Naming the first file that is damaged or missing.
    """
    family, place = family_of(path)
    if family == "raster":
        return f"{path}: {_decode(str(path), path)} decoded"
    named_by_metadata = place.is_file() and place.suffix.lower() in METADATA
    root = place.parent if named_by_metadata else place
    archive = open_archive(root)
    check_sizes(archive, read_manifest(archive))
    carried = _carried(archive)
    done = [] if carried is None else [carried.compare()]
    if archive.kind != "zip":
        proven = set() if carried is None else set(carried.listed)
        rest = [name for name in archive.names() if name not in proven]
        # A folder of downloads may hold several Landsat products: only the one that is named is ours.
        hrefs = _of_landsat(place) if family == "landsat" else [archive.href(name) for name in rest if _is_raster(name)]
        for href in hrefs:
            _decode(href, Path(href))
        done += [f"{len(hrefs)} {'other ' if proven else ''}rasters decoded"] if hrefs or not proven else []
    return f"{path}: {', '.join(done)}"


@dataclass(frozen=True, kw_only=True)
class Checksums:
    """Files of a product that carry a checksum of their own.

    Attributes
    ----------
    archive
        The product.
    listed
        Files that its manifest lists with a checksum.
    others
        Every other member of a zip.
    """

    archive: Archive
    listed: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes that a comparison reads."""
        members = self.archive.members
        return sum(members[name].size for name in (*self.listed, *self.others) if name in members)

    def compare(self, *, report: Callable[[int], None] | None = None) -> str:
        """Read all of these files, and compare; return a phrase that tells what was compared.

        Parameters
        ----------
        report
            Called with the number of bytes that were read, for progress.

        Raises
        ------
        SceneError
            Naming the first file that is damaged or missing.
        """
        done = []
        if self.listed:
            check_checksums(self.archive.root, report=report)
            done.append(f"{len(self.listed)} files agree with the checksums of {MANIFEST}")
        for name in self.others:  # where Python compares the CRC at the end of each
            self.archive.href(name)  # refuses members that grow too much
            for block in self.archive.read_blocks(name):
                if report is not None:
                    report(len(block))
        if self.archive.kind == "zip":
            done.append(f"{len(self.others)} {'other ' if done else ''}members agree with the zip's checksums")
        return ", ".join(done)


def checksums_of(path: Path) -> Checksums | None:
    """Return what of a product can be proven by comparing bytes, or None where nothing can; no pixel is read.

    Parameters
    ----------
    path
        See :func:`verify_product`.

    Raises
    ------
    SceneError
        If it is no product that is known here, a file is smaller than declared, or the manifest cannot be parsed.
    """
    family, place = family_of(path)
    if family == "raster":
        return None
    archive = open_archive(place.parent if place.is_file() and place.suffix.lower() in METADATA else place)
    check_sizes(archive, read_manifest(archive))
    return _carried(archive)


def _carried(archive: Archive) -> Checksums | None:
    listed = tuple(name for name, item in read_manifest(archive).items() if item.checksum is not None)
    others = tuple(name for name in archive.names() if name not in set(listed)) if archive.kind == "zip" else ()
    return Checksums(archive=archive, listed=listed, others=others) if listed or others else None


def _is_raster(name: str) -> bool:
    return name.lower().endswith(RASTERS)


def _of_landsat(place: Path) -> list[str]:
    product = read_landsat(place)
    hrefs = [band.href for band in product.bands]
    return hrefs if product.quality is None else [*hrefs, product.quality.href]


def _decode(href: str, named: Path) -> str:
    """Read every block once; return a description.

    Raises
    ------
    SceneError
        If the raster does not open, claims more than its bytes can hold, or a block cannot be decoded.
    """
    plain = Path(href)
    try:
        with quiet_open(href) as source:
            parts = [] if source.count else list(source.subdatasets)
            if source.count:
                _check_claims(source, named)
                if plain.is_file():  # zips have checksums of their own
                    check_stored(source, plain)
                if source.driver == "VRT":
                    _check_sources(source)
                _read_all(source)
            pixels = f"{source.count} bands of {source.width} x {source.height} px"
    except (RasterioError, OSError, UnicodeDecodeError) as error:  # GDAL quotes a damaged file's own bytes
        raise SceneError(
            f"{named}: found a raster that cannot be decoded ({first_line(error)}); wanted all of its pixels; copy or "
            "download it again"
        ) from error
    for part in parts:
        _decode(part, named)
    return f"{len(parts)} rasters" if parts else pixels


def _check_sources(source: DatasetReader) -> None:
    """Look at the files that a VRT is made of: GDAL reads them itself, without insisting on their checksums."""
    for name in source.files:
        try:
            with quiet_open(name) as part:
                check_stored(part, Path(name))
        except RasterioError:
            continue  # notes beside a raster; if it is a source that does not open, reading the pixels says so


def _read_all(source: DatasetReader) -> None:
    masked = MaskFlags.per_dataset in source.mask_flag_enums[0]
    for indexes, window in _pieces(source):
        source.read(indexes, window=window)
        if masked:
            source.dataset_mask(window=window)


def _check_claims(source: DatasetReader, named: Path) -> None:
    """Refuse a header that would make us decode for hours, or allocate all memory, for nothing."""
    item = max(1, *(_bytes(kind) for kind in source.dtypes))
    claimed = source.width * source.height * source.count * item
    # Files inside an archive have no size here; their archive bounds what they grow to.
    stored = sum(file.stat().st_size for name in source.files if (file := Path(name)).is_file())
    if claimed > HOLLOW_SIZE and stored and claimed > HOLLOW_RATIO * stored:
        raise SceneError(
            f"{named}: found a header of {source.width} x {source.height} px, {claimed} bytes, on {stored} bytes of "
            "file; wanted a file that can hold its pixels; copy or download it again"
        )
    height, width = max(source.block_shapes)
    if height * width * item > BLOCK_LIMIT:
        raise SceneError(
            f"{named}: found blocks of {width} x {height} px; wanted blocks of at most {BLOCK_LIMIT} bytes; write it "
            "again with tiles (gdal_translate -co TILED=YES)"
        )


def _bytes(kind: str) -> int:
    """Bytes of a pixel, of the type as rasterio names it (``complex_int16`` is no type of numpy)."""
    bits = "".join(letter for letter in kind if letter.isdigit())
    return max(1, int(bits or 8) // 8) * (2 if kind.startswith("complex_int") else 1)


def _pieces(source: DatasetReader) -> Iterator[tuple[list[int], Window]]:
    """Bands and windows that cover the raster, in whole blocks."""
    rows, cols = (edge * max(1, EDGE // edge) for edge in source.block_shapes[0])
    for first in range(0, source.count, BANDS):
        indexes = list(source.indexes[first : first + BANDS])
        for top in range(0, source.height, rows):
            for left in range(0, source.width, cols):
                height, width = min(rows, source.height - top), min(cols, source.width - left)
                yield indexes, Window(left, top, width, height)
