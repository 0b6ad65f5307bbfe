"""Evaluation: what every meter needs of a network and of a batch."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor

from .dates import date_key
from .errors import ModelError, require, wanted
from .features import Features

Batch = Mapping[str, Any]


class ThreeStepNetwork(Protocol):
    """What the meters need of a network: the three steps, apart from each other."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``available``."""
        ...

    def encode(
        self, image: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None, available: Tensor | None
    ) -> Features:
        """Return the features of each modality."""
        ...

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Join the features of the modalities that ``available``, bool (batch, modality), lets through."""
        ...

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Return logits (batch, class, ...)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The inputs of a batch, on the network's device.

    Attributes
    ----------
    image
        Per modality (batch, band, y, x).
    valid
        Per modality bool (batch, y, x), or None where everything is usable.
    available
        bool (batch, modality).
    """

    image: Mapping[str, Tensor]
    valid: Mapping[str, Tensor] | None
    available: Tensor

    def rolled(self, modality: str, index: Tensor) -> "Observed":
        """Give every sample another sample's modality, image, date and valid mask together; see ``Features.rolled``."""
        valid = self.valid
        if valid is not None:
            valid = {**valid, modality: valid[modality][index]}
        moved = [key for key in (modality, date_key(modality)) if key in self.image]
        image = {**self.image, **{key: self.image[key][index] for key in moved}}
        return Observed(image=image, valid=valid, available=self.available)

    def seen(self, modalities: tuple[str, ...]) -> Tensor:
        """Return where at least one modality was observed, bool (batch, y, x) or, without masks, (batch, 1, 1)."""
        if self.valid is None:
            return self.available.any(dim=1)[:, None, None]
        masks = [self.valid[name] & self.available[:, m, None, None] for m, name in enumerate(modalities)]
        return torch.stack(masks).any(dim=0)


def observed(network: ThreeStepNetwork, batch: Batch) -> Observed:
    """Move the inputs of a batch to the network's device; without ``available``, all is present."""
    parameters = network.parameters() if isinstance(network, torch.nn.Module) else iter(())
    example = next(chain(parameters, batch["image"].values()))
    image = {modality: data.to(example.device) for modality, data in batch["image"].items()}
    valid, available = batch.get("valid"), batch.get("available")
    if valid is not None:
        valid = {modality: mask.to(example.device) for modality, mask in valid.items()}
    if available is None:
        available = torch.ones(batch_size(batch), len(network.modalities), dtype=torch.bool)
    return Observed(image=image, valid=valid, available=available.to(example.device))


def encoded(network: ThreeStepNetwork, inputs: Observed) -> Features:
    """Run the encoders."""
    return network.encode(inputs.image, valid=inputs.valid, available=inputs.available)


def present(features: Features, available: Tensor, *, modalities: tuple[str, ...]) -> Tensor:
    """Return which modalities say anything about a sample: available, and with one usable cell; bool as given."""
    seen = [features.shares[name][0].flatten(1).gt(0).any(dim=1) for name in modalities]
    return available & torch.stack(seen, dim=1).to(available.device)


def target_of(batch: Batch) -> Tensor:
    """Return the labels of a batch.

    Raises
    ------
    ModelError
        It has none.
    """
    for key in ("mask", "label"):
        if key in batch:
            target: Tensor = batch[key]
            return target
    raise ModelError(wanted(f"a batch with {tuple(batch)}", "'mask' or 'label'", "give labelled samples"))


def batch_size(batch: Batch) -> int:
    """Return the number of samples of a batch."""
    return len(next(iter(batch["image"].values())))


@contextmanager
def evaluating(network: ThreeStepNetwork) -> Iterator[None]:
    """Keep a module in evaluation mode for a while; each part gets its own mode back, frozen encoders included."""
    parts = list(network.modules()) if isinstance(network, torch.nn.Module) else []
    modes = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def joined(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Pass batches on, a batch of one sample joined to the one before (or, at the start, after) it.

    Raises
    ------
    ModelError
        There is no batch, or only one sample in all.
    """
    waiting: Batch | None = None
    for batch in batches:
        if waiting is None:
            waiting = batch
        elif batch_size(batch) == 1 or batch_size(waiting) == 1:
            waiting = _concatenated(waiting, batch)
        else:
            yield waiting
            waiting = batch
    require(waiting is not None, "no batch", "at least one with 2 samples", "check the split")
    if waiting is not None:
        require(batch_size(waiting) >= 2, "a batch of 1", "2 or more samples to exchange", "use a larger batch size")
        yield waiting


def _concatenated(first: Batch, second: Batch) -> Batch:
    whole: dict[str, Any] = {}
    for key in ("image", "valid", "available", "mask", "label"):
        if isinstance(first.get(key), Mapping):
            whole[key] = {name: torch.cat([first[key][name], second[key][name]]) for name in first[key]}
        elif first.get(key) is not None:
            whole[key] = torch.cat([first[key], second[key]])
    return whole
