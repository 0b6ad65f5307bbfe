"""JoinedAnswers: one network a modality, whose logits are joined over what is present."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from .features import Features
from .network import FusionUNet
from .spec import NetworkSpec
from .three_steps import ThreeSteps, check_batch


class JoinedAnswers(ThreeSteps):
    """One network per modality; what they answer is joined over the modalities present.

    A pixel is answered by the modalities that are valid there; where none is, by those of the sample. Nothing
    is left to do after the answers are joined: ``fuse`` runs the decoders, and ``decode`` passes logits on.

    Parameters
    ----------
    spec
        Modalities, classes and task.
    singles
        One single-modality network per modality, in the order of ``spec``.
    """

    def __init__(self, spec: NetworkSpec, singles: Iterable[FusionUNet]) -> None:
        super().__init__(spec)
        self.singles = nn.ModuleList(singles)

    def modality_encoders(self) -> list[nn.Module]:
        """Return the encoder of each single network."""
        return [self._single(column).encoders[0] for column in range(len(self.singles))]

    def encode(
        self,
        image: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        available: Tensor | None = None,
    ) -> Features:
        """Run each modality's own encoder.

        Parameters
        ----------
        image, valid, available
            As in :meth:`~equipoise.models.three_steps.ThreeSteps.forward`.

        Returns
        -------
        Features
            Maps and shares as from :meth:`FusionUNet.encode <equipoise.models.network.FusionUNet.encode>`.

        Raises
        ------
        ModelError
            As there.
        """
        size = check_batch(self.spec, image, valid=valid, available=available)
        maps: dict[str, list[Tensor]] = {}
        shares: dict[str, list[Tensor]] = {}
        for column in range(len(self.modalities)):
            own = None if available is None else available[:, column : column + 1]
            encoded = self._single(column).encode(image, valid=valid, available=own)
            maps |= encoded.maps
            shares |= encoded.shares
        return Features(maps=maps, shares=shares, size=size)

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Decode each modality that is present and join the logits.

        Parameters
        ----------
        features
            From :meth:`encode`.
        available
            bool (batch, modality). A modality that was absent when encoded stays absent.

        Returns
        -------
        list of Tensor
            One entry: logits (batch, class, rows, columns), or (batch, class) for classification; 0 for a sample
            of which nothing was seen.
        """
        present = self._present(features, available)
        logits = torch.stack(
            [self._answers(features, column, present[:, column]) for column in range(len(self.singles))]
        )
        return [self._joined(logits, self._votes(features, present))]

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:  # noqa: ARG002 (logits have it)
        """Return the joined logits."""
        return fused[0]

    @abstractmethod
    def _joined(self, logits: Tensor, votes: Tensor) -> Tensor:
        """Join logits (modality, batch, class, ...) by votes (modality, batch, 1, ...) that sum to 1 or 0."""

    def _answers(self, features: Features, column: int, present: Tensor) -> Tensor:
        """Return one modality's logits, 0 where it is absent: absent samples enter no batch statistics."""
        network, name = self._single(column), self.modalities[column]
        shape = (features.batch, self.spec.classes, *(features.size if self.spec.task == "segmentation" else ()))
        empty = features.shares[name][0].new_zeros(shape)
        rows = present.nonzero().flatten()
        if len(rows) == 0:
            return empty
        own = replace(features, maps={name: features.maps[name]}, shares={name: features.shares[name]}).of(rows)
        fused = network.fuse(own, torch.ones(len(rows), 1, dtype=torch.bool, device=rows.device))
        logits = network.decode(fused, size=features.size)
        return empty.to(logits.dtype).index_copy(0, rows, logits)

    def _present(self, features: Features, available: Tensor) -> Tensor:
        """Return bool (batch, modality): let through, and with anything to be seen when it was encoded."""
        seen = [(features.shares[name][0] > 0).flatten(1).any(dim=1) for name in self.modalities]
        return available.to(features.device) & torch.stack(seen, dim=1)

    def _votes(self, features: Features, present: Tensor) -> Tensor:
        """Return each modality's weight, (modality, batch, 1, ...), summing to 1 where anything is present."""
        sample = present.T.float()[:, :, None]
        if self.spec.task == "classification":
            return _shared_out(sample)
        rows, columns = features.size
        pixel = torch.stack([features.shares[name][0][:, :, :rows, :columns] for name in self.modalities])
        sample = sample[..., None, None]
        pixel = pixel * sample
        return _shared_out(torch.where(pixel.sum(dim=0) > 0, pixel, sample))

    def _single(self, column: int) -> FusionUNet:
        return cast("FusionUNet", self.singles[column])


def _shared_out(weights: Tensor) -> Tensor:
    total = weights.sum(dim=0)
    return weights / total.clamp_min(torch.finfo(total.dtype).tiny)
