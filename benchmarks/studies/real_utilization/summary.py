"""Summary: what the finished runs say together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .conditions import CONDITIONS, HELD_OUT, NOISE
from .measures import accuracy, flood_iou

Found = Mapping[str, Any]

#: A share this near to its target has arrived (the published method: .10).
WITHIN = 0.02
MEASURES = {"accuracy": accuracy, "flood_iou": flood_iou}
_NAMES = [condition.name for condition in CONDITIONS]


def arrived(runs: Sequence[Found]) -> dict[str, Any]:
    """Sum up the targets of each task, on validation and on test chips.

    ``nearest_where_missed`` names, for each target that some run missed, the nearest share that any run of the task
    found.
    """
    table: dict[str, Any] = {}
    for task in dict.fromkeys(run["task"] for run in runs):
        rows = [run for run in runs if run["task"] == task]
        table[task] = {"runs": len(rows), "hack_alarms": sum(bool(run["test"]["hack_alarm"]) for run in rows)}
        for split in ("validation", "test"):
            known = [(run["target"], run[split]["share"]) for run in rows if run[split]["share"] is not None]
            misses = [(target, abs(share - target)) for target, share in known]
            far = sorted({target for target, miss in misses if miss > WITHIN})
            table[task][split] = {
                "measured": len(known),
                "within_2_points": sum(miss <= WITHIN for _, miss in misses),
                "within_10_points": sum(miss <= 0.1 for _, miss in misses),
                "mean_miss": float(np.mean([miss for _, miss in misses])),
                "largest_miss": max(miss for _, miss in misses),
                "nearest_where_missed": {
                    str(target): min((share for _, share in known), key=lambda share: abs(share - target))
                    for target in far
                },
            }  # fmt: skip
        inside = [
            run["test"]["interval"][0] <= run["target"] <= run["test"]["interval"][1]
            for run in rows if run["test"]["interval"] is not None
        ]  # fmt: skip
        table[task]["test"]["interval_holds_target"] = sum(inside)
    return table


def compared(runs: Sequence[Found]) -> dict[str, Any]:
    """Sum up each method over seeds: clear, mean over optical noise, each held-out family, and the mean of these."""
    table: dict[str, Any] = {}
    for method in dict.fromkeys(run["method"] for run in runs):
        counts = counted(runs, method).sum(axis=1)  # (seed, condition, kind): all chips together
        table[method] = {}
        for name, measure in MEASURES.items():
            values = measure(counts)
            found = {
                "clear": values[:, _NAMES.index("clear")],
                "noise": values[:, [_NAMES.index(item) for item in NOISE]].mean(axis=1),
                "noise_0.12": values[:, _NAMES.index("eo_noise_0.12")],
                **{family: _family(values, family) for family in HELD_OUT},
                "held_out": _held_out(values),
            }
            table[method][name] = {
                key: {"mean": float(each.mean()), "each": each.tolist()} for key, each in found.items()
            }
    return table


def differences(runs: Sequence[Found], subject: str, *, replicates: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Compare one method with every other over held-out families, and on the clear chips.

    Paired bootstrap: seeds and chips are drawn with replacement, the same for both methods; counts of a draw are added
    up before accuracy and IoU are taken.

    Parameters
    ----------
    runs
        All of them; methods with the same seeds.
    subject
        The method to compare.
    replicates, seed
        Of the bootstrap.

    Returns
    -------
    dict
        Competitor -> measure -> ``held_out`` and ``clear`` -> mean difference and 95 % interval.
    """
    rng = np.random.default_rng(seed)
    ours = counted(runs, subject)
    seeds = rng.integers(len(ours), size=(replicates, len(ours)))
    chips = rng.integers(ours.shape[1], size=(replicates, ours.shape[1]))
    table: dict[str, Any] = {}
    for method in dict.fromkeys(run["method"] for run in runs):
        if method == subject:
            continue
        theirs = counted(runs, method)
        table[method] = {}
        for name, measure in MEASURES.items():
            means = _gap(ours, theirs, measure)
            draws = np.array([
                _gap(ours[s][:, c], theirs[s][:, c], measure) for s, c in zip(seeds, chips, strict=True)
            ])  # fmt: skip
            low, high = np.quantile(draws, (0.025, 0.975), axis=0)
            table[method][name] = {
                key: {"mean": float(means[k]), "interval": [float(low[k]), float(high[k])]}
                for k, key in enumerate(("held_out", "clear"))
            }
    return table


def counted(runs: Sequence[Found], method: str) -> NDArray[np.int64]:
    """Return counts (seed, chip, condition, 4) of a method, as :func:`~.measures.counts` makes them."""
    rows = sorted((run for run in runs if run["method"] == method), key=lambda run: run["seed"])
    return np.array([[run["counts"][name] for name in _NAMES] for run in rows]).swapaxes(1, 2)


def _gap(ours: NDArray[np.int64], theirs: NDArray[np.int64], measure: Any) -> NDArray[np.float64]:
    pair = [measure(counts.sum(axis=1)) for counts in (ours, theirs)]
    clear = _NAMES.index("clear")
    return np.array([
        _held_out(pair[0]).mean() - _held_out(pair[1]).mean(), pair[0][:, clear].mean() - pair[1][:, clear].mean()
    ])  # fmt: skip


def _family(values: NDArray[np.float64], family: str) -> NDArray[np.float64]:
    """Mean over the conditions of a family, of values (seed, condition)."""
    means: NDArray[np.float64] = values[:, [_NAMES.index(name) for name in HELD_OUT[family]]].mean(axis=1)
    return means


def _held_out(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the held-out families, each counting alike, of values (seed, condition)."""
    return np.mean([_family(values, family) for family in HELD_OUT], axis=0)
