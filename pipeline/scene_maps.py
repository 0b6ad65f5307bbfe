"""All that is written of one scene, or of a part of it: maps, trust, styles and item; and its figures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from ..datasets.stack import IGNORE, AlignedStack
from .area import Area
from .map_companions import write_companions
from .map_files import MapFiles
from .planted import planted_shares
from .predict import Predictor, predict_scene
from .stac_item import ItemPlace
from .stage_options import PredictOptions
from .trust import trust_words
from .trust_maps import write_trust


def write_scene_maps(
    stack: AlignedStack,
    mapper: Predictor,
    predictor: Predictor,
    *,
    area: Area,
    options: PredictOptions,
    folder: Path,
    resume: str,
    model: Path | None = None,
    informative: Path | None = None,
    place: ItemPlace | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Write the maps of a scene with all that lies beside them.

    Parameters
    ----------
    stack
        The scene, with the modalities of the model.
    mapper
        What to map with: the model in the form for prediction.
    predictor
        The model as it was trained, which the item describes.
    area
        What is mapped of the scene.
    options, folder, resume
        As for :func:`~equipoise.pipeline.predict.predict_scene`.
    model
        Folder of the model; None leaves it out of the item.
    informative
        Raster of planted truth, if there is one.
    place
        Of the item in a collection.

    Returns
    -------
    The files; and shares of classes, mean confidence, mean reliance share a modality, share of indeterminate tiles,
    agreement with planted truth where there is one, and ``trust``.
    """
    files = predict_scene(stack, mapper, options=options, folder=folder, resume=resume, area=area)
    outputs, mapped = list(files.all), replace(stack, geobox=area.written)
    figures = _describe(mapped, files, predictor, options, informative)
    trust = None
    if files.reliance is not None and options.trust is not None:
        trust, summary = write_trust(
            stack, predictor.normaliser, classes=files.classes, reliance=files.reliance, tile=options.reliance_tile,
            doubt=options.trust, model=predictor.digest, folder=folder, resume=resume,
        )  # fmt: skip
        outputs.extend(trust.all)
        figures["trust"] = {**summary, "words": trust_words(summary)}
    outputs.extend(write_companions(mapped, files, trust, predictor, model=model, place=place))
    return outputs, figures


def _describe(
    stack: AlignedStack, files: MapFiles, predictor: Predictor, options: PredictOptions, informative: Path | None
) -> dict[str, Any]:
    record: dict[str, Any] = {"missing": dict(stack.missing), **_map_shares(files, predictor)}
    if files.reliance is None:
        return record
    names = predictor.network.modalities
    total, defined, tiles = np.zeros(len(names)), 0, 0
    with rasterio.open(files.reliance) as source:
        for _, window in source.block_windows(1):
            shares = source.read(window=window)
            known = np.isfinite(shares).all(axis=0)
            total += shares[:, known].sum(axis=1, dtype=np.float64)
            defined, tiles = defined + int(known.sum()), tiles + known.size
    record["reliance"] = {
        name: float(value / defined) if defined else None for name, value in zip(names, total, strict=True)
    }  # fmt: skip
    record["undefined_tiles"] = float(1 - defined / tiles)
    if informative is not None:
        record["planted"] = planted_shares(
            files.reliance, informative, stack.geobox, modalities=names, tile=options.reliance_tile
        )
    return record


def _map_shares(files: MapFiles, predictor: Predictor) -> dict[str, Any]:
    counts, confidence, seen = np.zeros(256, dtype=np.int64), 0.0, 0
    with rasterio.open(files.classes) as classes, rasterio.open(files.confidence) as chances:
        for _, window in classes.block_windows(1):
            values = classes.read(1, window=window)
            counts += np.bincount(values.ravel(), minlength=256)
            chance = chances.read(1, window=window)
            known = np.isfinite(chance)
            confidence, seen = confidence + float(chance[known].sum(dtype=np.float64)), seen + int(known.sum())
    mapped = counts.sum() - counts[IGNORE]
    return {
        "class_pixels": {item.name: int(counts[item.value]) for item in predictor.classes},
        "class_shares": {
            item.name: float(counts[item.value] / mapped) if mapped else None for item in predictor.classes
        },
        "mapped_share": float(mapped / counts.sum()),
        "mean_confidence": confidence / seen if seen else None,
    }
