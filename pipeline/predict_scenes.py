"""Maps of all scenes of a run, with the figures that the report shows."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from ..datasets.stack import IGNORE, AlignedStack
from .map_companions import write_companions
from .map_files import MapFiles
from .planted import planted_shares
from .predict import Predictor, check_bands, predict_scene
from .stage_options import PredictOptions
from .trust import trust_words
from .trust_maps import write_trust

log = logging.getLogger(__name__)


def predict_scenes(
    stacks: Sequence[AlignedStack],
    predictor: Predictor,
    *,
    options: PredictOptions,
    informative: Mapping[str, Path],
    folder: Path,
    resume: str,
    model: Path | None = None,
) -> tuple[list[Path], dict[str, Any]]:
    """Map every scene; scenes that are finished in ``folder`` under the same ``resume`` mark are kept.

    ``model`` is the folder that the predictor was loaded from, which the scenes' STAC items name.

    Returns
    -------
    The files, and by scene: class shares, mean confidence, mean reliance share a modality, share of indeterminate
    tiles, agreement with planted truth where there is one, and ``trust``
    (:func:`~equipoise.pipeline.trust_maps.write_trust`) with its ``words``.
    """
    if predictor.approximate and options.reliance != "none":
        log.warning(
            "the model was not trained with subset sampling: its reliance maps are extrapolations, tagged approximate"
        )
    outputs: list[Path] = []
    figures: dict[str, Any] = {}
    temperature, predictor = predictor.temperature, predictor.calibrated()
    for given in stacks:
        check_bands(given, predictor)
        stack = given.of_modalities(predictor.network.modalities)
        files = predict_scene(stack, predictor, options=options, folder=folder, resume=resume)
        outputs.extend(files.all)
        figures[stack.name] = _describe(stack, files, predictor, options, informative.get(stack.name))
        trust = None
        if files.reliance is not None and options.trust is not None:
            trust, summary = write_trust(
                stack, predictor.normaliser, classes=files.classes, reliance=files.reliance, tile=options.reliance_tile,
                doubt=options.trust, model=predictor.digest, folder=folder, resume=resume,
            )  # fmt: skip
            outputs.extend(trust.all)
            figures[stack.name]["trust"] = {**summary, "words": trust_words(summary)}
        outputs.extend(write_companions(stack, files, trust, predictor, model=model))
    return outputs, {
        "scenes": figures,
        "modalities": list(predictor.network.modalities),
        "temperature": temperature,
        "classes": [item.model_dump() for item in predictor.classes],
    }


def _describe(
    stack: AlignedStack, files: MapFiles, predictor: Predictor, options: PredictOptions, informative: Path | None
) -> dict[str, Any]:
    record: dict[str, Any] = {"missing": dict(stack.missing), **_map_shares(files, predictor)}
    if files.reliance is None:
        return record
    with rasterio.open(files.reliance) as source:
        shares = source.read()
    defined = np.isfinite(shares).all(axis=0)
    names = predictor.network.modalities
    record["reliance"] = {
        name: float(layer[defined].mean()) if defined.any() else None
        for name, layer in zip(names, shares, strict=True)
    }  # fmt: skip
    record["undefined_tiles"] = float(1 - defined.mean())
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
        "class_shares": {
            item.name: float(counts[item.value] / mapped) if mapped else None for item in predictor.classes
        },
        "mapped_share": float(mapped / counts.sum()),
        "mean_confidence": confidence / seen if seen else None,
    }
