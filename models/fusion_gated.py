"""Gated and attentive fusion: how much a modality counts is decided cell by cell, from what its features hold."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .fusion_mean import seen

_MOST_HEADS = 4


def masked_softmax(scores: Tensor, weights: Tensor, *, dim: int) -> Tensor:
    """Return ``w_k exp(s_k) / sum_k w_k exp(s_k)``: a softmax over what is present.

    A weight of 0 takes an entry out, whatever its score; a weight that goes to 0 does so without a jump.

    Parameters
    ----------
    scores
        Any shape.
    weights
        In [0, 1], broadcastable to ``scores``.
    dim
        The axis of the entries.

    Returns
    -------
    Tensor
        Shape of ``scores``, in [0, 1]; sums to 1 along ``dim``, or to 0 where no weight is above 0.
    """
    scores = scores.masked_fill(weights <= 0, -torch.inf)
    # The shift cancels, so it needs no gradient; it is finite also where nothing is present.
    shift = scores.detach().amax(dim=dim, keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
    mass = weights * (scores - shift).exp()
    return mass / mass.sum(dim=dim, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)


class GatedFusion(nn.Module):
    """Mean over the modalities present, each weighted per cell by a gate that reads its own features.

    ``fused = sum_m a_m f_m`` with ``a = masked_softmax(g_m(f_m))`` and one 1x1 convolution ``g_m`` per modality. The
    gates begin at 0, where this is the masked mean. Gates are no measure of reliance.

    Parameters
    ----------
    width
        Channels of the maps.
    modalities
        Their number.
    """

    def __init__(self, width: int, *, modalities: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(modalities))
        for parameter in self.gates.parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse one scale, as :meth:`~equipoise.models.fusion_mean.MaskedMeanFusion.forward` does."""
        features = [seen(feature, weight) for feature, weight in zip(maps, weights, strict=True)]
        stacked = torch.stack(list(weights))
        scores = torch.stack([gate(feature) for gate, feature in zip(self.gates, features, strict=True)])
        gates = masked_softmax(scores, stacked, dim=0)
        fused = features[0] * gates[0]
        for feature, gate in zip(features[1:], gates[1:], strict=True):
            fused = fused + feature * gate
        return fused, stacked.sum(dim=0)


class AttentionFusion(nn.Module):
    """Multi-head self-attention over the modality tokens of a cell, then the mean over those present.

    ``fused = mean_q (f_q + out(sum_k a_qk v_k))`` with ``a_qk = masked_softmax_k(q_q k_k / sqrt(d))``: an absent
    modality is no key, rather than a key of zeros, which would still draw attention (as in mmFormer, Zhang et al.,
    MICCAI 2022, and Ting & Liu 2024, who attend over the whole image and mask features). Tokens attend within
    their cell alone, so the cost grows with the number of cells. All weights are shared, so the order of the
    modalities does not matter; what tells them apart is their encoders' projections. ``out`` begins at 0, where
    this is the masked mean. Attention is no measure of reliance.

    Parameters
    ----------
    width
        Channels of the maps; split into as many as 4 heads.
    modalities
        Their number; any will do.
    """

    def __init__(self, width: int, *, modalities: int) -> None:  # noqa: ARG002 (all fusions are built alike)
        super().__init__()
        self.heads = max(heads for heads in range(1, _MOST_HEADS + 1) if width % heads == 0)
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, maps: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse one scale, as :meth:`~equipoise.models.fusion_mean.MaskedMeanFusion.forward` does."""
        # (modality, batch, y, x, channel): the layout in which channels lie together in memory anyhow.
        tokens = torch.stack(
            [seen(feature, weight).movedim(1, -1) for feature, weight in zip(maps, weights, strict=True)]
        )
        stacked = torch.stack([weight[:, 0] for weight in weights])
        attended = self._attended(self.norm(tokens), stacked)
        total = stacked.sum(dim=0)
        share = stacked / total.clamp_min(torch.finfo(total.dtype).tiny)
        # The output layer is linear and shared: after the mean it runs once instead of once a modality.
        mean, context = ((share[..., None] * part).sum(dim=0) for part in (tokens, attended))
        fused = (mean + self.out(context)) * (total > 0)[..., None]
        return fused.movedim(-1, 1), total[:, None]

    def _attended(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """Return the values that each token gathers, (modality, batch, y, x, channel)."""
        split = self.query_key_value(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.unbind(dim=-3)
        # A product per pair of modalities: batched matrix products are slow for matrices of 2 x 2 or 3 x 3.
        scale = query.shape[-1] ** -0.5
        gathered = []
        for one in query * scale:
            attention = masked_softmax((one * key).sum(dim=-1), weights[..., None], dim=0)
            gathered.append((attention[..., None] * value).sum(dim=0))
        return torch.stack(gathered).flatten(-2)
