"""Trust: where a prediction rests on a sensor that was not good there; reliance x input quality, tile by tile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.noise import tile_noise
from ..datasets.normalise import Normaliser
from ..datasets.quality import Quality
from ..datasets.stack import StackWindow
from ..datasets.statistics import BandStatistics

#: Confidence of a position, the probability that it is right within one pixel of the matching grid, from which on it is
#: not doubted.
SURE_REGISTRATION = 0.6

#: A value, or the noise of a tile, is implausible beyond the 1st or 99th percentile by more than this multiple of that
#: percentile's distance from the median: about 4.7 deviations for a normal band, more for one with long tails.
MARGIN = 1.0

#: The same for statistics without percentiles, in deviations from the mean.
DEVIATIONS = 6.0


class Flag(IntEnum):
    """What the trust map says of a tile."""

    SOUND = 1
    INDETERMINATE = 2
    CLOUDED = 3
    MISSING = 4
    MISPLACED = 5
    OUT_OF_RANGE = 6
    UNOBSERVED = 255


#: What may be wrong with a sensor in a tile, in the order of the first axis of defects.
DEFECTS = (Flag.CLOUDED, Flag.MISSING, Flag.MISPLACED, Flag.OUT_OF_RANGE)

#: Category names of the map.
FLAG_NAMES: Mapping[int, str] = {
    Flag.SOUND: "sound",
    Flag.INDETERMINATE: "indeterminate",
    Flag.CLOUDED: "rests on clouded data",
    Flag.MISSING: "rests on a sensor that is partly missing",
    Flag.MISPLACED: "rests on a sensor whose position is doubtful",
    Flag.OUT_OF_RANGE: "rests on a noisy or saturated sensor",
}

#: Colours of the map, told apart by people with any colour vision (Okabe and Ito 2008).
FLAG_COLOURS: Mapping[int, tuple[int, int, int]] = {
    Flag.SOUND: (0, 158, 115),
    Flag.INDETERMINATE: (153, 153, 153),
    Flag.CLOUDED: (86, 180, 233),
    Flag.MISSING: (0, 0, 0),
    Flag.MISPLACED: (240, 228, 66),
    Flag.OUT_OF_RANGE: (213, 94, 0),
}


@dataclass(frozen=True, kw_only=True)
class TileCounts:
    """Pixels of square tiles by what is wrong with them; a pixel of a sensor has one defect at most.

    Attributes
    ----------
    observed
        int32 (tile rows, tile columns): pixels that are mapped and that a sensor saw.
    clouded, missing, out_of_range
        int32 (modality, tile rows, tile columns): of these, those that the sensor's product calls cloud or shadow,
        whether they were masked or kept; those without a value for another reason; those with an implausible value, or
        in a tile that is noisier than training makes plausible.
    """

    observed: NDArray[np.int32]
    clouded: NDArray[np.int32]
    missing: NDArray[np.int32]
    out_of_range: NDArray[np.int32]


def count_tiles(
    window: StackWindow, mapped: NDArray[np.bool_], normaliser: Normaliser, *, scene: str, tile: int
) -> TileCounts:
    """Count the pixels of a window by tile and defect.

    Parameters
    ----------
    window
        Its height and width are multiples of ``tile``.
    mapped
        bool (y, x), True where there is a prediction: other pixels do not count.
    normaliser
        Knows the bands, and the statistics that values are compared with.
    scene
        Name, for scenes that are normalised one by one.
    tile
        Edge of a tile, px.
    """
    observed = mapped & np.any(list(window.valid.values()), axis=0)
    clouded, missing, strange = [], [], []
    for modality in normaliser.modalities:
        valid = window.valid[modality.name]
        quality = window.quality.get(modality.name)
        cloud = np.isin(quality, (Quality.CLOUD, Quality.SHADOW)) if quality is not None else np.zeros_like(valid)
        clouded.append(observed & cloud)
        missing.append(observed & ~valid & ~cloud)
        working = window.image.get(modality.name)
        if working is None:
            strange.append(np.zeros_like(valid))
            continue
        low, high = value_range(normaliser.of_scene(scene, modality.name))
        values = modality.to_network(working)
        beyond = ((values < low[:, None, None]) | (values > high[:, None, None])).any(axis=0)
        beyond |= _noisy(values, valid & ~cloud, normaliser.of_scene(scene, modality.name), tile=tile)
        strange.append(observed & valid & ~cloud & beyond)
    return TileCounts(
        observed=_sum_tiles(observed, tile), clouded=_sum_tiles(np.stack(clouded), tile),
        missing=_sum_tiles(np.stack(missing), tile), out_of_range=_sum_tiles(np.stack(strange), tile),
    )  # fmt: skip


def _noisy(
    values: NDArray[np.float32], good: NDArray[np.bool_], statistics: BandStatistics, *, tile: int
) -> NDArray[np.bool_]:
    """Return the pixels (y, x) of tiles that are noisier in a band than training makes plausible."""
    if statistics.noise is None:
        return np.zeros(good.shape, dtype=bool)
    _, middle, high = np.asarray(statistics.noise).T
    # Every value of a band is rounded somewhere: a band without noise in training must not be noisy by that.
    most = high + MARGIN * (high - middle) + np.asarray(statistics.resolution or 0.0)
    noisy = (tile_noise(values, good, tile=tile) > most[:, None, None]).any(axis=0)
    return np.kron(noisy, np.ones((tile, tile), dtype=bool))


def value_range(statistics: BandStatistics) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and highest value of each band that training makes plausible, float32 (band,) each."""
    if statistics.percentiles is None or statistics.resolution is None:
        mean, reach = np.asarray(statistics.mean), DEVIATIONS * np.asarray(statistics.std)
        return (mean - reach).astype(np.float32), (mean + reach).astype(np.float32)
    low, middle, high = np.asarray(statistics.percentiles).T
    width = np.asarray(statistics.resolution)
    lowest, highest = low - MARGIN * (middle - low) - width, high + MARGIN * (high - middle) + width
    return lowest.astype(np.float32), highest.astype(np.float32)


def defects(counts: TileCounts, *, confidence: Sequence[NDArray[np.float32] | float | None]) -> NDArray[np.float32]:
    """Return how bad each sensor is in each tile, by defect.

    Parameters
    ----------
    counts
        Of the tiles.
    confidence
        Of each sensor's position, 0 to 1: a number for all tiles, or one for each, (tile rows, tile columns); None =
        not known, which counts as sure.

    Returns
    -------
    float32 (defect, modality, tile rows, tile columns), 0 (good) to 1, in the order of :data:`DEFECTS`. Those of
    pixels are shares of the observed pixels and sum to 1 at most; that of the position is 1 at confidence 0 and 0 from
    :data:`SURE_REGISTRATION` on.
    """
    pixels = np.maximum(counts.observed, 1)
    sure = [np.broadcast_to(1.0 if known is None else known, counts.observed.shape) for known in confidence]
    misplaced = 1 - np.minimum(np.stack(sure, dtype=np.float64) / SURE_REGISTRATION, 1)
    found = [counts.clouded / pixels, counts.missing / pixels, misplaced, counts.out_of_range / pixels]
    return np.stack(found).astype(np.float32)


def quality(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the quality of each sensor in each tile: share of good pixels x trust in its position.

    Parameters
    ----------
    found
        As :func:`defects` gives it.

    Returns
    -------
    float32 (modality, tile rows, tile columns), 0 to 1.
    """
    placed = DEFECTS.index(Flag.MISPLACED)
    pixels = 1 - (found.sum(axis=0) - found[placed])
    return np.clip(pixels * (1 - found[placed]), 0, 1).astype(np.float32)


def judge(
    shares: NDArray[np.float32], found: NDArray[np.float32], observed: NDArray[np.int32], *, doubt: float
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Flag tiles whose prediction rests on input that was not good.

    A tile is flagged where the sum over sensors of share x (1 - quality) reaches ``doubt``. The flag is the defect
    with the largest sum of share x defect; the sensor that has most of it is named.

    Parameters
    ----------
    shares
        Reliance float32 (modality, tile rows, tile columns), NaN = indeterminate.
    found
        As :func:`defects` gives it.
    observed
        Pixels that any sensor saw, (tile rows, tile columns).
    doubt
        Share of the prediction, 0 to 1.

    Returns
    -------
    :class:`Flag` codes uint8, and the position of the sensor that they blame, -1 for none; (tile rows, tile columns).
    """
    known = np.isfinite(shares).all(axis=0)
    relied = np.where(known, shares, 0)
    blame = relied * found
    by_defect = blame.sum(axis=1)
    doubted = known & ((relied * (1 - quality(found))).sum(axis=0) >= doubt) & (by_defect.max(axis=0) > 0)
    worst = by_defect.argmax(axis=0)
    flags = np.where(doubted, np.array(DEFECTS)[worst], Flag.SOUND)
    flags = np.where(known, flags, Flag.INDETERMINATE)
    flags = np.where(observed > 0, flags, Flag.UNOBSERVED).astype(np.uint8)
    sensor = np.take_along_axis(blame, worst[None, None], axis=0)[0].argmax(axis=0)
    return flags, np.where(doubted & (observed > 0), sensor, -1)


def trust_words(summary: Mapping[str, Any]) -> list[str]:
    """Say in sentences what a trust map holds.

    Parameters
    ----------
    summary
        ``shares``: flag name -> share of the mapped area; ``sensors``: flag name -> sensor -> the same;
        ``unknown``: what could not be judged, in words.
    """
    if not summary["shares"]:
        return ["Nothing was mapped, so that there is nothing to trust."]
    lines = [f"{percent(summary['shares'][FLAG_NAMES[Flag.SOUND]])} of the mapped area rests on good data."]
    for flag in DEFECTS:
        share, sensors = summary["shares"][FLAG_NAMES[flag]], summary["sensors"].get(FLAG_NAMES[flag], {})
        if share > 0:
            ordered = sorted(sensors.items(), key=lambda item: -item[1])
            names = ", ".join(name if len(ordered) == 1 else f"{name} {percent(part)}" for name, part in ordered)
            part = percent(share)
            lines.append(f"{part[0].upper()}{part[1:]} {FLAG_NAMES[flag]} ({names}).")
    if (share := summary["shares"][FLAG_NAMES[Flag.INDETERMINATE]]) > 0:
        lines.append(f"For {percent(share)} it cannot be told which sensor the prediction rests on.")
    return lines + [f"Not judged: {', '.join(summary['unknown'])}."] * bool(summary["unknown"])


def percent(share: float) -> str:
    """Write a share in percent, so that little is not taken for nothing."""
    return "less than 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _sum_tiles(mask: NDArray[np.bool_], tile: int) -> NDArray[np.int32]:
    rows, cols = mask.shape[-2] // tile, mask.shape[-1] // tile
    blocks = mask.reshape(*mask.shape[:-2], rows, tile, cols, tile)
    return np.asarray(blocks.sum(axis=(-3, -1), dtype=np.int32))
