"""Chip classification: a table of class, confidence and reliance for each chip."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import torch

from ..datasets.patches import INDEX_CRS, footprint
from ..datasets.stack import AlignedStack, StackReader
from .chip_map import write_chip_map
from .predict import Predictor, check_bands
from .progress import track
from .reliance import INDETERMINATE_BELOW, contributions
from .scene_dates import say_undated


@torch.inference_mode()
def predict_chips(
    stacks: Sequence[AlignedStack],
    predictor: Predictor,
    *,
    batch_size: int,
    size: int,
    path: Path,
    geopackage: bool = False,
    with_contributions: bool = False,
) -> tuple[list[Path], dict[str, Any]]:
    """Classify the middle ``size`` x ``size`` px of each chip: a GeoParquet table, a map, on request a GeoPackage.

    Columns: ``scene``, ``class_value``, ``class_name``, ``confidence`` (calibrated probability),
    ``reliance_<modality>`` (share of |Shapley contribution|, NaN where indeterminate), ``geometry``; with
    ``with_contributions`` also ``contribution_<modality>`` and ``synergy``, signed. The map
    (:func:`~equipoise.pipeline.chip_map.write_chip_map`) is ``chips.tif``, where all chips have a position.
    """
    rows: list[dict[str, Any]] = []
    groups = [stacks[start : start + batch_size] for start in range(0, len(stacks), batch_size)]
    for group in track(groups, "predict", total=len(groups)):
        rows.extend(_classify(group, predictor, size=size, with_contributions=with_contributions))
    georeferenced = all(stack.geobox.crs is not None for stack in stacks)
    table = gpd.GeoDataFrame(rows, geometry="geometry", crs=INDEX_CRS if georeferenced else None)
    temporary = path.with_name(f".{path.name}.tmp")
    table.to_parquet(temporary, index=False, schema_version="1.1.0", write_covering_bbox=True)
    temporary.replace(path)
    written = [path]
    if geopackage:
        written.append(_write_geopackage(table, path.with_suffix(".gpkg")))
    written += write_chip_map(
        stacks, table["class_value"].tolist(), size=size, classes=predictor.classes, digest=predictor.digest,
        path=path.with_suffix(".tif"),
    )  # fmt: skip
    counts = table["class_name"].value_counts().to_dict()
    return written, {
        "chips": len(table),
        "classes": {str(name): int(count) for name, count in counts.items()},
        "modalities": list(predictor.network.modalities),
        "reliance": {
            name: _mean(table[f"reliance_{name}"].tolist()) for name in predictor.network.modalities
        },
    }  # fmt: skip


def _write_geopackage(table: gpd.GeoDataFrame, path: Path) -> Path:
    temporary = path.with_name(f".{path.stem}.tmp.gpkg")
    temporary.unlink(missing_ok=True)  # what a kill left would be added to
    with warnings.catch_warnings():
        # Chips without a position lie in pixel coordinates, by declaration.
        warnings.filterwarnings("ignore", message=".*'crs' was not provided.*", category=UserWarning)
        table.to_file(temporary, driver="GPKG", layer="chips", engine="pyogrio")
    temporary.replace(path)
    return path


def _classify(
    stacks: Sequence[AlignedStack], predictor: Predictor, *, size: int, with_contributions: bool
) -> list[dict[str, Any]]:
    windows, names = [], predictor.network.modalities
    for given in stacks:
        check_bands(given, predictor)
        stack = given.of_modalities(names)
        say_undated(stack, predictor.normaliser)
        rows, cols = stack.geobox.shape
        windows.append(StackReader(stack).read((rows - size) // 2, (cols - size) // 2, height=size, width=size))
    parts = [predictor.tensors(stack.name, [window]) for stack, window in zip(stacks, windows, strict=True)]
    image = {name: torch.cat([part["image"][name] for part in parts]) for name in parts[0]["image"]}
    valid = {name: torch.cat([part["valid"][name] for part in parts]) for name in names}
    available = torch.cat([part["available"] for part in parts])
    network = predictor.network
    features = network.encode(image, valid=valid, available=available)
    logits = network.decode(network.fuse(features, available), size=features.size)
    signed = contributions(network, features, available, full=logits, prior=predictor.prior, synergy=True)
    shares = signed[:, :-1].abs()
    total = shares.sum(dim=1, keepdim=True)
    shares = torch.where(total >= INDETERMINATE_BELOW, shares / total, torch.nan)
    signed_names = (*(f"contribution_{name}" for name in names), "synergy") if with_contributions else ()
    confidence, best = (logits / predictor.temperature).softmax(dim=1).max(dim=1)
    return [
        {
            "scene": stack.name,
            "class_value": predictor.classes[index].value,
            "class_name": predictor.classes[index].name,
            "confidence": chance,
            **{f"reliance_{name}": share for name, share in zip(names, row, strict=True)},
            **dict(zip(signed_names, values, strict=False)),
            "geometry": footprint(stack.geobox),
        }
        for stack, index, chance, row, values in zip(
            stacks, best.tolist(), confidence.tolist(), shares.tolist(), signed.tolist(), strict=True
        )
    ]


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else None
