"""The model folder as prediction needs it: network, bands, statistics, classes; without all that training needs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..datasets.modality import Band, Modality, Unit
from ..datasets.normalise import Normaliser
from ..datasets.statistics import BandStatistics, statistics_from_dict
from ..models.balancing import TEACH_SUBSETS
from ..models.checkpoint import ModelCard, load_model, model_digest
from ..models.errors import CheckpointError
from .errors import RunFolderError
from .predict import Predictor
from .scene_options import ClassOptions


def load_predictor(
    folder: Path, *, device: str, scenes: Mapping[str, Mapping[str, BandStatistics]] | None = None
) -> Predictor:
    """Load a model folder for prediction.

    Parameters
    ----------
    folder
        As written by :func:`~equipoise.pipeline.train.train`.
    device
        ``auto``, ``cpu`` or ``cuda``.
    scenes
        Statistics of each scene; needed where the model was trained with ``normalisation: scene``.

    Raises
    ------
    CheckpointError
        If the model is missing, damaged or foreign.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RunFolderError(
            "found no usable GPU; wanted one for `device: cuda`; use auto or cpu, or ask `equipoise doctor`"
        )
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    network, card = load_model(folder, device=place)
    try:
        modalities = tuple(_modality(item) for item in card.modalities)
        statistics = statistics_from_dict({item["name"]: item["statistics"] for item in card.modalities})
        classes = [ClassOptions.model_validate(item) for item in card.classes]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: found a model card without usable bands, statistics or classes "
            f"({' '.join(str(error).split())[:120]}); wanted the output of `equipoise train`; train it again"
        ) from error
    by_scene = card.training.get("normalisation") == "scene"
    return Predictor(
        network=network, classes=classes, digest=model_digest(folder), prior=torch.tensor(card.class_prior),
        normaliser=Normaliser(
            modalities=modalities, training=statistics, scenes=(scenes or {}) if by_scene else None,
            reference=card.training.get("dates_from", modalities[0].name) if network.spec.dates else None,
        ),
        approximate=len(network.modalities) > 1 and not TEACH_SUBSETS & set(card.training.get("strategy", ())),
        temperature=_temperature(card, folder),
    )  # fmt: skip


def describe_modality(modality: Modality) -> dict[str, Any]:
    """Return plain values from which the modality can be rebuilt."""
    units = sorted({str(band.network_unit) for band in modality.bands})
    return {"name": modality.name, "units": ", ".join(units), "bands": [asdict(band) for band in modality.bands]}


def _modality(record: Mapping[str, Any]) -> Modality:
    return Modality(
        name=record["name"],
        bands=tuple(Band(**{**band, "unit": Unit(band["unit"]), "planck": None}) for band in record["bands"]),
    )


def _temperature(card: ModelCard, folder: Path) -> float:
    """Return the temperature that was fitted on the validation split; 1 for models from before there was one."""
    found = card.metrics.get("temperature", 1.0)
    if not isinstance(found, int | float) or not 0 < found < float("inf"):
        raise CheckpointError(
            f"{folder}: found temperature {found!r} in the model card; wanted a number above 0; train the model again"
        )
    return float(found)
