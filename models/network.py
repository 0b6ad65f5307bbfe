"""FusionUNet: one encoder a modality, fusion at each scale over what is present, one decoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .core_answers import CoreRegions, decode_core, head_at
from .dates import DateEncoding, date_key
from .encoders import ModalityEncoder
from .errors import require
from .features import Features, pad, padded_size, valid_shares
from .fusion import build_fusion
from .norm import by_channels
from .spec import NetworkSpec
from .surrogate import ShownScale, SurrogateFeatures
from .three_steps import ThreeSteps, check_batch, usable_pixels

__all__ = ["FusionUNet", "NetworkSpec"]


class FusionUNet(ThreeSteps):
    """U-Net over several modalities, any of which may be missing, in three explicit steps.

    ``encode`` is the expensive step; ``fuse`` and ``decode`` can be repeated on its result for other subsets of
    modalities.

    Parameters
    ----------
    spec
        What to build.
    weights
        Name of pre-trained encoder weights (see :func:`~equipoise.models.encoders.build_encoder`), one for all or one
        for each of some modalities, or None; they are downloaded where they are named, and never otherwise.

    Raises
    ------
    ModelError
        An encoder or its weights are unknown or do not fit each other, or cannot be downloaded.
    """

    def __init__(self, spec: NetworkSpec, *, weights: str | Mapping[str, str] | None = None) -> None:
        super().__init__(spec)
        names = weights if isinstance(weights, Mapping) else dict.fromkeys(spec.modalities, weights)
        require(
            set(names) <= set(spec.modalities),
            f"weights for {tuple(names)}",
            f"modalities among {spec.modalities}",
            "correct the names",
        )
        self.encoders = nn.ModuleList(
            ModalityEncoder(
                name,
                in_channels=bands,
                depth=spec.depth,
                widths=spec.widths,
                weights=names.get(modality),
                norm=spec.norm,
                wavelengths=spec.wavelengths_of(modality),
            )
            for column, (modality, name, bands) in enumerate(
                zip(spec.modalities, spec.encoders, spec.in_channels, strict=True)
            )
            if spec.readers.index(spec.readers[column]) == column
        )
        self.fusion = build_fusion(spec.fusion, widths=spec.widths, modalities=len(spec.modalities))
        if spec.task == "segmentation":
            self.decoder = _build_decoder(spec)
            self.head: nn.Module = _build_head(spec)
            coarser = sorted(spec.widths)[1:] if spec.deep_supervision else []
            self.side_heads = nn.ModuleList(nn.Conv2d(spec.widths[scale], spec.classes, 1) for scale in coarser)
        else:
            self.head = nn.Linear(spec.decoder_channels[0], spec.classes)
        if spec.norm == "layer":
            for name, part in self.named_children():
                if name not in ("encoders", "fusion"):
                    by_channels(part)
        # Last, so that whatever else begins at random begins as it would without dates.
        self.dates = nn.ModuleList(DateEncoding(spec.widths) for _ in spec.modalities if spec.dates)
        # Behind all else, likewise.
        self.surrogates = nn.ModuleList(
            SurrogateFeatures(spec.widths[scale], modalities=len(spec.modalities))
            for scale in sorted(spec.widths)
            if spec.surrogate
        )
        # Measured on two CPU cores: a training step takes a quarter less time than in the default layout.
        self.to(memory_format=torch.channels_last)

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
            As in :meth:`~equipoise.models.three_steps.ThreeSteps.forward`.

        Returns
        -------
        Features
            Maps fine to coarse (strides 1 to ``2 ** depth``; the deepest alone for classification), the valid
            shares of their cells, and the size of the input.

        Raises
        ------
        ModelError
            As there.
        """
        size = check_batch(self.spec, image, valid=valid, available=available)
        maps: dict[str, list[Tensor]] = {}
        shares: dict[str, list[Tensor]] = {}
        usable = usable_pixels(self.spec, image, valid=valid, available=available)
        for column, modality in enumerate(self.modalities):
            if modality not in maps:
                self._encode_alike(column, image, usable, maps=maps, shares=shares)
            if self.spec.dates:
                seen = usable[column].flatten(1).any(dim=1)
                maps[modality] = self.dates[column](maps[modality], image[date_key(modality)], seen=seen)
        # In the network's order, whichever were encoded together.
        maps, shares = ({name: found[name] for name in self.modalities} for found in (maps, shares))
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
        return self.join(self.shown(features, available))

    def shown(self, features: Features, available: Tensor) -> list[ShownScale]:
        """Return what fusion gets to see: the modalities present, and surrogates of the others where there are any.

        Parameters
        ----------
        features, available
            As for :meth:`fuse`.

        Returns
        -------
        list of ShownScale
            Fine to coarse.
        """
        available = available.to(features.device)
        scales = []
        for level in range(len(self.fusion)):
            maps = [features.maps[modality][level] for modality in self.modalities]
            weights = [
                features.shares[modality][level] * available[:, column, None, None, None]
                for column, modality in enumerate(self.modalities)
            ]
            if self.spec.surrogate:
                scales.append(self.surrogates[level](maps, weights))
            else:
                scales.append(ShownScale(maps=maps, weights=weights, total=None))
        return scales

    def join(self, scales: Sequence[ShownScale]) -> list[Tensor]:
        """Join what :meth:`shown` returned; the result is that of :meth:`fuse`."""
        fused = []
        for fusion, scale in zip(self.fusion, scales, strict=True):
            joined, weight = fusion(scale.maps, scale.weights)
            # Which cells count is a matter of what was seen, not of what was guessed.
            weight = weight if scale.total is None else scale.total
            fused.append(joined if self.spec.task == "segmentation" else _pooled(joined, weight))
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

    def core_answers(self, features: Features, core: slice | None, *, every: int = 1) -> Callable[[Tensor], Tensor]:
        """Return what answers for the core of the windows, as :meth:`ThreeSteps.core_answers` does, at less cost.

        Margins are decoded at each scale as far as the core depends on them: for a core of 192 px in windows of 256 px
        that is two thirds of the work. The head works on no more pixels than are asked for.
        """
        if core is None or self.spec.task == "classification" or not isinstance(self.decoder.center, nn.Identity):
            return super().core_answers(features, core, every=every)
        sizes = [(share.shape[-2], share.shape[-1]) for share in next(iter(features.shares.values()))]
        regions = CoreRegions.of(core, sizes=sizes)
        # A fusion that looks across cells has to see all of them; what it says is cut instead.
        local = all(getattr(fusion, "local", True) for fusion in self.fusion)
        part = regions.features(features) if local else features

        def answer(available: Tensor) -> Tensor:
            fused = self.fuse(part, available) if local else regions.fused(self.fuse(part, available))
            decoded = decode_core(self.decoder, fused, regions)
            values = torch.cat([decoded, fused[0]], dim=1)
            return head_at(cast("nn.Sequential", self.head), values, regions, size=features.size, every=every)

        return answer

    def side_logits(self, fused: list[Tensor], *, size: tuple[int, int]) -> list[Tensor]:
        """Predict from each coarser fused map alone, for deep supervision (Lee et al., AISTATS 2015) in training.

        Parameters
        ----------
        fused
            From :meth:`fuse`.
        size
            (rows, columns) of the input.

        Returns
        -------
        list of Tensor
            Logits (batch, class, rows, columns) per scale of stride 2 and more, fine to coarse, interpolated
            linearly to the size of the input; empty without ``spec.deep_supervision``.
        """
        if not self.spec.deep_supervision:
            return []
        padded = fused[0].shape[-2:]
        coarse = [head(map_) for head, map_ in zip(self.side_heads, fused[1:], strict=True)]
        full = [F.interpolate(logits, size=padded, mode="bilinear", align_corners=False) for logits in coarse]
        return [logits[..., : size[0], : size[1]] for logits in full]

    def modality_encoders(self) -> list[nn.Module]:
        """Return the encoder that reads each modality; those of one sensor may share it."""
        return [self.encoders[number] for number in self.spec.readers]

    def _encode_alike(
        self,
        column: int,
        image: Mapping[str, Tensor],
        usable: list[Tensor],
        *,
        maps: dict[str, list[Tensor]],
        shares: dict[str, list[Tensor]],
    ) -> None:
        """Fill in what a modality's encoder says of it and of those that share it: one batch, and so one statistic."""
        alike = [other for other, number in enumerate(self.spec.readers) if number == self.spec.readers[column]]
        names = [self.modalities[other] for other in alike]
        if len(alike) == 1:
            maps[names[0]], shares[names[0]] = self._encode_one(column, image[names[0]], usable[column])
            return
        images, masks = torch.cat([image[name] for name in names]), torch.cat([usable[other] for other in alike])
        found = self._encode_one(column, images, masks)
        for target, values in zip((maps, shares), found, strict=True):
            parts = zip(*(value.chunk(len(names)) for value in values), strict=True)
            target.update({name: list(part) for name, part in zip(names, parts, strict=True)})

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
        encoded = self.encoders[self.spec.readers[column]](visible.contiguous(memory_format=torch.channels_last))
        return [_scattered(feature, rows, batch=shares[0].shape[0]) for feature in encoded], shares


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


def _scattered(feature: Tensor, rows: Tensor, *, batch: int) -> Tensor:
    """Put the encoded samples back to their places in the batch, zeros elsewhere."""
    if feature.shape[0] == batch:
        return feature
    return feature.new_zeros(batch, *feature.shape[1:]).index_copy(0, rows, feature)


def _pooled(fused: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean over y and x, (batch, channel, 1, 1); 0 where nothing was seen."""
    total = weight.sum(dim=(2, 3), keepdim=True)
    return (fused * weight).sum(dim=(2, 3), keepdim=True) / total.clamp_min(torch.finfo(total.dtype).tiny)
