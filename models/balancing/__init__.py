"""Balancing strategies: one file each, behind :class:`~equipoise.models.balancing.strategy.Strategy`."""

from collections.abc import Callable, Sequence

from ..errors import ModelError, wanted
from .auxiliary import Auxiliary
from .composite import Composite
from .consistency import Consistency
from .contrastive import Contrastive
from .feature_swapping import FeatureSwapping
from .frozen_head import FrozenHead
from .greedy import Greedy
from .inverse_reliance import InverseReliance
from .joint import Joint
from .latent_surrogate import LatentSurrogate
from .meta_missing import MetaMissing
from .mmpareto import MMPareto
from .mu_legacy import MuLegacy
from .mu_matched import MuMatched
from .ogm_ge import OgmGe
from .response import Response
from .settings import Utilization
from .strategy import Step, Strategy
from .subset_sampling import SubsetSampling

__all__ = ["STRATEGIES", "TEACH_SUBSETS", "Step", "Strategy", "Utilization", "build_strategy"]

#: Name -> what builds the strategy for modalities, in the network's order, and the utilization that is wanted.
STRATEGIES: dict[str, Callable[[Sequence[str], Utilization], Strategy]] = {
    "joint": lambda _modalities, _wanted: Joint(),
    "subset_sampling": lambda _modalities, _wanted: SubsetSampling(),
    "response": lambda _modalities, _wanted: Response(),
    "feature_swapping": lambda _modalities, _wanted: FeatureSwapping(),
    "contrastive": lambda _modalities, _wanted: Contrastive(),
    "auxiliary": lambda _modalities, _wanted: Auxiliary(),
    "greedy": lambda modalities, _wanted: Greedy(len(modalities)),
    "inverse_reliance": lambda modalities, _wanted: InverseReliance(len(modalities)),
    "frozen_head": lambda _modalities, _wanted: FrozenHead(),
    "mu_legacy": lambda modalities, utilization: Composite(
        [FrozenHead(), MuLegacy(utilization.of(modalities), most=utilization.strength)]
    ),
    "mu_bounded": lambda modalities, utilization: utilization.bounded(modalities),
    "mu_matched": lambda modalities, utilization: MuMatched(
        len(modalities), fraction=utilization.fraction, depth=utilization.reach("decoder")
    ),
    "ogm_ge": lambda modalities, _wanted: OgmGe(len(modalities)),
    "mmpareto": lambda _modalities, _wanted: MMPareto(),
    "meta_missing": lambda _modalities, _wanted: MetaMissing(),
    "consistency": lambda _modalities, _wanted: Consistency(),
    "explanation_erasing": lambda modalities, utilization: utilization.erasing(modalities),
    "latent_surrogate": lambda _modalities, _wanted: LatentSurrogate(),
}

#: Strategies from which a network learns what every subset of its modalities tells: coalition values of it are sound.
TEACH_SUBSETS = frozenset({"subset_sampling", "consistency", "meta_missing", "latent_surrogate"})


def build_strategy(
    names: str | Sequence[str], *, modalities: Sequence[str] = (), utilization: Utilization | None = None
) -> Strategy:
    """Build a balancing strategy.

    Parameters
    ----------
    names
        A key of :data:`STRATEGIES`, or several: each then sees what the one before left.
    modalities
        Names in the network's order.
    utilization
        What the ``mu_`` strategies shall reach.

    Returns
    -------
    Strategy
        Ready for :class:`~equipoise.models.task.FusionTask`.

    Raises
    ------
    ModelError
        A name is unknown, or the utilization cannot be met.
    """
    chosen = (names,) if isinstance(names, str) else tuple(names)
    unknown = [name for name in chosen if name not in STRATEGIES]
    if unknown or not chosen:
        found = f"strategy {unknown[0]!r}" if unknown else "no strategy"
        raise ModelError(wanted(found, f"one of {tuple(STRATEGIES)}", "correct the name"))
    parts = [STRATEGIES[name](modalities, utilization or Utilization()) for name in chosen]
    return parts[0] if len(parts) == 1 else Composite(parts)
