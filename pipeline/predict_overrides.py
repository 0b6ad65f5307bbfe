"""Options of the stage predict that a command gives, in the place of those of the configuration."""

from pathlib import Path

from pydantic import ValidationError

from .config import Config, load_config
from .errors import ConfigError
from .nearest import wrong_value
from .stage_options import PredictOptions


def with_predict_options(
    config: Config, *, bbox: str | None, aoi: Path | None, reliance: str | None, precision: str | None
) -> Config:
    """Return a configuration in which what is given replaces what it says; an area replaces the other kind of area.

    Parameters
    ----------
    config
        Checked.
    bbox
        Four numbers with commas between them: min x, min y, max x, max y.
    aoi
        Vector file, relative to the working directory.
    reliance, precision
        As in the configuration.

    Raises
    ------
    ConfigError
        If what comes out is no valid configuration.
    """
    changes: dict[str, object] = {}
    if bbox is not None:
        changes |= {"bbox": [part.strip() for part in bbox.split(",")], "aoi": None}
    if aoi is not None:
        changes |= {"aoi": aoi.absolute(), **({} if bbox is not None else {"bbox": None})}
    if reliance is not None:
        changes["reliance"] = reliance
        if reliance != "shapley":
            changes["contributions"] = False
    if precision is not None:
        changes["precision"] = precision
    try:
        options = PredictOptions.model_validate({**config.predict.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if not str(part).isdigit())
        words = str(first["msg"]).removeprefix("Value error, ") + wrong_value(first)
        raise ConfigError(f"predict.{place}: {words}; correct the option on the command line") from error
    return config.model_copy(update={"predict": options})


def as_last_mapped(config: Config, root: Path) -> Config:
    """Return a configuration with the options that the maps of a run folder were last asked for with.

    A report is about the maps that are there: options that `equipoise predict` was given are not in the file.

    Parameters
    ----------
    config
        Checked.
    root
        Run folder; one without a configuration of this version changes nothing.
    """
    path = root / "config.yaml"
    try:
        last = load_config(path) if path.is_file() else config
    except ConfigError:
        return config
    return config.model_copy(update={"predict": last.predict})
