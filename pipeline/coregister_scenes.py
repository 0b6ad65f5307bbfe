"""Stage coregister: bring every modality of the scenes onto one grid, correcting its position on the way."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.labels import read_labels
from ..datasets.opening import open_scene
from ..datasets.raster import cog_writer
from ..datasets.scene import Scene, check_scene
from ..datasets.source import as_source
from ..datasets.stack import IGNORE, AlignedStack
from .aligned_files import quicklook, save_quicklooks, write_aligned, write_quality, write_record
from .errors import AlignmentError
from .placement import Placement, Registration, place
from .progress import track
from .scene_options import ClassOptions, ModalityOptions
from .scenes import SceneFiles
from .stage_options import CoregisterOptions
from .verification import verify_checksums

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CoregisterResult:
    """Aligned stacks, the files that were written, and the registrations by scene and modality."""

    stacks: tuple[AlignedStack, ...]
    outputs: tuple[Path, ...]
    registrations: Mapping[str, Mapping[str, Registration]]


def coregister_scenes(
    scenes: Sequence[SceneFiles],
    modalities: Mapping[str, ModalityOptions],
    *,
    reference: str,
    classes: Sequence[ClassOptions],
    options: CoregisterOptions,
    folder: Path,
    resume: str,
) -> CoregisterResult:
    """Align all scenes; those that an interrupted run with the same ``resume`` mark has finished are kept.

    Parameters
    ----------
    scenes, modalities
        What to align, and what its numbers mean.
    reference
        Modality whose grid the others are brought onto, where a scene has it.
    classes
        Declared classes: other label values are refused.
    options
        Method and limits.
    folder
        Receives one folder a scene.
    resume
        Fingerprint of the stage.

    Raises
    ------
    SceneError, LabelError, AlignmentError
        If a file cannot be used or contradicts its product's checksum, or modalities do not overlap.
    NotRegistrable
        If a modality cannot be registered and ``options.on_failure`` is ``refuse``.
    """
    stacks, outputs, registrations = [], [], {}
    finished = {scene.name: _finished(folder / scene.name, resume) for scene in scenes}
    verify_checksums(
        path for scene in scenes if finished[scene.name] is None
        for source in scene.files.values() for path in as_source(source).inputs
    )  # fmt: skip
    for scene in track(scenes, "coregister", total=len(scenes)):
        target = folder / scene.name
        known = finished[scene.name]
        if known is None:
            placements = _align(
                scene, modalities, reference=reference, classes=classes, options=options, folder=target
            )  # fmt: skip
            known = {name: item.registration for name, item in placements.items()}
            write_record(target / "coregistration.json", placements, resume=resume)
        registrations[scene.name] = known
        stacks.append(AlignedStack.load(target / "stack.json"))
        outputs.extend(sorted(path for path in target.iterdir() if path.is_file()))
    return CoregisterResult(stacks=tuple(stacks), outputs=tuple(outputs), registrations=registrations)


def _finished(folder: Path, resume: str) -> dict[str, Registration] | None:
    try:
        record = json.loads((folder / "coregistration.json").read_text(encoding="utf-8"))
        if record["resume"] != resume:
            return None
        return {name: Registration(**item) for name, item in record["registrations"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not finished: a damaged mark is no mark


def _align(
    files: SceneFiles,
    modalities: Mapping[str, ModalityOptions],
    *,
    reference: str,
    classes: Sequence[ClassOptions],
    options: CoregisterOptions,
    folder: Path,
) -> dict[str, Placement]:
    opened = {name: open_modality(files, name, modalities[name]) for name in files.files}
    for scene in opened.values():
        check_scene(scene)
    anchor = reference if reference in opened else next(iter(opened))
    grid = reference_grid(opened[anchor])
    for scene in opened.values():
        require_overlap(files.name, scene, grid, opened[anchor])
    placements: dict[str, Placement] = {}
    quicklooks: dict[str, NDArray[np.float32]] = {}
    for name, placement in place(opened, anchor, grid, options=options):
        scene, placements[name] = opened[name], placement
        if not placement.registration.applied:
            log.warning("scene '%s', %s: %s", files.name, name, placement.registration.note)
        write_aligned(scene, grid, placement, path=folder / f"{name}.tif")
        if scene.quality is not None:
            write_quality(scene, grid, placement, path=folder / f"{name}.quality.tif")
        if placement.layer is not None:
            placement.layer.save(folder / f"{name}.registration.tif")
        quicklooks |= quicklook(scene, grid, placement)
    save_quicklooks(folder / "quicklooks.npz", quicklooks)
    labels = None if files.labels is None else folder / "labels.tif"
    if files.labels is not None and labels is not None:
        values = read_labels(files.labels, grid, classes={item.source: item.value for item in classes})
        with cog_writer(
            labels, grid, count=1, dtype="uint8", nodata=IGNORE, overview_resampling="mode", descriptions=("class",),
            colours={item.value: item.rgb for item in classes},
        ) as writer:  # fmt: skip
            writer.write(values, 1)
    AlignedStack(
        name=files.name, geobox=grid, modalities=tuple(modalities), missing=files.missing, labels=labels,
        present={name: folder / f"{name}.tif" for name in files.files}, label=files.label, split=files.split,
        clouds={name: folder / f"{name}.quality.tif" for name, scene in opened.items() if scene.quality is not None},
        confidence={
            name: item.registration.confidence for name, item in placements.items() if item.registration.measured
        }, group=files.group,
        registration={
            name: folder / f"{name}.registration.tif" for name, item in placements.items() if item.layer is not None
        },
        acquired={name: scene.acquired for name, scene in opened.items() if scene.acquired is not None},
    ).save(folder / "stack.json")  # fmt: skip
    return {name: placements[name] for name in opened}


def open_modality(files: SceneFiles, name: str, options: ModalityOptions) -> Scene:
    """Open one modality of a place as its options say.

    Raises
    ------
    SceneError
        If it cannot be used as declared.
    """
    scene = open_scene(
        files.files[name], options.modality(name, offset=files.offset.get(name)), georeferenced=files.georeferenced,
        handling=options.handling(),
    )  # fmt: skip
    declared = files.acquired.get(name)
    return scene if declared is None else replace(scene, acquired=declared)


def reference_grid(scene: Scene) -> GeoBox:
    """Return the grid for a scene's stack: its own where that is metric and north-up, else one in its UTM zone."""
    geobox = scene.geobox
    if geobox.crs is None or (geobox.crs.projected and geobox.axis_aligned):
        return geobox
    return geobox.to_crs("utm")


def require_overlap(name: str, scene: Scene, grid: GeoBox, anchor: Scene) -> None:
    """Refuse a scene that lies wholly outside the grid of scene ``name``'s anchor.

    Raises
    ------
    AlignmentError
        If they do not overlap.
    """
    if grid.crs is None or scene.geobox.crs is None:
        return
    if scene.geobox.footprint(grid.crs).intersection(grid.extent).area <= 0:
        raise AlignmentError(
            f"scene '{name}': found {scene.path.name} ({scene.modality.name}) outside the area of "
            f"{anchor.path.name} ({anchor.modality.name}); wanted overlapping files; check that they are of one place"
        )
