"""Validation: every input opened and checked before anything runs."""

from ..datasets.errors import DatasetError
from ..datasets.integrity import verify_product
from ..datasets.labels import read_labels
from ..datasets.scene import Scene, check_scene
from .acquire_options import read_area
from .config import Config
from .coregister_scenes import open_modality, reference_grid, require_overlap
from .errors import PipelineError
from .progress import track
from .scenes import SceneFiles, resolve_scenes


def validate_inputs(config: Config) -> tuple[list[str], int]:
    """Return what is wrong with the inputs of a configuration, one line each, and the number of scenes.

    Every raster is opened, its bands, CRS, units and overlap are checked, and all of its bytes are compared with its
    checksums or decoded, so that damage is found here and not hours later.
    """
    try:
        scenes = resolve_scenes(config)
    except PipelineError as error:
        return [str(error)], len(config.scenes)
    problems: list[str] = []
    if config.predict.aoi is not None:
        try:
            read_area(config.predict.aoi)
        except PipelineError as error:
            problems.append(str(error))
    for scene in track(scenes, "validate", total=len(scenes)):
        problems.extend(_problems(scene, config))
    return problems, len(scenes)


def _problems(files: SceneFiles, config: Config) -> list[str]:
    problems: list[str] = []
    opened: dict[str, Scene] = {}
    for name, source in files.files.items():
        try:
            for path in source.inputs:
                verify_product(path)
            opened[name] = open_modality(files, name, config.modalities[name])
            check_scene(opened[name])
        except DatasetError as error:
            problems.append(str(error))
    if len(opened) < len(files.files):
        return problems
    anchor = opened.get(config.reference) or next(iter(opened.values()))
    grid = reference_grid(anchor)
    for scene in opened.values():
        try:
            require_overlap(files.name, scene, grid, anchor)
        except PipelineError as error:
            problems.append(str(error))
    if files.labels is not None:
        try:
            verify_product(files.labels)
            read_labels(files.labels, grid, classes={item.source: item.value for item in config.classes})
        except DatasetError as error:
            problems.append(str(error))
    return problems
