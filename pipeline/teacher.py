"""Teacher of stage distill: trained in the run, or elsewhere and then told what it was trained on."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.modality import Modality
from ..datasets.statistics import BandStatistics
from ..models.baselines import single_modality_spec
from ..models.checkpoint import ModelCard, load_model
from ..models.spec import NetworkSpec
from ..models.three_steps import ThreeSteps
from .config import Config
from .errors import PipelineError
from .model_folder import load_predictor
from .train import TrainingData, network_spec


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A network of one sensor, and how others learn from it.

    Attributes
    ----------
    network
        Trained.
    learning_rate
        Peak of the schedule that it was trained with.
    door
        Factor and summand, float32 (band,) each, from inputs of this run to its own; None: they are the same.
    """

    network: ThreeSteps
    learning_rate: float
    door: tuple[Tensor, Tensor] | None = None


def given_teacher(folder: Path, name: str, data: TrainingData, config: Config) -> tuple[Teacher, ModelCard]:
    """Load a teacher that was trained elsewhere; it keeps the statistics that its inputs are normalised with.

    Parameters
    ----------
    folder, name
        Model folder, and the modality that it shall read.
    data, config
        Of this run.

    Raises
    ------
    PipelineError
        If sensors, bands, classes, normalisation or network differ from those of this run.
    CheckpointError
        If the folder holds no usable model.
    """
    network, card = load_model(folder)
    if network.modalities != (name,):
        raise PipelineError(
            f"distill.model {folder}: found a model of {', '.join(network.modalities)}; wanted one of {name} alone; "
            "train one, or leave distill.model null"
        )
    predictor = load_predictor(folder, device="cpu")
    wanted = next(item for item in data.modalities if item.name == name)
    own = predictor.normaliser.modalities[0]
    by_scene = predictor.normaliser.scenes is not None
    spec = single_modality_spec(network_spec(data, config), name)
    for what, found, wish in (
        ("bands", _bands(own), _bands(wanted)),
        ("classes", [item.name for item in predictor.classes], [item.name for item in data.classes]),
        ("normalisation by scene", by_scene, data.normaliser.scenes is not None),
        ("network", *_differing(network.spec, spec)),
    ):
        if found != wish:
            raise PipelineError(
                f"distill.model {folder}: found {what} {found}; wanted {wish}, as in this run; make them alike, train "
                "another teacher, or leave distill.model null"
            )
    rate = card.training.get("learning_rate")
    chosen = config.train.learning_rate
    return Teacher(
        network=network,
        learning_rate=chosen if not isinstance(chosen, str) else float(rate or 1e-3),
        door=None if by_scene else door(data.normaliser.training[name], predictor.normaliser.training[name]),
    ), card


def door(here: BandStatistics, there: BandStatistics) -> tuple[Tensor, Tensor] | None:
    """Return factor and summand that turn what was normalised by ``here`` into what ``there`` makes of it."""
    if here.mean == there.mean and here.std == there.std:
        return None
    mean, std = (torch.tensor([getattr(item, name) for item in (here, there)]) for name in ("mean", "std"))
    return std[0] / std[1], (mean[0] - mean[1]) / std[1]


def _bands(modality: Modality) -> list[str]:
    return [f"{band.name} ({band.network_unit})" for band in modality.bands]


def _differing(found: NetworkSpec, wish: NetworkSpec) -> tuple[str, str]:
    """Return what differs of two descriptions; a network of one sensor has nothing to fuse."""
    mine, theirs = (asdict(spec) | {"encoder": spec.encoders, "fusion": None} for spec in (found, wish))
    unlike = [key for key in mine if mine[key] != theirs[key]]
    first, second = (", ".join(f"{key} {spec[key]}" for key in unlike) for spec in (mine, theirs))
    return first, second
