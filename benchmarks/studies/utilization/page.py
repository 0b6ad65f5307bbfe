"""The tables of the utilization study in the docs, from saved numbers only."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table: benchmarks/studies/utilization/run.py -->", "<!-- end of table -->"


def write_page(record: Mapping[str, Any], page: Path) -> None:
    """Put the tables between their marks."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    text = "\n".join([*_targets(record), "", *_methods(record), "", *_headline(record)])
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


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
    yield "| accuracy (95 % over seeds) | seeds | clear | mean over EO noise | EO noise .12 | held-out degradations |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for method, found in record["compared"].items():
        cells = []
        for column in columns:
            low, high = found[column]["interval"] or (float("nan"),) * 2
            cells.append(f"{found[column]['mean']:.3f} ({low:.3f} to {high:.3f})")
        yield f"| {method} | {len(found['clear']['each'])} | " + " | ".join(cells) + " |"
    yield "| Bayes, told the condition | | " + " | ".join(f"{x:.3f}" for x in _bayes(record)) + " |"


def _headline(record: Mapping[str, Any]) -> Iterator[str]:
    """Differences of the method that is held against all others, in points."""
    method = record["headline"]["method"]
    yield f"| `{method}` against, points (95 %, paired) | seeds | held-out degradations | clear |"
    yield "| --- | --- | --- | --- |"
    for other, found in record["headline"]["against"].items():
        cells = [
            f"{100 * found[name]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            for name, (low, high) in (
                ("held_out_gain", found["interval"]), ("clear_gain", found["clear_interval"])
            )
        ]  # fmt: skip
        yield f"| {other} | {found['seeds']} | {cells[0]} | {cells[1]} |"


def _bayes(record: Mapping[str, Any]) -> Iterator[float]:
    known = record["exact"]["bayes"]
    noise = [value for name, value in known.items() if name.startswith(("clear", "eo_noise"))]
    held_out = [value for name, value in known.items() if not name.startswith(("clear", "eo_noise"))]
    yield known["clear"]
    yield sum(noise) / len(noise)
    yield known["eo_noise_0.12"]
    yield sum(held_out) / len(held_out)
