"""InferenceForm: a trained network rewritten so that it says the same in fewer operations."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

from .network import FusionUNet
from .three_steps import ThreeSteps


class UpsampledBlock(nn.Module):
    """A block of a U-Net decoder whose upsampling and first convolution are one step.

    A 3x3 convolution of an image that was doubled by repetition is a transposed 4x4 convolution of stride 2 of the
    image itself: each pixel adds its 3x3 kernel at both of its copies. That takes 4 products a value in the place of 9,
    and no doubled image. Batch normalisation becomes part of the kernels.

    Parameters
    ----------
    block
        A block of segmentation-models-pytorch's U-Net, in evaluation mode, with ``nearest`` upsampling and no
        attention.
    channels
        Of the map that is upsampled; those of the skip connection come behind them.
    """

    def __init__(self, block: nn.Module, *, channels: int) -> None:
        super().__init__()
        parts: Any = block
        first, self.norm = _folded(parts.conv1)
        kernel = first.weight.detach()
        self.upsampling = nn.Parameter(_doubled(kernel[:, :channels]), requires_grad=False)
        self.bias = None if first.bias is None else nn.Parameter(first.bias.detach(), requires_grad=False)
        beside = kernel[:, channels:].contiguous(memory_format=torch.channels_last)
        self.skip = nn.Parameter(beside, requires_grad=False) if beside.shape[1] else None
        self.second, self.second_norm = _folded(parts.conv2)

    def forward(
        self,
        feature_map: Tensor,
        target_height: int,  # noqa: ARG002 (twice that of the map; the argument is the library's)
        target_width: int,  # noqa: ARG002 (likewise)
        skip_connection: Tensor | None = None,
    ) -> Tensor:
        """Return the block's map (batch, channel, y, x), twice as high and wide as ``feature_map``."""
        values = F.conv_transpose2d(feature_map, self.upsampling, self.bias, stride=2, padding=1)
        if skip_connection is not None and self.skip is not None:
            values = values + F.conv2d(skip_connection, self.skip, padding=1)
        values = F.relu_(self.norm(values))
        return F.relu_(self.second_norm(self.second(values)))


def inference_form(network: ThreeSteps) -> ThreeSteps:
    """Rewrite a network in place, for prediction alone, and return it.

    Logits differ from those of the network as it was by rounding. What has no such form is left as it is.

    Parameters
    ----------
    network
        Put into evaluation mode by this.
    """
    network.eval()
    for part in list(network.modules()):
        if isinstance(part, FusionUNet) and part.spec.task == "segmentation":
            _rewrite(part)
    return network


def _rewrite(network: FusionUNet) -> None:
    decoder = cast("Any", network.decoder)
    spec, scales = network.spec, sorted(network.spec.widths)
    incoming = [spec.widths[scales[-1]], *spec.decoder_channels[:-1]]
    for position, (block, channels) in enumerate(zip(decoder.blocks, incoming, strict=True)):
        plain = all(isinstance(part, nn.Identity) for part in (block.attention1.attention, block.attention2.attention))
        if plain and block.interpolation_mode == "nearest":
            decoder.blocks[position] = UpsampledBlock(block, channels=channels)
    convolution, norm = network.head[0], network.head[1]
    if isinstance(norm, nn.BatchNorm2d):
        network.head = nn.Sequential(fuse_conv_bn_eval(convolution, norm), *list(network.head)[2:])


def _folded(layers: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """Return a convolution, and what is left of the normalisation behind it."""
    convolution, norm = layers[0], layers[1]  # type: ignore[index]  # a Sequential that does not say so
    if isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return convolution, norm


def _doubled(kernel: Tensor) -> Tensor:
    """Turn a 3x3 kernel (out, in, 3, 3) over a doubled image into a 4x4 one (in, out, 4, 4) over the image."""
    for axis in (2, 3):
        first, middle, last = kernel.unbind(axis)
        kernel = torch.stack([last, middle + last, first + middle, first], dim=axis)
    return kernel.transpose(0, 1).contiguous(memory_format=torch.channels_last)
