"""InferenceForm: a trained network rewritten so that it says the same in fewer operations."""

import copy
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
    """Return a network that says the same in fewer operations, for prediction alone.

    Logits differ by rounding. What has no such form stays as it is; encoders are those of ``network``.

    Parameters
    ----------
    network
        Put into evaluation mode by this; else unchanged.
    """
    return cast("ThreeSteps", _form(network.eval()))


def _form(module: nn.Module) -> nn.Module:
    """Return a module whose U-Nets are rewritten; it shares with the given one what is not."""
    form = _beside(module)
    for name, child in module.named_children():
        if not isinstance(module, FusionUNet):
            form._modules[name] = _form(child)
    if isinstance(form, FusionUNet) and form.spec.task == "segmentation":
        _rewrite(form)
    return form


def _beside(module: nn.Module) -> nn.Module:
    """Return a module with the same children and parameters, whose children can be replaced."""
    other = copy.copy(module)
    other._modules = dict(module._modules)
    return other


def _rewrite(network: FusionUNet) -> None:
    network.decoder = _beside(network.decoder)
    decoder = cast("Any", network.decoder)
    decoder.blocks = nn.ModuleList(decoder.blocks)
    spec, scales = network.spec, sorted(network.spec.widths)
    incoming = [spec.widths[scales[-1]], *spec.decoder_channels[:-1]]
    for position, (block, channels) in enumerate(zip(decoder.blocks, incoming, strict=True)):
        if _can_be_rewritten(block):
            decoder.blocks[position] = UpsampledBlock(block, channels=channels)
    head = cast("nn.Sequential", network.head)
    convolution, norm = _folded(head)
    if isinstance(norm, nn.Identity):
        network.head = nn.Sequential(convolution, *list(head)[2:])


def _can_be_rewritten(block: Any) -> bool:
    if isinstance(block, UpsampledBlock):
        return False
    attention = (block.attention1.attention, block.attention2.attention)
    return block.interpolation_mode == "nearest" and all(isinstance(part, nn.Identity) for part in attention)


def _folded(layers: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    """Return the convolution that layers begin with, and what is left of the normalisation behind it."""
    first, norm = list(layers.children())[:2]
    convolution = cast("nn.Conv2d", first)
    if isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return convolution, norm


def _doubled(kernel: Tensor) -> Tensor:
    """Turn a 3x3 kernel (out, in, 3, 3) over a doubled image into a 4x4 one (in, out, 4, 4) over the image."""
    for axis in (2, 3):
        first, middle, last = kernel.unbind(axis)
        kernel = torch.stack([last, middle + last, first + middle, first], dim=axis)
    return kernel.transpose(0, 1).contiguous(memory_format=torch.channels_last)
