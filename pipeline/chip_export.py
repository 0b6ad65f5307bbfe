"""Chips on disk for other tools: every patch of the index as one small GeoTIFF a modality, and one of its labels."""

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from ..datasets.patches import PatchIndex
from ..datasets.stack import IGNORE, AlignedStack, StackReader
from .progress import track
from .run_folder import write_text

#: What the chips are made of, while they are written; the list of them, when they are complete.
_MARK, _LIST = ".fingerprint", "chips.json"


def write_chips(
    folder: Path, index: PatchIndex, stacks: Mapping[str, AlignedStack], *, fingerprint: str
) -> list[Path]:  # fmt: skip
    """Write ``<split>/<scene>_<row>_<col>/<modality>.tif`` and ``labels.tif`` for every patch.

    Images are float32 in working units (radar in linear power) with nodata NaN, labels uint8 with nodata 255. A patch
    that reaches beyond its scene is padded with nodata. A modality that is missing in a scene has no file. The chips
    are written below a temporary name and renamed together; those of the same fingerprint are kept, and an interrupted
    export goes on after the last whole chip.

    Parameters
    ----------
    folder
        Receives one folder a split.
    index, stacks
        Patches, and scene -> where their pixels are.
    fingerprint
        Hash of all that the chips depend on.

    Returns
    -------
    The list of the chips (``chips.json``), and the chips.
    """
    if (known := _finished(folder, fingerprint)) is not None:
        return known
    partial = folder.with_name(f".{folder.name}.partial")
    if not _marked(partial, fingerprint):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_text(partial / _MARK, fingerprint)
    readers = {name: StackReader(stack) for name, stack in stacks.items()}
    rows = zip(
        *(index.table[name].tolist() for name in ("split", "scene", "row", "col", "height", "width")), strict=True
    )
    for split, scene, row, col, height, width in track(rows, "chips", total=len(index)):
        chip = partial / split / f"{scene}_{row}_{col}"
        if not chip.is_dir():
            _write_chip(chip, readers[scene], row, col, shape=(height, width))
    (partial / _MARK).unlink()
    files = {path.relative_to(partial).as_posix(): path.stat().st_size for path in sorted(partial.rglob("*.tif"))}
    write_text(partial / _LIST, json.dumps({"fingerprint": fingerprint, "files": files}))
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return [folder / _LIST, *(folder / name for name in files)]


def _finished(folder: Path, fingerprint: str) -> list[Path] | None:
    """Return what is there of the same fingerprint, if it is whole."""
    try:
        record = json.loads((folder / _LIST).read_text(encoding="utf-8"))
        files = {folder / name: size for name, size in record["files"].items()}
        whole = record["fingerprint"] == fingerprint and all(path.stat().st_size == n for path, n in files.items())
    except (OSError, LookupError, TypeError, ValueError, AttributeError):
        return None
    return [folder / _LIST, *files] if whole else None


def _marked(folder: Path, fingerprint: str) -> bool:
    mark = folder / _MARK
    return mark.is_file() and mark.read_text(encoding="utf-8") == fingerprint


def _write_chip(chip: Path, reader: StackReader, row: int, col: int, *, shape: tuple[int, int]) -> None:
    window = reader.read(row, col, height=shape[0], width=shape[1])
    temporary = chip.with_name(f".{chip.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    grid = reader.stack.geobox
    a, b, c, d, e, f = tuple(grid.affine)[:6]
    here = GeoBox(shape, Affine(a, b, a * col + b * row + c, d, e, d * col + e * row + f), grid.crs)
    for name, image in window.image.items():
        _write(temporary / f"{name}.tif", image, here, nodata=float("nan"), like=reader.stack.present[name])
    if window.labels is not None:
        _write(temporary / "labels.tif", window.labels[None], here, nodata=IGNORE, like=None)
    temporary.rename(chip)


def _write(
    path: Path, values: NDArray[np.float32] | NDArray[np.uint8], grid: GeoBox, *, nodata: float, like: Path | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # chips have no position, by declaration
        with rasterio.open(
            path, "w", driver="GTiff", count=len(values), height=grid.shape[0], width=grid.shape[1],
            dtype=values.dtype, crs=None if grid.crs is None else grid.crs.to_wkt(), transform=grid.affine,
            nodata=nodata, compress="deflate", predictor=1 if values.dtype == np.uint8 else 3,
        ) as file:  # fmt: skip
            file.write(values)
            if like is not None:
                with rasterio.open(like) as source:
                    file.descriptions = source.descriptions
                    file.update_tags(**{key: text for key, text in source.tags().items() if key in _KEPT_TAGS})


#: Tags of the aligned raster that a chip carries on.
_KEPT_TAGS = frozenset({"unit", "acquired", "registration_confidence"})
