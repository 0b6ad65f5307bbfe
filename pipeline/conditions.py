"""Conditions: what is wrong with one sensor, and how much, when a network's robustness is measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from ..datasets.degradation import Degradation, DegradationError
from ..datasets.modality import Modality
from .degradation_options import DegradationOptions

#: Kind -> strengths of the built-in table, from mild to severe, as options; misregistration counts in pixels here.
BUILT_IN: Mapping[str, tuple[Mapping[str, float], ...]] = {
    "noise": ({"sigma": 0.02}, {"sigma": 0.05}, {"sigma": 0.15}),
    "thick_cloud": ({"cover": 0.2}, {"cover": 0.5}, {"cover": 0.8}),
    "speckle": ({"looks": 4.0}, {"looks": 2.0}, {"looks": 1.0}),
    "thermal_noise": ({"netd_k": 0.5}, {"netd_k": 1.5}, {"netd_k": 4.0}),
    "misregistration": ({"metres": 2.0}, {"metres": 5.0}),
    "outage": ({},),
}

#: Kind -> the option that is its strength; None: it has none.
_STRENGTH: Mapping[str, str | None] = {
    "speckle": "looks", "noise": "sigma", "haze": "optical_depth", "thin_cloud": "optical_depth",
    "thick_cloud": "cover", "thermal_noise": "netd_k", "gain_drift": "fraction", "stripe_loss": "share",
    "misregistration": "metres", "outage": None,
}  # fmt: skip

#: Kind -> what the strength axis counts, so that 0 is clear.
AXES: Mapping[str, str] = {
    "speckle": "1 / looks", "noise": "sigma, reflectance", "haze": "optical depth", "thin_cloud": "optical depth",
    "thick_cloud": "cover", "thermal_noise": "NETD, K", "gain_drift": "gain error", "stripe_loss": "share of lines",
    "misregistration": "shift, m", "outage": "outage",
}  # fmt: skip

_OPTIONS: TypeAdapter[Any] = TypeAdapter(DegradationOptions)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One modality degraded in one way by one strength.

    Attributes
    ----------
    name
        ``eo noise sigma=0.05``: unique within a table.
    modality, kind
        Which sensor, and a key of :data:`~equipoise.datasets.degrade.DEGRADATIONS`; together the family.
    strength
        Place on the family's axis (:data:`AXES`); 0 would be clear.
    settings
        Every option of the degradation, as plain values.
    degradation
        The degradation.
    """

    name: str
    modality: str
    kind: str
    strength: float
    settings: Mapping[str, Any]
    degradation: Degradation

    @property
    def family(self) -> str:
        """Modality and kind: what a curve is drawn of."""
        return f"{self.modality} {self.kind}"


def conditions(
    modalities: Sequence[Modality],
    wanted: Mapping[str, Sequence[DegradationOptions]] | None,
    *,
    pixel_m: float | None,
) -> tuple[list[Condition], dict[str, str]]:
    """Return the conditions that can be measured, and those that cannot with the reason.

    Parameters
    ----------
    modalities
        Those of the network.
    wanted
        Modality -> degradations; None: :data:`BUILT_IN`, each kind for the modalities whose units it has a meaning in.
    pixel_m
        Edge of a pixel on the ground, metres; None where some patch has no position: what is given in metres is
        left out then.

    Returns
    -------
    Conditions, family by family from mild to severe, and family -> reason of what was left out.
    """
    table = _built_in(modalities, pixel_m=pixel_m) if wanted is None else wanted
    found: list[Condition] = []
    left_out: dict[str, str] = {}
    for modality, items in table.items():
        for item in items:
            condition = _condition(modality, item, taken={other.name for other in found})
            if condition.degradation.needs_pixel_size and pixel_m is None:
                left_out[condition.family] = "it needs the pixel size in metres, which some test patch does not have"
            elif condition.kind == "outage" and len(modalities) == 1:
                left_out[condition.family] = "an outage never takes the last sensor"
            else:
                found.append(condition)
    families = list(dict.fromkeys(item.family for item in found))
    return sorted(found, key=lambda item: (families.index(item.family), item.strength)), left_out


def _built_in(
    modalities: Sequence[Modality], *, pixel_m: float | None
) -> dict[str, list[DegradationOptions]]:  # fmt: skip
    return {modality.name: list(_fitting(modality, pixel_m=pixel_m)) for modality in modalities}


def _fitting(modality: Modality, *, pixel_m: float | None) -> Iterator[DegradationOptions]:
    for kind, strengths in BUILT_IN.items():
        for strength in strengths:
            given = dict(strength)
            if kind == "misregistration":  # without a pixel size the condition is named, and left out
                given["metres"] *= pixel_m or 1.0
            item = _OPTIONS.validate_python({"kind": kind, **given})
            try:
                item.degradation().refuse_misfit(modality)
            except DegradationError:
                continue
            yield item


def _condition(modality: str, item: DegradationOptions, *, taken: set[str]) -> Condition:
    field = _STRENGTH[item.kind]
    value = 1.0 if field is None else float(getattr(item, field))
    name = f"{modality} {item.kind}" + ("" if field is None else f" {field}={value:g}")
    number = 2
    while name in taken:  # the same strength with other settings
        name = f"{name.split(' #')[0]} #{number}"
        number += 1
    return Condition(
        name=name, modality=modality, kind=item.kind, strength=1 / value if item.kind == "speckle" else value,
        settings=item.model_dump(mode="json"), degradation=item.degradation(),
    )  # fmt: skip
