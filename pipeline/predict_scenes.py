"""Maps of all scenes of a run, with the figures that the report shows."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch

from ..datasets.stack import IGNORE, AlignedStack
from ..models.inference_form import inference_form
from ..models.receptive_field import receptive_field
from .area import scene_area
from .errors import PipelineError
from .map_companions import write_companions
from .map_files import MapFiles
from .planted import planted_shares
from .predict import Predictor, check_bands, predict_scene, reliance_precision
from .stage_options import PredictOptions
from .trust import trust_words
from .trust_maps import write_trust
from .window_answers import check_precision

log = logging.getLogger(__name__)

#: Share of an answer that may come from beyond a window's margin before that is said.
MOST_BEYOND = 0.05


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
    The files; and how far the network looks beside how far windows reach, and by scene: class shares, mean confidence,
    mean reliance share a modality, share of indeterminate tiles, agreement with planted truth where there is one, and
    ``trust`` (:func:`~equipoise.pipeline.trust_maps.write_trust`) with its ``words``.

    Raises
    ------
    PipelineError
        If the device cannot work at the precision, or no scene lies in the area that is asked for.
    """
    if predictor.approximate and options.reliance != "none":
        log.warning(
            "the model was not trained with subset sampling: its reliance maps are extrapolations, tagged approximate"
        )
    check_precision(options.precision, predictor.device)
    check_precision(reliance_precision(options, predictor.device), predictor.device)
    # For the maps alone: whatever describes the model describes it as it was trained.
    mapper = replace(predictor, network=inference_form(predictor.network))
    context = _context(mapper, options)
    outputs: list[Path] = []
    figures: dict[str, Any] = {}
    for given in stacks:
        area = scene_area(given.geobox, bbox=options.bbox, aoi=options.aoi)
        if area is None:
            log.warning("scene '%s': nothing of it lies in the area to map; it is left out", given.name)
            continue
        check_bands(given, predictor)
        stack = given.of_modalities(predictor.network.modalities)
        files = predict_scene(stack, mapper, options=options, folder=folder, resume=resume)
        outputs.extend(files.all)
        mapped = replace(stack, geobox=area.geobox)
        figures[stack.name] = _describe(mapped, files, predictor, options, informative.get(stack.name))
        trust = None
        if files.reliance is not None and options.trust is not None:
            trust, summary = write_trust(
                stack, predictor.normaliser, classes=files.classes, reliance=files.reliance, tile=options.reliance_tile,
                doubt=options.trust, model=predictor.digest, folder=folder, resume=resume,
            )  # fmt: skip
            outputs.extend(trust.all)
            figures[stack.name]["trust"] = {**summary, "words": trust_words(summary)}
        outputs.extend(write_companions(mapped, files, trust, predictor, model=model))
    if stacks and not figures:
        raise PipelineError(
            f"found none of {len(stacks)} scene(s) in the area to map; wanted one at least; correct `predict.bbox` or "
            "`predict.aoi`"
        )
    return outputs, {
        "scenes": figures,
        "context": context,
        "modalities": list(predictor.network.modalities),
        "temperature": predictor.temperature,
        "classes": [item.model_dump() for item in predictor.classes],
    }


def _context(predictor: Predictor, options: PredictOptions) -> dict[str, Any]:
    """Compare how far the network looks with how far windows reach beyond what is used of them."""
    edge = min(256, max(64, options.tile // 64 * 64))
    generator = torch.Generator().manual_seed(0)
    noise = {
        item.name: torch.randn(1, len(item.bands), edge, edge, generator=generator).to(predictor.device)
        for item in predictor.normaliser.modalities
    }
    field = receptive_field(predictor.network, noise)
    margin = options.overlap // 2
    figures = {
        "radius_px": field.radius, "reaches_border": field.reaches_border, "halo_px": options.chosen_halo,
        "margin_px": margin, "beyond_margin": round(field.beyond(margin), 6),
    }  # fmt: skip
    if figures["beyond_margin"] > MOST_BEYOND:
        log.warning(
            "the network takes %.0f %% of an answer from farther than the %d px that windows reach beyond their cores: "
            "neighbouring windows may differ; raise `predict.overlap`", 100 * field.beyond(margin), margin,
        )  # fmt: skip
    elif field.reaches_border or field.radius > options.chosen_halo:
        log.info("the network looks %d px far: with a halo that wide, windows would not differ at all", field.radius)
    return figures


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
        "class_shares": {
            item.name: float(counts[item.value] / mapped) if mapped else None for item in predictor.classes
        },
        "mapped_share": float(mapped / counts.sum()),
        "mean_confidence": confidence / seen if seen else None,
    }
