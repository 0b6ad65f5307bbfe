"""Options of the degradations of training and evaluation: one class a kind, its strengths in physical units."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..datasets.degradation import Degradation, DegradationError
from ..datasets.degrade import DEGRADATIONS
from ..datasets.modality import Modality
from .options import Options, Share


class _OfOneKind(Options):
    """What the kinds have in common. Bounds are those of the degradations themselves."""

    kind: str = Field(description="Which degradation.")
    probability: Share = Field(1.0, description="How often a patch gets it, 0 to 1.")

    def degradation(self) -> Degradation:
        """Return the degradation.

        Raises
        ------
        DegradationError
            If a strength is impossible.
        """
        return DEGRADATIONS[self.kind](**self.model_dump(exclude={"kind"}))

    @model_validator(mode="after")
    def _possible(self) -> "_OfOneKind":
        self.degradation()
        return self


class SpeckleOptions(_OfOneKind):
    """Radar: multiplicative gamma speckle."""

    kind: Literal["speckle"] = Field(description="Which degradation.")
    looks: float = Field(description="Equivalent number of looks of the added speckle.")


class NoiseOptions(_OfOneKind):
    """Optical: additive normal noise."""

    kind: Literal["noise"] = Field(description="Which degradation.")
    sigma: float = Field(description="Standard deviation, reflectance.")


class HazeOptions(_OfOneKind):
    """Optical: a uniform scattering layer."""

    kind: Literal["haze"] = Field(description="Which degradation.")
    optical_depth: float = Field(description="Vertical optical depth at 550 nm.")
    path_reflectance: float = Field(0.3, description="Reflectance of haze so deep that no ground shows.")
    angstrom: float = Field(1.3, description="Exponent of the haze's spectrum: 0 dust, 1.3 continental, 2 smoke.")
    wavelengths_nm: tuple[float, ...] = Field((), description="Centre of each band, nm, in order; empty: grey haze.")


class ThinCloudOptions(_OfOneKind):
    """Optical: cloud that the ground shows through."""

    kind: Literal["thin_cloud"] = Field(description="Which degradation.")
    optical_depth: float = Field(description="Mean optical depth over the clouded pixels.")
    cover: float = Field(description="Share of the patch under cloud.")


class ThickCloudOptions(_OfOneKind):
    """Optical: cloud that hides the ground, and its shadow."""

    kind: Literal["thick_cloud"] = Field(description="Which degradation.")
    cover: float = Field(description="Share of the patch under cloud.")
    optical_depth: float = Field(30.0, description="Mean optical depth over the clouded pixels.")
    shadow_light: float = Field(0.3, description="Share of the light that reaches shaded ground; 1: no shadow.")
    sun_elevation_deg: float = Field(45.0, description="Sun above the horizon, degrees.")
    sun_azimuth_deg: float = Field(135.0, description="Where the sun stands, degrees clockwise from the image's top.")
    cloud_height_m: float = Field(800.0, description="Cloud above the ground, metres.")


class ThermalNoiseOptions(_OfOneKind):
    """Thermal: additive normal noise."""

    kind: Literal["thermal_noise"] = Field(description="Which degradation.")
    netd_k: float = Field(description="Noise-equivalent temperature difference, kelvin.")


class GainDriftOptions(_OfOneKind):
    """Any sensor: a gain that wanders along the image."""

    kind: Literal["gain_drift"] = Field(description="Which degradation.")
    fraction: float = Field(description="Largest departure of the gain from 1.")
    along: Literal["rows", "columns"] = Field("rows", description="rows: each row has one gain; columns: each column.")


class StripeLossOptions(_OfOneKind):
    """Any sensor: lines that never arrived."""

    kind: Literal["stripe_loss"] = Field(description="Which degradation.")
    share: float = Field(description="Share of the lines that is lost.")
    along: Literal["rows", "columns"] = Field("rows", description="Lines that are lost.")


class MisregistrationOptions(_OfOneKind):
    """Any sensor: the image lies off its place."""

    kind: Literal["misregistration"] = Field(description="Which degradation.")
    metres: float = Field(description="Distance, metres on the ground.")
    direction_deg: float | None = Field(
        None, description="Where the content moves to, degrees clockwise from the image's top; null: drawn."
    )


class OutageOptions(_OfOneKind):
    """Any sensor: nothing was delivered. It never takes a patch's last sensor."""

    kind: Literal["outage"] = Field(description="Which degradation.")


DegradationOptions = Annotated[
    SpeckleOptions
    | NoiseOptions
    | HazeOptions
    | ThinCloudOptions
    | ThickCloudOptions
    | ThermalNoiseOptions
    | GainDriftOptions
    | StripeLossOptions
    | MisregistrationOptions
    | OutageOptions,
    Field(discriminator="kind"),
]
"""One degradation of one modality; ``kind`` says which."""


def degradations(
    options: Mapping[str, Sequence[DegradationOptions]], *, modalities: tuple[Modality, ...], stage: str = "train"
) -> dict[str, tuple[Degradation, ...]]:
    """Return the degradations of each modality.

    Parameters
    ----------
    options
        Modality name -> degradations, in the order in which they are applied.
    modalities
        Those declared.
    stage
        Whose option it is: messages name it.

    Raises
    ------
    DegradationError
        If a modality is not declared, or a degradation has no meaning in its units.
    """
    declared = {modality.name: modality for modality in modalities}
    if unknown := sorted(set(options) - set(declared)):
        raise DegradationError(
            f"{stage}.degradations: found modality {unknown}; wanted only those declared: {sorted(declared)}; correct "
            "the name"
        )
    found = {name: tuple(item.degradation() for item in items) for name, items in options.items()}
    for name, items in found.items():
        for item in items:
            item.refuse_misfit(declared[name])
    return found
