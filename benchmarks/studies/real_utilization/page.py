"""The tables of the study in the docs, from saved numbers only."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MISSING = "The comparison of methods under degradations was not run with these networks yet."
BEGIN, END = "<!-- table: benchmarks/studies/real_utilization/run.py -->", "<!-- end of table -->"


def write_page(record: Mapping[str, Any], page: Path) -> None:
    """Put the tables and the picture between their marks."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    shown = "Wanted and measured shares" + ("; flood IoU under optical noise" if record["methods"] else "")
    picture = f"![{shown}](figures/real_utilization.png)"
    compared = [*_methods(record), "", *_differences(record)] if record["methods"] else [MISSING]
    parts = [*_targets(record), "", *_plain(record), "", *compared, "", picture]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(parts) + f"\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def _targets(record: Mapping[str, Any]) -> Iterator[str]:
    wanted = sorted({run["target"] for run in record["targets"]})
    yield (
        "| wanted share of EO | " + " | ".join(f"{x:.0%}" for x in wanted) + " | within 2 points | mean, largest miss |"
    )
    yield "| --- " * (len(wanted) + 3) + "|"
    for task, summed in record["arrived"].items():
        runs = [run for run in record["targets"] if run["task"] == task]
        for split in ("validation", "test"):
            cells = [
                ", ".join(_percent(run[split]["share"]) for run in runs if run["target"] == target)
                for target in wanted
            ]  # fmt: skip
            found = summed[split]
            arrived = f"{found['within_2_points']} of {summed['runs']}"
            miss = f"{100 * found['mean_miss']:.1f}, {100 * found['largest_miss']:.1f}"
            yield f"| {task}, {split} chips | " + " | ".join(cells) + f" | {arrived} | {miss} |"
        cells = [_mean_percent(runs, target) for target in wanted]
        yield f"| {task}, accuracy on test chips | " + " | ".join(cells) + " | | |"
    missed = [
        f"{task}: " + ", ".join(f"{float(x):.0%} (nearest {100 * y:.1f} %)" for x, y in near.items())
        for task, summed in record["arrived"].items()
        if (near := summed["validation"]["nearest_where_missed"])
    ]  # fmt: skip
    alarms = sum(summed["hack_alarms"] for summed in record["arrived"].values())
    held = sum(summed["test"]["interval_holds_target"] for summed in record["arrived"].values())
    total = len(record["targets"])
    yield ""
    yield f"Hack alarms on test chips: {alarms} of {total} runs. Targets inside the test interval: {held} of {total}."
    if missed:
        yield "Targets missed by more than 2 points on validation chips, with the nearest share: " + "; ".join(missed)


def _plain(record: Mapping[str, Any]) -> Iterator[str]:
    yield "| plain training | share of EO, validation | share of EO, test (95 % interval) | accuracy, test |"
    yield "| --- | --- | --- | --- |"
    for run in record["plain"]:
        test = run["test"]
        low, high = test["interval"] or (float("nan"),) * 2
        yield (
            f"| {run['task']}, seed {run['seed']} | {_percent(run['validation']['share'])} | {_percent(test['share'])} "
            f"({100 * low:.0f} to {100 * high:.0f}) | {test['accuracy']:.3f} |"
        )


def _methods(record: Mapping[str, Any]) -> Iterator[str]:
    columns = (
        "clear",
        "noise",
        "noise_0.12",
        "cloud",
        "haze",
        "misregistration",
        "sar_stripes",
        "sar_drift",
        "held_out",
    )
    yield (
        "| flood IoU (accuracy) | clear | mean over EO noise | variance .12 | cloud | haze | shift | SAR stripes "
        "| SAR drift | held-out mean |"
    )
    yield "| --- " * (len(columns) + 1) + "|"
    for method, found in record["compared"].items():
        cells = [f"{found['flood_iou'][key]['mean']:.3f} ({found['accuracy'][key]['mean']:.3f})" for key in columns]
        yield f"| {method} | " + " | ".join(cells) + " |"


def _differences(record: Mapping[str, Any]) -> Iterator[str]:
    subjects = list(record["differences"])
    yield "| held-out mean: difference of accuracy, points | " + " | ".join(subjects) + " |"
    yield "| --- " * (len(subjects) + 1) + "|"
    for method in record["compared"]:
        cells = []
        for subject in subjects:
            found = record["differences"][subject].get(method)
            cells.append("" if found is None else _interval(found["accuracy"]["held_out"]))
        yield f"| against {method} | " + " | ".join(cells) + " |"


def _interval(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{100 * found['mean']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _percent(share: float | None) -> str:
    return "indeterminate" if share is None else f"{100 * share:.1f}"


def _mean_percent(runs: list[Mapping[str, Any]], target: float) -> str:
    found = [run["test"]["accuracy"] for run in runs if run["target"] == target]
    return f"{sum(found) / len(found):.3f}"
