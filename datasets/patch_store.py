"""The patch store: every patch of an index uncompressed in one block, so that reading one is reading one stretch."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DatasetError
from .patches import WINDOW_COLUMNS, PatchIndex
from .quality import Quality
from .stack import IGNORE, AlignedStack, StackReader, StackWindow

#: Patches between two marks of how far an interrupted store has come.
_MARK_EVERY = 256

_DESCRIPTION = "store.json"


class PatchStore:
    """Windows of a patch index as ``.npy`` files, mapped into memory.

    For each modality ``<name>.npy`` holds float32 (patch, band, y, x) in working units, NaN where not valid,
    ``<name>.quality.npy`` uint8 (patch, y, x) where a scene tells of clouds, and ``labels.npy`` uint8 (patch, y, x),
    255 = not labelled. Files are mapped on first use, separately in each process.

    Parameters
    ----------
    folder
        As :func:`write_store` wrote it.

    Raises
    ------
    DatasetError
        If the folder holds no finished store, or a file of it is gone or not as it was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            record = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
            self.fingerprint: str = record["fingerprint"]
            self._shape = (int(record["height"]), int(record["width"]))
            self._position = {(scene, row, col): n for n, (scene, row, col) in enumerate(record["patches"])}
            self._files: dict[str, str] = {}
            for name, (dtype, shape) in record["arrays"].items():
                self._files[name] = _file_name(name)
                _check(folder / self._files[name], np.dtype(dtype), tuple(shape))
        except (OSError, LookupError, TypeError, ValueError, AttributeError, SyntaxError) as error:
            raise DatasetError(
                f"{folder}: found no readable patch store ({type(error).__name__}: {' '.join(str(error).split())}); "
                "wanted what `tile.store` writes; run `equipoise tile --force`"
            ) from error

    def __len__(self) -> int:
        return len(self._position)

    def positions(self, index: PatchIndex) -> list[int]:
        """Return where the patches of an index lie in the store, in their order.

        Raises
        ------
        DatasetError
            If a patch is not in the store.
        """
        table = index.table
        sizes = {(int(h), int(w)) for h, w in zip(table["height"], table["width"], strict=True)}
        try:
            if sizes - {self._shape}:
                raise KeyError(sizes)
            return [
                self._position[key] for key in zip(*(table[name].tolist() for name in WINDOW_COLUMNS[:3]), strict=True)
            ]
        except KeyError as error:
            raise DatasetError(
                f"{self.folder}: found no patch {error} in the store; wanted all patches of the index; run `equipoise "
                "tile --force`"
            ) from error

    def read(self, position: int, stack: AlignedStack) -> StackWindow:
        """Return one patch; ``stack`` is the scene that it was cut from."""
        image, valid = {}, {name: np.zeros(self._shape, dtype=bool) for name in stack.modalities}
        for name in stack.present:
            values = np.array(self._mapped(f"image {name}")[position])
            image[name], valid[name] = values, np.asarray(np.isfinite(values).all(axis=0))
        return StackWindow(
            image=image, valid=valid,
            labels=None if stack.labels is None else np.array(self._mapped("labels")[position]),
            quality={name: np.array(self._mapped(f"quality {name}")[position]) for name in stack.clouds},
            acquired=stack.acquired,
        )  # fmt: skip

    def _mapped(self, name: str) -> NDArray[Any]:
        return _map(os.getpid(), self.folder / self._files[name], self.fingerprint)


def _check(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Compare header and length of a file with what was written; ValueError or OSError where they differ."""
    with path.open("rb") as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{path.name} has another format")
        found_shape, _, found_dtype = np.lib.format.read_array_header_1_0(stream)
        begin = stream.tell()
    size = begin + dtype.itemsize * int(np.prod(shape))
    if (found_shape, found_dtype, path.stat().st_size) != (shape, dtype, size):
        raise ValueError(f"{path.name} holds {found_dtype} {found_shape} in {path.stat().st_size} bytes")


@lru_cache(maxsize=64)
def _map(process: int, path: Path, fingerprint: str) -> NDArray[Any]:
    del process, fingerprint  # parts of the key: a store that was written anew is mapped anew
    try:
        mapped: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(
            f"{path}: found no readable part of a patch store ({error}); wanted it whole; run `equipoise tile --force`"
        ) from error
    return mapped


def write_store(
    folder: Path,
    index: PatchIndex,
    stacks: Mapping[str, AlignedStack],
    *,
    fingerprint: str,
    watch: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> PatchStore:
    """Store all patches of an index.

    The files are written below a temporary name, with a mark of how far they have come, and renamed together. A store
    of the same fingerprint that is there is kept; one that was interrupted is gone on with.

    Parameters
    ----------
    folder
        Where the store shall be; another one there is replaced.
    index
        Patches of one size.
    stacks
        Scene -> its aligned rasters.
    fingerprint
        Hash of all that the patches depend on.
    watch
        Gives back the positions that are to be stored, one by one, and may show how far they have come.

    Raises
    ------
    DatasetError
        If patches differ in size, or an aligned raster cannot be read.
    """
    if (known := _finished(folder)) is not None and known.fingerprint == fingerprint:
        return known
    rows = list(zip(*(index.table[name].tolist() for name in WINDOW_COLUMNS[:5]), strict=True))
    if len(sizes := {row[3:] for row in rows}) != 1:
        raise DatasetError(f"found patches of {len(sizes)} sizes; wanted one size in a store; set `tile.store: none`")
    height, width = next(iter(sizes))
    partial = folder.with_name(f".{folder.name}.partial")
    done = _done(partial, fingerprint)
    arrays = _arrays(partial, [stacks[name] for name in index.table["scene"].unique()], len(rows), height, width)
    readers = {name: StackReader(stack) for name, stack in stacks.items()}
    for position in watch(range(done, len(rows))):
        scene, row, col, *_ = rows[position]
        _put(arrays, position, readers[scene].read(row, col, height=height, width=width))
        if position % _MARK_EVERY == _MARK_EVERY - 1:
            _flush(arrays)
            _mark(partial, fingerprint, position + 1)
    _flush(arrays)
    record = {
        "fingerprint": fingerprint, "height": height, "width": width, "patches": [row[:3] for row in rows],
        "arrays": {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()},
    }  # fmt: skip
    del arrays
    (partial / "progress.json").unlink(missing_ok=True)
    (partial / _DESCRIPTION).write_text(json.dumps(record), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return PatchStore(folder)


def _finished(folder: Path) -> PatchStore | None:
    try:
        return PatchStore(folder)
    except DatasetError:
        return None


def _done(partial: Path, fingerprint: str) -> int:
    """Patches that an interrupted store of the same fingerprint holds; another one is removed."""
    try:
        record = json.loads((partial / "progress.json").read_text(encoding="utf-8"))
        if record["fingerprint"] == fingerprint:
            return int(record["done"])
    except (OSError, LookupError, TypeError, ValueError):
        pass  # no mark: nothing to go on from
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _mark(partial, fingerprint, 0)
    return 0


def _mark(partial: Path, fingerprint: str, done: int) -> None:
    temporary = partial / "progress.json.tmp"
    temporary.write_text(json.dumps({"fingerprint": fingerprint, "done": done}), encoding="utf-8")
    temporary.replace(partial / "progress.json")


def _arrays(
    folder: Path, stacks: Sequence[AlignedStack], count: int, height: int, width: int
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """Files of the store, opened to be written: ``image <name>``, ``quality <name>``, ``labels``."""
    bands: dict[str, int] = {}
    for stack in stacks:
        if stack.present.keys() - bands.keys():
            window = StackReader(stack).read(0, 0, height=1, width=1)
            bands |= {name: len(image) for name, image in window.image.items()}
    wanted: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
    wanted = {f"image {name}": (np.dtype(np.float32), (count, n, height, width)) for name, n in bands.items()}
    clouded = dict.fromkeys(name for stack in stacks for name in stack.clouds)
    wanted |= {f"quality {name}": (np.dtype(np.uint8), (count, height, width)) for name in clouded}
    if any(stack.labels is not None for stack in stacks):
        wanted["labels"] = (np.dtype(np.uint8), (count, height, width))
    needed = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in wanted.values())
    # Files of an interrupted store have their full length from the start, and room on the disk for what was written.
    kept = sum(getattr(path.stat(), "st_blocks", 0) * 512 for path in folder.glob("*.npy"))
    free = shutil.disk_usage(folder).free + kept
    if needed > free:
        raise DatasetError(
            f"{folder.parent}: found room for {free / 1e9:.1f} GB; wanted {needed / 1e9:.1f} GB for the patches "
            "uncompressed; make room, or set `tile.store: none`"
        )
    arrays: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape) in wanted.items():
        path = folder / _file_name(name)
        arrays[name] = np.lib.format.open_memmap(
            path, mode="r+" if path.is_file() else "w+", dtype=dtype, shape=shape
        )  # fmt: skip
    return arrays


def _file_name(name: str) -> str:
    kind, _, modality = name.partition(" ")
    if modality != Path(modality).name:
        raise ValueError(f"a modality named {modality!r}")
    return {"image": f"{modality}.npy", "quality": f"{modality}.quality.npy", "labels": "labels.npy"}[kind]


def _put(arrays: Mapping[str, NDArray[Any]], position: int, window: StackWindow) -> None:
    for name, array in arrays.items():
        kind, _, modality = name.partition(" ")
        if kind == "image":
            array[position] = window.image.get(modality, np.nan)
        elif kind == "quality":
            array[position] = window.quality.get(modality, Quality.UNKNOWN)
        else:
            array[position] = IGNORE if window.labels is None else window.labels


def _flush(arrays: Mapping[str, NDArray[Any]]) -> None:
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()
