"""Alternatives: what pictures show, in words with their numbers, for those who cannot see them."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def scores(values: Mapping[str, float | None], *, label: str) -> str:
    """Return the words for a bar chart of scores by name."""
    return f"Bar chart of {label}: {_listed({name: _score(value) for name, value in values.items()})}"


def confusion(counts: Sequence[Sequence[int]], *, names: Sequence[str]) -> str:
    """Return the words for a confusion matrix, truth in rows: what is found of each class, and what it is taken for."""
    told = []
    for place, (name, row) in enumerate(zip(names, counts, strict=True)):
        total = sum(row)
        if not total:
            told.append(f"{name} does not occur")
            continue
        wrong = [(count, other) for other, count in enumerate(row) if other != place and count]
        most = f", most often taken for {names[max(wrong)[1]]}" if wrong else ""
        told.append(f"{name} {row[place] / total:.0%} found{most}")
    return f"Confusion matrix, shares of each true class: {'; '.join(told)}"


def shares(meters: Mapping[str, Record], *, modalities: Sequence[str]) -> str:
    """Return the words for bars of shares: meter -> ``share`` and ``share_interval``, None where indeterminate."""
    told = []
    for meter, record in meters.items():
        if record["share"] is None:
            told.append(f"{meter}: indeterminate")
            continue
        rows = zip(modalities, record["share"], record["share_interval"], strict=True)
        parts = [f"{name} {share:.0%} ({low:.0%} to {high:.0%})" for name, share, (low, high) in rows]
        told.append(f"{meter}: {', '.join(parts)}")
    return f"Bars of shares with 95 % intervals; {'; '.join(told)}"


def classes(record: Record | None, *, names: Sequence[str]) -> str:
    """Return the words for the matrix of reliance by class and modality."""
    if record is None:
        return "Reliance by class was not measured"
    told = []
    for name, row in zip(names, record["share"], strict=True):
        found = "indeterminate" if row is None else _listed(
            {modality: f"{share:.0%}" for modality, share in zip(record["modalities"], row, strict=True)}
        )  # fmt: skip
        told.append(f"{name}: {found}")
    return f"Matrix of the share of each modality at places of each true class; {'; '.join(told)}"


def reliability(record: Record) -> str:
    """Return the words for a reliability diagram."""
    words = "Reliability diagram: how often it is right, by how sure it is"
    return f"{words}; expected calibration error {_score(record['ece'])}"


def curves(robustness: Record, *, measure: str, label: str) -> str:
    """Return the words for scores against the strength of degradations: clear, and at the greatest strength."""
    told = {
        f"{family['modality']} {family['kind'].replace('_', ' ')}": _score(family["conditions"][-1][measure]["mean"])
        for family in robustness["families"]
    }
    clear = _score(robustness["clear"][measure]["mean"])
    words = f"Curves of {label} against the strength of degradations; clear {clear}"
    return f"{words}; at the greatest strength {_listed(told)}"


def history(record: Sequence[Record]) -> str:
    """Return the words for the curve of a training."""
    first, last = record[0], record[-1]
    return (
        f"Curves of loss and validation score over {len(record)} epochs: validation score from "
        f"{_score(first.get('validation_score'))} to {_score(last.get('validation_score'))}"
    )


def maps(name: str, figures: Record | None) -> dict[str, str]:
    """Return the words for each map of a scene.

    Parameters
    ----------
    name
        Of the scene.
    figures
        As stage predict keeps them; None where it was not mapped.
    """
    found = {
        "labels": f"Labels of {name}", "prediction": f"Predicted classes of {name}",
        "confidence": f"Confidence of the prediction of {name}",
        "reliance": f"What each tile of {name} rests on, in mixed colours of the sensors",
        "trust": f"Trust map of {name}",
    }  # fmt: skip
    if figures is None:
        return found
    if classes_ := figures.get("class_shares"):
        found["prediction"] += f": {_listed(_percents(classes_))}"
    if figures.get("mean_confidence") is not None:
        found["confidence"] += f": {figures['mean_confidence']:.0%} on average"
    if figures.get("reliance"):
        found["reliance"] += f": {_listed(_percents(figures['reliance']))} on average"
    if (trust := figures.get("trust")) and trust["shares"]:
        found["trust"] += f": {_listed(_percents(trust['shares']))}"
    return found


def _percents(values: Mapping[str, float | None]) -> dict[str, str]:
    return {name: "indeterminate" if value is None else f"{value:.0%}" for name, value in values.items()}


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _score(value: float | None) -> str:
    return "not measured" if value is None or value != value else f"{value:.3f}"
