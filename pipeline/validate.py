"""Validation: every input opened and checked before anything runs."""

from collections import Counter
from dataclasses import dataclass, field

from ..datasets.errors import DatasetError
from ..datasets.integrity import verify_product
from ..datasets.labels import read_labels
from ..datasets.scene import Scene, check_scene
from .acquire_options import read_area
from .config import Config
from .coregister_scenes import open_modality, reference_grid, require_overlap
from .errors import PipelineError
from .progress import track
from .scene_dates import refuse_late_priors
from .scene_tables import images_of, with_tables
from .scenes import SceneFiles, resolve_scenes
from .unit_notes import unit_notes


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What was found.

    Attributes
    ----------
    scenes
        Their number.
    problems
        What is wrong, a line each.
    notes
        What is allowed and looks like a slip, a line each; a note that holds for several scenes names the first.
    """

    scenes: int
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def validate_inputs(config: Config) -> Validation:
    """Open all inputs of a configuration and say what is wrong with them.

    Every raster is opened, its bands, CRS, units and overlap are checked, and all of its bytes are compared with its
    checksums or decoded, so that damage is found here and not hours later.
    """
    try:
        scenes = resolve_scenes(config)
    except PipelineError as error:
        return Validation(scenes=len(config.scenes), problems=[str(error)])
    problems: list[str] = []
    if config.predict.aoi is not None:
        try:
            read_area(config.predict.aoi)
        except PipelineError as error:
            problems.append(str(error))
    notes: dict[str, str] = {}
    others: Counter[str] = Counter()
    for scene in track(scenes, "validate", total=len(scenes)):
        opened: dict[str, Scene] = {}
        found = _problems(scene, config, opened)
        problems.extend(found)
        for name, note in [] if found else unit_notes(scene, opened, config):
            others[name] += 1
            notes.setdefault(name, f"scene '{scene.name}': {name} {note}")
    told = [
        text + (f" (and so in {others[name] - 1} more)" if others[name] > 1 else "") for name, text in notes.items()
    ]
    return Validation(scenes=len(scenes), problems=problems, notes=told)


def _problems(files: SceneFiles, config: Config, opened: dict[str, Scene]) -> list[str]:
    """Return what is wrong with a scene; ``opened`` receives its sensors."""
    problems: list[str] = []
    images = images_of(files, config.modalities)
    for name in images:
        try:
            for path in files.files[name].inputs:
                verify_product(path)
            opened[name] = open_modality(files, name, config.modalities[name])
            check_scene(opened[name])
        except DatasetError as error:
            problems.append(str(error))
    if len(opened) < len(images):
        return problems
    anchor = opened.get(config.reference) or next(iter(opened.values()))
    grid = reference_grid(anchor)
    for scene in opened.values():
        try:
            require_overlap(files.name, scene, grid, anchor)
        except PipelineError as error:
            problems.append(str(error))
    try:
        tables = with_tables(files, opened, grid, config.modalities, reference=config.reference)
        refuse_late_priors(files, tables, config.modalities, reference=config.reference)
    except DatasetError as error:
        problems.append(str(error))
    if files.labels is not None:
        try:
            verify_product(files.labels)
            read_labels(files.labels, grid, classes={item.source: item.value for item in config.classes})
        except DatasetError as error:
            problems.append(str(error))
    return problems
