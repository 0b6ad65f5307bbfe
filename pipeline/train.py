"""Stage train: fit the network and write the model folder that alone suffices to predict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from ..datasets.augment import Augmentation
from ..datasets.datamodule import PatchDataModule
from ..datasets.modality import Modality
from ..datasets.normalise import Normaliser
from ..datasets.patch_store import PatchStore
from ..datasets.patches import PatchIndex
from ..datasets.stack import AlignedStack
from ..datasets.statistics import statistics_to_dict
from ..models.balancing import Strategy
from ..models.baselines import build_network
from ..models.checkpoint import ModelCard, model_digest, save_model
from ..models.spec import NetworkSpec
from ..models.three_steps import ThreeSteps
from ..models.utilization import permutation_reliance
from .band_wavelengths import band_wavelengths
from .calibration import calibrate
from .config import Config
from .degradation_options import degradations
from .fit import FitResult, fit
from .model_folder import describe_modality
from .run_folder import package_versions
from .scene_dates import check_dates
from .scene_options import ClassOptions
from .scene_tables import say_alike


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """All that fitting needs to know of the data.

    Attributes
    ----------
    index, stacks, normaliser
        Patches, where they are read from, and how they are normalised.
    modalities, classes
        In the network's order.
    classification
        True for a class a chip.
    store
        Where the patches were stored; None reads them from the aligned rasters.
    """

    index: PatchIndex
    stacks: Mapping[str, AlignedStack]
    normaliser: Normaliser
    modalities: Sequence[Modality]
    classes: Sequence[ClassOptions]
    classification: bool
    store: PatchStore | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names in order."""
        return tuple(item.name for item in self.modalities)

    def module(self, config: Config) -> PatchDataModule:
        """Return the loaders."""
        modalities = tuple(self.modalities)
        # A network of one sensor sees the degradations of that sensor.
        wanted = {name: items for name, items in config.train.degradations.items() if name in self.names}
        augmentation = Augmentation(
            modalities, geometry=config.train.geometry, degradations=degradations(wanted, modalities=modalities)
        )
        return PatchDataModule(
            self.index, self.stacks, normaliser=self.normaliser, class_values=[item.value for item in self.classes],
            classification=self.classification, batch_size=config.train.batch_size, workers=config.train.workers,
            augment=augmentation, seed=config.seed, store=self.store,
        )  # fmt: skip

    def class_shares(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the share of each class among the labelled training pixels or chips, summing to 1."""
        counts = self.index.of_split("train").class_counts([item.value for item in self.classes])
        return counts / max(counts.sum(), 1)


def network_spec(data: TrainingData, config: Config) -> NetworkSpec:
    """Return the network that the configuration asks for."""
    encoder = config.train.encoder
    return NetworkSpec(
        modalities=data.names, in_channels=tuple(len(item.bands) for item in data.modalities),
        classes=len(data.classes), task=config.task, depth=config.train.depth,
        encoder=encoder if isinstance(encoder, str) else tuple(encoder[name] for name in data.names),
        decoder_channels=tuple(config.train.decoder_channels), fusion=config.train.fusion,
        deep_supervision=config.train.deep_supervision, norm=config.train.chosen_norm, kind=config.train.network,
        dates=config.train.dates, wavelengths=band_wavelengths(data.modalities, config.train),
        surrogate=config.train.chosen_surrogate,
        sensors=tuple(config.sensors[name] for name in data.names) if config.train.share_encoders else (),
    )  # fmt: skip


def fit_network(
    spec: NetworkSpec,
    data: TrainingData,
    config: Config,
    *,
    strategies: Sequence[str] | Strategy,
    folder: Path,
    resume: str,
    label: str,
    network: ThreeSteps | None = None,
) -> FitResult:
    """Fit one network with the configuration's budget (see :func:`~equipoise.pipeline.fit.fit`)."""
    module = data.module(config)
    weights = None
    if config.train.class_weights == "balanced":
        shares = np.sqrt(np.maximum(data.class_shares(), 1e-6))
        weights = (shares.mean() / shares).tolist()
    return fit(
        spec, module, options=config.train, strategies=strategies, class_weights=weights, batch_modalities=data.names,
        batches_per_epoch=len(module.loader("train", epoch=0)), seed=config.seed, folder=folder, resume=resume,
        label=label, network=network,
    )  # fmt: skip


def train(
    data: TrainingData,
    config: Config,
    *,
    model_folder: Path,
    checkpoints: Path,
    resume: str,
    initial: Callable[[ThreeSteps], None] | None = None,
) -> dict[str, Any]:
    """Train, measure the utilization on the validation split, and write the model.

    Parameters
    ----------
    data, config
        What to train on and how.
    model_folder
        Receives weights, card and README.
    checkpoints
        Receives the resumable state.
    resume
        Fingerprint of the stage.
    initial
        Gives a new network the weights that it begins with; None: random ones, or those of ``train.weights``.

    Returns
    -------
    Figures: ``history``, ``ended`` (why, in words), ``best_epoch``, ``best_score``, ``learning_rate``, ``utilization``,
    ``calibration`` (:func:`~equipoise.pipeline.calibration.calibrate`), ``model``.
    """
    check_dates(data.stacks.values(), data.normaliser)
    say_alike(data.normaliser, config.modalities)
    spec = network_spec(data, config)
    network = None
    if initial is not None:
        lightning.seed_everything(config.seed, verbose=False)
        network = build_network(spec, weights=config.train.weights)
        initial(network)
    result = fit_network(
        spec, data, config, strategies=config.train.strategies, folder=checkpoints, resume=resume, label="train",
        network=network,
    )  # fmt: skip
    utilization = permutation_reliance(
        result.network, data.module(config).loader("validation"), rolls=config.evaluate.rolls,
        bootstrap=config.evaluate.bootstrap, seed=config.seed,
    ).to_dict()  # fmt: skip
    validation = data.module(config).loader("validation")
    calibration = calibrate(result.network, validation, count=len(validation), seed=config.seed)
    card = model_card(data, config, result, utilization=utilization, calibration=calibration)
    save_model(model_folder, result.network, card)
    return {
        "history": list(result.history), "ended": result.ended, "learning_rate": result.learning_rate,
        "best_epoch": result.best_epoch, "best_score": result.best_score,
        "utilization": utilization, "model": model_digest(model_folder), "parameters": _parameters(result),
        "class_shares": data.class_shares().tolist(), "calibration": calibration,
    }  # fmt: skip


def model_card(
    data: TrainingData,
    config: Config,
    result: FitResult,
    *,
    utilization: Mapping[str, Any] | None,
    calibration: Mapping[str, Any],
    strategies: Sequence[str] | None = None,
) -> ModelCard:
    """Return what is stored beside a network's weights, from which it can be used without its run.

    ``strategies`` are those of the configuration unless others are named; ``utilization`` is None where a network has
    one sensor.
    """
    statistics = statistics_to_dict(data.normaliser.training)
    used = [item for item in data.modalities if item.name in result.network.modalities]
    return ModelCard(
        network=result.network.spec.to_dict(),
        classes=tuple(item.model_dump() for item in data.classes),
        modalities=tuple(describe_modality(item) | {"statistics": statistics[item.name]} for item in used),
        class_prior=tuple(data.class_shares().tolist()),
        training={
            "run": config.name, "seed": config.seed, "strategy": list(strategies or config.train.strategies),
            "epochs": config.train.epochs, "learning_rate": result.learning_rate, "ended": result.ended,
            "target": config.train.utilization.model_dump(mode="json"),
            "best_epoch": result.best_epoch, "normalisation": config.tile.normalisation, "utilization": utilization,
            **({} if data.normaliser.reference is None else {"dates_from": data.normaliser.reference}),
            "pretrained": dict(config.train.weights), "versions": package_versions(), "calibration": calibration,
        },
        metrics={"validation_score": result.best_score, "temperature": calibration["temperature"]},
    )  # fmt: skip


def _parameters(result: FitResult) -> int:
    return sum(parameter.numel() for parameter in result.network.parameters())
