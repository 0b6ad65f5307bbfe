"""Rasters: pieces of a file as a web map wants them, read with overviews, never a whole scene."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import cv2
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NodataShadowWarning, NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from rio_tiler.errors import NoOverviewWarning, TileOutsideBounds
from rio_tiler.io import Reader

from ..errors import PipelineError
from ..full_size import POWERS, readable

#: Formats that are opened, those that Equipoise writes, by suffix.
FORMATS = {".tif": "GTiff", ".tiff": "GTiff", ".vrt": "VRT"}

#: What GDAL is told: files beside a raster (overviews, masks, metadata) can name others, and nothing is fetched.
ENVIRONMENT = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none"}

#: Edge in pixels of a tile.
TILE = 256

#: Largest edge in pixels of a picture of a whole raster.
PICTURE = 2048

#: Largest edge in pixels of what a stretch is chosen by.
LOOK = 512


@dataclass(frozen=True, kw_only=True)
class Raster:
    """A file, and where it lies.

    Attributes
    ----------
    path
        GeoTIFF or VRT.
    root
        Folder that neither it nor what a VRT is made of may lie out of.
    transform
        In the place of its own; None: its own.
    """

    path: Path
    root: Path
    transform: Affine | None = None

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open it.

        Raises
        ------
        PipelineError
            If it lies out of the folder, or is made of files that do.
        RasterioError
            If it cannot be read.
        """
        with warnings.catch_warnings():
            for kind in (NotGeoreferencedWarning, NodataShadowWarning, NoOverviewWarning):
                warnings.simplefilter("ignore", kind)
            kind = FORMATS.get(self.path.suffix.lower())
            if kind is None:
                raise PipelineError(f"{self.path}: found another format; wanted one of {', '.join(FORMATS)}")
            path = confined(self.path, self.root)
            if kind == "VRT":
                _check_sources(path, self.root.resolve(), path.stat().st_mtime_ns)
            with rasterio.Env(**ENVIRONMENT), rasterio.open(path, driver=kind) as source:
                if self.transform is None:
                    yield source
                else:
                    with WarpedVRT(
                        source, src_crs=source.crs, crs=source.crs, src_transform=self.transform,
                        transform=self.transform, width=source.width, height=source.height,
                    ) as moved:  # fmt: skip
                        yield moved

    @cached_property
    def stored_units(self) -> tuple[str, ...]:
        """Units of the bands in the file, or one for all, as its tag tells them."""
        with replace(self, transform=None).opened() as source:
            return tuple(source.tags().get("unit", "").split(","))

    @property
    def units(self) -> list[str]:
        """Units of the values that are read here, one a band or one for all: power becomes dB."""
        return ["dB" if unit in POWERS else unit for unit in self.stored_units]

    def tile(
        self, z: int, x: int, y: int, *, nearest: bool, bands: Sequence[int] | None = None
    ) -> NDArray[np.float32] | None:
        """Read a tile of the Web Mercator pyramid.

        Parameters
        ----------
        z, x, y
            Zoom, column and row.
        nearest
            Whether values stay as they are: names, or pixels that are larger than those of the tile.
        bands
            Positions of those that are read, in order; None: all.

        Returns
        -------
        float32 (band, 256, 256), NaN = nothing is there; None where the raster does not reach.
        """
        method: Literal["nearest", "bilinear"] = "nearest" if nearest else "bilinear"
        with self.opened() as source, Reader(None, dataset=source) as reader:
            try:
                # Named also where all are read: GDAL takes the fourth one of bytes for transparency.
                read = reader.tile(
                    x, y, z, tilesize=TILE, indexes=_numbers(source, bands), resampling_method=method,
                    reproject_method=method,
                )  # fmt: skip
            except TileOutsideBounds:
                return None
            return self._known(source, read.array, bands)

    def thinned(self, edge: int, *, nearest: bool, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Read all of it, at most ``edge`` pixels wide and high, as float32 (band, y, x), NaN = nothing is there."""
        with self.opened() as source:
            step = max(1.0, max(source.height, source.width) / edge)
            numbers = _numbers(source, bands)
            shape = (len(numbers), max(1, round(source.height / step)), max(1, round(source.width / step)))
            method = Resampling.nearest if nearest else Resampling.average
            return self._known(source, source.read(numbers, out_shape=shape, resampling=method, masked=True), bands)

    def at(self, x: float, y: float) -> NDArray[np.float32] | None:
        """Read the pixel at a place in units of its CRS, float32 (band,); None where it does not reach."""
        with self.opened() as source:
            row, col = source.index(x, y)
            if not (0 <= row < source.height and 0 <= col < source.width):
                return None
            return self._known(source, source.read(window=Window(col, row, 1, 1), masked=True))[:, 0, 0]

    def _known(self, source: Any, values: Any, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return values as float32, after the bands' scales, backscatter in dB, NaN where nothing is."""
        layers = np.ma.filled(np.ma.asarray(values).astype(np.float32), np.nan)
        places = [number - 1 for number in _numbers(source, bands)]
        scales = np.array(source.scales, dtype=np.float32)[places, None, None]
        offsets = np.array(source.offsets, dtype=np.float32)[places, None, None]
        units = (self.stored_units * source.count)[: source.count]
        return readable(layers * scales + offsets, [units[place] for place in places])


def confined(path: Path, root: Path) -> Path:
    """Return the path with its links followed.

    Raises
    ------
    PipelineError
        If it lies out of the folder.
    """
    found = path.resolve()
    if not found.is_relative_to(root.resolve()):
        raise PipelineError(f"{path}: found a file out of {root}; wanted one within; copy it there to look at it")
    return found


def png(colours: NDArray[np.uint8]) -> bytes:
    """Return colours (y, x, 4) as a PNG."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(colours, cv2.COLOR_RGBA2BGRA))
    return bytes(encoded)


def _numbers(source: Any, bands: Sequence[int] | None) -> list[int]:
    return list(source.indexes) if bands is None else [band + 1 for band in bands]


@lru_cache(1024)
def _check_sources(path: Path, root: Path, changed: int) -> None:
    """Refuse a virtual raster that is made of anything but GeoTIFFs of the folder; once for each state of the file.

    Raises
    ------
    PipelineError
        If it is, or is no virtual raster.
    """
    del changed  # of the file: it makes a new state a new question
    try:
        tree = ElementTree.fromstring(path.read_bytes())  # noqa: S314 (expat bounds what entities grow to)
    except ElementTree.ParseError as error:
        raise PipelineError(f"{path}: found no virtual raster ({error}); wanted one as mosaics are") from error
    for element in tree.iter():
        if element.tag not in ("SourceFilename", "SourceDataset"):
            continue
        name = Path(element.text or "")
        source = confined(path.parent / name if element.get("relativeToVRT") == "1" else name, root)
        try:
            with rasterio.Env(**ENVIRONMENT), rasterio.open(source, driver="GTiff"):
                pass
        except RasterioError as error:
            raise PipelineError(f"{path}: found '{name}' in it; wanted GeoTIFFs alone ({error})") from error
