"""Command coregister REF MOV...: bring files onto a reference, with figures and pictures, without a configuration."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..datasets.modality import Unit
from ..datasets.scene import Scene, check_scene
from .aligned_files import quicklook, save_quicklooks, write_aligned, write_quality, write_record
from .aligned_styles import write_aligned_styles
from .coregister_scenes import reference_grid, require_overlap
from .errors import AlignmentError
from .file_modality import open_file
from .placement import Placement, Registration, place
from .progress import track
from .registration_page import write_registration_page
from .run_folder import fingerprint
from .stage_options import CoregisterOptions

#: File that holds all figures; written after the rasters, and before the page that is drawn from it.
RECORD, PAGE = "coregistration.json", "registration.html"


@dataclass(frozen=True, kw_only=True)
class FilesResult:
    """What was written.

    Attributes
    ----------
    registrations
        Of every file, by its stem, the reference first.
    outputs
        Aligned rasters, by stem; files that were refused have none unless their position is kept.
    page
        HTML page with pictures and figures.
    fresh
        False where everything was there already.
    """

    registrations: Mapping[str, Registration]
    outputs: Mapping[str, Path]
    page: Path
    fresh: bool


def coregister_files(
    reference: Path,
    moving: Sequence[Path],
    *,
    folder: Path,
    options: CoregisterOptions,
    units: Mapping[str, Unit],
    force: bool = False,
) -> FilesResult:
    """Bring files onto the grid of a reference.

    Parameters
    ----------
    reference
        File whose position is right by definition.
    moving
        Files to move.
    folder
        Receives ``<stem>.tif`` (float32, the file's own unit, NaN = nothing valid), ``<stem>.registration.tif``
        (confidence, 90 % circle and correction by place), pictures, ``registration.html`` and ``coregistration.json``.
    options
        Search radius, and what to do on failure: ``refuse`` writes no raster of a file that cannot be registered.
    units
        Stem or file name -> unit, where a file does not tell.
    force
        Do it again even where nothing has changed.

    Raises
    ------
    SceneError, AlignmentError
        If a file cannot be used, or does not overlap the reference.
    """
    paths = _named([reference, *moving])
    unknown = sorted(set(units) - set(paths) - {path.name for path in paths.values()})
    if unknown:
        raise AlignmentError(f"found a unit for '{unknown[0]}'; wanted one of the files {', '.join(paths)}; correct it")
    _require_apart(paths, folder)
    mark = fingerprint(
        inputs={name: [str(path.resolve()), *_state(path)] for name, path in paths.items()},
        options=options.model_dump(mode="json"), units=dict(units),
    )  # fmt: skip
    known = None if force else _finished(folder, mark)
    if known is None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (PAGE, RECORD):
            (folder / name).unlink(missing_ok=True)
        scenes = {
            name: open_file(path, name=name, unit=units.get(name) or units.get(path.name))
            for name, path in paths.items()
        }
        _align(scenes, folder=folder, options=options, mark=mark)
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    registrations = {name: Registration(**item) for name, item in record["registrations"].items()}
    rasters = {name: folder / f"{name}.tif" for name in registrations}
    return FilesResult(
        registrations=registrations, outputs={name: path for name, path in rasters.items() if path.is_file()},
        page=folder / PAGE, fresh=known is None,
    )  # fmt: skip


def _align(scenes: Mapping[str, Scene], *, folder: Path, options: CoregisterOptions, mark: str) -> None:
    anchor = next(iter(scenes))
    for scene in scenes.values():
        check_scene(scene)
    grid = reference_grid(scenes[anchor])
    if grid.crs is None:
        raise AlignmentError(
            f"{scenes[anchor].path}: found no position; wanted a georeferenced reference; georeference it first"
        )
    for name, scene in scenes.items():
        require_overlap(name, scene, grid, scenes[anchor])
    placements: dict[str, Placement] = {}
    pictures: dict[str, NDArray[np.float32]] = {}
    keeping = options.model_copy(update={"on_failure": "keep"})  # one file's failure is no reason to lose the others
    for name, placement in track(place(scenes, anchor, grid, options=keeping), "coregister", total=len(scenes)):
        scene, placements[name] = scenes[name], placement
        raster = folder / f"{name}.tif"
        raster.unlink(missing_ok=True)
        pictures |= quicklook(scene, grid, placement)
        if placement.layer is not None:
            placement.layer.save(folder / f"{name}.registration.tif")
        if name != anchor or scene.geobox != grid:
            if placement.registration.applied or options.on_failure == "keep":
                write_aligned(scene, grid, placement, path=raster, own_unit=True)
            if scene.quality is not None:
                write_quality(scene, grid, placement, path=folder / f"{name}.quality.tif")
    save_quicklooks(folder / "quicklooks.npz", pictures)
    suffixes = (".tif", ".quality.tif", ".registration.tif")
    write_aligned_styles(folder / f"{name}{suffix}" for name in scenes for suffix in suffixes)
    write_record(folder / RECORD, placements, resume=mark)
    write_registration_page(folder, reference=scenes[anchor])


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Name files by their stems, numbered where these repeat."""
    named: dict[str, Path] = {}
    for path in paths:
        stem = path.name.removesuffix(".zip").rsplit(".", 1)[0] or path.name
        name, number = stem, 2
        while name in named:
            name, number = f"{stem}-{number}", number + 1
        named[name] = path
    return named


def _require_apart(paths: Mapping[str, Path], folder: Path) -> None:
    """Refuse an output folder in which an aligned raster would take the place of what it is made from."""
    inputs = {path.resolve() for path in paths.values()}
    for name in paths:
        if (folder / f"{name}.tif").resolve() in inputs:
            raise AlignmentError(
                f"{folder}: found the input {name}.tif in the folder to write; wanted another folder, so that no input "
                "is replaced; name one with -o"
            )


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise AlignmentError(f"{path}: found no file; wanted a raster or product; correct the path") from error
    return status.st_size, status.st_mtime_ns


def _finished(folder: Path, mark: str) -> str | None:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(record, dict) and record.get("resume") == mark and (folder / PAGE).is_file()
    return mark if is_whole else None


def told(result: FilesResult) -> Iterator[str]:
    """Yield the lines to print at the end: each file's registration, and what was written where."""
    for name, item in result.registrations.items():
        sure = f"; confidence {item.confidence:.2f}" if item.applied and item.kind != "reference" else ""
        yield f"{name:<24} {item.note}{sure}"
    for path in result.outputs.values():
        yield f"{'wrote' if result.fresh else 'unchanged':<9} {path}"
    yield f"{'wrote' if result.fresh else 'unchanged':<9} {result.page}"
