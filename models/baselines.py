"""Baselines: the honest competitors of a fusion network."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .errors import require
from .spec import NetworkSpec


def single_modality_spec(spec: NetworkSpec, modality: str) -> NetworkSpec:
    """Describe the network that has the same encoder and decoder but one modality.

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
    column = _column(spec.modalities, modality)
    return replace(spec, modalities=(modality,), in_channels=(spec.in_channels[column],), encoder=spec.encoders[column])


def single_modality_batch(batch: Mapping[str, Any], modality: str, *, modalities: tuple[str, ...]) -> dict[str, Any]:
    """Reduce a batch of several modalities to the one that a single-modality network reads.

    Parameters
    ----------
    batch
        With ``image``, and where present ``valid`` and ``available``; further keys are kept.
    modality
        Which to keep.
    modalities
        The order of the columns of ``available``.

    Returns
    -------
    dict
        A shallow copy; ``available`` becomes bool (batch, 1).

    Raises
    ------
    ModelError
        The modality is not among ``modalities``.
    """
    column = _column(modalities, modality)
    reduced = dict(batch)
    for key in ("image", "valid"):
        if batch.get(key) is not None:
            reduced[key] = {modality: batch[key][modality]}
    if batch.get("available") is not None:
        reduced["available"] = batch["available"][:, column : column + 1]
    return reduced


def _column(modalities: tuple[str, ...], modality: str) -> int:
    require(modality in modalities, f"modality {modality!r}", f"one of {modalities}", "correct the name")
    return modalities.index(modality)
