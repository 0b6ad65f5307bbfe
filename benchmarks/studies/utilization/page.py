"""The tables of the utilization study in the docs, from saved numbers only."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table: benchmarks/studies/utilization/run.py -->", "<!-- end of table -->"


def write_page(record: Mapping[str, Any], page: Path) -> None:
    """Put the tables between their marks."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    text = "\n".join([*_targets(record), "", *_methods(record)])
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def _targets(record: Mapping[str, Any]) -> Iterator[str]:
    wanted = sorted({run["target"] for run in record["targets"]})
    yield "| wanted share of EO | " + " | ".join(f"{x:.0%}" for x in wanted) + " | within 2 points | largest miss |"
    yield "| --- " * (len(wanted) + 3) + "|"
    for task, summed in record["arrived"].items():
        runs = [run for run in record["targets"] if run["task"] == task]
        cells = [", ".join(f"{100 * run['share']:.1f}" for run in runs if run["target"] == x) for x in wanted]
        arrived = f"{summed['within_2_points']} of {summed['runs']}"
        yield f"| {task}, % measured | " + " | ".join(cells) + f" | {arrived} | {100 * summed['largest_miss']:.1f} |"


def _methods(record: Mapping[str, Any]) -> Iterator[str]:
    columns = ("clear", "noise_mean", "noise_0.12", "held_out_mean")
    yield "| accuracy | clear | mean over EO noise | EO noise of variance .12 | mean over held-out degradations |"
    yield "| --- | --- | --- | --- | --- |"
    for method, found in record["compared"].items():
        cells = []
        for column in columns:
            low, high = min(found[column]["each"]), max(found[column]["each"])
            cells.append(f"{found[column]['mean']:.3f} ({low:.3f} to {high:.3f})")
        yield f"| {method} | " + " | ".join(cells) + " |"
    yield "| Bayes, told the condition | " + " | ".join(f"{x:.3f}" for x in _bayes(record)) + " |"


def _bayes(record: Mapping[str, Any]) -> Iterator[float]:
    known = record["exact"]["bayes"]
    noise = [value for name, value in known.items() if name.startswith(("clear", "eo_noise"))]
    held_out = [value for name, value in known.items() if not name.startswith(("clear", "eo_noise"))]
    yield known["clear"]
    yield sum(noise) / len(noise)
    yield known["eo_noise_0.12"]
    yield sum(held_out) / len(held_out)
