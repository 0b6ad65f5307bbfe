"""Maps of all scenes of a run, with the figures that the report shows."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..datasets.stack import AlignedStack
from ..models.inference_form import inference_form
from ..models.receptive_field import ReceptiveField, receptive_field
from .area import scene_area
from .errors import PipelineError
from .predict import Predictor, check_bands, reliance_precision
from .scene_dates import say_undated
from .scene_maps import write_scene_maps
from .stage_options import PredictOptions
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
            "the model was not trained on subsets of its sensors: its reliance maps are extrapolations, tagged "
            "approximate"
        )
    check_precision(options.precision, predictor.device)
    check_precision(reliance_precision(options, predictor.device), predictor.device)
    # For the maps alone: whatever describes the model describes it as it was trained.
    mapper = replace(predictor, network=inference_form(predictor.network))
    context = context_figures(mapper, options, seams=any(max(stack.geobox.shape) > options.tile for stack in stacks))
    outputs: list[Path] = []
    figures: dict[str, Any] = {}
    for given in stacks:
        area = scene_area(given.geobox, bbox=options.bbox, aoi=options.aoi)
        if area is None:
            log.warning("scene '%s': nothing of it lies in the area to map; it is left out", given.name)
            continue
        check_bands(given, predictor)
        stack = given.of_modalities(predictor.network.modalities)
        say_undated(stack, predictor.normaliser)
        written, figures[stack.name] = write_scene_maps(
            stack, mapper, predictor, area=area, options=options, folder=folder, resume=resume, model=model,
            informative=informative.get(stack.name),
        )  # fmt: skip
        outputs.extend(written)
    if stacks and not figures:
        raise PipelineError(
            f"found none of {len(stacks)} scene(s) in the area to map{_covered(stacks[0])}; wanted one at least; "
            "correct `predict.bbox` or `predict.aoi`"
        )
    return outputs, {
        "scenes": figures,
        "context": context,
        "modalities": list(predictor.network.modalities),
        "temperature": predictor.temperature,
        "classes": [item.model_dump() for item in predictor.classes],
    }


def context_figures(predictor: Predictor, options: PredictOptions, *, seams: bool = True) -> dict[str, Any]:
    """Compare how far the network looks with how far windows reach beyond what is used of them.

    ``seams`` says whether any scene takes more than one window: elsewhere there is nothing to warn of.
    """
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
    if seams and figures["beyond_margin"] > MOST_BEYOND:
        log.warning(
            "the network takes %.0f %% of an answer from farther than the %d px that windows reach beyond their cores: "
            "neighbouring windows may differ; %s", 100 * field.beyond(margin), margin, _wider(field, options),
        )  # fmt: skip
    elif field.reaches_border or field.radius > options.chosen_halo:
        log.info("the network looks %d px far: with a halo that wide, windows would not differ at all", field.radius)
    return figures


def _wider(field: ReceptiveField, options: PredictOptions) -> str:
    """Say which windows would reach far enough for all but :data:`MOST_BEYOND` of an answer, if any of them do."""
    margin = next(d for d in range(len(field.influence)) if field.beyond(d) <= MOST_BEYOND)
    for tile in (options.tile, 2 * options.tile):
        overlap = tile - (tile - 2 * margin) // options.reliance_tile * options.reliance_tile
        if overlap <= tile // 2:
            size = "" if tile == options.tile else f"`predict.tile: {tile}` and "
            return f"with {size}`predict.overlap: {overlap}` it would be at most {100 * MOST_BEYOND:.0f} %"
    return f"it looks {field.radius} px far: raise `predict.tile` and `predict.overlap`"


def _covered(stack: AlignedStack) -> str:
    """Say what a scene covers, so that exchanged coordinates are seen."""
    if stack.geobox.crs is None:
        return ""
    west, south, east, north = stack.geobox.geographic_extent.boundingbox
    return f" ('{stack.name}' covers {west:.4f},{south:.4f},{east:.4f},{north:.4f}, longitude,latitude)"
