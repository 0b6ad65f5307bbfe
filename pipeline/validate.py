"""Validation: every input opened and checked before anything runs."""

from ..datasets.errors import DatasetError
from ..datasets.labels import read_labels
from ..datasets.scene import Scene, check_scene, open_scene
from .config import Config
from .coregister import reference_grid, require_overlap
from .errors import PipelineError
from .progress import track
from .scenes import SceneFiles, resolve_scenes


def validate_inputs(config: Config) -> tuple[list[str], int]:
    """Return what is wrong with the inputs of a configuration, one line each, and the number of scenes.

    Every raster is opened, its bands, CRS, units and overlap are checked, and its pixels are read once, so that a
    truncated file is found here and not hours later.
    """
    try:
        scenes = resolve_scenes(config)
    except PipelineError as error:
        return [str(error)], len(config.scenes)
    problems: list[str] = []
    for scene in track(scenes, "validate", total=len(scenes)):
        problems.extend(_problems(scene, config))
    return problems, len(scenes)


def _problems(files: SceneFiles, config: Config) -> list[str]:
    problems: list[str] = []
    opened: dict[str, Scene] = {}
    for name, path in files.files.items():
        try:
            modality = config.modalities[name].modality(name, offset=files.offset.get(name))
            opened[name] = open_scene(path, modality, georeferenced=files.georeferenced)
            check_scene(opened[name])
            _read_all(opened[name])
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
            read_labels(files.labels, grid, classes={item.source: item.value for item in config.classes})
        except DatasetError as error:
            problems.append(str(error))
    return problems


def _read_all(scene: Scene) -> None:
    rows = scene.geobox.shape[0]
    for row in range(0, rows, 1024):
        scene.read((slice(row, min(row + 1024, rows)), slice(None)))
