"""Temperature: one number that makes a network as sure as it is right."""

import torch
from torch import Tensor

from .errors import require
from .losses import IGNORE

#: Temperatures that are looked for: beyond them a network knows nothing, or was never wrong.
LOWEST, HIGHEST = 0.05, 20.0

_HALVINGS = 50  # of the interval in the logarithm: finer than float32 tells


def fit_temperature(logits: Tensor, target: Tensor) -> float:
    """Find the temperature T that minimises the negative log-likelihood of ``softmax(logits / T)``.

    One scalar for all classes; the predicted class stays (Guo, Pleiss, Sun, Weinberger, ICML 2017). The loss is convex
    in 1/T, so that halving the interval by the sign of its derivative finds the minimum.

    Parameters
    ----------
    logits
        float (place, class).
    target
        int64 (place,), 255 to leave out.

    Returns
    -------
    float
        T from :data:`LOWEST` to :data:`HIGHEST`; 1 where nothing is labelled.

    Raises
    ------
    ModelError
        The logits are not all finite.
    """
    known = target != IGNORE
    values, truth = logits[known].double(), target[known]
    require(
        bool(values.isfinite().all()), "logits that are not finite", "numbers", "train with a smaller learning rate"
    )
    if not len(truth):
        return 1.0
    right = values.gather(1, truth[:, None])[:, 0].mean()
    low, high = torch.tensor([LOWEST, HIGHEST]).double().log().tolist()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        chance = (values * torch.tensor(-middle).exp()).softmax(dim=1)
        # d NLL / d(1/T) = E[mean logit under the answer] - E[logit of the truth]: positive where it is too sure.
        if (chance * values).sum(dim=1).mean() > right:
            low = middle
        else:
            high = middle
    return float(torch.tensor((low + high) / 2).exp())
