"""Calibration: the temperature that makes a trained network as sure as it is right, from its validation places."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.losses import IGNORE
from ..models.temperature import fit_temperature
from .reliability import Reliability

#: Most labelled places that the temperature is fitted on, drawn evenly from the batches: one number needs no more.
MOST_PLACES = 2**18


def calibrate(network: Any, batches: Iterable[Mapping[str, Any]], *, count: int, seed: int) -> dict[str, Any]:
    """Fit the temperature of a network and measure what it gains.

    Parameters
    ----------
    network
        A :class:`~equipoise.models.three_steps.ThreeSteps` in evaluation mode.
    batches
        Dicts with ``image``, ``valid``, ``available``, and ``mask`` or ``label``: data that training did not see.
    count
        Number of batches.
    seed
        Of the draw of places.

    Returns
    -------
    ``temperature``; ``places`` that it was fitted on; ``nll`` and ``ece``
    (:meth:`~equipoise.pipeline.reliability.Reliability.summary`) on the same places, each ``before`` and ``after``,
    None where nothing is labelled.
    """
    logits, target = _places(network, batches, most=-(-MOST_PLACES // max(count, 1)), seed=seed)
    temperature = fit_temperature(logits, target)
    record: dict[str, Any] = {"temperature": temperature, "places": len(target), "nll": {}, "ece": {}}
    for moment, divisor in (("before", 1.0), ("after", temperature)):
        meter = Reliability()
        meter.update(logits / divisor, target)
        record["ece"][moment] = meter.summary()["ece"]
        record["nll"][moment] = float(F.cross_entropy(logits / divisor, target)) if len(target) else None
    return record


@torch.inference_mode()
def _places(network: Any, batches: Iterable[Mapping[str, Any]], *, most: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return logits (place, class) and classes (place,) of labelled places, at most ``most`` of a batch."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    logits, targets = [torch.zeros(0, network.spec.classes)], [torch.zeros(0, dtype=torch.int64)]
    for batch in batches:
        image = {name: values.to(device) for name, values in batch["image"].items()}
        valid = {name: batch["valid"][name].to(device) for name in network.modalities}
        answer = network(image, available=batch["available"].to(device), valid=valid).float().cpu()
        target = (batch["mask"] if "mask" in batch else batch["label"]).flatten()
        known = (target != IGNORE).nonzero().flatten()
        drawn = known[torch.randperm(len(known), generator=generator)[:most]]
        logits.append(answer.movedim(1, -1).reshape(-1, answer.shape[1])[drawn])
        targets.append(target[drawn])
    return torch.cat(logits), torch.cat(targets)
