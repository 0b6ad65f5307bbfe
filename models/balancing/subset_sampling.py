"""Subset sampling: each sample shows a random non-empty subset of its modalities."""

import torch
from torch import Tensor

from .strategy import Strategy


class SubsetSampling(Strategy):
    """Per sample one of the ``2 ** n - 1`` non-empty subsets of its ``n`` present modalities, all equally likely.

    It makes "absent" an input that the network knows, which coalition Shapley values need. The uniform draw
    follows mmFormer (Zhang et al., MICCAI 2022).
    """

    def available(self, batch_available: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draw one subset per sample.

        Parameters
        ----------
        batch_available
            bool (batch, modality), at most 31 modalities.
        generator
            Source of randomness; drawn on its own device, so that the stream does not depend on the batch's.

        Returns
        -------
        Tensor
            bool (batch, modality). A sample without any modality stays empty.
        """
        present = batch_available.long()
        subsets = 2 ** present.sum(dim=1) - 1
        draw = torch.rand(len(present), dtype=torch.float64, generator=generator, device=generator.device)
        code = (draw.to(present.device) * subsets).long() + 1
        # The k-th bit of the code belongs to the k-th modality among those present.
        rank = (present.cumsum(dim=1) - 1).clamp_min(0)
        return batch_available & ((code[:, None] >> rank) & 1).bool()
