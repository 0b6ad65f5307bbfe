"""Late fusion, ensemble of singles and I2M2: three rules by which the answers of networks are joined."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from .errors import require
from .features import Features
from .joined_answers import JoinedAnswers
from .network import FusionUNet
from .spec import NetworkSpec


class LateFusion(JoinedAnswers):
    """One network per modality, trained jointly; the answer is the mean of the logits over those present.

    Parameters
    ----------
    spec
        The fusion network to compete with; ``fusion``, ``deep_supervision`` and ``surrogate`` are not used.
    weights
        Pre-trained encoders, as for :class:`~equipoise.models.network.FusionUNet`.

    Raises
    ------
    ModelError
        An encoder or its weights are unknown.
    """

    kind = "late"

    def __init__(self, spec: NetworkSpec, *, weights: Mapping[str, str] | None = None) -> None:
        spec = replace(spec, deep_supervision=False, surrogate=False)
        super().__init__(spec, _singles(spec, weights or {}))

    def _joined(self, logits: Tensor, votes: Tensor) -> Tensor:
        return (logits * votes).sum(dim=0)


class SinglesEnsemble(JoinedAnswers):
    """Mean of the probabilities, over the modalities present, of networks that were trained each on its own.

    The equal-compute competitor: as many encoders as the fusion network, each trained for as long. It is to be
    built from trained networks; training it as a whole would be late fusion by another mean.

    Parameters
    ----------
    networks
        One single-modality network per modality, in the order of the columns of ``available``, all for the same
        classes and task.

    Raises
    ------
    ModelError
        There is no network, one reads several modalities, or they disagree on modalities, classes or task.
    """

    def __init__(self, networks: Sequence[FusionUNet]) -> None:
        specs = [network.spec for network in networks]
        require(
            len(specs) > 0 and all(len(spec.modalities) == 1 for spec in specs),
            f"networks of modalities {[spec.modalities for spec in specs]}",
            "one or more networks of one modality each",
            "train one for each modality",
        )
        require(
            len({(spec.classes, spec.task) for spec in specs}) == 1,
            f"networks of (classes, task) {[(spec.classes, spec.task) for spec in specs]}",
            "the same for all",
            "train them on the same labels",
        )
        super().__init__(_common(specs), networks)

    def _joined(self, logits: Tensor, votes: Tensor) -> Tensor:
        # The logarithm of a mean probability is a logit of it. Votes of 0 become -inf, which takes part in no maximum
        # and no sum; without any vote all classes are alike.
        terms = logits.log_softmax(dim=2) + votes.log()
        seen = votes.sum(dim=0) > 0
        return torch.where(seen, terms.masked_fill(~seen, 0.0).logsumexp(dim=0), 0)


class I2M2(JoinedAnswers):
    """Sum of the logits of one joint network and of one network for each modality present.

    The joint network stands for what only shows between modalities, the others for what each says by itself, after
    I2M2 (Madaan et al., NeurIPS 2024). Trained jointly; the sum is a product of experts.

    Parameters
    ----------
    spec
        The joint network; the others follow from it. ``deep_supervision`` and ``surrogate`` are not used.
    weights
        Pre-trained encoders, as for :class:`~equipoise.models.network.FusionUNet`.

    Raises
    ------
    ModelError
        An encoder or its weights are unknown.
    """

    kind = "i2m2"

    def __init__(self, spec: NetworkSpec, *, weights: Mapping[str, str] | None = None) -> None:
        spec = replace(spec, deep_supervision=False, surrogate=False)
        super().__init__(spec, _singles(spec, weights or {}))
        self.joint = FusionUNet(spec, weights=weights)

    def modality_encoders(self) -> list[nn.Module]:
        """Return both encoders of each modality, its own network's and the joint network's, as one module."""
        return [nn.ModuleList(pair) for pair in zip(super().modality_encoders(), self.joint.encoders, strict=True)]

    def encode(
        self,
        image: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        available: Tensor | None = None,
    ) -> Features:
        """Run the encoders of the single networks, then those of the joint one: maps of both, in this order."""
        alone = super().encode(image, valid=valid, available=available)
        joint = self.joint.encode(image, valid=valid, available=available)
        return Features(
            maps={name: [*alone.maps[name], *joint.maps[name]] for name in self.modalities},
            shares={name: [*alone.shares[name], *joint.shares[name]] for name in self.modalities},
            size=alone.size,
        )

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Return the sum of all logits as the only entry, as :meth:`JoinedAnswers.fuse` does."""
        levels = len(self.spec.widths)
        alone, joint = _levels(features, slice(levels)), _levels(features, slice(levels, None))
        available = available.to(features.device)
        together = self.joint.decode(self.joint.fuse(joint, available), size=features.size)
        return [super().fuse(alone, available)[0] + together]

    def _joined(self, logits: Tensor, votes: Tensor) -> Tensor:
        return (logits * (votes > 0)).sum(dim=0)


def _singles(spec: NetworkSpec, weights: Mapping[str, str]) -> list[FusionUNet]:
    require(
        set(weights) <= set(spec.modalities),
        f"weights for {tuple(weights)}",
        f"modalities among {spec.modalities}",
        "correct the names",
    )
    return [
        FusionUNet(spec.single(name), weights={name: weights[name]} if name in weights else None)
        for name in spec.modalities
    ]


def _common(specs: Sequence[NetworkSpec]) -> NetworkSpec:
    """Describe several single-modality networks as one; widths are those of the first."""
    return replace(
        specs[0],
        modalities=tuple(spec.modalities[0] for spec in specs),
        in_channels=tuple(spec.in_channels[0] for spec in specs),
        encoder=tuple(spec.encoders[0] for spec in specs),
        wavelengths=tuple(value for spec in specs for value in spec.wavelengths),
        deep_supervision=False,
    )


def _levels(features: Features, part: slice) -> Features:
    return replace(
        features,
        maps={name: maps[part] for name, maps in features.maps.items()},
        shares={name: shares[part] for name, shares in features.shares.items()},
    )
