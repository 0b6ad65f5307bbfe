"""Batch: patches as the networks and meters read them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .chips import MODALITIES, Image
from .conditions import Condition

Task = Literal["segmentation", "classification"]
Batch = dict[str, Any]

PATCH = 32
CLASSES = ("dry", "flooded")
#: A patch is dry where less than the first share of it is flooded, flooded where more than the second is.
UNDECIDED = (0.4, 0.6)


def batch_of(
    image: Mapping[str, Image],
    flooded: NDArray[np.bool_],
    *,
    task: Task,
    conditions: Sequence[Condition],
    drawn: NDArray[np.int64],
    valid: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Batch:
    """Put patches together.

    Parameters
    ----------
    image
        Per modality float32 (patch, band, y, x), normalised.
    flooded
        bool (patch, y, x).
    task
        Whether pixels or patches are named.
    conditions, drawn
        What patches may meet, and int64 (patch,) which of them each does.
    valid
        Per modality bool (patch, y, x); None where everything is usable.

    Returns
    -------
    dict
        ``image``, ``available``, ``condition``, ``mask`` or ``label``, and ``valid`` where something is not usable.
    """
    has = np.array([[condition.outage != name for name in MODALITIES] for condition in conditions])
    batch: Batch = {
        "image": {name: torch.from_numpy(np.ascontiguousarray(image[name])) for name in MODALITIES},
        "available": torch.from_numpy(has[drawn]),
        "condition": torch.from_numpy(drawn),
    }
    if valid is not None and not all(mask.all() for mask in valid.values()):
        batch["valid"] = {name: torch.from_numpy(np.ascontiguousarray(valid[name])) for name in MODALITIES}
    if task == "segmentation":
        batch["mask"] = torch.from_numpy(flooded.astype(np.int64))
    else:
        batch["label"] = torch.from_numpy((flooded.mean(axis=(1, 2)) > 0.5).astype(np.int64))
    return batch


def chances(conditions: Sequence[Condition]) -> NDArray[np.float64]:
    """Return how often each condition is drawn: the first as often as all others together, these alike."""
    others = len(conditions) - 1
    return np.array([0.5, *[0.5 / others] * others]) if others else np.ones(1)
