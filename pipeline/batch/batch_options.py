"""Options of a batch run that a file may give; the command's own come before them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from ..errors import ConfigError
from ..nearest import unknown_key, wrong_value
from ..options import Options
from ..stage_options import CoregisterOptions, PredictOptions


class BatchOptions(Options):
    """How units are made and mapped."""

    chunk: int = Field(
        2048, ge=32, description="Edge of a unit, px; rounded to whole windows (predict.tile - predict.overlap)."
    )
    coregister: CoregisterOptions = Field(CoregisterOptions(), description="Stage coregister, of each unit.")
    predict: PredictOptions = Field(PredictOptions(), description="Stage predict.")
    attempts: int = Field(3, ge=1, description="Errors, or dead workers, after which a unit is set aside.")

    @field_validator("predict")
    @classmethod
    def _of_all(cls, predict: PredictOptions) -> PredictOptions:
        """Refuse what would be passed over: the inputs say what is mapped."""
        if said := [name for name in ("model", "scenes", "bbox", "aoi") if getattr(predict, name) is not None]:
            raise ValueError(
                f"{said[0]} is set; wanted it null: a batch run maps all of its input, with the model of --model; "
                "remove it, or give the area as a region"
            )
        return predict


def read_batch_options(
    path: Path | None, changes: Mapping[str, Any], *, base: Mapping[str, Mapping[str, Any]] | None = None
) -> BatchOptions:
    """Read options from a file, and put those of the command in their place.

    Parameters
    ----------
    path
        YAML with the keys of :class:`BatchOptions`; None: defaults.
    changes
        Key, or ``section.key``, -> value; None leaves what is there.
    base
        Section -> values that both go before: those of a configuration whose scenes are mapped.

    Raises
    ------
    ConfigError
        If the file cannot be read, or does not fit.
    """
    record: dict[str, Any] = {}
    if path is not None:
        try:
            record = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError, ValueError) as error:
            text = " ".join(str(error).split())
            raise ConfigError(f"{path}: found no readable YAML ({text}); wanted options of a batch run") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{path}: found no settings; wanted key: value lines such as chunk: 2048")
    for section, values in (base or {}).items():
        own = record.get(section)
        if own is None or isinstance(own, dict):
            record[section] = {**values, **(own or {})}
    for key, value in changes.items():
        if value is None:
            continue
        section, _, name = key.rpartition(".")
        target = record.setdefault(section, {}) if section else record
        if isinstance(target, dict):  # else the schema says what is wrong with it
            target[name] = value
    try:
        return BatchOptions.model_validate(record)
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors()))
        raise ConfigError(f"{path or 'the command'}: {problems}; correct it") from error


def _problem(item: Any) -> str:
    place = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        sections: dict[str, type[Options]] = {"coregister": CoregisterOptions, "predict": PredictOptions}
        known = sections.get(str(item["loc"][0]), BatchOptions) if len(item["loc"]) > 1 else BatchOptions
        near = unknown_key(BatchOptions, tuple(item["loc"]))
        return f"found unknown key '{place}'; wanted some of {', '.join(known.model_fields)}" + (near and f"; {near}")
    return f"{place}: {item['msg'].removeprefix('Value error, ')}{wrong_value(item)}"
