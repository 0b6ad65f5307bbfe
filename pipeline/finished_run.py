"""Runs from Python: every stage of a configuration, and what a run folder holds."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets.patches import PatchIndex
from ..datasets.stack import AlignedStack
from .condition_table import condition_table
from .config import Config, load_config, parse_config
from .errors import ConfigError, RunFolderError
from .nearest import did_you_mean
from .prediction import Prediction
from .run_folder import RunFolder, StageRecord
from .scene_options import ClassOptions
from .stages import Run, run_all
from .summary import summary
from .trained_model import TrainedModel, load_model

if TYPE_CHECKING:
    from pandas import DataFrame

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What a run folder holds.

    Attributes
    ----------
    stages
        The configuration bound to its folder.
    """

    stages: Run

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.stages.folder.root

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def seconds(self) -> dict[str, float]:
        """How long each stage took, by name."""
        return {name: record.seconds for name, record in self.stages.folder.stages.items()}

    @property
    def metrics(self) -> dict[str, Any]:
        """What stage evaluate measured, as `metrics.json` holds it."""
        path = self.folder / "metrics.json"
        if not path.is_file():
            raise RunFolderError(f"{path}: found no figures; wanted those of stage evaluate; run it")
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record

    @property
    def robustness(self) -> "DataFrame":
        """What the network scores and relies on while one sensor gets worse.

        A row a condition, the clear one first: ``sensor``, ``kind``, ``strength`` (0 = clear) and ``axis``, what it
        counts; ``mean_iou``, ``accuracy``, ``ece``, 0 to 1; and for each sensor ``reliance_<sensor>`` and
        ``information_<sensor>``, shares, NaN where indeterminate.

        Raises
        ------
        RunFolderError
            If it was not measured.
        """
        metrics = self.metrics
        record = metrics.get("robustness")
        if not record:
            raise RunFolderError(
                f"{self.folder}: found no robustness in metrics.json; wanted it measured; set evaluate.robustness"
            )
        return condition_table(record, sensors=metrics["modalities"])

    @property
    def scenes(self) -> dict[str, AlignedStack]:
        """Aligned stacks by scene name."""
        return self.stages.stacks

    @property
    def patches(self) -> PatchIndex:
        """The patches with their splits."""
        return PatchIndex.load(self.folder / "patches.parquet")

    @property
    def predictions(self) -> "Predictions":
        """Maps by scene name; pixels are read when they are asked for."""
        return Predictions(self)

    def model(self) -> TrainedModel:
        """Load the model that the maps were made with."""
        return load_model(self.stages.model_folder)

    def _repr_html_(self) -> str:
        """Return stages, times and findings, for notebooks."""
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{record.seconds:.1f} s</td>"
            f"<td>{escape(summary(name, record.figures))}</td></tr>"
            for name, record in self.stages.folder.stages.items()
        )
        return (
            f"<b>Run</b> {escape(self.stages.config.name)} in {escape(str(self.folder))}"
            f"<table><tr><th>stage</th><th>took</th><th>found</th></tr>{rows}</table>"
        )


class Predictions(Mapping[str, Prediction]):
    """The maps of a run by scene name."""

    def __init__(self, run: FinishedRun) -> None:
        self._folder = run.folder / "predictions"
        record = run.stages.folder.stages.get("predict")
        figures = {} if record is None else record.figures
        self._names = tuple(figures.get("scenes", ()))
        self._legend = tuple(ClassOptions.model_validate(item) for item in figures.get("classes", ()))

    def __getitem__(self, name: str) -> Prediction:
        if name not in self._names:
            raise KeyError(f"found no maps of '{name}'; wanted one of {self._names}{did_you_mean(name, self._names)}")
        return Prediction.open(self._folder, name, legend=self._legend)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def run(
    config: Path | str | Mapping[str, Any],
    *,
    output: Path | str | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    force: bool = False,
) -> FinishedRun:
    """Do every stage of a configuration; what is done is not done again, as with `equipoise run`.

    Parameters
    ----------
    config
        YAML file, or the same as nested dicts; paths in dicts are relative to the working directory.
    output
        Run folder; None: ``runs/<name>``.
    changes
        Options in the place of the configuration's, by section: ``{"train": {"epochs": 5}}``.
    force
        Do it again even where nothing has changed.

    Raises
    ------
    ConfigError
        If the configuration does not fit the schema.
    RunFolderError
        If the folder cannot be used.
    """
    if isinstance(config, Mapping):
        checked = parse_config(dict(config), origin=Path.cwd() / "config")
    else:
        checked = load_config(Path(config))
    if changes:
        checked = _changed(checked, changes)
    folder = RunFolder.open(Path("runs") / checked.name if output is None else Path(output), seed=checked.seed)
    bound = Run(config=checked, folder=folder)
    run_all(bound, force=force, announce=_log)
    return FinishedRun(stages=bound)


def _changed(config: Config, changes: Mapping[str, Mapping[str, Any]]) -> Config:
    """Return a configuration with other options in some sections; its paths are absolute already."""
    record = config.model_dump(mode="json", exclude_unset=True)
    for section, options in changes.items():
        if not isinstance(options, Mapping):
            raise ConfigError(
                f"changes: found {section!r}: {options!r}; wanted a section and its options, as "
                "{'train': {'epochs': 2}}; correct it"
            )
        record[section] = {**(record.get(section) or {}), **options}
    return parse_config(record, origin=Path.cwd() / "changes")


def open_run(folder: Path | str) -> FinishedRun:
    """Open the folder of a run, as `equipoise run` leaves it.

    Raises
    ------
    RunFolderError
        If it is not the folder of a run.
    ConfigError
        If its configuration is of another version.
    """
    root = Path(folder)
    if not (root / "manifest.json").is_file():
        raise RunFolderError(f"{root}: found no manifest.json; wanted the folder of a run, as `equipoise run` makes it")
    config = load_config(root / "config.yaml")
    return FinishedRun(stages=Run(config=config, folder=RunFolder.open(root, seed=config.seed)))


def _log(stage: str, record: StageRecord, now: bool) -> None:
    log.info("%s: %s, %s", stage, f"{record.seconds:.1f} s" if now else "unchanged", summary(stage, record.figures))
