"""Registration: the displacement between two images with its uncertainty, from coarse to fine."""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.displacement import Displacement
from .block_layout import Layout, layouts
from .displacement_fit import DisplacementFit, Prior, conditioned, trust
from .matching import ScoreSurfaces, score_surfaces
from .prefetch import prefetch
from .structure import Structure, structure
from .surface_peaks import Peaks, SurfacePeaks

#: Bands of the image on a grid, float32 (band, y, x) in network units, NaN where not valid; the second argument is a
#: displacement to be undone on the way, or None.
View = Callable[[GeoBox, Displacement | None], NDArray[np.float32]]

#: Nodes along the longer edge of a displacement's lattice.
NODES = 64

#: Correlation lengths of smooth fields, in parts of the image's longer edge, and their deviations, px.
LENGTHS, AMPLITUDES = (0.3, 0.6, 1.2), (0.3, 1.0, 3.0, 8.0)

#: Rounds of finding peaks and fitting at each level.
ROUNDS = 6

#: Blocks at most whose evidence decides between models: the cost is the cube of their number.
JUDGES = 225

#: Deviation of what is expected of a peak before the first fit of a level, px of the level.
FIRST_DOUBT = 4.0

#: Pixels beyond a window whose structure is needed to know that inside it.
RIM = 6

#: Groups of blocks that are read and matched at once.
THREADS = max(1, min(4, os.cpu_count() or 1))

#: Windows of the reference whose structure is kept: those of a small scene; of large ones it would be too much.
KEPT = 8

#: Least number of blocks from which a displacement is fitted.
LEAST_BLOCKS = 4


@dataclass(frozen=True, kw_only=True)
class Level:
    """What was found at one level of detail, in pixels of the matching grid.

    Attributes
    ----------
    layout
        Blocks, zoom and search radius.
    fit
        Displacement fitted to the peaks.
    peaks
        Of each block: displacement from the file's own position, its covariance, and lead over the background.
    weight
        Of each peak, as :func:`~equipoise.pipeline.displacement_fit.trust` gives it.
    lead
        float64 (block,): each block's score, over its background, where the other blocks expect its content.
    """

    layout: Layout
    fit: DisplacementFit
    peaks: Peaks
    weight: NDArray[np.float64]
    lead: NDArray[np.float64]


def register(reference: View, moving: View, grid: GeoBox, *, radius_m: float) -> list[Level]:
    """Find where the content of the reference lies in the moving image.

    Parameters
    ----------
    reference, moving
        The two images on any part of the grid.
    grid
        Matching grid, metric.
    radius_m
        Largest shift that is looked for, m.

    Returns
    -------
    The levels that found something, the finest last; none where images have too little structure in common.
    """
    size = max(grid.shape)
    middle = (np.array(grid.shape) - 1) / 2
    affine = Prior(linear=0.02)
    smooth = [replace(affine, amplitude=deviation, length=part * size) for part in LENGTHS for deviation in AMPLITUDES]
    seen = lru_cache(maxsize=KEPT)(lambda window: structure(reference(window, None)))  # two levels share windows
    found: list[Level] = []
    skipped: Layout | None = None
    for planned in layouts(grid, radius_m=radius_m):
        # Where holes leave nothing of a coarse level, the next one has to look as far.
        far = 0 if skipped is None else skipped.radius * skipped.zoom // planned.zoom
        layout = replace(planned, radius=max(planned.radius, far))
        before = found[-1].fit if found else None
        surfaces = _surfaces(seen, moving, grid, layout, before)
        if len(surfaces) < LEAST_BLOCKS:
            if found:
                return []
            skipped = layout
            continue
        skipped = None
        priors = [Prior(linear=0), affine, *(smooth if found else [])]
        found.append(_level(surfaces, layout, before, priors, middle))
    return found


def displacement_of(fit: DisplacementFit, grid: GeoBox) -> Displacement:
    """Return the correction, in units of the grid's CRS, that undoes a displacement measured in its pixels."""
    lattice, places = lattice_over(grid, NODES)
    moved = fit.at(places).reshape(*lattice.shape, 2)
    a, b, _, d, e, _ = tuple(grid.affine)[:6]
    return Displacement(
        lattice=lattice, east=(-(a * moved[..., 1] + b * moved[..., 0])).astype(np.float32),
        north=(-(d * moved[..., 1] + e * moved[..., 0])).astype(np.float32),
    )  # fmt: skip


def lattice_over(grid: GeoBox, nodes: int) -> tuple[GeoBox, NDArray[np.float64]]:
    """Return a lattice whose nodes reach the grid's edges, and their rows and columns on the grid, px (node, 2)."""
    step = max(1.0, max(grid.shape) / (nodes - 1))
    rows, cols = (int(np.ceil(edge / step)) + 1 for edge in grid.shape)
    affine = grid.affine * Affine.translation(-step / 2, -step / 2) * Affine.scale(step)
    places = np.stack(np.meshgrid(np.arange(rows) * step, np.arange(cols) * step, indexing="ij"), axis=-1)
    return GeoBox((rows, cols), affine, grid.crs), places.reshape(-1, 2) - 0.5


def _surfaces(
    seen: Callable[[GeoBox], Structure], moving: View, grid: GeoBox, layout: Layout, before: DisplacementFit | None
) -> ScoreSurfaces:
    """Score all blocks, group by group, the moving image brought to where ``before`` says; centres in grid pixels."""
    displacement = None if before is None else displacement_of(before, grid)
    rim = layout.radius + RIM

    def scored(group: NDArray[np.intp]) -> ScoreSurfaces:
        (top, left), (bottom, right) = group.min(axis=0) - rim, group.max(axis=0) + layout.size + rim
        window = GeoBox(
            (int(bottom - top), int(right - left)),
            grid.affine * Affine.scale(layout.zoom) * Affine.translation(int(left), int(top)), grid.crs,
        )  # fmt: skip
        images = seen(window), structure(moving(window, displacement))
        part = score_surfaces(*images, group - (top, left), size=layout.size, radius=layout.radius)
        return replace(part, centres=(part.centres + (top, left) + 0.5) * layout.zoom - 0.5)

    turn = count()
    with closing(
        prefetch(scored, layout.groups(), lane=lambda _: next(turn), threads=THREADS, most=2 * THREADS)
    ) as parts:
        return ScoreSurfaces.joined(list(parts))


def _level(
    surfaces: ScoreSurfaces,
    layout: Layout,
    before: DisplacementFit | None,
    priors: list[Prior],
    middle: NDArray[np.float64],
) -> Level:
    """Find peaks and fit in turn: what the other blocks say of a place tells which of its peaks is meant."""
    search, places, zoom = SurfacePeaks(surfaces), surfaces.centres, layout.zoom
    blocks = len(surfaces)
    start = np.zeros((blocks, 2)) if before is None else before.at(places)
    expected = np.tile(search.total(), (blocks, 1)) if before is None else np.zeros((blocks, 2))
    variance, weight, best = np.full(blocks, FIRST_DOUBT**2), np.ones(blocks), priors[1]
    few = np.random.default_rng(0).permutation(blocks)[:JUDGES]
    for turn in range(ROUNDS):
        near = search.near(expected, variance)
        moved = near.shift * zoom
        # The window was resampled by `before`: what lies at a place in it came from where `before` says of that place.
        total = moved if before is None else moved + before.at(places + moved)
        peaks = Peaks(shift=total, covariance=near.covariance * zoom**2, lead=near.lead)
        noise = peaks.covariance / weight[:, None, None]
        if turn in (1, ROUNDS // 2, ROUNDS - 1):
            evidence = [
                conditioned(prior, places[few], total[few], noise[few], middle=middle, left_out=False).evidence
                for prior in priors
            ]
            best = priors[int(np.argmax(evidence))]
        fit = conditioned(best, places, total, noise, middle=middle)
        weight = trust(total, fit, peaks.covariance)
        doubt = np.trace(fit.left_out_covariance, axis1=1, axis2=2) / 2 / zoom**2
        variance = np.clip(doubt, 0.25, 25)
        expected = (fit.left_out - start) / zoom
    return Level(layout=layout, fit=fit, peaks=peaks, weight=weight, lead=search.lead_at(expected))
