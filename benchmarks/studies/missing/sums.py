"""Sums: scores of subsets, their monotonicity, and intervals of differences between two recipes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Found = Mapping[str, Any]

#: A subset may score so much less than a part of it before that counts as a violation.
SLACK = 0.005


def mean_iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean IoU over the classes that occur, of counts (..., 3, class)."""
    hits, truth, answers = (counts[..., kind, :].astype(np.float64) for kind in range(3))
    union = truth + answers - hits
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)
    occurs = truth > 0
    return (iou * occurs).sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1)


def scores(by_subset: Sequence[float]) -> dict[str, float]:
    """Return mean, worst and full score and the monotonicity of scores, one a subset in binary order without 0.

    Monotonicity is the share of pairs (a subset, the same and one modality more) in which the larger does not score
    more than :data:`SLACK` less.
    """
    drops = [
        by_subset[code - 1] - by_subset[(code | bit) - 1]
        for code in range(1, len(by_subset) + 1) for bit in _bits(len(by_subset)) if not code & bit
    ]  # fmt: skip
    return {
        "mean": float(np.mean(by_subset)), "worst": float(min(by_subset)), "full": float(by_subset[-1]),
        "monotone": float(np.mean([drop <= SLACK for drop in drops])), "largest_drop": float(max(drops)),
    }  # fmt: skip


def _bits(subsets: int) -> list[int]:
    return [1 << place for place in range((subsets + 1).bit_length() - 1)]


def gains(ours: NDArray[Any], theirs: NDArray[Any], *, replicates: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Compare two recipes by worst and by full score, in points, with 95 % intervals.

    Paired bootstrap: seeds and units are drawn with replacement, the same for both; counts of a draw are added up
    before scores are taken.

    Parameters
    ----------
    ours, theirs
        Counts (seed, unit, subset, 3, class).
    """
    rng = np.random.default_rng(seed)
    seeds, units = ours.shape[:2]
    drawn = []
    for _ in range(replicates):
        unit = rng.integers(units, size=units)
        weight = np.bincount(unit, minlength=units)
        chosen = rng.integers(seeds, size=seeds)
        drawn.append([_worst_and_full(item, chosen, weight) for item in (ours, theirs)])
    every, whole = np.arange(seeds), np.ones(units, np.int64)
    found = _worst_and_full(ours, every, whole) - _worst_and_full(theirs, every, whole)
    spread = np.array([a - b for a, b in drawn])
    low, high = np.percentile(spread, [2.5, 97.5], axis=0)
    return {
        name: {"points": 100 * float(found[k]), "interval": [100 * float(low[k]), 100 * float(high[k])]}
        for k, name in enumerate(("worst", "full"))
    }


def _worst_and_full(counts: NDArray[Any], seeds: NDArray[np.int64], weight: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean over some seeds of the worst and of the full score, units counted by weight."""
    values = mean_iou(np.tensordot(weight, counts[seeds], axes=(0, 1)))
    return np.array([values.min(axis=1).mean(), values[:, -1].mean()])


def summed(runs: Sequence[Found]) -> dict[str, Any]:
    """Sum up the runs of one recipe in one place over their seeds."""
    clear = [scores(run["test"]) for run in runs]
    chosen = [scores(run["validation"]) for run in runs]
    return {
        **{name: float(np.mean([item[name] for item in clear])) for name in clear[0]},
        "by_subset": np.mean([run["test"] for run in runs], axis=0).tolist(),
        "held_out_full": float(np.mean([[by[-1] for by in run["held_out"].values()] for run in runs])),
        "held_out_worst": float(np.mean([[min(by) for by in run["held_out"].values()] for run in runs])),
        "validation": {name: float(np.mean([item[name] for item in chosen])) for name in ("mean", "worst", "full")},
        "seeds": len(runs),
    }  # fmt: skip


def best(table: Mapping[str, Mapping[str, Found]], *, most_lost: float = 0.01) -> str:
    """Name the recipe that validation prefers: the best worst subset over all places, at little loss of the full set.

    Parameters
    ----------
    table
        Place -> recipe -> what :func:`summed` gave.
    most_lost
        Most that the full set may lose against plain training in any place.
    """
    candidates = {}
    for recipe in next(iter(table.values())):
        pairs = [(found[recipe]["validation"], found["plain"]["validation"]) for found in table.values()]
        if all(ours["full"] >= plain["full"] - most_lost for ours, plain in pairs):
            candidates[recipe] = float(np.mean([ours["worst"] - plain["worst"] for ours, plain in pairs]))
    return max(candidates, key=lambda name: candidates[name])
