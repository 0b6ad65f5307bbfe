"""Conditions under which the chips are seen: families that training may show, and families kept for testing."""

from dataclasses import dataclass

import numpy as np

from equipoise.datasets.degradation import Degradation
from equipoise.datasets.degrade_sensor import GainDrift, Misregistration, Noise, Speckle, StripeLoss
from equipoise.datasets.degrade_sky import Haze, ThickCloud, ThinCloud

from .chips import PIXEL_M, Image, decibels, power


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One way in which the sensors see worse.

    Optical display values (0 to 1) stand for reflectance; radar is degraded as linear power.

    Attributes
    ----------
    name, family
        What it is called, and the kind of degradation that it is a strength of.
    eo, sar
        What the sensor meets.
    eo_bands
        How many of the optical bands meet it, None for all: weather spoils the image after the flood, which comes
        first; the one before the flood was chosen from many.
    outage
        The modality that delivered nothing.
    """

    name: str
    family: str
    eo: Degradation | None = None
    sar: Degradation | None = None
    eo_bands: int | None = None
    outage: str | None = None

    def seen(self, eo: Image, sar: Image, *, rng: np.random.Generator) -> dict[str, Image]:
        """Return what the sensors deliver of (band, y, x) images; NaN where nothing was measured."""
        if self.eo is not None:
            eo = eo.copy()
            eo[: self.eo_bands] = self.eo(eo[: self.eo_bands], pixel_m=PIXEL_M, rng=rng)
        if self.sar is not None:
            sar = decibels(self.sar(power(sar), pixel_m=PIXEL_M, rng=rng))
        return {"eo": eo, "sar": sar}


def _noise(variance: float) -> Condition:
    return Condition(name=f"eo_noise_{variance:g}", family="eo_noise", eo=Noise(sigma=variance**0.5))


_AFTER = 3
CLEAR = Condition(name="clear", family="clear")
CONDITIONS: tuple[Condition, ...] = (
    CLEAR,
    *(_noise(variance) for variance in (0.003, 0.01, 0.03, 0.06, 0.12)),
    Condition(name="speckle_1", family="speckle", sar=Speckle(looks=1)),
    Condition(name="outage_eo", family="outage", outage="eo"),
    Condition(name="outage_sar", family="outage", outage="sar"),
    Condition(name="thin_cloud", family="cloud", eo=ThinCloud(optical_depth=4, cover=0.8), eo_bands=_AFTER),
    Condition(name="thick_cloud_30", family="cloud", eo=ThickCloud(cover=0.3), eo_bands=_AFTER),
    Condition(name="thick_cloud_70", family="cloud", eo=ThickCloud(cover=0.7), eo_bands=_AFTER),
    Condition(name="haze_0.4", family="haze", eo=Haze(optical_depth=0.4), eo_bands=_AFTER),
    Condition(name="haze_0.8", family="haze", eo=Haze(optical_depth=0.8), eo_bands=_AFTER),
    Condition(name="shift_40m", family="misregistration", eo=Misregistration(metres=40)),
    Condition(name="shift_80m", family="misregistration", eo=Misregistration(metres=80)),
    Condition(name="sar_stripes", family="sar_stripes", sar=StripeLoss(share=0.5)),
    Condition(name="sar_drift", family="sar_drift", sar=GainDrift(fraction=0.9)),
)
"""Every condition that is measured."""

#: Conditions that a method may show in training: each patch is clear or meets one of the others, as often as not.
TRAINING = tuple(
    item for item in CONDITIONS
    if item.family in ("clear", "speckle", "outage") or item.name in ("eo_noise_0.01", "eo_noise_0.03", "eo_noise_0.12")
)  # fmt: skip
NOISE = tuple(item.name for item in CONDITIONS if item.family in ("clear", "eo_noise"))
HELD_OUT: dict[str, tuple[str, ...]] = {
    family: tuple(item.name for item in CONDITIONS if item.family == family)
    for family in ("cloud", "haze", "misregistration", "sar_stripes", "sar_drift")
}
"""Family that no training shows -> names of its conditions."""
