"""The tables of the laws study in the docs, from saved numbers only."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table: benchmarks/studies/laws/run.py -->", "<!-- end of table -->"

Found = Mapping[str, Any]


def write_page(record: Found, page: Path) -> None:
    """Put the tables between their marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    found = record["verdicts"]
    text = "\n".join([*_laws(found), "", *_null(found["T4"]), "", *_response(found["T7"])])
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def _laws(found: Mapping[str, Found]) -> Iterator[str]:
    t1, t2, t3, t8 = (found[name] for name in ("T1", "T2", "T3", "T8"))
    rows = {
        "T1": ("information of a coalition within .12 nats of the exact one", _each(t1["nats_off"])),
        "": ("Shapley shares within .03: in nats, by the Brier score",
             "; ".join(_each(values) for values in t1["share_off"].values())),
        "T2": ("sd of the twins' Shapley shares over initialisations at most .02",
               f"{_each(t2['information_share']['sd'])} over {t2['initialisations']}"),
        " ": ("the same of their permutation shares, for comparison", _each(t2["permutation_share"]["sd"])),
        "T3": ("XOR: shares within .03 of a half", _each(t3["share_off"])),
        "  ": ("the double count is flagged", f"{sum(t3['counted_twice'])} of {len(t3['counted_twice'])}"),
        "T4": ("a sensor that tells nothing: shares cover 0, a target sets off an alarm", "below"),
        "T7": ("UCE at most .03 and 95 % of Bayes accuracy in every condition", "below"),
        "T8": ("half of the degradation families unused in training",
               f"{len(t8['unused_in_training'])} of {t8['families']}"),
    }  # fmt: skip
    yield "| test | law | measured | |"
    yield "| --- | --- | --- | --- |"
    for name, (law, measured) in rows.items():
        verdict = {True: "holds", False: "**missed**"}[found[name]["pass"]] if name.strip() else ""
        yield f"| {name.strip()} | {law} | {measured} | {verdict} |"
    yield ""
    near = {name: found[name]["part_of_bayes_accuracy"] for name in ("T1", "T2", "T3")}
    parts = "; ".join(f"{name} {_each(values)}" for name, values in near.items())
    yield f"Accuracy of these networks as a part of Bayes accuracy: {parts}."


def _null(found: Found) -> Iterator[str]:
    yield (
        "| T4: IR, which tells nothing | reliance, 95 % | information, 95 % | miss of its target | checks that fire "
        "| accuracy / Bayes |"
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in found["rows"]:
        fired = [name for name, on in row["fired"].items() if on]
        miss = "no target" if row["miss"] is None else f"{row['miss']:.2f}"
        yield (
            f"| {row['method']}, seed {row['seed']} | {_interval(row['reliance_interval'])} "
            f"| {_interval(row['information_interval'])} | {miss} | {', '.join(fired) or 'none'} "
            f"| {row['part_of_bayes_accuracy']:.3f} |"
        )


def _response(found: Found) -> Iterator[str]:
    yield (
        f"| T7, mean over {found['conditions']} conditions | UCE (families of the training, held out) "
        "| distance from Bayes' reliance | accuracy / Bayes (the same) | worst condition | conditions at 95 % |"
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in found["rows"]:
        part, apart = row["part_of_bayes_accuracy"], row["by_families"]
        uce, accuracy = (
            f"{whole:.3f} ({apart['training'][name]:.3f}, {apart['held_out'][name]:.3f})"
            for name, whole in (("uce", row["uce"]), ("part_of_bayes_accuracy", part["mean"]))
        )
        yield (
            f"| {row['method']} | {uce} | {row['distance_from_bayes_response']:.3f} | {accuracy} "
            f"| {part['worst']:.3f} ({part['where']}) | {row['conditions_at_bound']} |"
        )
    yield f"| Bayes, told the condition | {found['uce_of_bayes']:.3f} | 0 | 1 | 1 | {found['conditions']} |"


def _each(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _interval(pair: Sequence[float]) -> str:
    # Adding 0 makes 0 of -0.
    low, high = (round(end, 4) + 0.0 for end in pair)
    return f"{low:.4f} to {high:.4f}"
