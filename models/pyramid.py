"""FeaturePyramid: maps at every stride from the one map of a plain vision transformer."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from .norm import ChannelNorm


class FeaturePyramid(nn.Module):
    """The simple feature pyramid of ViTDet (Li et al., ECCV 2022), to every stride of a U-Net.

    Finer maps come from transposed convolutions, coarser ones from pooling, all of them from the last map. The
    paper goes to stride 4; one more step to stride 2, which halves the channels again, is ours.

    Parameters
    ----------
    width
        Channels of the map.
    scale
        Its stride is ``2 ** scale``.
    depth
        Number of strides, 2 to ``2 ** depth``.
    """

    def __init__(self, width: int, *, scale: int, depth: int) -> None:
        super().__init__()
        self.scale = scale
        self.steps = [level - scale for level in range(1, depth + 1)]
        #: Channels at strides 2, 4, ...
        self.widths = [max(width >> max(-step, 0), _least(width)) for step in self.steps]
        self.levels = nn.ModuleList(_level(width, step) for step in self.steps)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        """Turn (batch, channel, y, x) into maps at strides 2, 4, ..., fine to coarse."""
        return [cast("Tensor", level(tokens)) for level in self.levels]


class ImagePadding(nn.Module):
    """Zeros below and to the right, up to whole patches; nothing where sizes are whole by themselves.

    Parameters
    ----------
    patch
        Edge of a patch, px.
    depth
        Sizes are multiples of ``2 ** depth`` already.
    """

    def __init__(self, patch: int, *, depth: int) -> None:
        super().__init__()
        self.patch = patch
        self.whole = 2**depth % patch == 0

    def forward(self, image: Tensor) -> Tensor:
        """Return (batch, band, y, x) with y and x multiples of the patch."""
        if self.whole:
            return image
        rows, columns = image.shape[-2:]
        return F.pad(image, (0, -columns % self.patch, 0, -rows % self.patch))


def _least(width: int) -> int:
    return min(width, 4)


def _level(width: int, step: int) -> nn.Module:
    if step >= 0:
        return nn.MaxPool2d(2**step) if step else nn.Identity()
    layers: list[nn.Module] = []
    for number in range(-step):
        finer = max(width // 2, _least(width))
        layers += [ChannelNorm(width), nn.GELU()] if number else []
        layers.append(nn.ConvTranspose2d(width, finer, 2, stride=2))
        width = finer
    return nn.Sequential(*layers)
