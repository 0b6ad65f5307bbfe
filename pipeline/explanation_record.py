"""Explanation of files of figures: metrics, manifests, models, stacks, registrations and STAC, told by their keys."""

import json
from pathlib import Path
from typing import Any

from .errors import PipelineError
from .explanation import Explanation
from .verdict import beaten_words, useless_words

#: Bytes beyond which a file of figures is none of ours.
LARGEST = 64 * 2**20


def record(path: Path) -> Explanation:
    """Return what a JSON file is.

    Raises
    ------
    PipelineError
        If it is no JSON object.
    """
    values = read_json(path)
    for keys, tell in _TELLERS:
        if keys <= set(values):
            try:
                return tell(path, values)
            except (AttributeError, KeyError, TypeError, ValueError):
                break  # the keys of ours, and other values: somebody else's file
    return Explanation(
        path=path,
        kind="unknown",
        what="A JSON object whose keys are of no output of Equipoise.",
        found={"keys": sorted(values)[:20]},
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    PipelineError
        If there is none.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise PipelineError(f"{path}: found more than {LARGEST >> 20} MiB; wanted a file of figures; name another")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PipelineError(f"{path}: found no readable JSON ({' '.join(str(error).split())}); check it") from error
    if not isinstance(values, dict):
        raise PipelineError(f"{path}: found no JSON object; wanted figures under names; name another file")
    return values


def _metrics(path: Path, values: dict[str, Any]) -> Explanation:
    found: dict[str, Any] = {"sensors": values["modalities"]}
    for name in ("fusion", "majority"):
        found[name] = {key: values[name][key] for key in ("mean_iou", "accuracy") if key in values[name]}
    found["mean IoU of sensors alone"] = {name: item.get("mean_iou") for name, item in values.get("single", {}).items()}
    found["mean IoU by sensors given"] = {name: item.get("mean_iou") for name, item in values["subsets"].items()}
    found["calibration error"] = values.get("calibrated", values.get("calibration", {})).get("ece")
    return Explanation(
        path=path,
        kind="metrics",
        what="How the network did on the test split, with every subset of the sensors.",
        read=(
            "mean_iou, accuracy: 0 to 1, larger is better; majority is the guess that always says the commonest class",
            "ece: mean difference of confidence and accuracy, smaller is better",
        ),
        found=found,
        made={"trained on subsets": str(values.get("trained_on_subsets")).lower()},
        limits=("not the accuracy in another place or season: the test split is of the same scenes",),
    )


def _manifest(path: Path, values: dict[str, Any]) -> Explanation:
    stages = {name: f"{item['seconds']:.1f} s" for name, item in values["stages"].items()}
    outputs = sum(len(item.get("outputs", ())) for item in values["stages"].values())
    evaluation = values["stages"].get("evaluate", {}).get("figures")
    remark = None if evaluation is None else useless_words(evaluation) or beaten_words(evaluation)
    return Explanation(
        path=path,
        kind="manifest",
        what="What a run did, with which inputs and versions; resuming reads it.",
        read=("a stage is done again where its fingerprint or a size of its outputs no longer fits",),
        found={"stages": stages, "inputs": len(values.get("inputs", ())), "outputs": outputs},
        made={"Equipoise": values["equipoise"], "seed": values.get("seed"), "python": values.get("python")},
        limits=("not a configuration: that is config.yaml beside it", *(() if remark is None else (remark,))),
    )


def _model(path: Path, values: dict[str, Any]) -> Explanation:
    card = values["card"]
    network = card["network"]
    return Explanation(
        path=path,
        kind="model card",
        what="What a model folder's network takes and says; the weights lie beside it.",
        found={
            "sensors": {
                item["name"]: f"({told_bands(item)})" for item in card.get("modalities", ()) if isinstance(item, dict)
            },
            "classes": [item["name"] for item in card.get("classes", ()) if isinstance(item, dict)],
            "network": {name: network[name] for name in ("encoder", "depth", "fusion", "task") if name in network},
        },
        made={"format": values["format_version"], "weights": str(values["weights_sha256"])[:16]},
        limits=("not the network: model.safetensors is",),
    )


def told_bands(modality: dict[str, Any]) -> str:
    """Return the names of a modality's bands, as a model card has them."""
    return ", ".join(item["name"] if isinstance(item, dict) else str(item) for item in modality.get("bands", ()))


def _stack(path: Path, values: dict[str, Any]) -> Explanation:
    return Explanation(
        path=path,
        kind="stack description",
        what="The aligned files of one scene: sensors on one grid, and labels.",
        found={
            "scene": values["name"],
            "present": values["present"],
            "missing": values["missing"],
            "labels": values.get("labels"),
            "registration confidence": values.get("confidence", {}),
            "cloud": values.get("clouds", {}),
            "acquired": values.get("acquired", {}),
        },
        read=("files are relative to this one",),
        limits=("not pixels: they lie in the files named",),
    )


def _registration(path: Path, values: dict[str, Any]) -> Explanation:
    return Explanation(
        path=path,
        kind="registration record",
        what="How each sensor was moved onto the reference.",
        read=("east, north: metres; confidence: probability, 0 to 1, of being right within a pixel of matching",),
        found={
            name: {
                "moved": "yes" if item["applied"] else "no",
                "note": item["note"],
                "east": item["east"],
                "north": item["north"],
                "confidence": item["confidence"],
            }
            for name, item in values["registrations"].items()
        },
        limits=("not measured against ground truth: sensors are compared with each other",),
    )


def _item(path: Path, values: dict[str, Any]) -> Explanation:
    said = values["properties"]
    made = {name: said[key] for name, key in (("lineage", "processing:lineage"), ("model", "mlm:name")) if key in said}
    return Explanation(
        path=path,
        kind="STAC item",
        what="A list of the maps of one scene, for catalogues.",
        read=("assets are relative to this file; values, classes and scales stand under each",),
        found={
            "id": values["id"],
            "time": said.get("datetime"),
            "about the time": said.get("description", "of acquisition"),
            "CRS": said.get("proj:code"),
            "assets": sorted(values["assets"]),
        },
        made={**made, "STAC": values["stac_version"]},
        limits=("not a map: it names them",),
    )


def _collection(path: Path, values: dict[str, Any]) -> Explanation:
    links = [link for link in values.get("links", ()) if link.get("rel") == "item"]
    return Explanation(
        path=path,
        kind="STAC collection",
        what="A list of the items of a batch run, for catalogues.",
        found={"id": values["id"], "items": len(links), "extent": values["extent"]["spatial"]["bbox"][0]},
        made={"STAC": values["stac_version"]},
        limits=("not a map: its items name them",),
    )


_TELLERS = (
    (frozenset({"modalities", "fusion", "subsets"}), _metrics),
    (frozenset({"equipoise", "stages"}), _manifest),
    (frozenset({"format", "card", "weights_sha256"}), _model),
    (frozenset({"name", "present", "missing"}), _stack),
    (frozenset({"registrations"}), _registration),
    (frozenset({"stac_version", "assets", "properties"}), _item),
    (frozenset({"stac_version", "extent"}), _collection),
)
