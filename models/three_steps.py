"""ThreeSteps: what the fusion network and its competitors have in common, so that every meter works on all of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from .dates import date_key
from .errors import require
from .features import Features
from .spec import NetworkSpec


class ThreeSteps(nn.Module, ABC):
    """A network over several modalities, any of which may be missing, in three steps that can be called apart.

    Parameters
    ----------
    spec
        Modalities, bands, classes and task that it works on; its ``kind`` becomes that of the class.
    """

    #: What a saved description calls the class: one of :data:`~equipoise.models.spec.KINDS`.
    kind: ClassVar[str] = "fusion"

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        # No competitor has surrogates.
        self.spec = spec if spec.kind == self.kind else replace(spec, kind=self.kind, surrogate=False)

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
            Per modality float32 (batch, band, y, x), normalised; any y, x of at least 1. A network with
            ``spec.dates`` also reads each modality's :func:`~equipoise.models.dates.date_key`. Further keys are
            ignored.
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
            available = torch.ones(features.batch, len(self.modalities), dtype=torch.bool)
        return self.decode(self.fuse(features, available), size=features.size)

    @abstractmethod
    def encode(
        self,
        image: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        available: Tensor | None = None,
    ) -> Features:
        """Return the features of each modality; the arguments are those of :meth:`forward`."""

    @abstractmethod
    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Join the features of the modalities that ``available``, bool (batch, modality), lets through."""

    @abstractmethod
    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        """Return logits (batch, class, rows, columns) of ``size``, or (batch, class) for classification."""

    def core_answers(self, features: Features, core: slice | None, *, every: int = 1) -> Callable[[Tensor], Tensor]:
        """Return what answers for the core of the windows alone, from any subset of the modalities.

        Parameters
        ----------
        features
            From :meth:`encode`.
        core
            Rows, and columns, of the windows; None: all. Classification has no core: its answers are of whole windows.
        every
            Answer at every n-th row and column of the core, from its first on.

        Returns
        -------
        Callable
            Turns ``available``, bool (batch, modality), into logits (batch, class, rows, columns): those that
            :meth:`fuse` and :meth:`decode` give there, up to rounding.
        """

        def answer(available: Tensor) -> Tensor:
            logits = self.decode(self.fuse(features, available), size=features.size)
            if self.spec.task == "classification":
                return logits
            return logits[..., ::every, ::every] if core is None else logits[..., core, core][..., ::every, ::every]

        return answer

    def modality_encoders(self) -> list[nn.Module]:
        """Return what reads each modality alone, in order; nothing where modalities are not encoded apart."""
        return []

    def side_logits(self, fused: list[Tensor], *, size: tuple[int, int]) -> list[Tensor]:  # noqa: ARG002
        """Return logits of further heads that only training reads; none unless a network has them."""
        return []


def check_batch(
    spec: NetworkSpec,
    image: Mapping[str, Tensor],
    *,
    valid: Mapping[str, Tensor] | None,
    available: Tensor | None,
) -> tuple[int, int]:
    """Compare a batch with a spec.

    Parameters
    ----------
    spec
        What the network works on.
    image, valid, available
        As in :meth:`ThreeSteps.forward`.

    Returns
    -------
    tuple of int
        (rows, columns) of the images.

    Raises
    ------
    ModelError
        A modality is missing, or shapes or types disagree.
    """
    for given in (image, image if valid is None else valid):
        require(
            all(modality in given for modality in spec.modalities),
            f"modalities {tuple(given)} in the batch",
            f"{spec.modalities}",
            "give an absent modality as zeros with available=False",
        )
    first = tuple(image[spec.modalities[0]].shape)
    require(len(first) == 4, f"{spec.modalities[0]} of shape {first}", "(batch, band, y, x)", "add the missing axis")
    batch, _, *size = first
    for modality, bands in zip(spec.modalities, spec.in_channels, strict=True):
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
    absent = [name for name in spec.modalities if spec.dates and date_key(name) not in image]
    require(not absent, f"no dates of {absent}", "those of each modality", "give `unknown_dates` where none is known")
    if available is not None:
        wish = (batch, len(spec.modalities))
        require(
            tuple(available.shape) == wish and available.dtype == torch.bool,
            f"available of shape {tuple(available.shape)} and type {available.dtype}",
            f"bool {wish}",
            "give one column per modality",
        )
    return size[0], size[1]


def usable_pixels(
    spec: NetworkSpec,
    image: Mapping[str, Tensor],
    *,
    valid: Mapping[str, Tensor] | None,
    available: Tensor | None,
) -> list[Tensor]:
    """Return where each modality may be read: the valid pixels of the samples that have it.

    Parameters
    ----------
    spec, image, valid, available
        As in :func:`check_batch`, which they have passed.

    Returns
    -------
    list of Tensor
        Per modality bool (batch, 1, y, x), on the device of its image.
    """
    usable = []
    for column, modality in enumerate(spec.modalities):
        data = image[modality]
        mask = torch.ones_like(data[:, :1], dtype=torch.bool) if valid is None else valid[modality][:, None]
        mask = mask.to(data.device)
        if available is not None:
            mask = mask & available[:, column].to(data.device)[:, None, None, None]
        usable.append(mask)
    return usable
