"""Explanation of folders: runs and their parts, models, batch runs; anything else by what lies in it."""

from collections import Counter
from pathlib import Path

from .explanation import Explanation
from .explanation_record import record


def folder(path: Path) -> Explanation:
    """Return what a folder is; files in it are named, and each can be explained alone."""
    names = sorted(item.name for item in path.iterdir() if not item.name.startswith("."))
    if {"model.json", "model.safetensors"} <= set(names):
        return _model(path, names)
    for mark, tell in (
        ("ledger.gpkg", _batch), ("manifest.json", _run), ("stack.json", _stack), ("store.json", _patches),
    ):  # fmt: skip
        if mark in names:
            return tell(path, names)
    if stacks := [name for name in names if (path / name / "stack.json").is_file()]:
        return _stacks(path, stacks)
    if models := [name for name in names if (path / name / "model.json").is_file()]:
        return _models(path, models)
    if maps := [name.removesuffix(".classes.tif") for name in names if name.endswith(".classes.tif")]:
        return _maps(path, names, maps)
    kinds = Counter(Path(name).suffix or "folder or other" for name in names)
    return Explanation(
        path=path,
        kind="unknown",
        what="A folder that no stage marks as its own; `equipoise explain` takes its files.",
        found={"entries": len(names), "by ending": dict(kinds)},
    )


def _model(path: Path, names: list[str]) -> Explanation:
    card = record(path / "model.json")
    return Explanation(
        path=path,
        kind="model folder",
        what="A trained network: predict.model and `equipoise batch --model` take it.",
        found={**card.found, "files": names},
        made=card.made,
        limits=("not tied to this run: it can be copied as it is",),
    )


def _batch(path: Path, names: list[str]) -> Explanation:
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


def _run(path: Path, names: list[str]) -> Explanation:
    run = record(path / "manifest.json")
    return Explanation(
        path=path,
        kind="run folder",
        what="A run of `equipoise run`: aligned scenes, patches, model, maps, report.",
        read=("the same command goes on where it stopped; report.html is the page for people",),
        found={**run.found, "files": names},
        made=run.made,
        limits=run.limits[1:],
    )


def _stack(path: Path, names: list[str]) -> Explanation:
    stack = record(path / "stack.json")
    return Explanation(
        path=path, kind="aligned scene", what=stack.what, found={**stack.found, "files": names}, limits=stack.limits
    )


def _stacks(path: Path, scenes: list[str]) -> Explanation:
    return Explanation(
        path=path,
        kind="aligned scenes",
        what="Scenes, a folder each: the sensors on one grid as GeoTIFFs, and how sure their positions are.",
        read=(f"`equipoise explain {path / scenes[0]}` tells one of them; `equipoise view {path}` shows them",),
        found={"scenes": scenes},
    )


def _models(path: Path, models: list[str]) -> Explanation:
    return Explanation(
        path=path,
        kind="model folders",
        what="Networks, a folder each, such as those of single sensors that stage distill leaves.",
        read=(f"`equipoise explain {path / models[0]}` tells one of them; predict.model takes each",),
        found={"models": models},
    )


def _maps(path: Path, names: list[str], scenes: list[str]) -> Explanation:
    return Explanation(
        path=path,
        kind="maps",
        what="Maps of scenes: classes, confidence, reliance, trust, quality, and a STAC item a scene.",
        read=(f"`equipoise explain` takes each file; `equipoise view {path}` shows them",),
        found={"scenes": scenes, "files": names},
    )


def _patches(path: Path, names: list[str]) -> Explanation:
    return Explanation(
        path=path,
        kind="patch store",
        what="The patches of patches.parquet, uncompressed, for training alone.",
        read=("`tile.chips: true` writes them as GeoTIFFs for other programs",),
        found={"files": names},
    )
