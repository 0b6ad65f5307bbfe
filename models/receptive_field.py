"""ReceptiveField: how far around a pixel a network looks, and how much of its answer comes from there."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .dates import unknown_dates
from .three_steps import ThreeSteps


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """Where the answer at a pixel comes from.

    Attributes
    ----------
    radius
        Largest distance, px along the farther axis, at which a pixel can change an answer; at most one more than that.
    reaches_border
        Whether something of it comes from the border of the image that was used: the network may look farther.
    influence
        float64 (distance,): share of the answer's gradient at each distance, on that image; sums to 1.
    """

    radius: int
    reaches_border: bool
    influence: Tensor

    def beyond(self, distance: int) -> float:
        """Return the share that comes from farther than ``distance`` px."""
        return float(self.influence[distance + 1 :].sum())


def receptive_field(network: ThreeSteps, image: Mapping[str, Tensor]) -> ReceptiveField:
    """Measure how far a network looks.

    The radius is what the layers allow: NaN in the middle of the image spreads to every answer that reads it. The
    influence is the gradient of the answer in the middle, which misses what these values happen to switch off.

    Parameters
    ----------
    network
        In evaluation mode.
    image
        Per modality float32 (1, band, y, x), on the network's device, like its inputs: noise will do. Where y and x are
        multiples of 64, the four pixels in the middle touch both edges of a cell at every scale: they reach as far as
        any.
    """
    inputs = {name: image[name].detach().clone() for name in network.modalities}
    rows, columns = next(iter(inputs.values())).shape[-2:]
    middle = (..., slice(rows // 2 - 1, rows // 2 + 1), slice(columns // 2 - 1, columns // 2 + 1))
    distance = torch.maximum(_from_middle(rows)[:, None], _from_middle(columns)[None, :])
    with torch.no_grad():
        marked = {name: values.clone() for name, values in inputs.items()}
        for values in marked.values():
            values[middle] = torch.nan
        reached = _logits(network, marked).isnan().any(dim=1)[0].cpu()
    with torch.enable_grad():
        for values in inputs.values():
            values.requires_grad_()
        # Squares: classes must not cancel.
        answer = _logits(network, inputs)[middle].float().square().sum()
        gradients = torch.autograd.grad(answer, list(inputs.values()), allow_unused=True)
    total = torch.zeros(rows, columns, dtype=torch.float64)
    for gradient in gradients:
        if gradient is not None:
            total += gradient[0].abs().sum(dim=0).double().cpu()
    influence = torch.zeros(int(distance.max()) + 1, dtype=torch.float64)
    influence.index_add_(0, distance.flatten(), total.flatten())
    border = torch.cat([reached[0], reached[-1], reached[:, 0], reached[:, -1]])
    return ReceptiveField(
        radius=int(distance[reached].max()) if reached.any() else 0,
        reaches_border=bool(border.any()),
        influence=influence / influence.sum().clamp_min(1e-300),
    )


def _logits(network: ThreeSteps, image: Mapping[str, Tensor]) -> Tensor:
    first = next(iter(image.values()))
    available = torch.ones(1, len(image), dtype=torch.bool, device=first.device)
    valid = {name: torch.ones_like(values[:, 0], dtype=torch.bool) for name, values in image.items()}
    # When an image was taken says nothing of how far the network looks.
    dated = {**image, **unknown_dates(tuple(image), like=first)}
    features = network.encode(dated, valid=valid, available=available)
    return network.decode(network.fuse(features, available), size=features.size)


def _from_middle(length: int) -> Tensor:
    places = torch.arange(length)
    return torch.maximum((places - length // 2).abs(), (places - length // 2 + 1).abs())
