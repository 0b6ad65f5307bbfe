"""What `equipoise init` was given about files, and what cannot become a configuration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ConfigError
from .init_model import ModelNeeds
from .init_paths import PLACEHOLDER
from .init_table import is_table
from .nearest import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the command was given.

    Attributes
    ----------
    files
        Modality -> file or pattern with {id} or one ``*``, the reference first.
    task
        ``segmentation`` or ``classification``; None: as the labels or the model tell.
    labels
        Label raster or pattern, or a table of chips; None: the configuration maps with ``model``.
    model
        Model folder; None: the configuration trains.
    classes
        Names in the order of the label values, or ``value=name``; empty: as the label raster tells.
    units, scales
        Of modalities whose files do not tell.
    bands
        Modality -> 1-based places of the bands that are taken, in order; others: all, or those that the model wants.
    name
        Of the run.
    """

    files: Mapping[str, str]
    task: str | None = None
    labels: str | None = None
    model: Path | None = None
    classes: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    bands: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    name: str = "run"


def require_whole(given: Given) -> None:
    """Refuse what cannot become a configuration, before a file is opened.

    Raises
    ------
    ConfigError
        If something is missing or contradicts itself; the message names the flag.
    """
    if not given.files:
        raise ConfigError(
            "found no file of a sensor; wanted at least one; add --eo, --sar, --ir or --modality NAME=FILE"
        )
    if given.labels is None and given.model is None:
        raise ConfigError(
            "found no labels and no model; wanted --labels FILE to train, or --model FOLDER to map; add one"
        )
    if given.model is not None and (given.labels is not None or given.classes):
        flag = "--labels" if given.labels is not None else "--classes"
        raise ConfigError(
            f"found {flag} beside --model; wanted one of them: a model has its classes and is not trained again; take "
            f"{flag} away to map, or --model to train"
        )
    for flag, known in (("--unit or --scale", {**given.units, **given.scales}), ("--bands", given.bands)):
        if unknown := sorted(set(known) - set(given.files)):
            near = did_you_mean(unknown[0], given.files)
            raise ConfigError(f"found {flag} of '{unknown[0]}'; wanted one of {', '.join(given.files)}{near}")


def task_of(given: Given, needs: ModelNeeds | None) -> str:
    """Return the task, which is that of the model or of the labels.

    Raises
    ------
    ConfigError
        If another one was given, or chips are not named by a pattern.
    """
    told = needs.task if needs is not None else "classification" if is_table(given.labels) else "segmentation"
    if given.task not in (None, told):
        have, want = {
            "segmentation": ("a table of chips", "a label raster, with a class a pixel"),
            "classification": ("a label raster", "a CSV table with the columns id and label, one row a chip"),
        }[str(given.task)]
        raise ConfigError(
            f"found --task {given.task} with the model {needs.folder}, which is of {told}; take --task away"
            if needs is not None
            else f"found --task {given.task} with {have} ({given.labels}); wanted {want}; correct --labels or --task"
        )
    if told == "classification" and not all("*" in text or PLACEHOLDER in text for text in given.files.values()):
        raise ConfigError(
            f"found one file a sensor for chips; wanted a pattern that stands for all of them, with {PLACEHOLDER} or * "
            "in the place of the chip's id, such as --eo 'chips/eo/{id}.tif'; write it so"
        )
    return told


def number_of(text: str, what: str) -> float:
    """Return a scale as a number.

    Raises
    ------
    ConfigError
        If it is none, or 0, or not finite; the message begins with ``what``.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number == 0:
        raise ConfigError(f"found {what} {text}; wanted a number other than 0, such as 0.0001")
    return number


def places_of(text: str, what: str) -> tuple[int, ...]:
    """Return places of bands, such as ``3,2,1``, as numbers.

    Raises
    ------
    ConfigError
        If they are none; the message begins with ``what``.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"found {what} {text}; wanted places of bands in the file, from 1, such as 3,2,1")
    return tuple(int(part) for part in parts)
