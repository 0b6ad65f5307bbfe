"""Options of the utilization that training shall reach: the reliance that the user chooses."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from .options import Options, Share, Slug

#: A share, a range of shares, or no wish.
Wish = Share | Annotated[tuple[Share, Share], Field(description="lowest, highest")] | Literal["free"]

#: Strategies that steer towards a target, and those that do where there is one.
STEERED = ("mu_bounded", "mu_legacy")
MAY_STEER = (*STEERED, "explanation_erasing")


class UtilizationOptions(Options):
    """How much the network shall rely on each modality."""

    target: dict[Slug, Wish] = Field(
        {}, description="Modality -> share 0 to 1, [lowest, highest], or free. Not named: free. The shares sum to 1."
    )
    metric: Literal["brier", "clipped_ce", "cross_entropy"] = Field(
        "brier", description="Score by which reliance is counted; cross_entropy is not bounded and can be gamed."
    )
    depth: Literal["head", "decoder", "all"] | None = Field(
        None,
        description="What the target teaches. head: decision layers after encoders that were trained alone and frozen; "
        "decoder: fusion and decoder; all: encoders, too, at a fifth of the learning rate; null: all, or decoder for "
        "mu_matched and for network: early.",
    )
    tolerance: Share = Field(0.02, description="Distance from a point target that counts as reached.")
    control: Literal["pi", "fixed"] = Field("pi", description="pi: the effort finds itself; fixed: `strength`.")
    strength: float = Field(1.0, gt=0, description="Fixed effort; largest weight of mu_legacy.")
    fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of a batch that is exchanged in a step; null: a quarter for segmentation, all for chips.",
    )

    @model_validator(mode="after")
    def _possible(self) -> "UtilizationOptions":
        for name, wish in self.target.items():
            if isinstance(wish, tuple) and wish[0] > wish[1]:
                raise ValueError(f"target of '{name}' is {list(wish)}; wanted [lowest, highest]")
        if (least := sum(low for low, _ in self.ranges().values())) > 1 + 1e-9:
            raise ValueError(f"targets ask for {least:g} in all; wanted shares whose lowest values sum to at most 1")
        return self

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return lowest and highest share of each modality that is named."""
        return {
            name: (0.0, 1.0) if wish == "free" else wish if isinstance(wish, tuple) else (float(wish), float(wish))
            for name, wish in self.target.items()
        }

    def check(self, modalities: set[str], strategies: tuple[str, ...]) -> None:
        """Compare with the modalities that are declared and the strategies that are chosen.

        Raises
        ------
        ValueError
            If a name is unknown, the targets cannot be met, or nothing steers towards them.
        """
        if unknown := sorted(set(self.target) - modalities):
            raise ValueError(f"train.utilization.target names {unknown}; wanted only {sorted(modalities)}")
        most = sum(high for _, high in self.ranges().values()) + len(modalities - set(self.target))
        if most < 1 - self.tolerance:
            raise ValueError(f"train.utilization.target allows {most:g} in all; wanted shares that can sum to 1")
        bound = [name for name, (low, high) in self.ranges().items() if (low, high) != (0.0, 1.0)]
        steered = [name for name in strategies if name in STEERED]
        if bound and not set(MAY_STEER) & set(strategies):
            raise ValueError(
                f"train.utilization.target binds {bound} and train.strategy is {list(strategies)}; wanted mu_bounded "
                "(or mu_legacy, explanation_erasing) among the strategies"
            )
        if steered and not bound:
            raise ValueError(f"train.strategy has {steered[0]}; wanted a share in train.utilization.target")

    def settings(self, *, encoders: bool) -> dict[str, Any]:
        """Return the keyword arguments of :class:`equipoise.models.balancing.Utilization`.

        Parameters
        ----------
        encoders
            Whether the network has an encoder for each modality, so that ``depth: all`` is possible.
        """
        target = {name: None if wish == "free" else wish for name, wish in self.target.items()}
        depth = self.depth or (None if encoders else "decoder")
        return {"target": target, "depth": depth, **self.model_dump(exclude={"target", "depth"})}
