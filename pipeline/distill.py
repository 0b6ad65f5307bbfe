"""Stage distill: a network of one sensor teaches those of the others on tiles that need no labels."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pandas as pd

from ..datasets.patches import PatchIndex
from ..models.balancing.distillation import CrossModalDistillation
from ..models.baselines import build_network, single_modality_spec
from ..models.checkpoint import load_model, save_model
from ..models.three_steps import ThreeSteps
from ..models.transfer import begin_with, take_decision_layers
from .calibration import calibrate
from .config import Config
from .distill_options import DistillOptions
from .errors import PipelineError
from .fit import FitResult
from .teacher import Teacher, given_teacher
from .train import TrainingData, fit_network, model_card, network_spec
from .unlabelled import UNLABELLED

log = logging.getLogger(__name__)

#: Folder of the run that holds a model folder for each sensor.
DISTILLED = "distilled"


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What every part of the stage needs."""

    data: TrainingData
    config: Config
    options: DistillOptions
    models: Path
    checkpoints: Path
    resume: str

    def fitted(self, name: str, phase: str, strategy: Any, **changes: Any) -> FitResult:
        """Fit the network of one sensor; what was fitted before is read back."""
        config = changes.pop("config", self.config)
        data = changes.pop("data", self.data)
        return fit_network(
            single_modality_spec(network_spec(self.data, self.config), name), data, config, strategies=strategy,
            folder=self.checkpoints / f"{name}-{phase}", resume=f"{self.resume} {name} {phase}",
            label=f"distill {name} {phase}", **changes,
        )  # fmt: skip

    def save(self, name: str, result: FitResult, how: list[str]) -> dict[str, Any]:
        """Write the model folder of one sensor; return its figures."""
        validation = of_modality(self.data, name).module(self.config).loader("validation")
        calibration = calibrate(result.network, validation, count=len(validation), seed=self.config.seed)
        card = model_card(
            self.data, self.config, result, utilization=None, calibration=calibration, strategies=how
        )  # fmt: skip
        save_model(self.models / name, result.network, card)
        return {"validation_score": result.best_score, "epoch": result.best_epoch, "how": how}


def distill(data: TrainingData, config: Config, *, models: Path, checkpoints: Path, resume: str) -> dict[str, Any]:
    """Train or load the teacher, let the students learn from it, and write a model folder for each.

    Parameters
    ----------
    data, config
        What to train on and how; patches of split ``unlabelled`` are for the students alone.
    models
        Receives a model folder for each sensor.
    checkpoints
        Receives the resumable state.
    resume
        Fingerprint of the stage.

    Returns
    -------
    Figures: ``teacher``, ``students`` (name -> figures of its model), ``patches`` (those that students saw, by split).

    Raises
    ------
    PipelineError
        If the teacher that is given is of other sensors, bands or classes, or another network.
    """
    options = config.distill
    if options is None:
        raise PipelineError("found no `distill` in the configuration; wanted its teacher; add `distill: {teacher: eo}`")
    work = _Work(
        data=data, config=config, options=options, models=models, checkpoints=checkpoints, resume=resume
    )  # fmt: skip
    learners = options.learners(_images(config, data.names))
    for old in models.glob("*"):
        if old.is_dir() and old.name not in (options.teacher, *learners):
            shutil.rmtree(old)
    teacher, figures = _teacher(work)
    seen = students_data(data)
    found: dict[str, Any] = {"teacher": options.teacher, "students": {options.teacher: figures}}
    for name in learners:
        found["students"][name] = _student(work, name, teacher, seen)
    counts = data.index.table["split"].value_counts()
    found["patches"] = {split: int(counts.get(split, 0)) for split in ("train", UNLABELLED)}
    return found


def students_data(data: TrainingData) -> TrainingData:
    """Return the same data with the patches without labels among those of training."""
    table = data.index.table.copy()
    table["split"] = table["split"].replace(UNLABELLED, "train")
    return replace(data, index=PatchIndex(table=table, modalities=data.index.modalities))


def beside_labels(data: TrainingData) -> TrainingData:
    """Return the same, patches with labels so often that they are about half of those that are trained on."""
    table = students_data(data).index.table
    labelled = table[data.index.table["split"] == "train"]
    bare = int((data.index.table["split"] == UNLABELLED).sum())
    again = max(0, round(bare / max(len(labelled), 1)) - 1)
    whole = pd.concat([table, *[labelled] * again], ignore_index=True)
    return replace(data, index=PatchIndex(table=whole, modalities=data.index.modalities))


def of_modality(data: TrainingData, name: str) -> TrainingData:
    """Return the same patches seen by one sensor alone."""
    kept = tuple(item for item in data.modalities if item.name == name)
    return replace(data, modalities=kept, normaliser=replace(data.normaliser, modalities=kept))


def begin_with_students(config: Config, *, models: Path) -> Callable[[ThreeSteps], None]:
    """Return what lets a fusion network begin with the networks that stage distill wrote."""
    options = config.distill

    def begin(network: Any) -> None:
        if options is None:
            return
        names = [options.teacher, *options.learners(_images(config, network.modalities))]
        singles = {name: load_model(models / name)[0] for name in names}
        begin_with(network, singles, decision=options.teacher)

    return begin


def _teacher(work: _Work) -> tuple[Teacher, Mapping[str, Any]]:
    name, given = work.options.teacher, work.options.model
    if given is None:
        result = work.fitted(name, "alone", ("joint",))
        teacher = Teacher(network=result.network, learning_rate=result.learning_rate)
        return teacher, work.save(name, result, ["joint"])
    teacher, card = given_teacher(given, name, work.data, work.config)
    save_model(work.models / name, teacher.network, card)
    score = card.metrics.get("validation_score")
    return teacher, {"validation_score": score, "epoch": None, "how": ["given"]}


def _student(work: _Work, name: str, teacher: Teacher, seen: TrainingData) -> Mapping[str, Any]:
    """Let one sensor learn from the teacher, then, where that is wanted, from the labels beside it."""
    options = work.options
    # A rate is found by the labels, which students do not read: theirs is the teacher's.
    # What the student may meet must not hide from the teacher what it is to tell.
    met = {key: items for key, items in work.config.train.degradations.items() if key == name}
    labelled = _changed(work.config, learning_rate=teacher.learning_rate, degradations=met)
    config = labelled if options.epochs is None else _changed(labelled, epochs=options.epochs)
    lesson = partial(
        CrossModalDistillation, teacher.network, batch_modalities=work.data.names, temperature=options.temperature,
        features=options.features, door=teacher.door,
    )  # fmt: skip
    # Each student begins as it would alone, whoever learned before.
    lightning.seed_everything(config.seed, verbose=False)
    weights = {key: value for key, value in config.train.weights.items() if key == name}
    student = build_network(single_modality_spec(network_spec(work.data, work.config), name), weights=weights)
    take_decision_layers(student, teacher.network)
    result = work.fitted(name, "taught", lesson(), network=student, config=config, data=seen)
    how = ["cross_modal_distillation"]
    if options.finetune:
        taught = result.best_score
        result = work.fitted(
            name, "beside labels", lesson(labels=1.0), network=result.network.train(), config=labelled,
            data=beside_labels(work.data),
        )  # fmt: skip
        how.append("joint")
        log.info("%s: %.3f as taught, %.3f after the labels", name, taught, result.best_score)
        return {**work.save(name, result, how), "taught_score": taught}
    return work.save(name, result, how)


def _images(config: Config, names: Sequence[str]) -> list[str]:
    """Return the modalities that can learn: a table has no places to name."""
    return [name for name in names if config.modalities[name].table is None]


def _changed(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})
