"""The tables of the study in the docs, from saved numbers only."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table: benchmarks/studies/missing/run.py -->", "<!-- end of table -->"

#: Where a reference is no more than this behind networks of one sensor alone, there is no way to go.
_LEAST_WAY = 0.01

_MEASURED_END = "<!-- end of measured -->"
_MEASURED = re.compile(rf"<!-- measured: (?P<recipe>[^>]+) -->.*?{_MEASURED_END}", re.DOTALL)

_TITLES = {
    "oracle": "Oracle scene (EO, SAR, IR; five classes; test patches that nobody saw)",
    "floods": "Flood chips (Sentinel-2 and Sentinel-1; 24 test chips)",
}

_PLACES = {"oracle": "oracle scene", "floods": "flood chips"}


def write_page(record: Mapping[str, Any], page: Path) -> None:
    """Put the tables between their marks."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    text = "\n".join([
        *_headline(record), "", *(line for place in record["places"] for line in [*_table(record, place), ""]),
    ])  # fmt: skip
    page.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def write_measured(record: Mapping[str, Any], folder: Path) -> None:
    """Put a line about a recipe into every page that asks for it: ``<!-- measured: recipe -->`` begins it."""
    for page in sorted(folder.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        told = _MEASURED.sub(lambda found: "".join(_measured(record, found["recipe"])), text)
        if told != text:
            page.write_text(told, encoding="utf-8")


def _measured(record: Mapping[str, Any], recipe: str) -> Iterator[str]:
    cost = record["ms_a_step"]
    yield f"<!-- measured: {recipe} -->\n"
    yield f"**Measured.** `{recipe}`, in points of mean IoU against plain training (95 %):\n"
    for place, found in record["against"].items():
        worst, full = (_gain(found["plain"][recipe], key) for key in ("worst", "full"))
        yield f"{_PLACES.get(place, place)}: worst subset {worst}, all sensors {full};\n"
    yield f"{cost[recipe] / cost['plain']:.2f} times its time. [The study](index.md) compares all.\n{_MEASURED_END}"


def _headline(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the recipe that validation prefers, against what is trained on all sensors together."""
    yield f"| `{record['best']}` against, points of mean IoU (95 %) | place | worst subset | all sensors | reached |"
    yield "| --- | --- | --- | --- | --- |"
    for place, references in record["against"].items():
        for reference, found in references.items():
            if record["best"] in found:
                cells = [_gain(found[record["best"]], key) for key in ("worst", "full")]
                cells.append(_reached(record, place, reference))
                yield f"| {reference} | {_PLACES.get(place, place)} | " + " | ".join(cells) + " |"


def _reached(record: Mapping[str, Any], place: str, reference: str) -> str:
    """Return the share of the way from a reference to networks of one sensor alone, by the worst subset."""
    worst = {name: found["worst"] for name, found in record["places"][place]["recipes"].items()}
    way = worst.get("ensemble", 0.0) - worst[reference]
    return f"{(worst[record['best']] - worst[reference]) / way:.0%}" if way > _LEAST_WAY else "-"


def _table(record: Mapping[str, Any], place: str) -> Iterator[str]:
    """Scores in points of mean IoU, differences to plain training with intervals, best worst subset first."""
    found = record["places"][place]
    singles = [name for name in found["subsets"] if "+" not in name]
    columns = [*(f"{name} alone" for name in singles), "worst subset", "mean of subsets", "all", "monotone"]
    columns += ["unseen degradations, all", "their worst subset", "against plain: worst", "against plain: all", "time"]
    yield f"**{_TITLES.get(place, place)}**, {record['seeds']} seeds, mean IoU in points"
    yield ""
    yield "| recipe | " + " | ".join(columns) + " |"
    yield "| --- " * (len(columns) + 1) + "|"
    cost = record["ms_a_step"]
    for name, item in sorted(found["recipes"].items(), key=lambda pair: -pair[1]["worst"]):
        alone = [item["by_subset"][found["subsets"].index(single)] for single in singles]
        values = [*alone, item["worst"], item["mean"], item["full"]]
        cells = [f"{100 * value:.1f}" for value in values] + [f"{item['monotone']:.0%}"]
        cells += [f"{100 * item['held_out_full']:.1f}", f"{100 * item['held_out_worst']:.1f}"]
        cells += [_gain(record["against"][place]["plain"].get(name), key) for key in ("worst", "full")]
        marked = f"**{name}**" if name == record["best"] else name
        yield f"| {marked} | " + " | ".join(cells) + f" | {cost[name] / cost['plain']:.2f} |"


def _gain(gain: Mapping[str, Any] | None, key: str) -> str:
    if gain is None:
        return ""
    low, high = gain[key]["interval"]
    return f"{gain[key]['points']:+.1f} ({low:+.1f} to {high:+.1f})"
