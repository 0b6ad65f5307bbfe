"""The degradations by the names that configurations use."""

from collections.abc import Mapping

from .degradation import Degradation
from .degrade_sensor import GainDrift, Misregistration, Noise, Outage, Speckle, StripeLoss, ThermalNoise
from .degrade_sky import Haze, ThickCloud, ThinCloud

DEGRADATIONS: Mapping[str, type[Degradation]] = {
    "speckle": Speckle,
    "noise": Noise,
    "haze": Haze,
    "thin_cloud": ThinCloud,
    "thick_cloud": ThickCloud,
    "thermal_noise": ThermalNoise,
    "gain_drift": GainDrift,
    "stripe_loss": StripeLoss,
    "misregistration": Misregistration,
    "outage": Outage,
}
"""Name in a configuration -> class; written by hand."""
