"""Encoders: one backbone a modality, chosen by name, projected to the widths that the decoder expects."""

import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from .errors import ModelError, require, wanted
from .foundation import FOUNDATION, FoundationEncoder
from .norm import ChannelNorm
from .pretrained import is_torchgeo_name, load_torchgeo_weights, not_downloaded
from .values import ValuesEncoder

_PROBE_PX = 64
_HUB_FREE_NAME = re.compile(r"[A-Za-z0-9_.\-]+")


def build_encoder(
    name: str, *, in_channels: int, depth: int, weights: str | None = None, wavelengths: Sequence[float] = ()
) -> nn.Module:
    """Build a backbone that returns one feature map per stride.

    Parameters
    ----------
    name
        Encoder name of segmentation-models-pytorch (``"resnet18"``), a timm name behind ``tu-``, a key of
        :data:`~equipoise.models.foundation.FOUNDATION` (``"croma_base"``), or ``"values"``
        (:class:`~equipoise.models.values.ValuesEncoder`).
    in_channels
        Number of input bands.
    depth
        Number of strides, 1 to 5: the deepest map has stride ``2 ** depth``.
    weights
        Name of pre-trained weights, which are downloaded: of segmentation-models-pytorch (``"imagenet"``) or, for its
        ResNets, of torchgeo (``"ResNet50_Weights.SENTINEL2_ALL_MOCO"``). None (the default) initialises at random
        and touches no network.
    wavelengths
        nm, one a band, for encoders that tell bands apart by them
        (:class:`~equipoise.models.foundation.FoundationEncoder`); others do not read it.

    Returns
    -------
    nn.Module
        Maps float32 (batch, band, y, x) to a list of ``depth + 1`` maps at strides 1, 2, ..., ``2 ** depth``.
        Element 0 belongs to stride 1 and is never fused (for most encoders it is the raw input).
        Layers beyond ``depth`` are dropped, so that they are neither stored nor optimised.

    Raises
    ------
    ModelError
        The name or the weights are unknown, do not fit each other or the bands, or cannot be downloaded, or the
        encoder lacks features at one of the strides.
    """
    if name == ValuesEncoder.name:
        require(weights is None, f"weights {weights!r} of encoder 'values'", "none", "leave them out")
        return ValuesEncoder(in_channels=in_channels, depth=depth)
    if name in FOUNDATION:
        return FoundationEncoder(name, in_channels=in_channels, depth=depth, weights=weights, wavelengths=wavelengths)
    import segmentation_models_pytorch as smp

    # timm resolves names such as "hf_hub:owner/model" over the network; a saved model must not be able to ask for that.
    if not _HUB_FREE_NAME.fullmatch(name):
        raise _unknown(name, "the name holds characters outside letters, digits, '_', '.' and '-'")
    own, foreign = (None, weights) if weights is not None and is_torchgeo_name(weights) else (weights, None)
    try:
        encoder = smp.encoders.get_encoder(name, in_channels=in_channels, depth=depth, weights=own)
    except (KeyError, ValueError, RuntimeError) as error:
        raise _unknown(name, _first_line(error)) from error
    except OSError as error:
        raise not_downloaded(f"{own!r} of {name}", error) from error
    if foreign is not None:
        load_torchgeo_weights(encoder, foreign, architecture=name, in_channels=in_channels)
    _drop_unused_layers(encoder, in_channels=in_channels, depth=depth, name=name)
    return cast("nn.Module", encoder)


class ModalityEncoder(nn.Module):
    """A backbone, one 1x1 convolution per used scale, and a stem at full resolution.

    Most backbones halve the image before they say anything; the stem keeps what single pixels know, which outlines
    and pixel-sized objects need. The projections bring the features of different modalities into one space per
    scale, so that their mean is meaningful even when the backbones differ.

    Parameters
    ----------
    name
        Encoder name, as in :func:`build_encoder`.
    in_channels
        Number of bands of the modality.
    depth
        Number of strides of the backbone.
    widths
        Output channels per used scale, keyed by scale number: scale ``k`` has stride ``2 ** k``; scale 0 is the stem.
    weights
        Name of pre-trained weights or None.
    norm
        ``layer`` normalises what leaves the encoder over the channels of each place; ``batch`` does not.
    wavelengths
        As in :func:`build_encoder`.
    """

    def __init__(
        self, name: str, *, in_channels: int, depth: int, widths: dict[int, int], weights: str | None = None,
        norm: str = "batch", wavelengths: Sequence[float] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.backbone = build_encoder(
            name, in_channels=in_channels, depth=depth, weights=weights, wavelengths=wavelengths
        )
        self.scales = tuple(scale for scale in sorted(widths) if scale > 0)
        self.stem = _build_stem(in_channels, widths[0]) if 0 in widths else None
        channels = cast("list[int]", self.backbone.out_channels)
        projections: list[nn.Module] = [nn.Conv2d(channels[scale], widths[scale], 1) for scale in self.scales]
        if norm == "layer":
            projections = [
                nn.Sequential(projection, ChannelNorm(widths[scale]))
                for projection, scale in zip(projections, self.scales, strict=True)
            ]
            self.stem = None if self.stem is None else nn.Sequential(*self.stem, ChannelNorm(widths[0]))
        self.projections = nn.ModuleList(projections)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode one modality.

        Parameters
        ----------
        image
            float32 (batch, band, y, x); y and x are multiples of ``2 ** depth``.

        Returns
        -------
        list of Tensor
            Projected maps (batch, width, y / stride, x / stride), fine to coarse.
        """
        features = self.backbone(image)
        maps = [projection(features[scale]) for scale, projection in zip(self.scales, self.projections, strict=True)]
        return maps if self.stem is None else [self.stem(image), *maps]


def _build_stem(in_channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


def _unknown(name: str, reason: str) -> ModelError:
    return ModelError(
        wanted(
            f"encoder {name!r} ({reason})",
            "an encoder of segmentation-models-pytorch with features at every stride",
            "choose for example resnet18, resnet50, efficientnet-b0, mobilenet_v2 or a timm name behind 'tu-'",
        )
    )


def _first_line(error: Exception) -> str:
    text = str(error.args[0] if error.args else error)
    # The library lists every encoder that it knows; one clear line is enough here.
    return text.splitlines()[0].split(", supported encoders")[0][:160] if text else type(error).__name__


def _drop_unused_layers(encoder: Any, *, in_channels: int, depth: int, name: str) -> None:
    """Run the encoder once, check its strides and replace the layers that never ran by nothing."""
    ran: set[nn.Module] = set()
    hooks = [part.register_forward_hook(lambda part, *_: ran.add(part)) for part in encoder.modules()]
    encoder.eval()
    with torch.no_grad():
        features = encoder(torch.zeros(1, in_channels, _PROBE_PX, _PROBE_PX))
    for hook in hooks:
        hook.remove()
    _check_strides(features, depth=depth, name=name)
    for child_name, child in encoder.named_children():
        if not ran.intersection(child.modules()):
            setattr(encoder, child_name, nn.Identity())
    encoder.train()


def _check_strides(features: list[Tensor], *, depth: int, name: str) -> None:
    found = [(feature.shape[1] > 0, feature.shape[-1]) for feature in features]
    if found[1:] != [(True, _PROBE_PX >> scale) for scale in range(1, depth + 1)]:
        raise _unknown(name, f"no features at one of the strides 2 to {2**depth}")
