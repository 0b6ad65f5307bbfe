"""ExportForm: a network as one graph, from physical units to calibrated probabilities, that other engines can run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from .errors import require
from .features import Features, valid_shares
from .inference_form import inference_form
from .joined_answers import JoinedAnswers
from .network import FusionUNet
from .three_steps import ThreeSteps

#: Smallest backscatter in linear power that decibels are taken of.
_POWER_FLOOR = 1e-5


class ExportForm(nn.Module):
    """A network whose graph does not depend on which sensors are there, with normalisation and temperature inside.

    A sensor that is missing is read all the same, and its features count for nothing: what the network itself leaves
    out to save time, a graph has to do for every input alike. In evaluation mode both say the same up to rounding.

    Parameters
    ----------
    network
        What to export, in evaluation mode; it stays as it is.
    mean, std
        Modality -> number a band, in the unit at the network's door.
    decibels
        Modality -> whether each band is backscatter, given in linear power and learned from in dB.
    temperature
        Divides the logits.

    Raises
    ------
    ModelError
        A modality has no statistics.
    """

    def __init__(
        self, network: ThreeSteps, *, mean: Mapping[str, Sequence[float]], std: Mapping[str, Sequence[float]],
        decibels: Mapping[str, Sequence[bool]], temperature: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        names = network.modalities
        known = all(name in part for part in (mean, std, decibels) for name in names)
        require(known, "a modality without statistics", f"those of {names}", "train the model again")
        self.network = _static(network)
        self.temperature = temperature
        self._decibels = tuple(any(decibels[name]) for name in names)
        for column, name in enumerate(names):
            self.register_buffer(f"mean_{column}", _column(mean[name]))
            self.register_buffer(f"std_{column}", _column(std[name]))
            self.register_buffer(f"decibels_{column}", torch.tensor(list(decibels[name]))[:, None, None])

    def forward(self, image: Sequence[Tensor], valid: Sequence[Tensor], available: Tensor) -> Tensor:
        """Return calibrated probabilities.

        Parameters
        ----------
        image
            A modality each, in order: float32 (batch, band, y, x) in working units; what is not finite is not valid.
        valid
            A modality each: bool (batch, y, x), True where usable.
        available
            bool (batch, modality).

        Returns
        -------
        Tensor
            float32 (batch, class, y, x), or (batch, class) for classification.
        """
        spec = self.network.spec
        rows, columns = image[0].shape[-2:]
        # As the network itself pads: whole strides, at least two cells at the deepest scale.
        stride, device = 2**spec.depth, available.device
        down, right = (torch.arange(_whole(length, stride), device=device) for length in (rows, columns))
        inside = (down < rows)[:, None] & (right < columns)
        images, masks = {}, {}
        for column, name in enumerate(spec.modalities):
            usable = valid[column] & image[column].isfinite().all(dim=1)
            values = torch.where(usable[:, None], self._normalised(image[column], column), 0.0)
            images[name] = _taken(values, down, right)
            masks[name] = _taken(usable[:, None], down, right)[:, 0] & inside
        network = cast("Any", self.network)
        features = network.encode(images, valid=masks, available=available)
        logits = network.decode(network.fuse(features, available), size=features.size)
        probability = (logits / self.temperature).softmax(dim=1)
        if spec.task == "classification":
            return probability
        down, right = (torch.arange(length, device=device) for length in (rows, columns))
        return _taken(probability, down, right)

    def _normalised(self, image: Tensor, column: int) -> Tensor:
        if self._decibels[column]:
            decibels = 10.0 * image.clamp_min(_POWER_FLOOR).log10()
            image = torch.where(self.get_buffer(f"decibels_{column}"), decibels, image)
        return (image - self.get_buffer(f"mean_{column}")) / self.get_buffer(f"std_{column}")


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32)[:, None, None]


def _whole(length: int, stride: int) -> int:
    """Round up to whole strides, at least two; a length may be a symbol, which ``max`` would turn into a number."""
    cells = (length + stride - 1) // stride
    return cast("int", torch.sym_max(cells, 2)) * stride


def _taken(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows and columns of (batch, band, y, x) by number, the last ones again where numbers go beyond them.

    Not by padding and slicing: torch would have to know whether there is anything to add, which depends on the size.
    """
    height, width = image.shape[-2:]
    image = image.index_select(2, rows.clamp_max(height - 1))
    return image.index_select(3, columns.clamp_max(width - 1))


def _static(network: ThreeSteps) -> ThreeSteps:
    """Return the network's inference form without any step whose shape depends on the data."""
    form = inference_form(network)
    for part in form.modules():
        # Copies that `inference_form` has made: the methods of the given network stay.
        if isinstance(part, FusionUNet):
            vars(part)["_encode_one"] = partial(_encode_all, part)
        elif isinstance(part, JoinedAnswers):
            vars(part)["_answers"] = partial(_answer_all, part)
    return form


def _encode_all(network: FusionUNet, column: int, image: Tensor, usable: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Encode every sample; those without a usable pixel have shares of 0, and so no say."""
    shares = valid_shares(usable.to(image.dtype), scales=tuple(sorted(network.spec.widths)))
    return network.encoders[network.spec.readers[column]](torch.where(usable, image, 0.0)), shares


def _answer_all(network: JoinedAnswers, features: Features, column: int, present: Tensor) -> Tensor:
    """Return one modality's logits of every sample, 0 where it is absent."""
    single, name = cast("FusionUNet", network.singles[column]), network.modalities[column]
    own = replace(features, maps={name: features.maps[name]}, shares={name: features.shares[name]})
    logits = single.decode(single.fuse(own, present[:, None]), size=features.size)
    return torch.where(present.reshape(-1, *[1] * (logits.ndim - 1)), logits, 0.0)
