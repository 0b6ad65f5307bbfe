"""Recipes: every way of training that is compared, a line each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.models.balancing import STRATEGIES

DROPOUT = "subset_sampling"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way of training.

    Attributes
    ----------
    strategies
        As in a configuration.
    changes
        Of the network's description.
    kind
        ``fusion``: one network; ``ensemble``: one for each modality, with as many steps each; ``early``: one encoder
        over all bands, zeros for what is absent; ``distilled``: a fusion network that begins with single networks, of
        which the optical one taught the others.
    """

    strategies: tuple[str, ...] = ("joint",)
    changes: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "fusion"

    @property
    def baseline(self) -> str | None:
        """Name of a competitor that is trained in place of the fusion network."""
        return self.kind if self.kind == "early" else None


RECIPES: dict[str, Recipe] = {
    "plain": Recipe(),
    "plain, batch norm": Recipe(changes={"norm": "batch"}),
    "conventional": Recipe(changes={"fusion": "concat", "norm": "batch"}),
    "early fusion": Recipe(kind="early"),
    "sensor dropout": Recipe(strategies=(DROPOUT,)),
    "inverse_reliance": Recipe(strategies=("inverse_reliance",)),
    "auxiliary": Recipe(strategies=("auxiliary",)),
    "dropout, auxiliary": Recipe(strategies=(DROPOUT, "auxiliary")),
    "response": Recipe(strategies=("response",)),
    "ogm_ge": Recipe(strategies=("ogm_ge",)),
    "mmpareto": Recipe(strategies=("mmpareto",)),
    "ensemble": Recipe(kind="ensemble"),
    "shared_private, dropout": Recipe(strategies=(DROPOUT,), changes={"fusion": "shared_private"}),
    "consistency": Recipe(strategies=("consistency",)),
    "attention, dropout": Recipe(strategies=(DROPOUT,), changes={"fusion": "attention"}),
    "attention, consistency, auxiliary": Recipe(
        strategies=("consistency", "auxiliary"), changes={"fusion": "attention"}
    ),
    "latent_surrogate": Recipe(strategies=("latent_surrogate",), changes={"surrogate": True}),
    "meta_missing": Recipe(strategies=("meta_missing",)),
    "feature_swapping, dropout": Recipe(strategies=(DROPOUT, "feature_swapping")),
    "contrastive, dropout": Recipe(strategies=("contrastive", DROPOUT)),
    "explanation_erasing, dropout": Recipe(strategies=(DROPOUT, "explanation_erasing")),
    "consistency, auxiliary": Recipe(strategies=("consistency", "auxiliary")),
    "distilled, dropout": Recipe(strategies=(DROPOUT,), kind="distilled"),
    "consistency, response": Recipe(strategies=("consistency", "response")),
}
"""Name in the tables -> recipe, plain training first. ``conventional``: features concatenated, zeros for what is
absent, batch normalisation, as most fusion networks are built."""

#: What the best recipe is held against: all of them are trained on all sensors together.
REFERENCES = ("plain", "plain, batch norm", "conventional", "early fusion")

#: Trained only when asked for (``--further``): they are not in the committed table.
FURTHER = ("consistency, response",)


def known(*, further: bool = False) -> dict[str, Recipe]:
    """Return the recipes of the table whose strategies are there, and the others where they are asked for."""
    return {
        name: recipe for name, recipe in RECIPES.items()
        if set(recipe.strategies) <= set(STRATEGIES) and (further or name not in FURTHER)
    }  # fmt: skip
