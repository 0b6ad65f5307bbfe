"""Normalisation of feature maps: over a batch, or over the channels of each place."""

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["batch", "layer"]

NORMS: tuple[str, ...] = get_args(Norm)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each place, after Ba et al. (arXiv:1607.06450).

    A place is normalised by itself: the same in training and afterwards, whatever else is in the batch or in the
    window, and no input, however strange, leaves it with a larger norm than any other.

    Parameters
    ----------
    width
        Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise (batch, channel, y, x); a place of zeros becomes the learned offset."""
        last = maps.permute(0, 2, 3, 1)
        return F.layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


def by_channels(part: nn.Module) -> nn.Module:
    """Replace every batch normalisation within a module by :class:`ChannelNorm`; the module is returned."""
    for name, child in part.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(part, name, ChannelNorm(child.num_features))
        else:
            by_channels(child)
    return part
