"""Baselines: the honest competitors of a fusion network."""

from dataclasses import replace

from .errors import require
from .spec import NetworkSpec


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
    require(modality in spec.modalities, f"modality {modality!r}", f"one of {spec.modalities}", "correct the name")
    column = spec.modalities.index(modality)
    return replace(spec, modalities=(modality,), in_channels=(spec.in_channels[column],), encoder=spec.encoders[column])
