"""Labels of benchmark chips: from values, colours, polygons or shares of a pixel to class values on the chip's grid."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from pyproj.exceptions import CRSError
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.io import DatasetReader
from rasterio.windows import Window

from ..errors import LabelError
from ..labels import read_labels
from ..product import quiet_open
from ..scene import first_line
from ..stack import IGNORE
from .pixel_window import PixelWindow
from .public_dataset import LabelKind, PublicDataset


def read_chip_labels(dataset: PublicDataset, path: Path, grid: GeoBox, window: PixelWindow) -> NDArray[np.uint8]:
    """Read a window of a chip's label file.

    Parameters
    ----------
    dataset
        Says how the file states the classes.
    path
        Label file. One of the chip's size lies pixel on pixel with it, as published; rasters of class values may be of
        another size if both have a position.
    grid
        Grid of the chip's reference modality.
    window
        What to read.

    Returns
    -------
    Class values, uint8 (y, x) of the window's size, 255 = not labelled, and where the window reaches beyond the chip.

    Raises
    ------
    LabelError
        If the file cannot be read, is of another size than a chip without a position, or holds what no class declares.
    """
    if dataset.label_kind is LabelKind.FOOTPRINTS:
        return _inside(_footprints(path, window.of(grid), dataset), grid, window)
    out = np.full((window.height, window.width), IGNORE, dtype=np.uint8)
    rows, cols = window.inside(grid)
    if rows.stop <= rows.start or cols.stop <= cols.start:
        return out
    with _opened(path) as source:
        if dataset.label_kind is LabelKind.VALUES and source.shape != tuple(grid.shape):
            return _inside(read_labels(path, window.of(grid), classes=dataset.values_in_files), grid, window)
        stored, nodata = _stored(source, path, grid, (rows, cols), count=_BANDS[dataset.label_kind])
    match dataset.label_kind:
        case LabelKind.COLOURS:
            labels = _colours(stored, dataset, path)
        case LabelKind.POSITIVE:
            labels = _positive(stored[0], dataset)
        case _:
            labels = _values(stored[0], nodata, dataset, path)
    out[window.place(rows, cols)] = labels
    return out


#: Bands of a label file that are read.
_BANDS = {LabelKind.VALUES: 1, LabelKind.COLOURS: 3, LabelKind.POSITIVE: 1}


@contextmanager
def _opened(path: Path) -> Iterator[DatasetReader]:
    try:
        with quiet_open(path) as source:
            yield source
    except (RasterioError, OSError) as error:
        raise LabelError(
            f"{path}: found labels that cannot be read ({first_line(error)}); wanted a raster; unpack it again"
        ) from error


def _stored(
    source: DatasetReader, path: Path, grid: GeoBox, part: tuple[slice, slice], *, count: int
) -> tuple[NDArray[Any], float | None]:
    if source.shape != tuple(grid.shape) or source.count < count:
        raise LabelError(
            f"{path}: found labels of {source.count} band(s) and {source.width} x {source.height} px; wanted {count} "
            f"and the chip's {grid.shape.x} x {grid.shape.y} px; unpack images and labels of one release"
        )
    return source.read(list(range(1, count + 1)), window=Window.from_slices(*part)), source.nodata


def _inside(labels: NDArray[np.uint8], grid: GeoBox, window: PixelWindow) -> NDArray[np.uint8]:
    """Take away what lies beyond the chip."""
    out = np.full_like(labels, IGNORE)
    place = window.place(*window.inside(grid))
    out[place] = labels[place]
    return out


def _values(stored: NDArray[Any], nodata: float | None, dataset: PublicDataset, path: Path) -> NDArray[np.uint8]:
    classes = dataset.values_in_files
    labels = np.full(stored.shape, IGNORE, dtype=np.uint8)
    is_known = ~np.isfinite(stored) if nodata is None else ~np.isfinite(stored) | (stored == nodata)
    if IGNORE not in classes:
        is_known |= stored == IGNORE
    for value, class_value in classes.items():
        found = stored == value
        labels[found] = class_value
        is_known |= found
    if not is_known.all():
        unknown = np.unique(stored[~is_known]).tolist()[:8]
        raise LabelError(
            f"{path}: found label values {unknown} that no class declares; wanted {list(classes)} of {dataset.name}; "
            "take the labels as published"
        )
    return labels


def _colours(rgb: NDArray[Any], dataset: PublicDataset, path: Path) -> NDArray[np.uint8]:
    """Colours are corners of the RGB cube: some published files are off by a few levels, black means no label."""
    if ((rgb > 64) & (rgb < 192)).any():
        raise LabelError(
            f"{path}: found colours between the classes'; wanted components near 0 or 255; take the labels as "
            "published, not resampled or compressed with loss"
        )
    table = np.zeros(8, dtype=np.int16) - 1
    table[0] = IGNORE
    for item in dataset.classes:
        table[sum(4 >> i for i, part in enumerate(item.colour) if part > 127)] = item.value
    red, green, blue = rgb > 127
    values = table[4 * red + 2 * green + blue]
    if (values < 0).any():
        row, col = np.argwhere(values < 0)[0]
        found = tuple(int(part) for part in rgb[:, row, col])
        raise LabelError(f"{path}: found colour {found}, which no class declares; wanted {dataset.name}'s labels")
    return values.astype(np.uint8)


def _positive(values: NDArray[Any], dataset: PublicDataset) -> NDArray[np.uint8]:
    absent, present = dataset.class_values
    labels = np.where(values > 0, present, absent).astype(np.uint8)
    labels[~np.isfinite(values)] = IGNORE
    return labels


def _footprints(path: Path, grid: GeoBox, dataset: PublicDataset) -> NDArray[np.uint8]:
    absent, present = dataset.class_values
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        crs = _crs(content)
        shapes = [
            Geometry(shapely.force_2d(shapely.geometry.shape(feature["geometry"])), crs)
            for feature in content["features"]
            if feature.get("geometry")
        ]
        outlines = [(shape if crs is None or grid.crs is None else shape.to_crs(grid.crs)).geom for shape in shapes]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        shapely.errors.ShapelyError,
        CRSError,
    ) as error:
        raise LabelError(
            f"{path}: found no readable footprints ({type(error).__name__}: {error}); wanted GeoJSON features; "
            "unpack it again"
        ) from error
    drawn = [outline for outline in outlines if not outline.is_empty]
    if not drawn:
        return np.full(tuple(grid.shape), absent, dtype=np.uint8)
    return rasterize(
        [(outline, present) for outline in drawn], out_shape=tuple(grid.shape), transform=grid.affine, fill=absent,
        dtype=np.uint8,
    )  # fmt: skip


def _crs(content: Mapping[str, Any]) -> CRS | None:
    """Return the CRS that the older GeoJSON names; by RFC 7946 (section 4) one that names none is in WGS 84."""
    stated = content.get("crs")
    return CRS("EPSG:4326") if stated is None else CRS(stated["properties"]["name"])
