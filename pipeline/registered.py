"""What a registration gives: a correction for each place with its uncertainty and evidence, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.displacement import Displacement
from ..datasets.registration_layer import RegistrationLayer
from .acceptance import ACCEPTED, Verdict, judged
from .displacement_fit import DisplacementFit
from .errors import AlignmentError
from .registration import Level, View, displacement_of, lattice_over, register

#: Nodes along the longer edge at which uncertainty is computed; between them it is interpolated.
DOUBT_NODES = 24

#: Radius, in deviations, of the circle that holds 90 % of a round Gaussian.
CIRCLE90 = 2.146

#: Factor on the fit's own deviation. Blocks overlap by half, so their errors are not independent, but the background
#: of a surface holds more than noise; together the deviations are a little too wide (`benchmarks/coregister.py`).
DEVIATION_SCALE = 1.0

#: Deviation, px, that no number of blocks averages away: interpolation pulls all of them the same way.
LEAST_DEVIATION = 0.03


class NotRegistrable(AlignmentError):  # noqa: N818, the name is a statement that users catch
    """Two images cannot be registered: what they have in common is no more than chance gives."""

    def __init__(self, reason: str, verdict: Verdict | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.verdict = verdict


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """What single blocks say, in units of the grid's CRS along x and y.

    Attributes
    ----------
    x, y
        float64 (block,): middle of each block.
    before, after
        float64 (block, 2): east and north of the correction that each asks for alone, given the file's own position;
        and what of it the fitted displacement leaves.
    radius90
        float64 (block,): radius of the circle that holds the truth with 90 %.
    weight
        float64 (block,): trust in each, near 0 for those that contradict the others.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    radius90: NDArray[np.float64]
    weight: NDArray[np.float64]

    def rmse(self, residual: NDArray[np.float64]) -> float:
        """Root mean square length of residuals (block, 2), each by the trust in it."""
        return float(np.sqrt((self.weight * (residual**2).sum(axis=1)).sum() / self.weight.sum()))


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A registration that is no chance.

    Attributes
    ----------
    kind
        ``shift``, ``affine`` or ``field``: the model that the evidence chose.
    displacement
        Correction to the moving image's own position.
    layer
        Confidence (probability to be right within a pixel of the coarser image), 90 % circle and correction, by place.
    verdict
        Evidence.
    blocks
        What single blocks say.
    """

    kind: str
    displacement: Displacement
    layer: RegistrationLayer
    verdict: Verdict
    blocks: Blocks


def registered(
    reference: View, moving: View, grid: GeoBox, *, radius_m: float, pixel_m: float | None = None
) -> Registered:
    """Register a moving image onto a reference.

    Parameters
    ----------
    reference, moving
        The images on any part of ``grid``; the second argument of a view is a displacement to be undone.
    grid
        Matching grid, metric.
    radius_m
        Largest shift that is looked for, m.
    pixel_m
        Pixel of the coarser image, m, within which a position counts as right; None: that of the grid.

    Raises
    ------
    NotRegistrable
        If the images have too little structure in common to exclude chance.
    """
    levels = register(reference, moving, grid, radius_m=radius_m)
    if not levels:
        raise NotRegistrable(
            "found too little common area with edges; wanted at least four blocks that both images cover; widen the "
            "area, or check nodata and clouds", None,
        )  # fmt: skip
    pixel = abs(grid.resolution.x)
    verdict = judged(levels, radius_px=radius_m / pixel)
    fit = levels[-1].fit
    distance = float(np.median(np.hypot(*fit.at(fit.places).T))) * pixel
    if not verdict.accepted:
        raise NotRegistrable(
            f"found an agreement that chance gives in one of {10**-verdict.log10_false_alarms:.0f} pairs of different "
            f"places; wanted fewer than one of {10**-ACCEPTED:.0f}; check that both show one place, or widen the area",
            verdict,
        )
    if distance > radius_m:
        raise NotRegistrable(
            f"found the best agreement {distance:.0f} m away; wanted it within {radius_m:.0f} m; raise max_shift_m if "
            "the position may be that wrong", verdict,
        )  # fmt: skip
    displacement = displacement_of(fit, grid)
    return Registered(
        kind=fit.prior.kind, displacement=displacement, verdict=verdict, blocks=_blocks(levels, grid),
        layer=_layer(fit, displacement, grid, pixel_m or pixel),
    )  # fmt: skip


def deviation_at(fit: DisplacementFit, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the deviation along an axis, px, of a fitted displacement at places (n, 2): (n,)."""
    covariance = fit.covariance_at(places)
    return DEVIATION_SCALE * np.sqrt(np.trace(covariance, axis1=1, axis2=2) / 2 + LEAST_DEVIATION**2)


def _layer(fit: DisplacementFit, displacement: Displacement, grid: GeoBox, pixel_m: float) -> RegistrationLayer:
    coarse, places = lattice_over(grid, DOUBT_NODES)
    metres = deviation_at(fit, places).reshape(tuple(coarse.shape)) * abs(grid.resolution.x)
    doubt = interpolated(coarse, metres.astype(np.float32), displacement.lattice)
    return RegistrationLayer(
        grid=displacement.lattice, confidence=within_a_pixel(doubt / np.float32(pixel_m)),
        radius90=(CIRCLE90 * doubt).astype(np.float32),
        east=displacement.east, north=displacement.north,
    )  # fmt: skip


def interpolated(lattice: GeoBox, values: NDArray[np.float32], target: GeoBox) -> NDArray[np.float32]:
    """Return values at a lattice's nodes, float32 (y, x), at the pixel centres of a grid of the same CRS."""
    return Displacement(lattice=lattice, east=values, north=values).at(target)[0]


def within_a_pixel(deviation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability that an error with this deviation along each axis, px, is shorter than a pixel."""
    return (1 - np.exp(-0.5 / np.maximum(deviation, np.float32(1e-3)) ** 2)).astype(np.float32)


def _blocks(levels: Sequence[Level], grid: GeoBox) -> Blocks:
    last = levels[-1]
    a, b, left, d, e, top = tuple(grid.affine)[:6]
    row, col = (last.fit.places + 0.5).T

    def on_ground(moved: NDArray[np.float64]) -> NDArray[np.float64]:
        """Correction in units of the CRS that undoes a displacement in rows and columns."""
        return -np.stack([a * moved[:, 1] + b * moved[:, 0], d * moved[:, 1] + e * moved[:, 0]], axis=1)

    return Blocks(
        x=a * col + b * row + left, y=d * col + e * row + top, before=on_ground(last.peaks.shift),
        after=on_ground(last.peaks.shift - last.fit.at(last.fit.places)), weight=last.weight,
        radius90=CIRCLE90 * deviation_at(last.fit, last.fit.places) * abs(grid.resolution.x),
    )  # fmt: skip
