"""BottleneckFusion: attention over all cells of the deepest scale, within each modality, then across them."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .fusion_mean import seen

_MOST_HEADS = 4
_MOST_TOKENS = 4096
#: Positions differ by some tens of cells, not by the ten thousand words that sines of text are made for.
_LONGEST = 100.0


class Tokens(NamedTuple):
    """Cells of one modality.

    Attributes
    ----------
    values
        (batch, token, channel).
    weights
        float (batch, token) in [0, 1]; 0: absent.
    """

    values: Tensor
    weights: Tensor


class BottleneckFusion(nn.Module):
    """Self-attention within each modality, then over the cells of all of them, then the mean over those present.

    ``fused = mean_m (f_m + out(norm(z_m)))``, weighted by ``w_m`` in each cell, where ``z`` is what an intra-modal
    transformer layer for each modality and an inter-modal one for all make of the tokens ``f_m + view_m``. A key
    counts by its weight: ``a_qk ~ w_k exp(q k / sqrt(d))``, so that what is absent is no key. Where a token lies is
    added to queries and keys alone. ``out`` begins at 0, where this is the masked mean. Attention is no measure of
    reliance.

    Intra- and inter-modal layers over the tokens of the bottleneck are those of mmFormer (Zhang et al., MICCAI 2022)
    and of Ting & Liu (2024), who mask features; keys are masked here, since a token of zeros would still draw
    attention. Ours: weights of keys between 0 and 1, the residual mean, and the bound of the cost: with ``n``
    modalities, maps of more than ``sqrt(4096 / n)`` rows or columns are averaged in blocks of cells; a block attends
    as one token, and its cells share what it gathers.

    Parameters
    ----------
    width
        Channels of the maps; split into as many as 4 heads.
    modalities
        Their number.
    """

    #: Whether a cell of the result depends on the same cell of the maps alone.
    local: ClassVar[bool] = False

    def __init__(self, width: int, *, modalities: int) -> None:
        super().__init__()
        self.edge = int((_MOST_TOKENS / modalities) ** 0.5)
        self.views = nn.ParameterList(nn.Parameter(0.02 * torch.randn(width)) for _ in range(modalities))
        self.intra = nn.ModuleList(TransformerLayer(width) for _ in range(modalities))
        self.inter = TransformerLayer(width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, maps: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse one scale, as :meth:`~equipoise.models.fusion_mean.MaskedMeanFusion.forward` does."""
        features = [seen(feature, weight) for feature, weight in zip(maps, weights, strict=True)]
        rows, columns = features[0].shape[-2:]
        down, right = (_blocks(length, self.edge, features[0].device) for length in (rows, columns))
        place = _places(down.shape[0], right.shape[0], features[0])
        tokens = [_pooled(feature, weight, down, right) for feature, weight in zip(features, weights, strict=True)]
        own = [
            layer(values + view, place, weight)
            for layer, view, (values, weight) in zip(self.intra, self.views, tokens, strict=True)
        ]
        every = torch.cat([weight for _, weight in tokens], dim=1)
        joined = self.inter(torch.cat(own, dim=1), place.repeat(len(own), 1), every)
        gathered = self.norm(joined).unflatten(1, (len(own), down.shape[0], right.shape[0])).movedim(-1, 2)
        total = torch.stack(list(weights)).sum(dim=0)
        scale = total.clamp_min(torch.finfo(total.dtype).tiny).reciprocal() * (total > 0)
        mean, context = torch.zeros_like(features[0]), torch.zeros_like(features[0])
        for column, (feature, weight) in enumerate(zip(features, weights, strict=True)):
            mean = mean + feature * (weight * scale)
            spread = _spread(gathered[:, column], down, right)
            # Of a sample without a single cell nothing is kept, so that nothing is learned from it either.
            context = context + seen(spread, weight) * (weight * scale)
        fused = mean + self.out(context.movedim(1, -1)).movedim(-1, 1) * (total > 0)
        return fused, total


class TransformerLayer(nn.Module):
    """Multi-head self-attention and a layer of neurons, each normalised before and added to what was there.

    Parameters
    ----------
    width
        Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(heads for heads in range(1, _MOST_HEADS + 1) if width % heads == 0)
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.gather = nn.Linear(width, width)
        self.neurons = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, place: Tensor, weights: Tensor) -> Tensor:
        """Let tokens attend to each other.

        Parameters
        ----------
        tokens
            (batch, token, channel), finite.
        place
            (token, channel): added to what queries and keys are made of.
        weights
            float (batch, token) in [0, 1]: how much a token counts as a key.

        Returns
        -------
        Tensor
            Of the shape of ``tokens``; where a sample has no key, finite numbers that mean nothing.
        """
        normed = self.norm(tokens)
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        width = tokens.shape[-1]
        placed = F.linear(normed + place, weight[: 2 * width], bias[: 2 * width])
        value = F.linear(normed, weight[2 * width :], bias[2 * width :])
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (*placed.chunk(2, dim=-1), value)
        )
        # A softmax over nothing is no number: a sample without a key has equal ones, and nobody reads the result.
        some = (weights > 0).any(dim=1, keepdim=True)
        mask = torch.where(some, weights.log(), 0.0).to(query.dtype)[:, None, None, :]
        mask = mask.expand(-1, -1, tokens.shape[1], -1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        tokens = tokens + self.gather(attended.transpose(1, 2).flatten(2))
        neurons: Tensor = self.neurons(tokens)
        return tokens + neurons


def _blocks(length: int, edge: int, device: torch.device) -> Tensor:
    """Return which cells lie in which block, bool (block, cell), with at most ``edge`` blocks.

    Arithmetic without a question: lengths may be symbols, whose values a graph must not depend on.
    """
    size = (length + edge - 1) // edge
    cells = torch.arange(length, device=device) // size
    return torch.arange((length + size - 1) // size, device=device)[:, None] == cells


def _pooled(feature: Tensor, weight: Tensor, down: Tensor, right: Tensor) -> Tokens:
    """Return the weighted mean of each block, and the mean of the weights."""
    pool = [part.to(weight.dtype) for part in (down, right)]
    mass = pool[0] @ weight @ pool[1].T
    own = [part.to(feature.dtype) for part in pool]
    values = own[0] @ (feature * weight) @ own[1].T
    values = values / mass.clamp_min(torch.finfo(mass.dtype).tiny)
    cells = pool[0].sum(dim=1)[:, None] * pool[1].sum(dim=1)
    values = torch.where(mass > 0, values, 0.0)
    return Tokens(values.flatten(2).transpose(1, 2), (mass / cells).flatten(1))


def _spread(values: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Give every cell what its block has: (batch, channel, block, block) to (batch, channel, y, x)."""
    rows, columns = (part.to(torch.int64).argmax(dim=0) for part in (down, right))
    return values.index_select(2, rows).index_select(3, columns)


def _places(rows: int, columns: int, like: Tensor) -> Tensor:
    """Return sines and cosines of row and column, (row x column, channel), as many as the maps have channels."""
    width = like.shape[1]
    count = (width + 3) // 4
    rates = _LONGEST ** -(torch.arange(count, device=like.device) / count)
    down, right = (torch.arange(length, device=like.device)[:, None] * rates for length in (rows, columns))
    waves = [
        *(wave[:, None].expand(-1, columns, -1) for wave in (down.sin(), down.cos())),
        *(wave[None].expand(rows, -1, -1) for wave in (right.sin(), right.cos())),
    ]
    return torch.stack(waves, dim=-1).flatten(2)[..., :width].flatten(0, 1).to(like.dtype)
