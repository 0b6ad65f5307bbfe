"""What `equipoise init` says of the configuration that it made: what was found, what was guessed, what comes next."""

from pathlib import Path
from typing import Any

from ..datasets.modality import Unit
from .config import parse_config
from .errors import ConfigError
from .init_classes import made_up
from .init_files import FromFiles
from .init_model import ModelNeeds
from .init_units import looks_of
from .scenes import SceneFiles, resolve_scenes


def found_words(made: FromFiles, *, path: Path, force: bool) -> list[str]:
    """Return lines for people.

    Parameters
    ----------
    made
        The configuration and what it was made of.
    path
        Where it is written.
    force
        Whether an earlier file is replaced: what is said to be added then needs no --force.

    Raises
    ------
    ConfigError
        If the scenes cannot be put together, or none is labelled though it is to train.
    """
    scenes = _resolved(made, path)
    again = "" if force else " --force"
    config = made.config
    lines = [_sensor(made, key) for key in config.modalities]
    lines += [f"{'':<11} {text}" for key in config.modalities if (text := _unit_hint(made, key, again))]
    lines.append(f"{'scenes':<11} {_scenes(scenes, made)}")
    if made.model is not None:
        lines += _model_words(made, made.model)
    else:
        lines.append(f"{'classes':<11} {', '.join(item.name for item in config.classes)}")
        unnamed = [item.source for item in config.classes if item.name == made_up(item.source)]
        if unnamed:
            example = ",".join(f"{value}=..." for value in unnamed[:2]) + (",..." if len(unnamed) > 2 else "")
            lines.append(f"{'':<11} the labels tell no names; give them with --classes {example}{again}")
    if config.task == "classification":
        lines.append(f"{'':<11} a class a chip; chips are taken as they lie (coregister.method: none)")
    return [*lines, f"wrote {path}; check it with: equipoise validate {path}; then: equipoise run {path}"]


def found_record(made: FromFiles, *, path: Path) -> dict[str, Any]:
    """Return the same as plain values."""
    return {
        "config": path, "task": made.config.task, "scenes": len(_resolved(made, path)),
        "units": {key: str(item.unit) for key, item in made.config.modalities.items()},
        "classes": {item.name: item.value for item in made.config.classes},
    }  # fmt: skip


def _resolved(made: FromFiles, path: Path) -> list[SceneFiles]:
    """Return the scenes that the configuration stands for; labels that fit none of them are refused."""
    config = made.config
    scenes = resolve_scenes(parse_config(config.model_dump(mode="json"), origin=path))
    if made.model is None and not any(_labelled(scene) for scene in scenes):
        labels = config.scenes[0].label_table or config.scenes[0].labels
        what = "rows of" if config.task == "classification" else "files of"
        raise ConfigError(
            f"{labels}: found no label of {scenes[0].name} nor of any other of {len(scenes)} scene(s); wanted {what} "
            "the same ids as those of the sensors' files; correct the names"
        )
    return scenes


def _labelled(scene: SceneFiles) -> bool:
    return scene.labels is not None or scene.label is not None


def _sensor(made: FromFiles, key: str) -> str:
    bands, held = made.config.modalities[key].bands, len(made.scenes[key].modality.bands)
    count = f"{len(bands)} of {held} bands" if len(bands) < held else f"{held} band{'s' if held > 1 else ''}"
    return f"{key:<11} {count}, {made.config.modalities[key].unit}"


def _unit_hint(made: FromFiles, key: str, again: str) -> str:
    """Return what may be done about a file that tells no unit, from what its values look like."""
    told = key in made.given.units or made.model is not None
    if told or made.config.modalities[key].unit is not Unit.DIGITAL_NUMBER:
        return ""
    looks = looks_of(made.scenes[key], key)
    if looks.unit is None:
        return f"{key} tells no unit ({looks.range}); if you know it, add --unit {key}=...{again}: {', '.join(Unit)}"
    scale = "" if looks.scale is None else f" --scale {key}={looks.scale:g}"
    return f"{key} tells no unit; {looks.range} may be {looks.unit}: if so, add --unit {key}={looks.unit}{scale}{again}"


def _scenes(scenes: list[SceneFiles], made: FromFiles) -> str:
    text = f"{len(scenes)}"
    if made.model is None and (bare := sum(not _labelled(scene) for scene in scenes)):
        text += f", {bare} without labels: mapped, not trained on"
    for key in made.config.modalities:
        if lacking := sum(key in scene.missing for scene in scenes):
            text += f", {lacking} without {key}"
    return text


def _model_words(made: FromFiles, model: ModelNeeds) -> list[str]:
    lines = [f"{'model':<11} {made.config.task} of {', '.join(model.classes)}"]
    if absent := [name for name in model.names if name not in made.config.modalities]:
        lines.append(f"{'':<11} it also knows {', '.join(absent)}: it maps without, and less surely")
    return lines
