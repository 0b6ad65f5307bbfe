"""Explanation of folders: runs, models, aligned scenes, batch runs; anything else by what lies in it."""

from collections import Counter
from pathlib import Path

from .explanation import Explanation
from .explanation_record import record


def folder(path: Path) -> Explanation:
    """Return what a folder is; files in it are named, and each can be explained alone."""
    names = sorted(item.name for item in path.iterdir() if not item.name.startswith("."))
    if {"model.json", "model.safetensors"} <= set(names):
        card = record(path / "model.json")
        return Explanation(
            path=path,
            kind="model folder",
            what="A trained network: predict.model and `equipoise batch --model` take it.",
            found={**card.found, "files": names},
            made=card.made,
            limits=("not tied to this run: it can be copied as it is",),
        )
    if "ledger.gpkg" in names:
        from .explanation_table import table

        units = table(path / "ledger.gpkg")
        return Explanation(
            path=path,
            kind="batch folder",
            what="A run of `equipoise batch`: maps by unit, mosaics, tables and a ledger.",
            found={**units.found, "files": names},
            made=units.made,
            limits=units.limits,
        )
    if "manifest.json" in names:
        run = record(path / "manifest.json")
        return Explanation(
            path=path,
            kind="run folder",
            what="A run of `equipoise run`: aligned scenes, patches, model, maps, report.",
            read=("the same command goes on where it stopped; report.html is the page for people",),
            found={**run.found, "files": names},
            made=run.made,
        )
    if "stack.json" in names:
        stack = record(path / "stack.json")
        return Explanation(
            path=path, kind="aligned scene", what=stack.what, found={**stack.found, "files": names}, limits=stack.limits
        )
    kinds = Counter(Path(name).suffix or "folder or other" for name in names)
    return Explanation(
        path=path,
        kind="unknown",
        what="A folder that no stage marks as its own; `equipoise explain` takes its files.",
        found={"entries": len(names), "by ending": dict(kinds)},
    )
