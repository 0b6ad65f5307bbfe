"""Pre-trained encoder weights of torchgeo (optical, radar, thermal), by the name of their enum member."""

import pickle
import re
from difflib import get_close_matches
from http.client import HTTPException
from typing import Any

from torch import Tensor, nn

from .errors import ModelError, require, wanted

_NAME = re.compile(r"\w+_Weights\.\w+", re.ASCII)


def is_torchgeo_name(name: str) -> bool:
    """Say whether a name of weights has torchgeo's form, such as ``"ResNet50_Weights.SENTINEL2_ALL_MOCO"``."""
    return _NAME.fullmatch(name) is not None


def find_torchgeo_weights(name: str) -> Any:
    """Return the member of a torchgeo enum of weights; nothing is downloaded.

    Parameters
    ----------
    name
        ``"Enum.MEMBER"``.

    Returns
    -------
    The member: ``meta`` says architecture and bands, ``get_state_dict`` downloads.

    Raises
    ------
    ModelError
        torchgeo has no such weights; the message names the nearest that it has.
    """
    # torchgeo takes tens of seconds to import and is needed here alone.
    import torchgeo.models

    enums = {entry: getattr(torchgeo.models, entry) for entry in dir(torchgeo.models) if entry.endswith("_Weights")}
    enum, _, member = name.partition(".")
    # By attribute: torchgeo's own look-up by string misses the aliases among its names.
    found = getattr(enums[enum], member, None) if enum in enums else None
    if not isinstance(found, enums.get(enum, type(None))) or found is None:
        known = [f"{entry}.{alias}" for entry, kind in enums.items() for alias in kind.__members__]
        near = get_close_matches(name, known, n=1, cutoff=0.0)
        raise ModelError(
            wanted(
                f"weights {name!r}",
                "a name that torchgeo knows",
                f"the nearest is {near[0]!r}; its documentation lists all of them",
            )
        )
    return found


def load_torchgeo_weights(encoder: nn.Module, name: str, *, architecture: str, in_channels: int) -> None:
    """Download weights, unless torch's cache has them, and copy them into a backbone.

    They expect the bands of ``meta["bands"]`` in that order, scaled as ``weights.transforms`` says; other scalings
    are adapted to in training.

    Parameters
    ----------
    encoder
        A ResNet of segmentation-models-pytorch, complete to its last stage.
    name
        As in :func:`find_torchgeo_weights`.
    architecture
        Name of the encoder, such as ``"resnet50"``.
    in_channels
        Number of bands that it was built for.

    Raises
    ------
    ModelError
        The name is unknown, the weights are for another architecture or number of bands, or cannot be downloaded.
    """
    weights = find_torchgeo_weights(name)
    meta = weights.meta
    require(
        meta.get("model") == architecture,
        f"encoder {architecture!r} for weights {name}",
        f"{meta.get('model')!r}, for which they were trained",
        "change the encoder of this modality, or its weights",
    )
    bands = ", ".join(str(band) for band in meta.get("bands", ()))
    require(
        meta.get("in_chans") == in_channels,
        f"{in_channels} bands for weights {name}",
        f"{meta.get('in_chans')}" + (f" ({bands})" if bands else ""),
        "give the modality these bands in this order, or choose other weights",
    )
    _fill(encoder, downloaded_state(weights, name), name=name)


def downloaded_state(weights: Any, name: str) -> dict[str, Any]:
    """Return the tensors of a member of :func:`find_torchgeo_weights`, from torch's cache or the network.

    Raises
    ------
    ModelError
        They cannot be downloaded, or the file holds more than tensors.
    """
    try:
        # weights_only: a pickle from the network must not be able to run code.
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, HTTPException, RuntimeError, pickle.UnpicklingError) as error:
        raise not_downloaded(name, error) from error


def not_downloaded(name: str, error: Exception) -> ModelError:
    """Compose the one line that says that weights could not be had."""
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return ModelError(
        wanted(
            f"no way to download weights {name} ({reason})",
            "a network connection, or the file in torch's cache",
            "connect once, or leave `weights` out to start at random",
        )
    )


def _fill(encoder: nn.Module, state: dict[str, Tensor], *, name: str) -> None:
    """Copy a state dict into an encoder whose names and shapes agree, but for the classifier, which is left out."""
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    own = encoder.state_dict()
    # Counters of batch normalisation are missing from files that were written before torch had them.
    odd = {key for key in set(state) ^ set(own) if not key.endswith("num_batches_tracked")}
    odd |= {key for key in set(state) & set(own) if state[key].shape != own[key].shape}
    require(
        not odd,
        f"{len(odd)} tensors of weights {name} that the encoder lacks, misses or has in another shape, "
        f"first {min(odd, default='')!r}",
        "those of the same ResNet",
        "choose other weights or another encoder",
    )
    encoder.load_state_dict(state, strict=False)
