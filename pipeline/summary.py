"""Summaries: one line a stage, and where everything is, for people at a terminal."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .sensor_table import sensor_words
from .verdict import beaten_words, useless_words, verdict_words

if TYPE_CHECKING:
    from .stages import Run


def summary(stage: str, figures: Mapping[str, Any]) -> str:
    """Return what a stage found, in one line."""
    return _SUMMARIES[stage](figures)


def written(run: "Run") -> Iterator[str]:
    """Yield lines that say where the results of a run are."""
    root = run.folder.root
    record = run.folder.stages.get("predict")
    maps = [name for name in record.outputs if name.endswith((".tif", ".parquet", ".gpkg"))] if record else []
    for name in maps[:9]:
        yield f"map         {root / name}"
    if len(maps) > 9:
        yield f"            and {len(maps) - 9} more in {root / 'predictions'}"
    yield f"model       {run.model_folder}"
    yield f"report      {root / 'report.html'}"


def _coregister(figures: Mapping[str, Any]) -> str:
    scenes = figures["registrations"]
    if len(scenes) > 3:
        kept = sum(not item["applied"] for scene in scenes.values() for item in scene.values())
        missing = sum(len(names) for names in figures["missing"].values())
        return f"{len(scenes)} scenes, {kept} positions kept as given, {missing} modalities missing"
    parts = [
        f"{name} {item['note']}" for scene in scenes.values() for name, item in scene.items()
        if item["note"] != "reference"
    ]  # fmt: skip
    return "; ".join(parts)


def _tile(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {split}" for split, count in sorted(figures["patches"].items())) + " patches"


def _distill(figures: Mapping[str, Any]) -> str:
    told = []
    for name, found in figures["students"].items():
        taught = f"{_share(found['taught_score'])} as taught, then " if "taught_score" in found else ""
        told.append(f"{name} {taught}{_share(found['validation_score'])}")
    bare = figures["patches"]["unlabelled"]
    return f"{figures['teacher']} taught, validation scores {', '.join(told)}; {bare} patches without labels"


def _train(figures: Mapping[str, Any]) -> str:
    share = figures["utilization"]["share"]
    names = figures["utilization"]["modalities"]
    use = "indeterminate" if share is None else ", ".join(
        f"{name} {value:.0%}" for name, value in zip(names, share, strict=True)
    )  # fmt: skip
    how = [f"best validation score {figures['best_score']:.3f} (epoch {figures['best_epoch'] + 1})"]
    if "ended" in figures:
        how += [f"learning rate {figures['learning_rate']:.2g}", figures["ended"]]
    return f"{', '.join(how)}; utilization {use}"


def _evaluate(figures: Mapping[str, Any]) -> str:
    parts = [f"test mIoU {_share(figures['fusion']['mean_iou'])}, majority {_share(figures['majority']['mean_iou'])}"]
    parts += [f"{name} alone {_share(item['mean_iou'])}" for name, item in figures["single"].items()]
    parts += [f"{item['modality']} {verdict_words(item)}" for item in figures["targets"]]
    parts += sensor_words(figures.get("by_sensor", ()))
    remark = useless_words(figures) or beaten_words(figures)
    return ", ".join(parts) + (f"; {remark[0].lower()}{remark[1:]}" if remark else "")


def _predict(figures: Mapping[str, Any]) -> str:
    if "chips" in figures:
        return f"{figures['chips']} chips; mean reliance {_reliance(figures['reliance'])}"
    scenes = figures["scenes"]
    first: Mapping[str, Any] = next(iter(scenes.values()), {})
    text = f"{len(scenes)} scene(s)"
    if "reliance" in first and len(scenes) == 1:
        text += f"; mean reliance {_reliance(first['reliance'])}"
    if "planted" in first:
        text += f"; where planted {_reliance(first['planted'])}"
    if "trust" in first and len(scenes) == 1:
        text += f"; {first['trust']['words'][0].rstrip('.')}"
    return text


def _report(figures: Mapping[str, Any]) -> str:
    del figures
    return "one self-contained page"


def _reliance(shares: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {_share(value)}" for name, value in shares.items())


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


_SUMMARIES = {
    "coregister": _coregister, "tile": _tile, "distill": _distill, "train": _train, "evaluate": _evaluate,
    "predict": _predict, "report": _report,
}  # fmt: skip
