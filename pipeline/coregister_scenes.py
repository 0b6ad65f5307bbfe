"""Stage coregister: bring every modality of the scenes onto one grid, correcting its position on the way."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.errors import EmptySceneError
from ..datasets.labels import read_labels
from ..datasets.opening import open_scene
from ..datasets.raster import cog_writer
from ..datasets.scene import Scene, check_scene
from ..datasets.source import as_source
from ..datasets.stack import IGNORE, AlignedStack
from .aligned_files import quicklook, save_quicklooks, write_aligned, write_quality, write_record
from .aligned_styles import write_aligned_styles
from .errors import AlignmentError
from .placement import Placement, Registration, place
from .progress import track
from .scene_dates import known_dates, refuse_late_priors
from .scene_options import ClassOptions, ModalityOptions
from .scene_tables import images_of, with_tables
from .scenes import SceneFiles
from .stage_options import CoregisterOptions
from .verification import verify_checksums

#: Why a modality is missing in a part of a scene.
NOTHING_HERE = "no valid pixel in this part of the scene (nodata or clouds)"

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
        for name in images_of(scene, modalities) for path in as_source(scene.files[name]).inputs
    )  # fmt: skip
    for scene in track(scenes, "coregister", total=len(scenes)):
        target = folder / scene.name
        known = finished[scene.name]
        if known is None:
            placements = align_scene(
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


def align_scene(
    files: SceneFiles,
    modalities: Mapping[str, ModalityOptions],
    *,
    reference: str,
    classes: Sequence[ClassOptions],
    options: CoregisterOptions,
    folder: Path,
    part: GeoBox | None = None,
    with_pictures: bool = True,
) -> dict[str, Placement]:
    """Align one scene, and write its rasters and ``stack.json``.

    Parameters
    ----------
    files, modalities, reference, classes, options
        As for :func:`coregister_scenes`.
    folder
        Receives the files.
    part
        Grid that is written, where it is a part of the scene: a modality that has nothing there is missing. None: that
        of the reference, and each must have something.
    with_pictures
        Whether pictures for the report are kept, and styles for QGIS written, too.

    Returns
    -------
    Modality -> how it was placed.

    Raises
    ------
    SceneError, LabelError, AlignmentError, NotRegistrable
        As :func:`coregister_scenes`.
    """
    missing = dict(files.missing)
    images = _opened(files, modalities, missing, is_part=part is not None)
    if not images and part is not None:
        return _save_nothing(files, tuple(modalities), part, missing, folder)
    anchor = reference if reference in images else next(iter(images))
    grid = part or reference_grid(images[anchor])
    for scene in images.values() if part is None else ():
        require_overlap(files.name, scene, grid, images[anchor])
    opened = with_tables(files, images, grid, modalities, reference=reference)
    refuse_late_priors(files, opened, modalities, reference=reference)
    placements: dict[str, Placement] = {}
    quicklooks: dict[str, NDArray[np.float32]] = {}
    for name, placement in place(opened, anchor, grid, options=options):
        placements[name] = placement
        if not placement.registration.applied:
            log.warning("scene '%s', %s: %s", files.name, name, placement.registration.note)
        if not _write_modality(opened[name], grid, placement, stem=folder / name, is_part=part is not None):
            missing[name] = NOTHING_HERE
        elif with_pictures and not opened[name].uniform:
            quicklooks |= quicklook(opened[name], grid, placement)
    labels = None if files.labels is None else _write_labels(files.labels, grid, classes, path=folder / "labels.tif")
    if with_pictures:
        save_quicklooks(folder / "quicklooks.npz", quicklooks)
        write_aligned_styles(sorted(folder.glob("*.tif")), classes=classes)
    _stack(files, tuple(modalities), grid, opened, placements, missing, labels, folder).save(folder / "stack.json")
    return {name: placements[name] for name in opened}


def _save_nothing(
    files: SceneFiles, modalities: tuple[str, ...], part: GeoBox, missing: Mapping[str, str], folder: Path
) -> dict[str, Placement]:
    """Describe a part of a scene in which no modality has a valid pixel."""
    folder.mkdir(parents=True, exist_ok=True)
    AlignedStack(
        name=files.name, geobox=part, modalities=modalities, present={}, missing=missing, group=files.group
    ).save(folder / "stack.json")
    return {}


def _stack(
    files: SceneFiles,
    modalities: tuple[str, ...],
    grid: GeoBox,
    opened: Mapping[str, Scene],
    placements: Mapping[str, Placement],
    missing: Mapping[str, str],
    labels: Path | None,
    folder: Path,
) -> AlignedStack:
    """Describe what was written of a scene."""
    present = [name for name in files.files if name not in missing]
    return AlignedStack(
        name=files.name, geobox=grid, modalities=modalities, missing=missing, labels=labels,
        present={name: folder / f"{name}.tif" for name in present}, label=files.label, split=files.split,
        clouds={name: folder / f"{name}.quality.tif" for name in present if opened[name].quality is not None},
        confidence={name: placements[name].registration.confidence for name in present
                    if placements[name].registration.measured}, group=files.group,
        registration={
            name: folder / f"{name}.registration.tif" for name in present if placements[name].layer is not None
        },
        acquired=known_dates(files, {name: opened[name] for name in present}),
    )  # fmt: skip


def _opened(
    files: SceneFiles, modalities: Mapping[str, ModalityOptions], missing: dict[str, str], *, is_part: bool
) -> dict[str, Scene]:
    """Open and check the images; of a part of a scene, those without a valid pixel are noted as missing."""
    opened = {name: open_modality(files, name, modalities[name]) for name in images_of(files, modalities)}
    for name, scene in list(opened.items()):
        try:
            check_scene(scene)
        except EmptySceneError:
            if not is_part:
                raise
            missing[name] = NOTHING_HERE
            del opened[name]
    return opened


def _write_modality(scene: Scene, grid: GeoBox, placement: Placement, *, stem: Path, is_part: bool) -> bool:
    """Write a modality's bands, its quality codes and what is known of its position; False: not a pixel is there."""
    try:
        write_aligned(scene, grid, placement, path=stem.with_name(f"{stem.name}.tif"))
    except AlignmentError:
        if not is_part:
            raise
        return False
    if scene.quality is not None:
        write_quality(scene, grid, placement, path=stem.with_name(f"{stem.name}.quality.tif"))
    if placement.layer is not None:
        placement.layer.save(stem.with_name(f"{stem.name}.registration.tif"))
    return True


def _write_labels(source: Path, grid: GeoBox, classes: Sequence[ClassOptions], *, path: Path) -> Path:
    values = read_labels(source, grid, classes={item.source: item.value for item in classes})
    with cog_writer(
        path, grid, count=1, dtype="uint8", nodata=IGNORE, overview_resampling="mode", descriptions=("class",),
        colours={item.value: item.rgb for item in classes},
    ) as writer:  # fmt: skip
        writer.write(values, 1)
    return path


def open_modality(files: SceneFiles, name: str, options: ModalityOptions) -> Scene:
    """Open one image of a place as its options say.

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
