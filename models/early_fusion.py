"""Early fusion: one encoder over the bands of all modalities, the simplest competitor."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .features import Features
from .network import FusionUNet
from .spec import NetworkSpec
from .three_steps import ThreeSteps, check_batch, usable_pixels

_STACKED = "stacked"


class EarlyFusion(ThreeSteps):
    """A U-Net over all bands in one image, zeros where they are missing, and a presence channel per modality.

    Modalities cannot be encoded apart, so here ``encode`` only keeps what may be read and ``fuse`` is the expensive
    step: every further subset costs a whole pass.

    Parameters
    ----------
    spec
        The fusion network to compete with; ``fusion`` is not used, and where encoders differ the first is taken.

    Raises
    ------
    ModelError
        The encoder is unknown.
    """

    kind = "early"

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        bands = sum(spec.in_channels) + len(spec.modalities)
        stacked = replace(
            spec.single(spec.modalities[0]), modalities=(_STACKED,), in_channels=(bands,), fusion="mean",
            wavelengths=(),
        )  # fmt: skip
        self.network = FusionUNet(stacked)

    def encode(
        self,
        image: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        available: Tensor | None = None,
    ) -> Features:
        """Keep what may be read of each modality.

        Parameters
        ----------
        image, valid, available
            As in :meth:`~equipoise.models.three_steps.ThreeSteps.forward`.

        Returns
        -------
        Features
            The images themselves, zeros where they may not be read, and 1 or 0 as the share of each pixel.

        Raises
        ------
        ModelError
            As there.
        """
        size = check_batch(self.spec, image, valid=valid, available=available)
        usable = dict(
            zip(self.modalities, usable_pixels(self.spec, image, valid=valid, available=available), strict=True)
        )
        return Features(
            maps={name: [torch.where(mask, image[name], 0)] for name, mask in usable.items()},
            shares={name: [mask.to(image[name].dtype)] for name, mask in usable.items()},
            size=size,
        )

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Stack the bands of the modalities present and encode the result.

        Parameters
        ----------
        features
            From :meth:`encode`.
        available
            bool (batch, modality). A modality that was absent when encoded stays absent.

        Returns
        -------
        list of Tensor
            As from :meth:`FusionUNet.fuse <equipoise.models.network.FusionUNet.fuse>`.
        """
        available = available.to(features.device)
        presence = [
            features.shares[name][0] * available[:, column, None, None, None]
            for column, name in enumerate(self.modalities)
        ]
        bands = [
            torch.where(mask > 0, features.maps[name][0], 0)
            for name, mask in zip(self.modalities, presence, strict=True)
        ]
        seen = torch.stack(presence).amax(dim=0)[:, 0] > 0
        encoded = self.network.encode({_STACKED: torch.cat([*bands, *presence], dim=1)}, valid={_STACKED: seen})
        return self.network.fuse(encoded, torch.ones_like(available[:, :1]))

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Return logits, as :meth:`FusionUNet.decode <equipoise.models.network.FusionUNet.decode>` does."""
        return self.network.decode(fused, size=size)

    def side_logits(self, fused: list[Tensor], *, size: tuple[int, int]) -> list[Tensor]:
        """Return logits as :meth:`FusionUNet.side_logits <equipoise.models.network.FusionUNet.side_logits>` does."""
        return self.network.side_logits(fused, size=size)
