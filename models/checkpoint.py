"""Checkpoint: a model folder that alone suffices to predict; weights as safetensors, never pickle."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .baselines import BASELINES, build_network
from .errors import CheckpointError, ModelError, require, wanted
from .model_card import card_markdown
from .network import FusionUNet
from .spec import NetworkSpec
from .three_steps import ThreeSteps

_WEIGHTS, _CARD, _README = "model.safetensors", "model.json", "README.md"
_FORMAT, _VERSION = "equipoise-model", 1


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a prediction needs to know besides the weights; primitives only.

    Attributes
    ----------
    network
        :meth:`NetworkSpec.to_dict <equipoise.models.spec.NetworkSpec.to_dict>` of the network.
    classes
        One dict per class number, in order: ``value`` (in the label raster), ``name``, ``color``.
    modalities
        One dict per modality, in the network's order: at least ``name``; bands, units and statistics beside it.
    class_prior
        Share of each class among the labelled training pixels (or patches).
    training
        How it was trained: seed, epochs, strategy, versions, measured utilization.
    metrics
        Figures measured after training.

    Raises
    ------
    ModelError
        The fields disagree with the network.
    """

    network: dict[str, Any]
    classes: tuple[dict[str, Any], ...]
    modalities: tuple[dict[str, Any], ...]
    class_prior: tuple[float, ...]
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = self.spec
        names = tuple(modality.get("name") for modality in self.modalities)
        require(
            names == spec.modalities, f"modalities {names} in a card", f"{spec.modalities}", "list them in this order"
        )
        for label, entries in (("classes", self.classes), ("class priors", self.class_prior)):
            require(
                len(entries) == spec.classes, f"{len(entries)} {label}", f"{spec.classes}", "give one per class number"
            )

    @property
    def spec(self) -> NetworkSpec:
        """The network's description."""
        return NetworkSpec.from_dict(self.network)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a card from parsed JSON.

        Raises
        ------
        ModelError
            A key is missing or unknown, a value has the wrong type, or the fields disagree.
        """
        names = {entry.name for entry in fields(cls)}
        found = set(values) if isinstance(values, Mapping) else values
        require(found == names, f"card keys {found!r}", f"{sorted(names)}", "use a card that Equipoise wrote")
        for name in ("network", "training", "metrics"):
            require(isinstance(values[name], dict), f"no object in card entry {name!r}", "an object", "restore it")
        _require_list(values, "classes", of=dict)
        _require_list(values, "modalities", of=dict)
        _require_list(values, "class_prior", of=float | int)
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**plain)


def save_model(folder: Path, network: ThreeSteps, card: ModelCard) -> None:
    """Write weights, card and README; each file appears complete or not at all.

    Parameters
    ----------
    folder
        Made if it does not exist; files of an earlier model are replaced.
    network
        Its weights are copied to the CPU.
    card
        Must describe this network.

    Raises
    ------
    ModelError
        The card belongs to another network, or holds what JSON cannot; or the network cannot be built from a
        description.
    OSError
        The folder cannot be written.
    """
    rebuilt = BASELINES.get(network.spec.kind, FusionUNet)
    require(
        type(network) is rebuilt, f"a {type(network).__name__}", f"a {rebuilt.__name__}, as its description says",
        "save a network that can be built from its description",
    )  # fmt: skip
    require(
        card.spec == network.spec, "the card of another network", f"one for {network.spec}", "fill `network` from it"
    )
    weights = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
    envelope = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "card": card.to_dict(),
    }
    try:
        text = json.dumps(envelope, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        message = wanted(
            f"a card that JSON cannot hold ({error})", "finite numbers, strings, lists, dicts", "convert it"
        )
        raise ModelError(message) from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / _WEIGHTS, weights)
    _replace(folder / _README, card_markdown(card.to_dict()).encode())
    # The card goes last: until it is there, the folder does not pass for a model.
    _replace(folder / _CARD, text.encode())


def load_model(folder: Path, *, device: torch.device | str = "cpu") -> tuple[ThreeSteps, ModelCard]:
    """Read a model folder and check it against itself.

    Parameters
    ----------
    folder
        Written by :func:`save_model`.
    device
        Where the network shall live.

    Returns
    -------
    network : ThreeSteps
        In evaluation mode.
    card : ModelCard
        Its description.

    Raises
    ------
    CheckpointError
        A file is missing, damaged or foreign, or weights and card disagree.
    """
    folder = Path(folder)
    envelope = _envelope(folder)
    weights = _read(folder / _WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != envelope["weights_sha256"]:
        raise _damaged(
            folder / _WEIGHTS, "bytes other than the card's checksum names (truncated, damaged or exchanged)"
        )
    try:
        card = ModelCard.from_dict(envelope["card"])
        network = build_network(card.spec)
    # Absurd sizes in a foreign card fail in the allocator.
    except (ModelError, RuntimeError, MemoryError, OverflowError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{folder / _CARD}: {reason}") from error
    _fill(network, _tensors(folder / _WEIGHTS, weights), path=folder / _WEIGHTS)
    return network.to(device).eval(), card


def model_digest(folder: Path) -> str:
    """Return 16 hexadecimal digits that change whenever weights or card do.

    Raises
    ------
    CheckpointError
        A file is missing or unreadable.
    """
    folder = Path(folder)
    parts = (hashlib.sha256(_read(folder / name)).digest() for name in (_WEIGHTS, _CARD))
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _require_list(values: Mapping[str, Any], name: str, *, of: type | UnionType) -> None:
    entries = values[name]
    fits = isinstance(entries, list | tuple) and all(isinstance(entry, of) for entry in entries)
    require(fits, f"no list of the right kind in card entry {name!r}", "one as Equipoise writes it", "restore it")


def _replace(path: Path, content: bytes) -> None:
    """Write beside the target, then rename, so that a kill leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            wanted(f"no readable {path} ({error.strerror})", "a model folder of `equipoise train`", "check the path")
        ) from error


def _envelope(folder: Path) -> dict[str, Any]:
    path = folder / _CARD
    text = _read(path)
    try:
        envelope = json.loads(text)
    # A file of nothing but brackets exhausts the parser's stack.
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "text that is not JSON") from error
    if not isinstance(envelope, dict) or envelope.get("format") != _FORMAT:
        raise _damaged(path, "JSON of another kind")
    if envelope.get("format_version") != _VERSION:
        raise _damaged(path, f"format version {envelope.get('format_version')!r} (this is version {_VERSION})")
    if not {"weights_sha256", "card"} <= set(envelope):
        raise _damaged(path, "a card without checksum or content")
    return envelope


def _tensors(path: Path, weights: bytes) -> dict[str, Tensor]:
    try:
        return load(weights)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _damaged(path, f"bytes that are not safetensors ({error})") from error


def _fill(network: ThreeSteps, tensors: dict[str, Tensor], *, path: Path) -> None:
    """Copy tensors into the network after comparing names and shapes."""
    expected = network.state_dict()
    odd = sorted(set(expected) ^ set(tensors))
    if odd:
        raise _damaged(path, f"{len(odd)} tensors that differ from the card's network, first {odd[0]!r}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            shape, wish = tuple(tensor.shape), tuple(expected[name].shape)
            raise _damaged(path, f"tensor {name!r} of {tensor.dtype} {shape} where the network has {wish}")
    network.load_state_dict(tensors)


def _damaged(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        wanted(f"{found} in {path}", "a file that Equipoise wrote", "copy the model folder again or train anew")
    )
