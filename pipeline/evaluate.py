"""Stage evaluate: the test split, with every subset of the modalities, against the honest competitors."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassConfusionMatrix

from ..models.baselines import single_modality_spec
from ..models.coalitions import coalitions
from ..models.losses import IGNORE
from ..models.network import FusionUNet
from .config import Config
from .metrics import majority, subset_summary, summarise
from .predict import Predictor
from .progress import track
from .reliability import Reliability
from .robustness import robustness
from .run_folder import write_text
from .sensor_table import by_sensor
from .train import TrainingData, fit_network, network_spec
from .utilization import arrival, judged_by, measured_utilization


def evaluate(
    predictor: Predictor, data: TrainingData, config: Config, *, checkpoints: Path, path: Path, resume: str
) -> dict[str, Any]:
    """Measure a network on the test split.

    Parameters
    ----------
    predictor, data, config
        The network, its data, the options.
    checkpoints
        Receives the single-modality networks.
    path
        Receives the figures as JSON.
    resume
        Fingerprint of the stage.

    Returns
    -------
    ``fusion`` (all that is present), ``subsets`` (each subset of the modalities, from the same network),
    ``majority`` (always the most frequent training class), ``single`` (networks trained on one modality with the same
    budget, where asked for) as :func:`~equipoise.pipeline.metrics.summarise` gives them; ``subset_summary`` of both
    scores (:func:`~equipoise.pipeline.metrics.subset_summary`); ``calibration``
    (:meth:`~equipoise.pipeline.reliability.Reliability.summary`) of the network as it was trained, and ``calibrated``,
    the same at the ``temperature`` that maps are made with; ``utilization``
    (:func:`~equipoise.pipeline.utilization.measured_utilization`); ``by_sensor``: the same of sensors of several dates
    (:func:`~equipoise.pipeline.sensor_table.by_sensor`); ``targets``: which shares arrived
    (:func:`~equipoise.pipeline.utilization.arrival`); ``robustness``
    (:func:`~equipoise.pipeline.robustness.robustness`), None where not asked for; ``trained_on_subsets``: False where
    answers from subsets, and with them the information, are extrapolations. `docs/evaluation.md` explains each.
    """
    names = [item.name for item in data.classes]
    watch = _Subsets(len(data.names), classes=len(names), temperature=predictor.temperature)
    judge = judged_by(config.train.utilization)
    utilization = measured_utilization(
        predictor.network, partial(_tracked, data, config), prior=data.class_shares().tolist(),
        options=config.evaluate, seed=config.seed, also=(judge,), watch=watch,
    )  # fmt: skip
    matrices = watch.confusions()
    subsets = {
        "+".join(name for name, present in zip(data.names, row, strict=True) if present): summarise(matrix, names=names)
        for row, matrix in zip(coalitions(len(data.names)).tolist()[1:], matrices, strict=True)
    }
    result: dict[str, Any] = {
        "modalities": list(data.names),
        "trained_on_subsets": not predictor.approximate,
        "fusion": summarise(matrices[-1], names=names),
        "majority": summarise(
            majority(matrices[-1], predicted=int(np.argmax(data.class_shares()))), names=names
        ),
        "subsets": subsets,
        "subset_summary": {
            measure: subset_summary({name: item[measure] for name, item in subsets.items()})
            for measure in ("mean_iou", "accuracy")
        },
        "calibration": watch.reliability.summary(),
        "calibrated": {"temperature": predictor.temperature, **watch.calibrated.summary()},
        "utilization": utilization,
        "by_sensor": by_sensor(utilization, config.sensors, stacks=data.stacks.values()),
        "targets": arrival(config.train.utilization, utilization[judge]),
        "single": {},
        "robustness": None,
    }  # fmt: skip
    if config.evaluate.single_modality and len(data.names) > 1:
        result["single"] = _single_modalities(data, config, checkpoints=checkpoints, resume=resume, names=names)
    if config.evaluate.robustness:  # last: training that was cut short goes on where it was without measuring again
        result["robustness"] = robustness(predictor.network, data, config)
    write_text(path, json.dumps(result, indent=2))
    return result


def _single_modalities(
    data: TrainingData, config: Config, *, checkpoints: Path, resume: str, names: list[str]
) -> Mapping[str, Any]:
    spec, result = network_spec(data, config), {}
    for name in data.names:
        fitted = fit_network(
            single_modality_spec(spec, name), data, config, strategies=("joint",), folder=checkpoints / name,
            resume=f"{resume} {name}", label=f"train {name} alone",
        )  # fmt: skip
        result[name] = summarise(_confusion(fitted.network, data, config), names=names)
    return result


def _target(batch: Mapping[str, Any]) -> torch.Tensor:
    target: torch.Tensor = batch["mask"] if "mask" in batch else batch["label"]
    return target


class _Subsets:
    """Counts the answers from each non-empty subset, and how sure the answer from everything was."""

    def __init__(self, members: int, *, classes: int, temperature: float) -> None:
        self._meters = [MulticlassConfusionMatrix(classes, ignore_index=IGNORE) for _ in range(2**members - 1)]
        self.reliability, self.calibrated = Reliability(), Reliability()
        self._temperature = temperature

    def __call__(self, position: int, logits: torch.Tensor, target: torch.Tensor) -> None:
        if position:
            self._meters[position - 1].update(logits.argmax(dim=1).cpu(), target.cpu())
        if position == len(self._meters):
            self.reliability.update(logits, target)
            self.calibrated.update(logits / self._temperature, target)

    def confusions(self) -> list[NDArray[np.int64]]:
        """Return a matrix a subset, in coalition order: the last one has everything."""
        return [meter.compute().numpy().astype(np.int64) for meter in self._meters]


def _tracked(data: TrainingData, config: Config) -> Iterator[dict[str, Any]]:
    loader = data.module(config).loader("test")
    return track(loader, "evaluate", total=len(loader))


@torch.inference_mode()
def _confusion(network: FusionUNet, data: TrainingData, config: Config) -> NDArray[np.int64]:
    meter = MulticlassConfusionMatrix(len(data.classes), ignore_index=IGNORE)
    columns = [data.names.index(name) for name in network.modalities]
    for batch in data.module(config).loader("test"):
        available = batch["available"][:, columns]
        logits = network(batch["image"], available=available, valid=batch["valid"])
        meter.update(logits.argmax(dim=1), _target(batch))
    return meter.compute().numpy().astype(np.int64)
