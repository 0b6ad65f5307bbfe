"""Baselines: the honest competitors of a fusion network."""

from .early_fusion import EarlyFusion
from .errors import ModelError, wanted
from .late_fusion import I2M2, LateFusion, SinglesEnsemble
from .spec import NetworkSpec
from .three_steps import ThreeSteps

__all__ = [
    "BASELINES",
    "I2M2",
    "EarlyFusion",
    "LateFusion",
    "SinglesEnsemble",
    "build_baseline",
    "single_modality_spec",
]

#: Competitors that are trained as a whole; :class:`SinglesEnsemble` is built from networks that are trained already.
BASELINES: dict[str, type[EarlyFusion | LateFusion | I2M2]] = {"early": EarlyFusion, "late": LateFusion, "i2m2": I2M2}


def build_baseline(name: str, spec: NetworkSpec) -> ThreeSteps:
    """Build a competitor from the description of the fusion network.

    It reads the same batches and offers the same three steps, so that meters and strategies work on it.

    Parameters
    ----------
    name
        A key of :data:`BASELINES`.
    spec
        The fusion network to compete with.

    Returns
    -------
    ThreeSteps
        Not trained.

    Raises
    ------
    ModelError
        The name is unknown.
    """
    if name not in BASELINES:
        raise ModelError(wanted(f"baseline {name!r}", f"one of {tuple(BASELINES)}", "correct the name"))
    return BASELINES[name](spec)


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
