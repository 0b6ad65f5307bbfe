"""Co-registration against its peers: known warps of real pairs, one run, true errors, refusals and processor seconds.

A case is an aligned pair of images and a known warp of the second: the warp is the truth. Invented pairs and the bands
of one optical image are aligned by construction. The radar of Los Angeles is aligned beforehand with our own field over
the whole scene: that truth has a floor, and knows our way of seeing. Therefore each method is also held to what itself
answers for the unmoved pair (``own``): it shows whether an answer follows the warp, whatever it thinks of the pair.

Writes coregister.json beside this file and the table of docs/coregistration.md. Without all of its peers it measures
and prints, but writes nothing; so does `--small`, which tries all of it on little.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from balancing import write_table
from coregister_cases import (
    PIXEL_M,
    Case,
    Places,
    city_cases,
    embedded_cases,
    in_memory,
    optical_cases,
    went_to,
)  # fmt: skip
from coregister_pair import Pair
from coregister_peers import PEERS

from equipoise.pipeline.matching_view import view_of
from equipoise.pipeline.registered import NotRegistrable, Registered, registered

RADIUS_M = 300.0
RESULT = Path(__file__).with_name("coregister.json")
PAGE = Path(__file__).parents[1] / "docs" / "coregistration.md"
OURS = "Equipoise"

#: Peers that the record compares with.
ALL_PEERS = 12

#: Confidence below which an answer of ours is a warning, not a position.
THRESHOLD = 0.5

Answer = Callable[[Places], Places]


def ours(case: Case, moving: Any) -> Registered | None:
    """Return our registration of a case's reference with an image, or None where it is refused."""
    reference, other = in_memory(case.reference), in_memory(moving)
    try:
        return registered(view_of(reference), view_of(other), reference.geobox, radius_m=RADIUS_M)
    except NotRegistrable:
        return None


def as_answer(found: Registered) -> Answer:
    """Return where content lies in the moving image, in pixels beside its place."""

    def answer(places: Places) -> Places:
        x = 500_000 + (places[:, 1] + 0.5) * PIXEL_M
        y = 4_000_000 - (places[:, 0] + 0.5) * PIXEL_M
        east, north = found.displacement.at_places(x, y)
        return np.stack([north, -east], axis=1) / PIXEL_M

    return answer


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the processor seconds that it took, on all threads."""
    start = time.process_time()
    return work(), time.process_time() - start


def truth(case: Case, before: Answer | None) -> Places:
    """Return the true displacement at the check points, given that of the unmoved pair (None: none)."""
    off = np.zeros_like(case.checks) if before is None else before(case.checks)
    return went_to(case.taken_from, case.checks + off) - case.checks


def rmse(answer: Answer, case: Case, before: Answer | None) -> float:
    """Return the root mean square error at the check points, px."""
    return float(np.sqrt(((answer(case.checks) - truth(case, before)) ** 2).sum(axis=1).mean()))


def measured(cases: Iterable[Case], peers: dict[str, Any], *, peers_on: str) -> list[dict[str, Any]]:
    """Return a record for each case and method; peers take part in the half ``peers_on`` only."""
    rows: list[dict[str, Any]] = []
    before: dict[str, dict[str, Answer | None]] = {}
    for case in cases:
        chosen = peers if case.half == peers_on else {}
        key = f"{case.name} {case.kind if case.kind.startswith(('optical', 'embedded')) else ''}"
        if key not in before:
            before[key] = _unmoved(case, chosen)
        found, seconds = timed(lambda case=case: ours(case, case.moving))
        row = {"method": OURS, "kind": case.kind, "name": case.name, "half": case.half, "cpu_s": round(seconds, 3)}
        rows.append(row | (_figures(case, as_answer(found), before[key][OURS]) if found else {"answered": False}))
        if found:
            rows[-1] |= _confidence(case, found)
        for name, peer in chosen.items():
            answer, seconds = timed(lambda case=case, peer=peer: peer(_pair(case, case.moving)))
            row = {"method": name, "kind": case.kind, "name": case.name, "half": case.half, "cpu_s": round(seconds, 3)}
            rows.append(row | (_figures(case, answer, before[key][name]) if answer else {"answered": False}))
        print(
            case.name, case.kind, {row["method"]: row.get("error_px") for row in rows[-1 - len(chosen) :]}, flush=True
        )
    return rows


def _unmoved(case: Case, peers: dict[str, Any]) -> dict[str, Answer | None]:
    found = ours(case, case.unmoved)
    answers: dict[str, Answer | None] = {OURS: as_answer(found) if found else None}
    return answers | {name: peer(_pair(case, case.unmoved)) for name, peer in peers.items()}


def _figures(case: Case, answer: Answer, before: Answer | None) -> dict[str, Any]:
    own = None if before is None else round(rmse(answer, case, before), 3)
    return {"answered": True, "error_px": round(rmse(answer, case, None), 3), "own_px": own}


def _confidence(case: Case, found: Registered) -> dict[str, Any]:
    """Return our model, our confidence, and in which share of blocks the 90 % circle holds the truth."""
    places = np.stack([(4_000_000 - found.blocks.y) / PIXEL_M, (found.blocks.x - 500_000) / PIXEL_M], axis=1) - 0.5
    error = as_answer(found)(places) - (went_to(case.taken_from, places) - places)
    inside = np.hypot(*error.T) * PIXEL_M <= found.blocks.radius90
    return {
        "model": found.kind, "confidence": round(float(np.median(found.layer.confidence)), 3),
        "covered": round(float(inside.mean()), 3), "log10_false_alarms": round(found.verdict.log10_false_alarms, 1),
    }  # fmt: skip


def _pair(case: Case, moving: Any) -> Pair:
    return Pair(
        reference=case.reference, moving=moving, max_shift_px=round(RADIUS_M / PIXEL_M), pixel_m=PIXEL_M
    )  # fmt: skip


def summed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return medians and worst cases by method, kind and half."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["kind"], row["method"], row["half"]].append(row)
    result = []
    for (kind, method, half), members in groups.items():
        line: dict[str, Any] = {"kind": kind, "method": method, "half": half, "pairs": len(members)}
        line["answered"] = sum(row["answered"] for row in members)
        line["cpu_s"] = round(statistics.median(row["cpu_s"] for row in members), 2)
        for name in ("error_px", "own_px"):
            values = [row[name] for row in members if row.get(name) is not None]
            line[name] = {"median": round(statistics.median(values), 3), "worst": max(values)} if values else None
        covered = [row["covered"] for row in members if "covered" in row]
        if covered:
            line["covered"] = round(statistics.mean(covered), 3)
        result.append(line)
    return result


def silent_failures(rows: list[dict[str, Any]]) -> list[str]:
    """Return cases of ours with an error above 1 px that were neither refused nor doubted."""
    return [
        f"{row['name']} {row['kind']}: {row['error_px']} px at confidence {row['confidence']}" for row in rows
        if row["method"] == OURS and row["answered"] and row["error_px"] > 1 and row["confidence"] >= THRESHOLD
    ]  # fmt: skip


#: Kinds of case in the order of the table, and what is said of them.
KINDS = {
    "shift": "shift to 20 px", "affine": "turned, scaled, moved 10 px", "local": "smooth field of 4 px",
    "clouds and wedge": "30 % clouds masked, a corner missing", "speckle 1": "speckle of one look",
    "speckle 4": "speckle of four looks", "20 m": "radar pixels of 20 m", "embedded shift": "invented radar, shift",
    "embedded affine": "invented radar, affine", "embedded local": "invented radar, field",
    "optical shift": "red and blue, shift", "optical affine": "red and blue, affine",
    "optical local": "red and blue, field",
}  # fmt: skip


def table(lines: list[dict[str, Any]]) -> str:
    """Return Markdown: a row for each kind of case and method, of the half that nothing was chosen on."""
    rows = [
        "| case | method | answered | error: median, worst px | against its own answer before | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for kind, words in KINDS.items():
        for line in lines:
            if line["kind"] != kind or line["half"] != "east":
                continue
            errors = [
                "-" if line[name] is None else f"{line[name]['median']:.2f}, {line[name]['worst']:.2f}"
                for name in ("error_px", "own_px")
            ]
            method = f"**{OURS}**" if line["method"] == OURS else line["method"]
            rows.append(
                f"| {words} | {method} | {line['answered']} of {line['pairs']} | {errors[0]} | {errors[1]} | "
                f"{line['cpu_s']:.2f} |"
            )  # fmt: skip
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="few pairs, nothing written")
    parser.add_argument("--ours", action="store_true", help="no peers, nothing written")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    peers = {} if options.ours else dict(PEERS)
    kinds = ("shift", "affine", "local", "clouds and wedge", "speckle 1", "speckle 4", "20 m")
    rows = measured(city_cases(kinds if not options.small else ("shift",)), peers, peers_on="east")
    if not options.small:
        rows += measured(embedded_cases(), peers, peers_on="east") + measured(optical_cases(), peers, peers_on="east")
    lines = summed(rows)
    for line in lines:
        print(json.dumps(line))
    failures = silent_failures(rows)
    print("silent failures:", failures or "none")
    if options.small or len(peers) < ALL_PEERS:
        print(f"{len(peers)} of {ALL_PEERS} peers: nothing written")
    else:
        RESULT.write_text(json.dumps({"lines": lines, "silent_failures": failures, "rows": rows}, indent=1) + "\n")
        write_table(table(lines), PAGE, script="coregister")


if __name__ == "__main__":
    main()
