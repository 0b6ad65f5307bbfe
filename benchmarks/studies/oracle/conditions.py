"""Conditions under which the oracle scene is observed, and which families of them training may see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

Columns = Mapping[str, Tensor]
"""Per numeric field of :class:`Condition` a float64 tensor (batch, 1, 1, 1): every sample has its own condition."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One way in which the sensors see worse. The defaults are the clear scene.

    Attributes
    ----------
    name, family
        What it is called, and the kind of degradation that it is a strength of.
    eo_noise
        Variance added to the optical noise of one native pixel, reflectance squared.
    illumination
        Factor of the ground's reflectance; 1 = day.
    haze
        Share of the light lost between ground and sensor at the first band, 0 to 1; the other bands lose less.
    cloud_cover
        Probability that a cell lies under cloud; cells are covered independently.
    cloud_opacity
        Share of the ground's light that a cloud hides, 0 to 1.
    cloud_flagged
        1 where the cloud mask found the clouds (not valid); 0 where the network meets them as pixels.
    stripe_loss
        Probability that a row of native optical pixels was lost (not valid).
    shift_cells
        How far the optical image lies below and to the right of where it should, in cells, 0 to 1. It is one fixed
        displacement, rounded to whole pixels: .25 is 2 px where a cell has 8.
    sar_looks
        Number of looks L, a whole number.
    sar_interference
        Linear power that interference adds to each radar pixel.
    ir_noise_k
        Noise-equivalent temperature difference added to one native thermal pixel, kelvin.
    ir_contrast
        Factor of the temperature differences between classes: 0 at thermal crossover, negative at night.
    outage
        Names of the modalities that delivered nothing. A name that the scene's variant lacks does nothing.
    """

    name: str
    family: str
    eo_noise: float = 0.0
    illumination: float = 1.0
    haze: float = 0.0
    cloud_cover: float = 0.0
    cloud_opacity: float = 0.0
    cloud_flagged: float = 0.0
    stripe_loss: float = 0.0
    shift_cells: float = 0.0
    sar_looks: float = 4.0
    sar_interference: float = 0.0
    ir_noise_k: float = 0.0
    ir_contrast: float = 1.0
    outage: tuple[str, ...] = ()


NUMBERS = tuple(field.name for field in fields(Condition) if field.type is float)


def columns(conditions: Sequence[Condition], index: Tensor) -> dict[str, Tensor]:
    """Look up the condition of each sample.

    Parameters
    ----------
    conditions
        The table.
    index
        int64 (batch,): row of the table per sample.

    Returns
    -------
    dict of Tensor
        :data:`Columns`.
    """
    return {
        name: torch.tensor([getattr(item, name) for item in conditions], dtype=torch.float64)[index].reshape(
            -1, 1, 1, 1
        )
        for name in NUMBERS
    }


def _of(family: str, **strengths: Mapping[str, Any]) -> list[Condition]:
    return [Condition(name=f"{family}_{name}", family=family, **values) for name, values in strengths.items()]


CLEAR = Condition(name="clear", family="clear")

CONDITIONS: tuple[Condition, ...] = (
    CLEAR,
    *(
        Condition(name=f"eo_noise_{variance:g}", family="eo_noise", eo_noise=variance)
        for variance in (0.03, 0.06, 0.12, 0.3, 0.6, 1.2)
    ),
    *(Condition(name=f"sar_looks_{looks}", family="sar_looks", sar_looks=looks) for looks in (2, 1)),
    *(Condition(name=f"ir_noise_{kelvin}k", family="ir_noise", ir_noise_k=kelvin) for kelvin in (4, 10)),
    *(Condition(name=f"outage_{name}", family="outage", outage=(name,)) for name in ("eo", "sar", "ir")),
    *_of(
        "thin_cloud",
        half={"cloud_cover": 0.5, "cloud_opacity": 0.6},
        all={"cloud_cover": 1.0, "cloud_opacity": 0.6},
    ),
    *_of(
        "thick_cloud",
        quarter={"cloud_cover": 0.25, "cloud_opacity": 1.0},
        most={"cloud_cover": 0.75, "cloud_opacity": 1.0},
        flagged={"cloud_cover": 0.5, "cloud_opacity": 1.0, "cloud_flagged": 1.0},
    ),
    *_of("haze", light={"haze": 0.4}, heavy={"haze": 0.75}),
    *_of(
        "night",
        inverted={"illumination": 0.1, "ir_contrast": -0.6},
        crossover={"illumination": 0.4, "ir_contrast": 0.0},
    ),
    *_of("misregistration", quarter={"shift_cells": 0.25}, half={"shift_cells": 0.5}),
    *_of("interference", weak={"sar_interference": 0.05}, strong={"sar_interference": 0.3}),
    *_of("stripe_loss", half={"stripe_loss": 0.5}),
)
"""Every condition of the studies; ``batch["condition"]`` counts in this order."""

TRAINING_FAMILIES = ("clear", "eo_noise", "sar_looks", "ir_noise", "outage")
"""Families that a method may see in training."""

HELD_OUT_FAMILIES = ("thin_cloud", "thick_cloud", "haze", "night", "misregistration", "interference", "stripe_loss")
"""Families kept for testing: more than half of all (test T8)."""


def named(*families: str) -> tuple[str, ...]:
    """Return the names of all conditions of some families, in table order.

    Raises
    ------
    ValueError
        A family is unknown.
    """
    known = {item.family for item in CONDITIONS}
    if unknown := set(families) - known:
        raise ValueError(f"found families {sorted(unknown)}, wanted some of {sorted(known)}: correct the names")
    return tuple(item.name for item in CONDITIONS if item.family in families)
