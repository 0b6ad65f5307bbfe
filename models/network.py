"""FusionUNet: one encoder a modality, fusion at each scale over what is present, one decoder."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from .encoders import ModalityEncoder
from .errors import require
from .features import Features, pad, padded_size, valid_shares
from .fusion import FUSIONS
from .spec import NetworkSpec

__all__ = ["FusionUNet", "NetworkSpec"]


class FusionUNet(nn.Module):
    """U-Net over several modalities, any of which may be missing, in three explicit steps.

    ``encode`` is the expensive step; ``fuse`` and ``decode`` can be repeated on its result for other subsets of
    modalities.

    Parameters
    ----------
    spec
        What to build.
    weights
        Name of pre-trained encoder weights, or None (no download).

    Raises
    ------
    ModelError
        An encoder is unknown.
    """

    def __init__(self, spec: NetworkSpec, *, weights: str | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.encoders = nn.ModuleList(
            ModalityEncoder(name, in_channels=bands, depth=spec.depth, widths=spec.widths, weights=weights)
            for name, bands in zip(spec.encoders, spec.in_channels, strict=True)
        )
        self.fusion = FUSIONS[spec.fusion]()
        if spec.task == "segmentation":
            self.decoder = _build_decoder(spec)
            self.head: nn.Module = _build_head(spec)
        else:
            self.head = nn.Linear(spec.decoder_channels[0], spec.classes)
        # Measured on two CPU cores: a training step takes a quarter less time than in the default layout.
        self.to(memory_format=torch.channels_last)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the columns of ``available``."""
        return self.spec.modalities

    def forward(
        self,
        image: Mapping[str, Tensor],
        *,
        available: Tensor | None = None,
        valid: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Encode, fuse and decode.

        Parameters
        ----------
        image
            Per modality float32 (batch, band, y, x), normalised; any y, x of at least 1. Further keys are ignored.
        available
            bool (batch, modality) or None for all present. Absent data are never read.
        valid
            Per modality bool (batch, y, x), True where usable; None where everything is.

        Returns
        -------
        Tensor
            Logits (batch, class, y, x), or (batch, class) for classification.

        Raises
        ------
        ModelError
            A modality is missing from ``image``, or shapes disagree.
        """
        features = self.encode(image, valid=valid, available=available)
        if available is None:
            available = torch.ones(_batch_size(features), len(self.modalities), dtype=torch.bool)
        return self.decode(self.fuse(features, available), size=features.size)

    def encode(
        self,
        image: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        available: Tensor | None = None,
    ) -> Features:
        """Run each modality's encoder on the samples that have it.

        Absent samples are left out of the encoder's batch, so that they cost nothing and do not enter the
        statistics of batch normalisation; a sample without one valid pixel counts as absent.

        Parameters
        ----------
        image, valid, available
            As in :meth:`forward`.

        Returns
        -------
        Features
            Maps fine to coarse (strides 1 to ``2 ** depth``; the deepest alone for classification), the valid
            shares of their cells, and the size of the input.

        Raises
        ------
        ModelError
            As in :meth:`forward`.
        """
        size = self._check(image, valid=valid, available=available)
        maps: dict[str, list[Tensor]] = {}
        shares: dict[str, list[Tensor]] = {}
        for column, modality in enumerate(self.modalities):
            usable = _usable(image[modality], None if valid is None else valid[modality])
            if available is not None:
                usable = usable & available[:, column].to(usable.device)[:, None, None, None]
            maps[modality], shares[modality] = self._encode_one(column, image[modality], usable)
        return Features(maps=maps, shares=shares, size=size)

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Fuse each scale over the modalities present.

        Parameters
        ----------
        features
            From :meth:`encode`.
        available
            bool (batch, modality). A modality that was absent when encoded stays absent.

        Returns
        -------
        list of Tensor
            Segmentation: (batch, channel, y, x) per scale, fine to coarse. Classification: one map
            (batch, channel, 1, 1), the mean of the deepest scale weighted by the valid share of its cells.
        """
        available = available.to(_device(features))
        fused = []
        for level in range(len(self.spec.widths)):
            weights = [
                features.shares[modality][level] * available[:, column, None, None, None]
                for column, modality in enumerate(self.modalities)
            ]
            joined, total = self.fusion([features.maps[modality][level] for modality in self.modalities], weights)
            fused.append(joined if self.spec.task == "segmentation" else _pooled(joined, total))
        return fused

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Turn fused maps into logits.

        Parameters
        ----------
        fused
            From :meth:`fuse`.
        size
            (rows, columns) of the input; unused for classification.

        Returns
        -------
        Tensor
            Logits (batch, class, rows, columns), or (batch, class) for classification.
        """
        if self.spec.task == "classification":
            return cast("Tensor", self.head(fused[0].flatten(1)))
        # The decoder reads only the shape of its first entry, so the stem's map joins after its last block.
        logits = self.head(torch.cat([self.decoder(fused), fused[0]], dim=1))
        return cast("Tensor", logits[..., : size[0], : size[1]])

    def _encode_one(self, column: int, image: Tensor, usable: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Encode the samples of one modality that have a usable pixel; ``usable`` is bool (batch, 1, y, x)."""
        padded = padded_size((image.shape[-2], image.shape[-1]), depth=self.spec.depth)
        scales = tuple(sorted(self.spec.widths))
        shares = valid_shares(pad(usable.to(image.dtype), padded), scales=scales)
        rows = usable.flatten(1).any(dim=1).nonzero().flatten()
        if len(rows) == 0:
            shape = {scale: [length >> scale for length in padded] for scale in scales}
            return [image.new_zeros(len(image), self.spec.widths[scale], *shape[scale]) for scale in scales], shares
        if len(rows) < len(image):
            image, usable = image[rows], usable[rows]
        visible = pad(torch.where(usable, image, 0), padded)
        encoded = self.encoders[column](visible.contiguous(memory_format=torch.channels_last))
        return [_scattered(feature, rows, batch=shares[0].shape[0]) for feature in encoded], shares

    def _check(
        self, image: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None, available: Tensor | None
    ) -> tuple[int, int]:
        """Compare a batch with the spec and return its (rows, columns)."""
        for given in (image, image if valid is None else valid):
            missing = [modality for modality in self.modalities if modality not in given]
            require(
                not missing,
                f"modalities {tuple(given)} in the batch",
                f"{self.modalities}",
                "give an absent modality as zeros with available=False",
            )
        first = tuple(image[self.modalities[0]].shape)
        require(
            len(first) == 4, f"{self.modalities[0]} of shape {first}", "(batch, band, y, x)", "add the missing axis"
        )
        batch, _, *size = first
        for modality, bands in zip(self.modalities, self.spec.in_channels, strict=True):
            shape = tuple(image[modality].shape)
            wish = (batch, bands, *size)
            require(shape == wish and min(wish) > 0, f"{modality} of shape {shape}", f"{wish}", "align the batch")
            if valid is not None:
                require(
                    tuple(valid[modality].shape) == (batch, *size),
                    f"valid mask of {modality} of shape {tuple(valid[modality].shape)}",
                    f"{(batch, *size)}",
                    "give one mask per sample",
                )
        if available is not None:
            wish = (batch, len(self.modalities))
            require(
                tuple(available.shape) == wish and available.dtype == torch.bool,
                f"available of shape {tuple(available.shape)} and type {available.dtype}",
                f"bool {wish}",
                "give one column per modality",
            )
        return size[0], size[1]


def _build_decoder(spec: NetworkSpec) -> nn.Module:
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

    skips = [spec.widths[scale] for scale in sorted(spec.widths)]
    return UnetDecoder(encoder_channels=skips, decoder_channels=spec.decoder_channels, n_blocks=spec.depth)


def _build_head(spec: NetworkSpec) -> nn.Module:
    width = spec.decoder_channels[-1]
    return nn.Sequential(
        nn.Conv2d(width + spec.widths[0], width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, spec.classes, 1),
    )


def _usable(image: Tensor, valid: Tensor | None) -> Tensor:
    """Return bool (batch, 1, y, x)."""
    if valid is None:
        return torch.ones_like(image[:, :1], dtype=torch.bool)
    return valid[:, None].to(image.device)


def _scattered(feature: Tensor, rows: Tensor, *, batch: int) -> Tensor:
    """Put the encoded samples back to their places in the batch, zeros elsewhere."""
    if feature.shape[0] == batch:
        return feature
    return feature.new_zeros(batch, *feature.shape[1:]).index_copy(0, rows, feature)


def _pooled(fused: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean over y and x, (batch, channel, 1, 1); 0 where nothing was seen."""
    total = weight.sum(dim=(2, 3), keepdim=True)
    return (fused * weight).sum(dim=(2, 3), keepdim=True) / total.clamp_min(torch.finfo(total.dtype).tiny)


def _batch_size(features: Features) -> int:
    return next(iter(features.shares.values()))[0].shape[0]


def _device(features: Features) -> torch.device:
    return next(iter(features.shares.values()))[0].device
