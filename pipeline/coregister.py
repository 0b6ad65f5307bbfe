"""Stage coregister: bring every modality of a scene onto one grid, correcting its position on the way."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.displacement import Displacement
from ..datasets.labels import read_labels
from ..datasets.opening import open_scene
from ..datasets.quality import Quality
from ..datasets.raster import cog_writer
from ..datasets.scene import Scene, check_scene
from ..datasets.source import as_source
from ..datasets.stack import IGNORE, AlignedStack
from ..datasets.warp import BAND_ROWS, warp, warp_bands, warp_quality
from .errors import AlignmentError
from .matching import match_shift
from .progress import track
from .run_folder import write_text
from .scene_options import ClassOptions, ModalityOptions
from .scenes import SceneFiles
from .stage_options import CoregisterOptions
from .verification import verify_checksums

log = logging.getLogger(__name__)

#: Largest edge in pixels of the area that is searched for a shift: beyond it, accuracy no longer gains.
MATCH_EDGE = 1536

#: Up to this ratio of pixel sizes, matching is done on the reference's own pixels.
FINEST_RATIO = 4.0

#: Largest edge in pixels of the pictures kept for the report.
QUICKLOOK_EDGE = 480

#: Rows of these pictures that are resampled at once.
QUICKLOOK_ROWS = 16


#: Note of a modality whose position was taken as it is.
NOT_MEASURED = "position as given, not measured"


@dataclass(frozen=True, kw_only=True)
class Registration:
    """How one modality was brought onto the reference.

    Attributes
    ----------
    east, north
        Correction that was added to the file's position, in units of the grid's CRS.
    correlation
        Edge correlation at the best shift, -1 to 1.
    confidence
        0 to 1; the reference has 1.
    applied
        False where the measured shift was refused and the file's own position was kept.
    note
        What happened, in words.
    """

    east: float
    north: float
    correlation: float
    confidence: float
    applied: bool
    note: str

    @property
    def measured(self) -> bool:
        """Whether the confidence says anything."""
        return self.note != NOT_MEASURED


@dataclass(frozen=True, kw_only=True)
class CoregisterResult:
    """Aligned stacks, the files that were written, and the registrations by scene and modality."""

    stacks: tuple[AlignedStack, ...]
    outputs: tuple[Path, ...]
    registrations: Mapping[str, Mapping[str, Registration]]


def coregister(
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
            known = _align(
                scene, modalities, reference=reference, classes=classes, options=options, folder=target
            )  # fmt: skip
            record = {"resume": resume, "registrations": {name: asdict(item) for name, item in known.items()}}
            write_text(target / "coregistration.json", json.dumps(record, indent=2))
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
) -> dict[str, Registration]:
    opened = {name: open_modality(files, name, modalities[name]) for name in files.files}
    for scene in opened.values():
        check_scene(scene)
    anchor = opened.get(reference) or next(iter(opened.values()))
    grid = reference_grid(anchor)
    registrations: dict[str, Registration] = {}
    quicklooks: dict[str, NDArray[np.float32]] = {}
    for name, scene in opened.items():
        require_overlap(files.name, scene, grid, anchor)
        registration = _register(scene, anchor, grid, options=options)
        if not registration.applied:
            log.warning("scene '%s', %s: %s", files.name, name, registration.note)
        _write_aligned(scene, grid, registration=registration, path=folder / f"{name}.tif")
        if scene.quality is not None:
            _write_quality(scene, grid, registration=registration, path=folder / f"{name}.quality.tif")
        quicklooks |= _quicklooks(scene, grid, registration=registration)
        registrations[name] = registration
    temporary = folder / ".quicklooks.tmp.npz"  # the suffix keeps numpy from adding its own
    np.savez_compressed(temporary, allow_pickle=False, **quicklooks)
    temporary.replace(folder / "quicklooks.npz")
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
        present={name: folder / f"{name}.tif" for name in opened}, label=files.label, split=files.split,
        clouds={name: folder / f"{name}.quality.tif" for name, scene in opened.items() if scene.quality is not None},
        confidence={name: item.confidence for name, item in registrations.items() if item.measured}, group=files.group,
        acquired={name: scene.acquired for name, scene in opened.items() if scene.acquired is not None},
    ).save(folder / "stack.json")  # fmt: skip
    return registrations


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


def _register(scene: Scene, anchor: Scene, grid: GeoBox, *, options: CoregisterOptions) -> Registration:
    if scene is anchor:
        return Registration(east=0, north=0, correlation=1, confidence=1, applied=True, note="reference")
    if grid.crs is None or options.method == "none":
        return Registration(east=0, north=0, correlation=0, confidence=0, applied=True, note=NOT_MEASURED)
    matching = _matching_grid(grid, scene)
    pixel = abs(matching.resolution.x)
    match = match_shift(
        _as_seen(anchor, matching), _as_seen(scene, matching), radius=max(2, round(options.max_shift_m / pixel))
    )  # fmt: skip
    if match is None:
        note = "position as given: the common area is too small or without edges to measure a shift"
        return Registration(east=0, north=0, correlation=0, confidence=0, applied=False, note=note)
    if match.confidence < options.min_confidence:
        note = f"position as given: confidence {match.confidence:.2f} is below {options.min_confidence:.2f}"
        return Registration(
            east=0, north=0, correlation=match.correlation, confidence=match.confidence, applied=False, note=note
        )
    east, north = -match.cols * matching.resolution.x, -match.rows * matching.resolution.y
    return Registration(
        east=round(float(east), 4), north=round(float(north), 4), correlation=round(match.correlation, 4),
        confidence=round(match.confidence, 4), applied=True, note=f"moved {np.hypot(east, north):.1f} m",
    )  # fmt: skip


def _matching_grid(grid: GeoBox, scene: Scene) -> GeoBox:
    """Middle of the grid; coarser only where the moving pixels are much larger, since fine edges carry the match."""
    own = scene.geobox if grid.crs is None or scene.geobox.crs == grid.crs else scene.geobox.to_crs(grid.crs)
    factor = max(1.0, np.sqrt(abs(own.affine.determinant / grid.affine.determinant)))
    coarse = grid.zoom_out(factor / FINEST_RATIO) if factor > FINEST_RATIO else grid
    rows, cols = coarse.shape
    top, left = max(0, (rows - MATCH_EDGE) // 2), max(0, (cols - MATCH_EDGE) // 2)
    return coarse[top : min(rows, top + MATCH_EDGE), left : min(cols, left + MATCH_EDGE)]


def _as_seen(scene: Scene, grid: GeoBox) -> NDArray[np.float32]:
    return scene.modality.to_network(warp(scene, grid))


def _write_aligned(scene: Scene, grid: GeoBox, *, registration: Registration, path: Path) -> None:
    tags = {
        "unit": ",".join(str(band.working_unit) for band in scene.modality.bands),
        "shift_east": f"{registration.east}",
        "shift_north": f"{registration.north}",
        "registration_confidence": f"{registration.confidence}",
        "source": scene.path.name,
        **{f"source_{key}": text for key, text in scene.provenance.items()},
    }
    if scene.acquired is not None:
        tags["acquired"] = scene.acquired
    names = scene.modality.band_names
    any_valid = False
    with cog_writer(
        path, grid, count=len(names), dtype="float32", nodata=float("nan"), overview_resampling="average",
        descriptions=names, tags=tags,
    ) as writer:  # fmt: skip
        displacement = Displacement.constant(grid, east=registration.east, north=registration.north)
        for row, values in warp_bands(scene, grid, displacement=displacement):
            any_valid |= bool(np.isfinite(values).any())
            writer.write(values, window=((row, row + values.shape[1]), (0, values.shape[2])))
        if not any_valid:
            raise AlignmentError(
                f"{scene.path}: found no valid pixel on the common grid; wanted observed data there; check nodata "
                "and the files' positions"
            )


def _write_quality(scene: Scene, grid: GeoBox, *, registration: Registration, path: Path) -> None:
    displacement = Displacement.constant(grid, east=registration.east, north=registration.north)
    with cog_writer(
        path, grid, count=1, dtype="uint8", nodata=int(Quality.UNKNOWN), overview_resampling="mode",
        descriptions=("quality",), tags={str(int(code)): code.name.lower() for code in Quality},
    ) as writer:  # fmt: skip
        step = grid.shape[0] if grid.crs is None else BAND_ROWS
        for row in range(0, grid.shape[0], step):
            band = grid[row : min(row + step, grid.shape[0]), :]
            values = warp_quality(scene, band, displacement=displacement)
            writer.write(values, 1, window=((row, row + values.shape[0]), (0, values.shape[1])))


def _quicklooks(scene: Scene, grid: GeoBox, *, registration: Registration) -> dict[str, NDArray[np.float32]]:
    """Small pictures in network units: after alignment, and before it where the position was changed."""
    name = scene.modality.name
    if grid.crs is None:
        step = max(1, -(-max(grid.shape) // QUICKLOOK_EDGE))
        return {f"{name} after": scene.modality.to_network(scene.read())[:, ::step, ::step]}
    small = grid.zoom_out(max(1.0, max(grid.shape) / QUICKLOOK_EDGE))
    moves = {"after": (registration.east, registration.north), "before": (0.0, 0.0)}
    if moves["after"] == moves["before"]:
        del moves["before"]
    views = {}
    for moment, (east, north) in moves.items():
        # Some rows at a time: a small picture of a large scene needs all of its pixels, but not at once.
        displacement = Displacement.constant(grid, east=east, north=north)
        bands = [rows for _, rows in warp_bands(scene, small, displacement=displacement, rows=QUICKLOOK_ROWS)]
        views[f"{name} {moment}"] = scene.modality.to_network(np.concatenate(bands, axis=1))
    return views
