"""A configuration from files: what they hold is read from them, what they do not tell is asked for or declared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.modality import Unit
from ..datasets.opening import family_of
from ..datasets.scene import Scene
from .config import Config
from .errors import ConfigError
from .file_modality import open_file
from .init_classes import read_classes
from .init_given import Given, require_whole, task_of
from .init_model import ModelNeeds, fitted, read_needs
from .init_paths import PLACEHOLDER, first, matches, pattern_of, relative
from .init_table import is_table, read_table_classes
from .nearest import did_you_mean


@dataclass(frozen=True, kw_only=True)
class FromFiles:
    """A configuration and what it was made of.

    Attributes
    ----------
    config
        With paths relative to its folder.
    scenes
        Modality -> the first file, opened.
    model
        What the model wants, if one was given.
    given
        What the command was given.
    """

    config: Config
    scenes: Mapping[str, Scene]
    model: ModelNeeds | None
    given: Given


def config_of_files(given: Given, *, folder: Path) -> FromFiles:
    """Return a configuration for files, with paths relative to ``folder``.

    Raises
    ------
    ConfigError
        If something is missing or contradicts itself, or does not fit the model; the message names the flag.
    SceneError
        If a file does not open.
    CheckpointError
        If the model cannot be used.
    """
    require_whole(given)
    needs = None if given.model is None else read_needs(given.model)
    task = task_of(given, needs)
    patterns = {name: pattern_of(text) for name, text in given.files.items()}
    scenes = {name: open_given(first(path), name, given, needs) for name, path in patterns.items()}
    record: dict[str, Any] = {
        "name": given.name,
        "task": task,
        "modalities": {name: _modality(scene, name, given, needs) for name, scene in scenes.items()},
        "scenes": [_scene(patterns, given, task, folder)],
    }
    reference = next(iter(scenes.values()))
    if task == "classification":
        # Chips are too small to be matched, and lie as their maker laid them.
        record |= {"coregister": {"method": "none"}, "tile": {"patch_size": min(reference.geobox.shape)}}
    else:
        record["tile"] = _tiles(reference)
    if given.labels is not None:
        record["classes"] = classes_of(given.labels, given.classes)
    if given.model is not None:
        record["predict"] = {"model": relative(given.model, folder)}
    return FromFiles(config=Config.model_validate(record), scenes=scenes, model=needs, given=given)


def classes_of(labels: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the classes of a label raster, of many, or of a table of chips."""
    found = matches(pattern_of(labels))
    return read_table_classes(found[0], names) if is_table(labels) else read_classes(found, names)


def open_given(path: Path, name: str, given: Given, needs: ModelNeeds | None = None) -> Scene:
    """Open the file of a sensor, in the unit that was given for it, or that it tells."""
    unit = given.units.get(name)
    if unit is not None and unit not in set(Unit):
        raise ConfigError(f"found --unit {name}={unit}; wanted one of {', '.join(Unit)}{did_you_mean(unit, Unit)}")
    if unit is None and needs is not None and path.exists() and family_of(path)[0] != "raster":
        # A product has bands in several units, and tells them.
        unit = needs.modality(name).bands[0].unit
    return open_file(path, name=name, unit=None if unit is None else Unit(unit))


def _modality(scene: Scene, name: str, given: Given, needs: ModelNeeds | None) -> dict[str, Any]:
    scale, places = given.scales.get(name), given.bands.get(name, ())
    if needs is not None:
        return fitted(scene, needs, positions=places, scale=scale)
    bands = scene.modality.bands
    if places:
        by_index = {band.index: band for band in bands if band.index is not None}
        if not set(places) <= set(by_index):
            known = ", ".join(map(str, by_index)) or "none: it is a product, whose bands have names"
            raise ConfigError(f"found --bands {name}={','.join(map(str, places))}; wanted places among {known}")
        bands = tuple(by_index[place] for place in places)
    return {
        "unit": str(bands[0].unit),
        "scale": scale,
        "bands": [band.name if band.index is None else {"name": band.name, "index": band.index} for band in bands],
    }


def _scene(patterns: Mapping[str, Path], given: Given, task: str, folder: Path) -> dict[str, Any]:
    several = [PLACEHOLDER in path.name for path in patterns.values()]
    if any(several) and not all(several):
        raise ConfigError(f"found {PLACEHOLDER} in the names of some sensors' files only; wanted it in all, or in none")
    record: dict[str, Any] = {
        "name": PLACEHOLDER if any(several) else "scene",
        "files": {name: relative(path, folder) for name, path in patterns.items()},
    }
    if given.labels is not None:
        key = "label_table" if task == "classification" else "labels"
        record[key] = relative(pattern_of(given.labels), folder)
    return record


def _tiles(reference: Scene) -> dict[str, int]:
    """Return patches small enough for blocks of all three splits to fit into the smallest scene."""
    edge = min(reference.geobox.shape)
    patch = max(32, min(128, 2 ** max(5, (edge // 8).bit_length() - 1)))
    return {"patch_size": patch, "block_size": 2 * patch, "buffer": patch // 8}
