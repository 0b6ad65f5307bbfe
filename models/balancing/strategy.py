"""Strategy: what a balancing method may decide about a training step."""

from typing import Protocol

import torch
from torch import Tensor


class Strategy(Protocol):
    """Decides which of the present modalities the network is allowed to see in a step."""

    def available(self, batch_available: Tensor, *, generator: torch.Generator) -> Tensor:
        """Choose what the network sees.

        Parameters
        ----------
        batch_available
            bool (batch, modality): what is present in the data.
        generator
            The only source of randomness, so that a resumed run repeats itself.

        Returns
        -------
        Tensor
            bool (batch, modality), nowhere True where ``batch_available`` is False.
        """
        ...
