"""Transfer: weights of trained networks as the beginning of another one."""

from collections.abc import Mapping
from typing import cast

from .errors import require
from .network import FusionUNet
from .three_steps import ThreeSteps

#: What belongs to the modalities and not to the decision: encoders, dates, and guesses of those that are missing.
_OWN = ("encoders.", "dates.", "surrogates.")


def take_decision_layers(network: ThreeSteps, source: ThreeSteps) -> None:
    """Copy what follows the encoders (fusion, decoder, heads) from another network.

    Parameters
    ----------
    network
        Changed in place.
    source
        Of the same classes, task, depth and widths; it may have other modalities, if the fusion learns nothing of each.

    Raises
    ------
    ModelError
        Layers differ in name or shape.
    """
    have = {key: value for key, value in network.state_dict().items() if not key.startswith(_OWN)}
    given = {key: value for key, value in source.state_dict().items() if not key.startswith(_OWN)}
    shared = {key: value for key, value in given.items() if not key.startswith("fusion.") or key in have}
    unlike = [key for key, value in shared.items() if key not in have or have[key].shape != value.shape]
    unlike += [key for key in have if key not in shared and not key.startswith("fusion.")]
    require(not unlike, f"layers {unlike[:3]} that differ", "the same decoder and heads", "make both networks alike")
    network.load_state_dict(network.state_dict() | shared)


def take_encoder(network: FusionUNet, modality: str, source: ThreeSteps) -> None:
    """Copy the encoder of one modality, and what reads its dates, from the network of that modality alone.

    Parameters
    ----------
    network
        Changed in place.
    modality
        Whose encoder it is.
    source
        A network of that modality alone.

    Raises
    ------
    ModelError
        ``source`` reads something else, or its encoder is another one.
    """
    require(
        source.modalities == (modality,) and modality in network.modalities,
        f"a network of {source.modalities} for {network.modalities}", f"one of {modality!r} alone",
        "give the network that was trained on that modality",
    )  # fmt: skip
    column = network.modalities.index(modality)
    target, given = network.modality_encoders()[column], source.modality_encoders()[0]
    theirs = {key: value.shape for key, value in given.state_dict().items()}
    require(
        {key: value.shape for key, value in target.state_dict().items()} == theirs,
        f"an encoder of {modality!r} that differs", "the same encoder, bands and widths", "make both networks alike",
    )  # fmt: skip
    require(
        source.spec.dates == network.spec.dates,
        f"networks of which one reads dates ({modality!r} alone: {source.spec.dates})", "both or none",
        "make both networks alike",
    )  # fmt: skip
    target.load_state_dict(given.state_dict())
    if network.spec.dates:
        network.dates[column].load_state_dict(cast("FusionUNet", source).dates[0].state_dict())


def begin_with(network: FusionUNet, singles: Mapping[str, ThreeSteps], *, decision: str) -> None:
    """Let a fusion network begin with the encoders of single networks and the decision layers of one of them.

    Parameters
    ----------
    network
        Changed in place; modalities without a single network keep what they have.
    singles
        Modality -> network of that modality alone.
    decision
        Modality whose network gives fusion, decoder and heads.

    Raises
    ------
    ModelError
        The networks do not fit each other.
    """
    take_decision_layers(network, singles[decision])
    for modality, source in singles.items():
        take_encoder(network, modality, source)
