"""What the parts of the laws study say about each law: the figures, the bound, and whether it holds."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from equipoise.models.share_checks import utilization_calibration_error

from measurement import NULL_METHODS  # isort: skip
from oracle.conditions import CONDITIONS, HELD_OUT_FAMILIES, TRAINING_FAMILIES, named  # isort: skip

Found = Mapping[str, Any]
Runs = Sequence[Found]

NATS, SHARE, TWIN_SD, UCE, BAYES_PART = 0.12, 0.03, 0.02, 0.03, 0.95
#: A share that misses its target by no more has arrived.
ARRIVED = 0.02


def verdicts(found: Mapping[str, Runs], exact: Found) -> dict[str, Found]:
    """Judge every test that has parts; T8 has none."""
    judges: dict[str, Callable[[Runs, Found], Found]] = {
        "T1": oracle, "T2": redundancy, "T3": synergy, "T4": null, "T7": response,
    }  # fmt: skip
    return {name: judges[name](runs, exact) for name, runs in found.items()} | {"T8": leakage()}


def oracle(runs: Runs, exact: Found) -> Found:  # noqa: ARG001 (all judges are called alike)
    """T1: the largest differences of any coalition and of any share, seed by seed."""
    nats = [_farthest(run["nats"], run["exact_nats"]) for run in runs]
    shares = {
        score: [_farthest(run["share"][score], run["exact_share"][score]) for run in runs]
        for score in ("cross_entropy", "brier")
    }
    return {
        "bound": {"nats": NATS, "share": SHARE}, "nats_off": nats, "share_off": shares,
        "part_of_bayes_accuracy": [run["accuracy"] / run["bayes_accuracy"] for run in runs],
        "pass": max(nats) <= NATS and max(max(each) for each in shares.values()) <= SHARE,
    }  # fmt: skip


def redundancy(runs: Runs, exact: Found) -> Found:  # noqa: ARG001
    """T2: how the twins' shares vary over initialisations, and how far they are apart in one network."""
    kinds = {}
    for kind in ("information_share", "permutation_share"):
        twins = [[math.nan if run[kind] is None else run[kind][column] for run in runs] for column in (0, 1)]
        kinds[kind] = {
            "sd": [_deviation(values) for values in twins],
            "mean": [statistics.mean(values) for values in twins],
            "apart_most": max(abs(a - b) for a, b in zip(*twins, strict=True)),
        }
    return {
        "bound": {"sd": TWIN_SD}, "initialisations": len(runs), **kinds, "exact_share": runs[0]["exact_share"][:2],
        "part_of_bayes_accuracy": [run["accuracy"] / run["bayes_accuracy"] for run in runs],
        "pass": len(runs) >= 6 and max(kinds["information_share"]["sd"]) <= TWIN_SD,
    }  # fmt: skip


def synergy(runs: Runs, exact: Found) -> Found:  # noqa: ARG001
    """T3: how far the shares are from a half, and whether every run flags the double count."""
    off = [_farthest(run["share"], (0.5, 0.5)) for run in runs]
    flagged = [run["counted_twice"] for run in runs]
    return {
        "bound": {"share": SHARE}, "share_off": off, "counted_twice": flagged,
        "reliance_over_value": [run["counted"] for run in runs],
        "value_of_all": [run["value_of_all"] for run in runs], "exact_value_of_all": runs[0]["exact_value_of_all"],
        "part_of_bayes_accuracy": [run["accuracy"] / run["bayes_accuracy"] for run in runs],
        "pass": max(off) <= SHARE and all(flagged),
    }  # fmt: skip


def null(runs: Runs, exact: Found) -> Found:  # noqa: ARG001
    """T4: whether the interval of what tells nothing covers 0, and what fires where a target asked for more."""
    rows = []
    for run in runs:
        reliance, information = run["reliance"], run["information"]
        fired = {name: flags is not None and flags[2] for name, flags in run["checks"].items()}
        rows.append({
            "method": run["method"], "seed": run["seed"],
            "reliance": reliance["reliance"][2], "reliance_interval": reliance["reliance_interval"][2],
            "share_interval": reliance["share_interval"] and reliance["share_interval"][2],
            "information": information["information"][2],
            "information_interval": information["information_interval"][2],
            "information_share_interval": information["share_interval"] and information["share_interval"][2],
            "reliance_covers_0": _covers(reliance), "information_share_covers_0": _covers(information),
            "miss": run["miss"], "fired": fired | {
                "miss": run["miss"] is not None and run["miss"] > ARRIVED,
                "indeterminate": reliance["indeterminate"],
            },
            "part_of_bayes_accuracy": run["accuracy"] / run["bayes_accuracy"],
        })  # fmt: skip
    covered = all(row["reliance_covers_0"] and row["information_share_covers_0"] for row in rows)
    asked = [row for row in rows if NULL_METHODS[row["method"]][1] is not None]
    return {
        "bound": "0 in the intervals of the shares; an alarm for every target", "rows": rows,
        "pass": covered and bool(asked) and all(any(row["fired"].values()) for row in asked),
    }  # fmt: skip


def response(runs: Runs, exact: Found) -> Found:
    """T7: calibration of the shares, distance from the response of Bayes, and accuracy beside that of Bayes."""
    names = list(runs[0]["conditions"])
    known = {name: exact["standard"][name] for name in names}
    bayes = {name: row["share_permutation"] for name, row in known.items()}
    told = {name: row["share_brier"] for name, row in known.items()}
    rows = []
    for run in runs:
        reliance = {name: row["reliance"] for name, row in run["conditions"].items()}
        information = {name: row["information"] for name, row in run["conditions"].items()}
        parts = {
            name: row["accuracy"] / known[name]["accuracy"]["eo+sar+ir"] for name, row in run["conditions"].items()
        }
        uce = utilization_calibration_error(reliance, information).error
        worst = min(parts, key=lambda name: parts[name])
        seen = [name for name in names if name in named(*TRAINING_FAMILIES)]
        apart = {
            kind: {
                "uce": utilization_calibration_error(
                    {name: reliance[name] for name in chosen}, {name: information[name] for name in chosen}
                ).error,
                "part_of_bayes_accuracy": statistics.mean(parts[name] for name in chosen),
            }
            for kind, chosen in (("training", seen), ("held_out", [name for name in names if name not in seen]))
        }
        rows.append({
            "method": run["method"], "seed": run["seed"], "uce": uce,
            "distance_from_bayes_response": utilization_calibration_error(reliance, bayes).error,
            "distance_from_exact_information": utilization_calibration_error(reliance, told).error,
            "part_of_bayes_accuracy": {"mean": statistics.mean(parts.values()), "worst": parts[worst], "where": worst},
            "by_families": apart, "conditions_at_bound": sum(part >= BAYES_PART for part in parts.values()),
            "pass": uce is not None and uce <= UCE and parts[worst] >= BAYES_PART,
        })  # fmt: skip
    return {
        "bound": {"uce": UCE, "part_of_bayes_accuracy": BAYES_PART}, "conditions": len(names),
        "uce_of_bayes": utilization_calibration_error(bayes, told).error, "rows": rows,
        "pass": any(row["pass"] for row in rows),
    }  # fmt: skip


def leakage() -> Found:
    """T8: half of the families of the tests, at least, are never shown in training."""
    families = {item.family for item in CONDITIONS}
    unused = families - set(TRAINING_FAMILIES)
    if unused != set(HELD_OUT_FAMILIES) or 2 * len(unused) < len(families):
        raise AssertionError(f"found {sorted(unused)} of {len(families)} families unused, wanted half: hold more out")
    return {"bound": 0.5, "families": len(families), "unused_in_training": sorted(unused), "pass": True}


def _farthest(found: Sequence[float] | None, wanted: Sequence[float]) -> float:
    """Return the largest difference; shares that cannot be told from noise are as far off as shares can be."""
    return 1.0 if found is None else max(abs(a - b) for a, b in zip(found, wanted, strict=True))


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _covers(report: Found) -> bool:
    """Whether the third modality's share may be 0, or there was nothing to share."""
    return bool(report["share_interval"] is None or report["share_interval"][2][0] <= 0)
