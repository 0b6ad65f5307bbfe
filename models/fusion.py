"""Fusion: join the features of the modalities that are present, one scale at a time."""

from collections.abc import Mapping

from torch import nn

from .fusion_attention import BottleneckFusion
from .fusion_gated import AttentionFusion, GatedFusion
from .fusion_mean import MaskedMeanFusion
from .fusion_projected import ConcatFusion, SharedPrivateFusion

__all__ = ["FUSIONS", "MaskedMeanFusion", "build_fusion"]

#: Every fusion is built by ``(width, modalities=)``, fuses like ``MaskedMeanFusion`` and reads only what is present.
FUSIONS: dict[str, type[nn.Module]] = {
    "mean": MaskedMeanFusion,
    "gated": GatedFusion,
    "attention": BottleneckFusion,
    "cell_attention": AttentionFusion,
    "concat": ConcatFusion,
    "shared_private": SharedPrivateFusion,
}

_FINEST_ATTENTION = 2


def build_fusion(name: str, *, widths: Mapping[int, int], modalities: int) -> nn.ModuleList:
    """Build one fusion per scale.

    Parameters
    ----------
    name
        A key of :data:`FUSIONS`. ``attention`` stands at the deepest scale, whose cells are few, and leaves the others
        to the mean; ``cell_attention`` stands at strides of 4 and more, as strides 1 and 2 hold 15 of 16 cells.
    widths
        Channels per fused scale; scale ``k`` has stride ``2 ** k``.
    modalities
        Their number.

    Returns
    -------
    nn.ModuleList
        Fine to coarse.
    """
    finest = {"attention": max(widths), "cell_attention": _FINEST_ATTENTION}.get(name, 0)
    rules = {scale: FUSIONS[name] if scale >= finest else MaskedMeanFusion for scale in widths}
    return nn.ModuleList(rules[scale](widths[scale], modalities=modalities) for scale in sorted(widths))
