"""EncodedOnce: a network whose encoders run once for each batch, however many meters read it."""

from collections.abc import Mapping

from torch import Tensor

from ..models.evaluation import ThreeStepNetwork
from ..models.features import Features

#: Features kept at most, bytes; what is beyond is encoded again.
MOST_BYTES = 512 * 2**20


class EncodedOnce:
    """A network in evaluation mode that remembers what it encoded.

    Remembered is by the very tensors of a batch: meters that are given the same batches share their features.

    Parameters
    ----------
    network
        Keep it as it is while this is in use.
    most_bytes
        Features kept at most.
    """

    def __init__(self, network: ThreeStepNetwork, *, most_bytes: int = MOST_BYTES) -> None:
        self._network, self._left = network, most_bytes
        # Inputs are kept beside their features: an id is its tensor's own only while that lives.
        self._kept: dict[tuple[int, ...], tuple[list[Tensor], Features]] = {}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``available``."""
        return self._network.modalities

    def encode(
        self, image: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None, available: Tensor | None
    ) -> Features:
        """Return the features of each modality, from memory where these tensors were encoded before."""
        names = self.modalities
        inputs = [image[name] for name in names]
        inputs += [] if valid is None else [valid[name] for name in names]
        inputs += [] if available is None else [available]
        key = tuple(id(tensor) for tensor in inputs)
        if key in self._kept:
            return self._kept[key][1]
        features = self._network.encode(image, valid=valid, available=available)
        size = sum(part.numel() * part.element_size() for maps in features.maps.values() for part in maps)
        if size <= self._left:
            self._left -= size
            self._kept[key] = (inputs, features)
        return features

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Join the features of the modalities that ``available`` lets through."""
        return self._network.fuse(features, available)

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Return logits (batch, class, ...)."""
        return self._network.decode(fused, size=size)
