"""Methods: every way of training that is compared, each with the same number of steps a network."""

from collections.abc import Callable
from typing import Any

from equipoise.models.balancing import Utilization

from .conditions import TRAINING
from .imagery import Imagery
from .training import Budget, Figures, ensemble, fit

Method = Callable[[int], tuple[Any, Figures]]

#: The range that is asked for around the share of the information.
RANGE = 0.05


def methods(imagery: Imagery, budget: Budget, *, information: float) -> dict[str, Method]:
    """Return every method: seed -> trained network and figures.

    Parameters
    ----------
    imagery, budget
        What all of them get.
    information
        Share of the optical sensor in the information, 0 to 1: what ``mu_bounded`` is asked to keep to.
    """
    low, high = max(0.0, information - RANGE), min(1.0, information + RANGE)

    def trained(strategy: Any = "joint", **options: Any) -> Method:
        return lambda seed: fit(imagery, "segmentation", strategy, seed=seed, budget=budget, **options)

    return {
        "plain": trained(),
        "frozen_head": trained("frozen_head"),
        "mu_legacy": trained("mu_legacy", utilization=Utilization(target={"eo": 0.75})),
        "mu_bounded": trained("mu_bounded", utilization=Utilization(target={"eo": (low, high)})),
        "sensor_dropout": trained("subset_sampling"),
        "degradation": trained(conditions=TRAINING),
        "ensemble": lambda seed: ensemble(imagery, "segmentation", seed=seed, budget=budget),
        "mu_matched": trained(["subset_sampling", "mu_matched"], conditions=TRAINING),
        "response": trained("response"),
        "response_degradation": trained("response", conditions=TRAINING),
    }


#: For those who only count them.
METHODS = (
    "plain", "frozen_head", "mu_legacy", "mu_bounded", "sensor_dropout", "degradation", "ensemble", "mu_matched",
    "response", "response_degradation",
)  # fmt: skip
