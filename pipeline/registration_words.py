"""Registration words: what the numbers of a registration say, for tables and people."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

#: What each kind of registration is called.
KINDS = {
    "reference": "reference", "shift": "one shift", "affine": "affine map", "field": "displacement field",
    "refused": "refused", "not measured": "not measured", "uniform": "the same everywhere",
}  # fmt: skip

_KIND_MEANS = {
    "shift": "The whole image is moved alike; the blocks gave no reason for more.",
    "affine": "The image is moved, turned, scaled and sheared as a whole.",
    "field": "The correction changes from place to place: relief, or a geometry that no map of the whole undoes.",
}

Record = Mapping[str, Any]


def summary_cells(item: Record) -> dict[str, str]:
    """Return the cells of one row of a table of registrations.

    Parameters
    ----------
    item
        Numbers of a :class:`~equipoise.pipeline.placement.Registration`; a run folder of an older version has fewer.
    """
    measured = item.get("rmse_before") is not None
    return {
        "kind": KINDS.get(item.get("kind", ""), item.get("note", "-")),
        "correction": direction(item["east"], item["north"]) if measured else "-",
        "rmse": f"{_metres(item['rmse_before'])} → {_metres(item['rmse_after'])}" if measured else "-",
        "circle": _metres(item.get("radius90")) if measured else "-",
        "confidence": "-"
        if item.get("kind") in ("reference", "not measured", "uniform")
        else f"{item['confidence']:.2f}",
        "through": item.get("through") or "-",
        "note": item["note"],
    }


def figures_of(item: Record) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of every number of a measured registration."""
    chance = item["log10_false_alarms"]
    rows = [
        ("model", KINDS[item["kind"]], _KIND_MEANS[item["kind"]]),
        ("mean correction", direction(item["east"], item["north"]),
         "What was added to the position that the file claims, on average over the scene."),
        ("largest correction", _metres(item["largest"]), "Where the file is most wrong, or beyond the blocks."),
        ("RMSE before", _metres(item["rmse_before"]), "What single blocks asked for at the file's own position."),
        ("RMSE after", _metres(item["rmse_after"]),
         "What they still ask for. A block errs by itself, so that this does not reach zero and is more than the error "
         "of the whole."),
        ("90 % circle", _metres(item["radius90"]),
         "The true position lies within this distance with 90 %, in the middle place of the scene."),
        ("confidence", f"{item['confidence']:.2f}",
         "Probability that the position is right within a pixel of the coarser image, in the middle place."),
        ("through", str(item["through"]), "The image that it was matched with; doubt about that one is included."),
        ("blocks", f"{item['blocks']}", "Parts of the image that were matched on their own."),
    ]  # fmt: skip
    if chance is not None:
        meaning = "How often chance makes images of two different places agree as well: it is no chance."
        rows.append(("false alarms", f"one in {_power(-chance)} pairs", meaning))
    return rows


def refusal(note: str) -> dict[str, str]:
    """Return what was found, what was wanted and what to do, of a note that says so; the reason alone of another."""
    match = re.match(r"(?:position as given: )?found (?P<found>.+?); wanted (?P<wanted>.+?); (?P<advice>.+)", note)
    return {"reason": note} if match is None else match.groupdict()


def direction(east: float, north: float) -> str:
    """Say a vector in words: ``30.0 m (25.0 m west, 16.6 m north)``."""
    parts = (
        f"{abs(east):.1f} m {'west' if east < 0 else 'east'}, {abs(north):.1f} m {'south' if north < 0 else 'north'}"
    )
    return f"{np.hypot(east, north):.1f} m ({parts})"


def _metres(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} m"


def _power(exponent: float) -> str:
    if exponent < 6:
        return f"{10**exponent:,.0f}".replace(",", " ")
    digits = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
    return f"10{str(int(exponent)).translate(digits)}"
