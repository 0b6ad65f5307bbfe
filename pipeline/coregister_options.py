"""Options of the command coregister, where they are given with files instead of a configuration."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ..datasets.modality import Unit
from .errors import ConfigError
from .nearest import did_you_mean, wrong_value
from .stage_options import CoregisterOptions


def file_options(
    paths: Sequence[Path],
    *,
    max_shift: float | None,
    min_confidence: float | None,
    on_failure: str | None,
    unit: Sequence[str] | None,
) -> tuple[CoregisterOptions, dict[str, Unit]] | None:
    """Return the options for files and the units by file name, or None where ``paths`` is one configuration.

    Raises
    ------
    ConfigError
        If there is nothing to move, an option cannot be used, or options are given beside a configuration.
    """
    given = {"max_shift_m": max_shift, "min_confidence": min_confidence, "on_failure": on_failure}
    given = {name: value for name, value in given.items() if value is not None}
    if len(paths) == 1 and paths[0].suffix.lower() in (".yaml", ".yml"):
        if given or unit:
            raise ConfigError(
                f"found options beside {paths[0]}; wanted them in that file, under `coregister`; move them there"
            )
        return None
    if len(paths) < 2:
        raise ConfigError(f"found {paths[0]} alone; wanted a configuration (.yaml), or a reference and files to move")
    try:
        options = CoregisterOptions.model_validate({"on_failure": "refuse", **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).removesuffix("_m").replace("_", "-")
        raise ConfigError(
            f"found --{name} {first['input']}; wanted another: {first['msg']}{wrong_value(first)}"
        ) from error
    return options, dict(_unit(text) for text in unit or ())


def _unit(text: str) -> tuple[str, Unit]:
    name, _, value = text.partition("=")
    if not name or value not in set(Unit):
        raise ConfigError(
            f"found --unit {text}; wanted FILE=UNIT with one of {', '.join(Unit)}{did_you_mean(value, Unit)}"
        )
    return name, Unit(value)
