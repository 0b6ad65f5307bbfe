"""What the runs of the utilization study amount to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

Found = Mapping[str, Any]


def arrived(runs: list[Found], *, within: float) -> Found:
    """Sum up part one: how many runs came within two points, and the nearest share where none did."""
    table: dict[str, Any] = {}
    for task in dict.fromkeys(run["task"] for run in runs):
        rows = [run for run in runs if run["task"] == task]
        hit = [abs(run["share"] - run["target"]) <= within for run in rows]
        missed = {
            str(target): min((run["share"] for run in rows if run["target"] == target), key=lambda x: abs(x - target))
            for target in dict.fromkeys(run["target"] for run, is_hit in zip(rows, hit, strict=True) if not is_hit)
        }
        table[task] = {
            "runs": len(rows), "within_2_points": sum(hit), "hack_alarms": sum(bool(run["hack_alarm"]) for run in rows),
            "largest_miss": max(abs(run["share"] - run["target"]) for run in rows), "nearest_where_missed": missed,
        }  # fmt: skip
    return table


def compared(runs: list[Found], *, noise: Sequence[str], held_out: Sequence[str]) -> Found:
    """Sum up part two, method by method, over seeds: clean, mean over noise, at .12, mean over what was held out."""
    table = {}
    for method in dict.fromkeys(run["method"] for run in runs):
        rows = [run["accuracy"] for run in runs if run["method"] == method]
        values = {
            "clear": [row["clear"] for row in rows],
            "noise_mean": [float(np.mean([row[name] for name in noise])) for row in rows],
            "noise_0.12": [row["eo_noise_0.12"] for row in rows],
            "held_out_mean": [float(np.mean([row[name] for name in held_out])) for row in rows],
        }
        table[method] = {
            name: {"mean": float(np.mean(x)), "each": x, "interval": spread(x)} for name, x in values.items()
        }
    return table


def spread(values: list[float]) -> list[float] | None:
    """Return the 95 % interval of a mean over seeds by Student's t; None for fewer than two."""
    if len(values) < 2:
        return None
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


def headline(runs: list[Found], method: str) -> Found:
    """Compare a method with every other one, patch by patch and seed by seed (test T6)."""
    table = {}
    ours = {name: _patches(runs, method, name) for name in ("held_out_of_patch", "clear_of_patch")}
    for other in dict.fromkeys(run["method"] for run in runs):
        if other != method:
            theirs = {name: _patches(runs, other, name) for name in ours}
            seeds = len(theirs["clear_of_patch"])  # a further comparison has fewer, from the first on
            gain, clear = (ours[name][:seeds] - theirs[name] for name in ("held_out_of_patch", "clear_of_patch"))
            table[other] = {
                "seeds": seeds, "held_out_gain": float(gain.mean()), "interval": paired_interval(gain),
                "clear_gain": float(clear.mean()), "clear_interval": paired_interval(clear),
            }  # fmt: skip
    return table


def _patches(runs: list[Found], method: str, name: str) -> Any:
    """Return figures (seed, patch) of a method."""
    return np.array([run[name] for run in sorted(runs, key=lambda run: run["seed"]) if run["method"] == method])


def paired_interval(difference: Any, *, count: int = 4000) -> list[float]:
    """Return the 95 % interval of the mean of (seed, patch), seeds and patches both drawn with replacement."""
    generator = np.random.default_rng(0)
    seeds, patches = difference.shape
    means = [
        difference[generator.integers(seeds, size=seeds)].mean(axis=0)[generator.integers(patches, size=patches)].mean()
        for _ in range(count)
    ]
    return [float(value) for value in np.percentile(means, [2.5, 97.5])]
