"""Stage evaluate: the test split, with every subset of the modalities, against the honest competitors."""

import json
from collections.abc import Mapping
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
from ..models.utilization import coalition_scores
from .config import Config
from .metrics import majority, summarise
from .predict import Predictor
from .progress import track
from .run_folder import write_text
from .train import TrainingData, fit_network, network_spec
from .utilization import arrival, measured_utilization


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
    budget, where asked for) as :func:`~equipoise.pipeline.metrics.summarise` gives them, ``utilization`` as
    :func:`~equipoise.pipeline.utilization.measured_utilization` gives it, and ``targets``: which shares arrived.
    """
    names = [item.name for item in data.classes]
    matrices = _subset_confusions(predictor.network, data, config)
    everything = matrices[-1]
    rows = coalitions(len(data.names)).tolist()[1:]
    subsets = {
        "+".join(name for name, present in zip(data.names, row, strict=True) if present): summarise(matrix, names=names)
        for row, matrix in zip(rows, matrices, strict=True)
    }
    utilization = measured_utilization(
        predictor.network, lambda: data.module(config).loader("test"), prior=data.class_shares().tolist(),
        options=config.evaluate, seed=config.seed,
    )  # fmt: skip
    result: dict[str, Any] = {
        "modalities": list(data.names),
        "fusion": summarise(everything, names=names),
        "majority": summarise(
            majority(everything, predicted=int(np.argmax(data.class_shares()))), names=names
        ),
        "subsets": subsets,
        "utilization": utilization,
        "targets": arrival(config.train.utilization, utilization["brier"]),
        "single": {},
    }  # fmt: skip
    if config.evaluate.single_modality and len(data.names) > 1:
        result["single"] = _single_modalities(data, config, checkpoints=checkpoints, resume=resume, names=names)
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


def _subset_confusions(network: FusionUNet, data: TrainingData, config: Config) -> list[NDArray[np.int64]]:
    """Confusion matrices of all non-empty subsets, in coalition order: the last one has everything."""
    count, loader = len(data.classes), data.module(config).loader("test")
    meters = [MulticlassConfusionMatrix(count, ignore_index=IGNORE) for _ in range(2 ** len(data.names) - 1)]
    for batch in track(loader, "evaluate", total=len(loader)):
        predicted = coalition_scores(network, batch).argmax(dim=2).cpu()
        for meter, answer in zip(meters, predicted[1:], strict=True):
            meter.update(answer, _target(batch))
    return [meter.compute().numpy().astype(np.int64) for meter in meters]


@torch.inference_mode()
def _confusion(network: FusionUNet, data: TrainingData, config: Config) -> NDArray[np.int64]:
    meter = MulticlassConfusionMatrix(len(data.classes), ignore_index=IGNORE)
    columns = [data.names.index(name) for name in network.modalities]
    for batch in data.module(config).loader("test"):
        available = batch["available"][:, columns]
        logits = network(batch["image"], available=available, valid=batch["valid"])
        meter.update(logits.argmax(dim=1), _target(batch))
    return meter.compute().numpy().astype(np.int64)
