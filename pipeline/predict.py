"""Stage predict: maps of classes, confidence and reliance of whole scenes, in bounded memory, resumable."""

import contextlib
import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

from ..datasets.normalise import Normaliser
from ..datasets.stack import AlignedStack, StackWindow
from .answer_stream import answer_stream, divided_threads
from .area import Area, scene_area
from .band_crop import BandCrop
from .errors import PipelineError
from .map_files import MapFiles, MapWriter, map_names, written_maps
from .map_parts import MapParts
from .map_rows import MapRows
from .mosaic import WindowGrid
from .progress import track
from .reliance import METRICS
from .run_folder import write_text
from .scene_options import ClassOptions
from .stage_options import PredictOptions
from .window_answers import WindowAnswers, multiplies_bf16
from .window_stream import Strip, WindowStream
from .write_behind import WriteBehind

#: Batches of answers that may wait to be blended.
MOST_WAITING = 4

#: Batches that go through the network at a time on the CPU, where nothing else is asked for.
MOST_STREAMS = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A network with all that it needs to make maps.

    Attributes
    ----------
    network
        A :class:`~equipoise.models.three_steps.ThreeSteps` in evaluation mode, on its device.
    normaliser
        Turns stack windows into its inputs.
    classes
        In the order of the network's outputs.
    prior
        Class shares in training, float32 (class,).
    digest
        Hash of the model's files, written into the maps.
    approximate
        True where the network was not trained with subset sampling: its answers to subsets are extrapolations.
    temperature
        What its logits are divided by so that it is as sure as it is right; fitted on the validation split. For
        confidence alone: what the network says from some of its sensors was not calibrated, and reliance needs it as it
        was learned.
    """

    network: Any
    normaliser: Normaliser
    classes: Sequence[ClassOptions]
    prior: torch.Tensor
    digest: str
    approximate: bool
    temperature: float = 1.0

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def tensors(self, scene: str, windows: Sequence[StackWindow]) -> dict[str, Any]:
        """Return image, valid and available of a batch of windows, on the device; safe to call on several threads."""
        inputs = [self.normaliser.inputs(scene, window) for window in windows]
        names = self.network.modalities
        valid = {name: torch.from_numpy(np.stack([window.valid[name] for window in windows])) for name in names}
        # Not by torch: on a reading thread it would start as many threads of its own as the network has.
        available = torch.tensor([[bool(window.valid[name].any()) for name in names] for window in windows])
        return {
            "image": {
                name: torch.from_numpy(np.stack([item[name] for item in inputs])).to(self.device)
                for name in (*names, *(name for name in inputs[0] if name not in valid))
            },
            "valid": {name: mask.to(self.device) for name, mask in valid.items()},
            "available": available.to(self.device),
        }


def predict_scene(
    stack: AlignedStack,
    predictor: Predictor,
    *,
    options: PredictOptions,
    folder: Path,
    resume: str,
    area: Area | None = None,
) -> MapFiles:
    """Map one scene, or the part of it that is asked for.

    Reading, the network and the blending and writing of what it said go on at the same time, on threads. Finished rows
    are kept beside the maps until these are complete: after a kill, the same call goes on from there and ends with the
    same bytes, whatever the number of readers.

    Parameters
    ----------
    stack
        The scene on its grid; missing modalities are treated as absent.
    predictor
        What to map with.
    options
        Windows and reliance.
    folder
        Receives ``<scene>.classes.tif``, ``.confidence.tif`` and ``.reliance.tif``.
    resume
        Fingerprint: rows kept by another one are thrown away.
    area
        The part; None: that of the options. What it keeps begins and ends on the tiles of reliance.

    Raises
    ------
    PipelineError
        If the scene has nothing of the area that is asked for.
    SceneError
        If an aligned raster cannot be read.
    """
    area = area or scene_area(stack.geobox, bbox=options.bbox, aoi=options.aoi)
    if area is None:
        raise PipelineError(
            f"scene '{stack.name}': found nothing of it in the area to map; wanted an overlap; correct `predict.bbox` "
            "or `predict.aoi`, or leave the scene out of `predict.scenes`"
        )
    done = folder / f".{stack.name}.done"
    files = map_names(
        folder, stack.name, with_reliance=options.reliance != "none", with_probability=options.probabilities,
        with_contribution=options.contributions,
    )  # fmt: skip
    if done.is_file() and done.read_text(encoding="utf-8") == resume and all(path.is_file() for path in files.all):
        return files
    done.unlink(missing_ok=True)
    parts = MapParts.begin(folder / f".{stack.name}.parts", resume=resume)
    grid = WindowGrid(
        rows=area.geobox.shape[0], cols=area.geobox.shape[1], tile=options.tile, overlap=options.overlap,
        halo=options.chosen_halo,
    )  # fmt: skip
    maps = written_maps(
        replace(stack, geobox=area.written), reliance_grid=reliance_grid(area.written, options.reliance_tile),
        modalities=predictor.network.modalities, classes=predictor.classes,
        tags=_reliance_tags(predictor, stack, options), files=files,
    )  # fmt: skip
    with maps as writer:
        _map_rows(stack, predictor, grid, area=area, options=options, parts=parts, writer=writer)
    write_text(done, resume)
    parts.clear()
    return files


def check_bands(stack: AlignedStack, predictor: Predictor) -> None:
    """Compare a stack with the bands that a model was trained on.

    Raises
    ------
    PipelineError
        If it has none of the model's modalities, or one of them with other bands.
    """
    wanted = {item.name: item.band_names for item in predictor.normaliser.modalities}
    units = {
        item.name: ",".join(str(band.working_unit) for band in item.bands) for item in predictor.normaliser.modalities
    }
    known = [name for name in wanted if name in stack.present]
    if not known:
        raise PipelineError(
            f"scene '{stack.name}': found modalities {sorted(stack.present)}; wanted at least one that the model knows "
            f"({sorted(wanted)}); correct `modalities`, or choose another model"
        )
    for name in known:
        with rasterio.open(stack.present[name]) as source:
            found, unit = tuple(source.descriptions), source.tags().get("unit")
        if found != wanted[name]:
            raise PipelineError(
                f"scene '{stack.name}': found bands {found} of modality '{name}'; wanted {wanted[name]}, which the "
                "model was trained on; correct `modalities`, or choose another model"
            )
        trained = units[name]
        same = (trained, trained.partition(",")[0]) if len(set(trained.split(","))) == 1 else (trained,)
        if predictor.normaliser.scenes is None and unit not in same:  # one unit may stand for that of all bands
            raise PipelineError(
                f"scene '{stack.name}': found modality '{name}' in {unit}; wanted {trained}, which the model was "
                "trained on; declare the product's scale and unit, or train with `normalisation: scene`"
            )


def reliance_grid(geobox: GeoBox, tile: int) -> GeoBox:
    """Return the grid of the reliance map: pixels of ``tile`` scene px, the same upper left corner."""
    rows, cols = -(-geobox.shape[0] // tile), -(-geobox.shape[1] // tile)
    return GeoBox((rows, cols), geobox.affine * Affine.scale(tile), geobox.crs)


def _map_rows(
    stack: AlignedStack,
    predictor: Predictor,
    grid: WindowGrid,
    *,
    area: Area,
    options: PredictOptions,
    parts: MapParts,
    writer: MapWriter,
) -> None:
    """Write the rows that are kept, then those that the network has yet to answer."""
    begin = parts.finished(grid.row_count)
    # Rows that a window row shares with the one before it need that one's weights: begin one row earlier.
    first = max(0, begin - 1)
    if first:
        log.info("scene '%s': going on at window row %d of %d", stack.name, begin, grid.row_count)
    rows = MapRows(grid, modalities=predictor.network.modalities, classes=predictor.classes, options=options)
    crop = BandCrop(grid, kept=area.kept, tile=options.reliance_tile)

    def finish(row: int) -> None:
        band = crop(row, rows.finish(row))
        if row >= begin:
            parts.save(row, band)
            writer.write(band)

    streams = options.streams or _streams(predictor.device)
    with WriteBehind(most=MOST_WAITING) as behind, divided_threads(streams):
        for row in range(begin):
            behind(lambda row: writer.write(parts.load(row)), row)
        if begin == grid.row_count:
            return
        with contextlib.closing(_strips(stack, predictor, grid, area=area, options=options, first=first)) as strips:
            answered = answer_stream(
                strips, window_answers(predictor, grid, options), tensors=partial(predictor.tensors, stack.name),
                streams=streams,
            )  # fmt: skip
            with contextlib.closing(answered):
                for answer in answered:
                    if answer.batch is None:
                        behind(finish, answer.row)
                    else:
                        behind(rows.add, answer.batch, answer.probability, answer.phi)


def _strips(
    stack: AlignedStack, predictor: Predictor, grid: WindowGrid, *, area: Area, options: PredictOptions, first: int
) -> Generator[Strip, None, None]:
    """Yield what is read, and show how far that is."""
    stream = WindowStream(
        stack=stack, area=area, grid=grid, batch_size=options.batch_size or _batch_size(predictor.device),
        readers=options.readers,
    )  # fmt: skip
    total = (grid.row_count - first) * stream.strips_a_row
    with contextlib.closing(stream.strips(first)) as strips:
        yield from track(strips, f"predict {stack.name}", total=total)


def window_answers(predictor: Predictor, grid: WindowGrid, options: PredictOptions) -> WindowAnswers:
    """Return what answers the windows of a grid."""
    return WindowAnswers(
        network=predictor.network, prior=predictor.prior, reliance=options.reliance, synergy=options.contributions,
        precision=options.precision, augment=options.augment, temperature=predictor.temperature,
        core=slice(grid.margin, grid.margin + grid.stride), every=options.reliance_every,
        reliance_precision=reliance_precision(options, predictor.device),
    )  # fmt: skip


def reliance_precision(options: PredictOptions, device: torch.device) -> str:
    """Return the precision at which subsets of the sensors are answered."""
    if options.reliance_precision != "auto":
        return options.reliance_precision
    return "bf16" if options.precision == "32" and multiplies_bf16(device) else options.precision


def _streams(device: torch.device) -> int:
    # Measured on two cores: two windows at a time, one thread each, take a fifth less than one at a time on both.
    return 1 if device.type != "cpu" else min(torch.get_num_threads(), MOST_STREAMS)


def _batch_size(device: torch.device) -> int:
    # Measured on two cores: 4 windows of 256 px a call take five times as long as 4 calls of one window.
    return 1 if device.type == "cpu" else 8


def _reliance_tags(predictor: Predictor, stack: AlignedStack, options: PredictOptions) -> Mapping[str, str]:
    present = [name for name in predictor.network.modalities if name in stack.present]
    return {
        "metric": METRICS.get(options.reliance, "none"),
        "baseline": "class prior",
        "subsets": str(len(present) + 2 if options.reliance == "leave_one_out" else 2 ** len(present)),
        "tile_px": str(options.reliance_tile),
        "model": predictor.digest,
        "approximate": str(predictor.approximate).lower(),
        "precision": reliance_precision(options, predictor.device),
        "missing": ",".join(name for name in predictor.network.modalities if name not in present),
    }
