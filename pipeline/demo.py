"""Demonstration: the embedded scene or a real sample, with its configuration, ready to run."""

from pathlib import Path
from typing import Any

from ..datasets.samples import fetch
from ..datasets.synthetic import write_scene
from .errors import ConfigError
from .nearest import did_you_mean
from .run_folder import RunFolder
from .templates import template_record, write_record

#: Real samples that have labels, and the template that trains on each.
SCENES = {"terramesh": "terramesh"}

#: Stands for the sample's folder in a template's file names.
SAMPLE_FOLDER = "SAMPLE"


def prepare_demo(folder: Path, *, scene: str | None = None, size: int = 1024) -> Path:
    """Write the scene (unless it is there) and its configuration into a run folder.

    Parameters
    ----------
    folder
        Run folder.
    scene
        A key of :data:`SCENES`, or None for the embedded scene.
    size
        Edge of the embedded scene, px of 10 m.

    Returns
    -------
    The configuration file.

    Raises
    ------
    ConfigError
        If ``scene`` is unknown.
    RunFolderError
        If the folder cannot be written.
    SampleError
        If the sample cannot be had.
    """
    if scene is not None and scene not in SCENES:
        raise ConfigError(
            f"found no labelled sample '{scene}'; wanted one of {', '.join(SCENES)}{did_you_mean(scene, SCENES)}"
        )
    RunFolder.open(folder)
    path = folder / "demo.yaml"
    if scene is None:
        if not (folder / "scene" / "truth.json").is_file():
            write_scene(folder / "scene", size=size)
        write_record(template_record("demo"), path)
        return path
    sample = fetch(scene).resolve()
    write_record(_with_folder(template_record(SCENES[scene]), str(sample)), path)
    return path


def _with_folder(value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_folder(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_folder(item, folder) for item in value]
    return value.replace(SAMPLE_FOLDER, folder) if isinstance(value, str) else value
