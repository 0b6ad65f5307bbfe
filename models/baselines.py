"""Baselines: the honest competitors of a fusion network."""

from collections.abc import Mapping

from .early_fusion import EarlyFusion
from .errors import ModelError, require, wanted
from .late_fusion import I2M2, LateFusion, SinglesEnsemble
from .network import FusionUNet
from .spec import NetworkSpec
from .three_steps import ThreeSteps

__all__ = [
    "BASELINES",
    "I2M2",
    "EarlyFusion",
    "LateFusion",
    "SinglesEnsemble",
    "build_baseline",
    "build_network",
    "single_modality_spec",
]

#: Competitors that are trained as a whole; :class:`SinglesEnsemble` is built from networks that are trained already.
BASELINES: dict[str, type[EarlyFusion | LateFusion | I2M2]] = {"early": EarlyFusion, "late": LateFusion, "i2m2": I2M2}


def build_network(spec: NetworkSpec, *, weights: Mapping[str, str] | None = None) -> ThreeSteps:
    """Build what a description says: the fusion network, or one of its competitors.

    Parameters
    ----------
    spec
        ``kind`` says which.
    weights
        Modality -> name of pre-trained encoder weights; others start at random.

    Returns
    -------
    ThreeSteps
        Not trained.

    Raises
    ------
    ModelError
        An encoder or its weights are unknown, or the network has no encoder to give them to.
    """
    if spec.kind == FusionUNet.kind:
        return FusionUNet(spec, weights=weights or {})
    return build_baseline(spec.kind, spec, weights=weights)


def build_baseline(name: str, spec: NetworkSpec, *, weights: Mapping[str, str] | None = None) -> ThreeSteps:
    """Build a competitor from the description of the fusion network.

    It reads the same batches and offers the same three steps, so that meters and strategies work on it.

    Parameters
    ----------
    name
        A key of :data:`BASELINES`.
    spec
        The fusion network to compete with.
    weights
        As in :func:`build_network`.

    Returns
    -------
    ThreeSteps
        Not trained.

    Raises
    ------
    ModelError
        The name is unknown, or weights are named for early fusion, whose one encoder reads all bands.
    """
    if name not in BASELINES:
        raise ModelError(wanted(f"baseline {name!r}", f"one of {tuple(BASELINES)}", "correct the name"))
    kind = BASELINES[name]
    if issubclass(kind, EarlyFusion):
        require(
            not weights, f"pre-trained weights for {tuple(weights or ())}", "none for early fusion",
            "leave them out: its one encoder reads the bands of all modalities",
        )  # fmt: skip
        return kind(spec)
    return kind(spec, weights=weights)


def single_modality_spec(spec: NetworkSpec, modality: str) -> NetworkSpec:
    """Describe the network that has the same encoder and decoder but one modality.

    Such a network reads the batches of the fusion network: it ignores the other images, and takes one column of
    ``available`` (``FusionTask`` picks it when told the ``batch_modalities``).

    Parameters
    ----------
    spec
        The fusion network to compete with.
    modality
        Which of its modalities to keep.

    Returns
    -------
    NetworkSpec
        With that modality alone.

    Raises
    ------
    ModelError
        The modality is not in the spec.
    """
    return spec.single(modality)
