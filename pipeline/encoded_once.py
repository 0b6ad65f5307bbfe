"""EncodedOnce: a network that encodes each image once, however many meters read it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..models.evaluation import ThreeStepNetwork
from ..models.features import Features

#: Features kept at most, bytes; what is beyond is encoded again.
MOST_BYTES = 512 * 2**20

#: One modality of a batch: the very tensors, and which samples have it.
_Key = tuple[int, int, tuple[bool, ...]]


class EncodedOnce:
    """A network in evaluation mode that remembers the features of each modality of each batch.

    An image is known by its tensor: meters that are given the same batches share their features, and so do batches
    that share the tensors of a modality. Modalities must be encoded independently of each other, as by
    :class:`~equipoise.models.network.FusionUNet`, which spends nothing on those that are absent.

    Parameters
    ----------
    network
        Keep it as it is while this is in use.
    behind
        Asked for what this one does not know; nothing is added to it.
    most_bytes
        Features kept at most.
    """

    def __init__(
        self, network: ThreeStepNetwork, *, behind: "EncodedOnce | None" = None, most_bytes: int = MOST_BYTES
    ) -> None:
        self._network, self._behind, self._left = network, behind, most_bytes
        # Inputs are kept beside their features: an id is its tensor's own only while that lives.
        self._kept: dict[_Key, tuple[Tensor, Tensor, list[Tensor], list[Tensor]]] = {}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``available``."""
        return self._network.modalities

    def encode(
        self, image: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None, available: Tensor | None
    ) -> Features:
        """Return the features of each modality, from memory where these tensors were encoded before."""
        if valid is None or available is None:  # nothing says which samples share what
            return self._network.encode(image, valid=valid, available=available)
        keys = [
            (id(image[name]), id(valid[name]), tuple(available[:, column].tolist()))
            for column, name in enumerate(self.modalities)
        ]
        known = [self._found(key) for key in keys]
        wanted = torch.tensor([found is None for found in known], device=available.device)
        fresh = self._network.encode(image, valid=valid, available=available & wanted)
        maps, shares = {}, {}
        for name, key, found in zip(self.modalities, keys, known, strict=True):
            maps[name], shares[name] = (fresh.maps[name], fresh.shares[name]) if found is None else found
            if found is None:
                self._keep(key, image[name], valid[name], maps[name], shares[name])
        return Features(maps=maps, shares=shares, size=fresh.size)

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Join the features of the modalities that ``available`` lets through."""
        return self._network.fuse(features, available)

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Return logits (batch, class, ...)."""
        return self._network.decode(fused, size=size)

    def _found(self, key: _Key) -> tuple[list[Tensor], list[Tensor]] | None:
        if key in self._kept:
            return self._kept[key][2:]
        return None if self._behind is None else self._behind._found(key)

    def _keep(self, key: _Key, image: Tensor, valid: Tensor, maps: list[Tensor], shares: list[Tensor]) -> None:
        size = sum(part.numel() * part.element_size() for part in (*maps, *shares))
        if size <= self._left:
            self._left -= size
            self._kept[key] = (image, valid, maps, shares)
