"""Balancing strategies: one file each, behind the :class:`~equipoise.models.balancing.strategy.Strategy` protocol."""

from ..errors import ModelError, wanted
from .joint import Joint
from .strategy import Strategy
from .subset_sampling import SubsetSampling

__all__ = ["STRATEGIES", "Strategy", "build_strategy"]

STRATEGIES: dict[str, type[Strategy]] = {"joint": Joint, "subset_sampling": SubsetSampling}


def build_strategy(name: str) -> Strategy:
    """Build a balancing strategy.

    Parameters
    ----------
    name
        A key of :data:`STRATEGIES`.

    Returns
    -------
    Strategy
        Ready for :class:`~equipoise.models.task.FusionTask`.

    Raises
    ------
    ModelError
        The name is unknown.
    """
    if name not in STRATEGIES:
        raise ModelError(wanted(f"strategy {name!r}", f"one of {tuple(STRATEGIES)}", "correct the name"))
    return STRATEGIES[name]()
