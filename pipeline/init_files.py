"""A configuration from files: what they hold is read from them, what they do not tell is asked for or declared."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..datasets.modality import Unit
from ..datasets.scene import Scene
from .config import Config
from .errors import ConfigError
from .file_modality import open_file
from .init_classes import read_classes
from .nearest import did_you_mean

#: Stands for the part of a file's name that tells scenes apart, as in a configuration.
PLACEHOLDER = "{id}"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the command was given.

    Attributes
    ----------
    files
        Modality -> file or pattern with {id} or one ``*``, the reference first.
    labels
        Label raster or pattern; None: the configuration maps with ``model``.
    model
        Model folder; None: the configuration trains.
    classes
        Names in the order of the label values, or ``value=name``; empty: as the label raster tells.
    units, scales
        Of modalities whose files do not tell.
    name
        Of the run.
    """

    files: Mapping[str, str]
    labels: str | None = None
    model: Path | None = None
    classes: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    name: str = "run"


def config_of_files(given: Given, *, folder: Path) -> Config:
    """Return a configuration for files, with paths relative to ``folder``.

    Raises
    ------
    ConfigError
        If something is missing or contradicts itself; the message names the flag.
    SceneError
        If a file does not open.
    """
    if not given.files:
        raise ConfigError(
            "found no file of a sensor; wanted at least one; add --eo, --sar, --ir or --modality NAME=FILE"
        )
    if given.labels is None and given.model is None:
        raise ConfigError(
            "found no labels and no model; wanted --labels FILE to train, or --model FOLDER to map; add one"
        )
    known = {**given.units, **given.scales}
    if unknown := sorted(set(known) - set(given.files)):
        near = did_you_mean(unknown[0], given.files)
        raise ConfigError(f"found --unit or --scale of '{unknown[0]}'; wanted one of {', '.join(given.files)}{near}")
    patterns = {name: _pattern(text) for name, text in given.files.items()}
    scenes = {name: _open(first(path), name, given) for name, path in patterns.items()}
    record: dict[str, Any] = {
        "name": given.name,
        "modalities": {name: _modality(scene, given.scales.get(name)) for name, scene in scenes.items()},
        "scenes": [_scene(patterns, given, folder)],
        "tile": _tiles(next(iter(scenes.values()))),
    }
    if given.labels is not None:
        record["classes"] = read_classes(matches(_pattern(given.labels)), given.classes)
    if given.model is not None:
        record["predict"] = {"model": _relative(given.model, folder)}
    return Config.model_validate(record)


def matches(pattern: Path) -> list[Path]:
    """Return the files that a name stands for.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if PLACEHOLDER in pattern.name:
        found = sorted(pattern.parent.glob(pattern.name.replace(PLACEHOLDER, "*")))
    else:
        found = [pattern] if pattern.exists() else []
    if not found:
        raise ConfigError(f"{pattern}: found no file; wanted a raster or product; correct the path")
    return found


def first(pattern: Path) -> Path:
    """Return the first file that a name stands for."""
    return matches(pattern)[0]


def _pattern(text: str) -> Path:
    path = Path(text.replace("*", PLACEHOLDER))
    if str(path).count(PLACEHOLDER) > 1 or PLACEHOLDER in str(path.parent):
        raise ConfigError(
            f"found pattern '{text}'; wanted {PLACEHOLDER} or * once, in the name of the file; correct it"
        )
    return path


def _open(path: Path, name: str, given: Given) -> Scene:
    unit = given.units.get(name)
    if unit is not None and unit not in set(Unit):
        raise ConfigError(f"found --unit {name}={unit}; wanted one of {', '.join(Unit)}{did_you_mean(unit, Unit)}")
    return open_file(path, name=name, unit=None if unit is None else Unit(unit))


def _modality(scene: Scene, scale: float | None) -> dict[str, Any]:
    bands = scene.modality.bands
    return {
        "unit": str(bands[0].unit),
        "scale": scale,
        "bands": [band.name if band.index is None else {"name": band.name, "index": band.index} for band in bands],
    }


def _scene(patterns: Mapping[str, Path], given: Given, folder: Path) -> dict[str, Any]:
    several = [PLACEHOLDER in path.name for path in patterns.values()]
    if any(several) and not all(several):
        raise ConfigError(f"found {PLACEHOLDER} in the names of some sensors' files only; wanted it in all, or in none")
    record: dict[str, Any] = {
        "name": PLACEHOLDER if any(several) else "scene",
        "files": {name: _relative(path, folder) for name, path in patterns.items()},
    }
    if given.labels is not None:
        record["labels"] = _relative(_pattern(given.labels), folder)
    return record


def _tiles(reference: Scene) -> dict[str, int]:
    """Return patches small enough for blocks of all three splits to fit into the smallest scene."""
    edge = min(reference.geobox.shape)
    patch = max(32, min(128, 2 ** max(5, (edge // 8).bit_length() - 1)))
    return {"patch_size": patch, "block_size": 2 * patch, "buffer": patch // 8}


def _relative(path: Path, folder: Path) -> str:
    """Return a path as the configuration in ``folder`` names it."""
    return str(path) if path.is_absolute() else os.path.relpath(path, folder)
