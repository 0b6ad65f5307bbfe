"""Joint training: the network sees everything that is present."""

import torch
from torch import Tensor


class Joint:
    """The plain competitor of every balancing strategy."""

    def available(self, batch_available: Tensor, *, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Return ``batch_available``, bool (batch, modality), as it is; the protocol's generator stays unused."""
        return batch_available
