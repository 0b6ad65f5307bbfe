"""Placement: the correction of every scene of a place, each through the neighbour that knows it best."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from odc.geo.geobox import GeoBox

from ..datasets.displacement import Displacement
from ..datasets.modality import Unit
from ..datasets.registration_layer import RegistrationLayer
from ..datasets.scene import Scene
from ..datasets.source_positions import pixel_ratio
from .matching_view import matching_grid, view_of
from .registered import CIRCLE90, Blocks, NotRegistrable, Registered, interpolated, registered, within_a_pixel
from .stage_options import CoregisterOptions

log = logging.getLogger(__name__)

#: Note of a scene whose position was taken as it is.
NOT_MEASURED = "position as given, not measured"

#: Neighbours that are tried at most for one scene, beside the reference.
MOST_NEIGHBOURS = 2


@dataclass(frozen=True, kw_only=True)
class Registration:
    """How one scene was brought onto the reference, as numbers.

    Attributes
    ----------
    kind
        ``reference``, ``shift``, ``affine``, ``field``, ``refused``, ``not measured``, or ``uniform``: values that hold
        for the whole scene have no position.
    applied
        False where nothing was measured that could be applied, and the file's own position was kept.
    note
        What happened, in words.
    through
        The scene onto which it was matched; None where it was not.
    east, north
        Mean correction that was added to the file's position, in units of the grid's CRS (m).
    largest
        Length of the largest correction, m.
    confidence
        Median over the area of the probability to be right within a pixel of the coarser image, 0 to 1.
    radius90
        Median radius of the circle that holds the true position with 90 %, m.
    rmse_before, rmse_after
        Root mean square of what single blocks still ask for, m.
    blocks
        Number of blocks.
    log10_false_alarms
        Logarithm of the number of pairs of different places, in one, that chance would make look as much alike.
    """

    kind: str
    applied: bool
    note: str
    through: str | None = None
    east: float = 0.0
    north: float = 0.0
    largest: float = 0.0
    confidence: float = 0.0
    radius90: float | None = None
    rmse_before: float | None = None
    rmse_after: float | None = None
    blocks: int = 0
    log10_false_alarms: float | None = None

    @property
    def measured(self) -> bool:
        """Whether the confidence says anything."""
        return self.kind != "not measured"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A scene's registration, and what it is applied with.

    Attributes
    ----------
    registration
        Numbers.
    displacement
        Correction, or None where the position is kept.
    layer
        Confidence by place; None for the reference and where nothing was measured.
    blocks
        What single blocks say; None likewise.
    """

    registration: Registration
    displacement: Displacement | None = None
    layer: RegistrationLayer | None = None
    blocks: Blocks | None = None


_UNIFORM = Placement(
    registration=Registration(
        kind="uniform", applied=True, note="the same everywhere: nothing to register", confidence=1.0, radius90=0.0
    )
)


def place(
    scenes: Mapping[str, Scene], anchor: str, grid: GeoBox, *, options: CoregisterOptions
) -> Iterator[tuple[str, Placement]]:
    """Place scenes on a grid, one after the other.

    A scene is matched with the anchor, and where that is refused or leaves doubt, with scenes that are placed already,
    those of its own kind first: of the ways that succeed, that with the smallest circle at the end of the chain is
    taken.

    Parameters
    ----------
    scenes
        By name.
    anchor
        Scene whose position is right by definition.
    grid
        Grid of the stack, in a metric CRS or without one.
    options
        Method, limits, and what to do on failure.

    Yields
    ------
    Name and placement, in the order of ``scenes``, the anchor first.

    Raises
    ------
    NotRegistrable
        If a scene cannot be registered and ``options.on_failure`` is ``refuse``.
    """
    reference = Registration(kind="reference", applied=True, note="reference", confidence=1.0, radius90=0.0)
    placed = {anchor: Placement(registration=reference)}
    yield anchor, placed[anchor]
    for name in scenes:
        if name == anchor:
            continue
        if scenes[name].uniform:
            found = _UNIFORM
        elif grid.crs is None or options.method == "none":
            found = Placement(registration=Registration(kind="not measured", applied=True, note=NOT_MEASURED))
        else:
            found = _best(name, scenes, placed, grid, options)
        placed[name] = found
        yield name, found


def _best(
    name: str, scenes: Mapping[str, Scene], placed: Mapping[str, Placement], grid: GeoBox, options: CoregisterOptions
) -> Placement:
    failures: list[NotRegistrable] = []
    best: Placement | None = None
    for neighbour in _neighbours(name, scenes, placed):
        is_sure = best is not None and best.registration.confidence >= options.min_confidence
        if is_sure and _kind(scenes[neighbour]) != _kind(scenes[name]):
            break  # one of another kind gains nothing on what is sure
        try:
            found = _through(neighbour, name, scenes, placed, grid, options)
        except NotRegistrable as failure:
            failures.append(failure)
            continue
        if best is None or _circle(found) < _circle(best):
            best = found
    if best is not None and best.registration.confidence >= options.min_confidence:
        return best
    if best is None:
        reason, verdict = failures[0].reason, failures[0].verdict
        chance = None if verdict is None else round(verdict.log10_false_alarms, 2)
    else:
        verdict, chance = None, best.registration.log10_false_alarms
        reason = (
            f"found a position that is right within a pixel with {best.registration.confidence:.0%} only; wanted "
            f"{options.min_confidence:.0%}; widen the area, or lower min_confidence"
        )
    if options.on_failure == "refuse":
        raise NotRegistrable(f"{scenes[name].path}: {reason}", verdict)
    return _kept(reason, chance, grid)


def _neighbours(name: str, scenes: Mapping[str, Scene], placed: Mapping[str, Placement]) -> list[str]:
    """Return the anchor, then the surest placed scenes, those of the same kind first."""
    anchor, *others = placed
    usable = [other for other in others if placed[other].layer is not None and placed[other].registration.applied]
    kind = _kind(scenes[name])
    usable.sort(key=lambda other: (_kind(scenes[other]) != kind, _circle(placed[other])))
    return [anchor, *usable[:MOST_NEIGHBOURS]]


def _kind(scene: Scene) -> frozenset[Unit]:
    """Scenes of one kind show the same physics: radar at two dates is matched more closely than radar with optics."""
    return frozenset(band.working_unit for band in scene.modality.bands)


def _circle(placement: Placement) -> float:
    radius = placement.registration.radius90
    return float("inf") if radius is None else radius


def _through(
    neighbour: str,
    name: str,
    scenes: Mapping[str, Scene],
    placed: Mapping[str, Placement],
    grid: GeoBox,
    options: CoregisterOptions,
) -> Placement:
    via, scene = placed[neighbour], scenes[name]
    matching = matching_grid(matching_grid(grid, scenes[neighbour]), scene)
    # The coarser image's own pixel: what matching on a finer grid gains does not make its pixels smaller.
    pixel = abs(grid.resolution.x) * max(
        1.0, *(1 / pixel_ratio(item.geobox, grid) for item in (scenes[neighbour], scene))
    )
    found = registered(
        view_of(scenes[neighbour], via.displacement), view_of(scene), matching, radius_m=options.max_shift_m,
        pixel_m=pixel,
    )  # fmt: skip
    layer = found.layer if via.layer is None else _chained(found.layer, via.layer, pixel=pixel)
    return Placement(
        registration=_numbers(found, layer, neighbour), displacement=found.displacement, layer=layer,
        blocks=found.blocks,
    )  # fmt: skip


def _chained(last: RegistrationLayer, before: RegistrationLayer, *, pixel: float) -> RegistrationLayer:
    """Add the doubt about the neighbour's position to that about the position beside it."""
    radius = np.hypot(last.radius90, interpolated(before.grid, before.radius90, last.grid)).astype(np.float32)
    return replace(last, radius90=radius, confidence=within_a_pixel(radius / np.float32(CIRCLE90 * pixel)))


def _numbers(found: Registered, layer: RegistrationLayer, through: str) -> Registration:
    east, north = float(found.displacement.east.mean()), float(found.displacement.north.mean())
    blocks, radius = found.blocks, float(np.median(layer.radius90))
    shape = {"shift": "", "affine": ", turned and scaled", "field": ", bent"}[found.kind]
    return Registration(
        kind=found.kind, applied=True, through=through, east=round(east, 4), north=round(north, 4),
        largest=round(found.displacement.largest, 4), confidence=round(float(np.median(layer.confidence)), 4),
        radius90=round(radius, 4), rmse_before=round(blocks.rmse(blocks.before), 4),
        rmse_after=round(blocks.rmse(blocks.after), 4), blocks=len(blocks.x),
        log10_false_alarms=round(found.verdict.log10_false_alarms, 2),
        note=f"moved {np.hypot(east, north):.1f} m{shape}; true within {radius:.1f} m (90 %)",
    )  # fmt: skip


def _kept(reason: str, log10_false_alarms: float | None, grid: GeoBox) -> Placement:
    none = Displacement.constant(grid, east=0.0, north=0.0)
    nothing = np.zeros(tuple(none.lattice.shape), np.float32)
    layer = RegistrationLayer(
        grid=none.lattice, confidence=nothing, radius90=np.full_like(nothing, np.nan), east=none.east, north=none.north
    )  # fmt: skip
    numbers = Registration(
        kind="refused", applied=False, note=f"position as given: {reason}",
        log10_false_alarms=log10_false_alarms,
    )  # fmt: skip
    return Placement(registration=numbers, layer=layer)
