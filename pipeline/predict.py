"""Stage predict: maps of classes, confidence and reliance of whole scenes, in bounded memory, resumable."""

import contextlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.normalise import Normaliser
from ..datasets.stack import IGNORE, AlignedStack, StackWindow
from .area import Area, scene_area
from .errors import PipelineError
from .map_files import Band, MapFiles, map_names, quantised, write_maps
from .mosaic import RowBlender, WindowGrid
from .progress import track
from .reliance import METRICS, signed_tile_sums, tile_means, tile_shares, tile_sums
from .run_folder import write_text
from .scene_options import ClassOptions
from .stage_options import PredictOptions
from .window_answers import WindowAnswers
from .window_stream import WindowBatch, WindowStream
from .write_behind import WriteBehind

#: Batches of answers that may wait to be blended.
MOST_WAITING = 4

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
                name: torch.from_numpy(np.stack([item[name] for item in inputs])).to(self.device) for name in names
            },
            "valid": {name: mask.to(self.device) for name, mask in valid.items()},
            "available": available.to(self.device),
        }


def predict_scene(
    stack: AlignedStack, predictor: Predictor, *, options: PredictOptions, folder: Path, resume: str
) -> MapFiles:
    """Map one scene, or the part of it that the options ask for.

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

    Raises
    ------
    PipelineError
        If the scene has nothing of the area that is asked for.
    SceneError
        If an aligned raster cannot be read.
    """
    area = scene_area(stack.geobox, bbox=options.bbox, aoi=options.aoi)
    if area is None:
        raise PipelineError(
            f"scene '{stack.name}': found nothing of it in the area to map; wanted an overlap; correct `predict.bbox` "
            "or `predict.aoi`, or leave the scene out of `predict.scenes`"
        )
    parts, done = folder / f".{stack.name}.parts", folder / f".{stack.name}.done"
    known = map_names(
        folder, stack.name, with_reliance=options.reliance != "none", with_probability=options.probabilities,
        with_contribution=options.contributions,
    )  # fmt: skip
    if done.is_file() and done.read_text(encoding="utf-8") == resume and all(path.is_file() for path in known.all):
        return known
    done.unlink(missing_ok=True)
    _start(parts, resume)
    grid = WindowGrid(
        rows=area.geobox.shape[0], cols=area.geobox.shape[1], tile=options.tile, overlap=options.overlap,
        halo=options.chosen_halo,
    )  # fmt: skip
    _predict_rows(stack, predictor, grid, area=area, options=options, parts=parts)
    files = write_maps(
        replace(stack, geobox=area.geobox),
        (_load_part(parts, row) for row in range(grid.row_count)),
        reliance_grid=reliance_grid(area.geobox, options.reliance_tile),
        modalities=predictor.network.modalities,
        classes=predictor.classes,
        tags=_reliance_tags(predictor, stack, options),
        files=known,
    )
    write_text(done, resume)
    shutil.rmtree(parts)
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
        if predictor.normaliser.scenes is None and unit != trained:
            raise PipelineError(
                f"scene '{stack.name}': found modality '{name}' in {unit}; wanted {trained}, which the model was "
                "trained on; declare the product's scale and unit, or train with `normalisation: scene`"
            )


def reliance_grid(geobox: GeoBox, tile: int) -> GeoBox:
    """Return the grid of the reliance map: pixels of ``tile`` scene px, the same upper left corner."""
    rows, cols = -(-geobox.shape[0] // tile), -(-geobox.shape[1] // tile)
    return GeoBox((rows, cols), geobox.affine * Affine.scale(tile), geobox.crs)


def _start(parts: Path, resume: str) -> None:
    mark = parts / "resume.json"
    known = mark.read_text(encoding="utf-8") if mark.is_file() else None
    if known != json.dumps(resume):
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        write_text(mark, json.dumps(resume))


def _predict_rows(
    stack: AlignedStack, predictor: Predictor, grid: WindowGrid, *, area: Area, options: PredictOptions, parts: Path
) -> None:
    todo = [row for row in range(grid.row_count) if not _part(parts, row).is_file()]
    if not todo:
        return
    # Rows that a window row shares with the one before it need that one's weights: begin one row earlier.
    first = max(0, todo[0] - 1)
    if first:
        log.info("scene '%s': going on at window row %d of %d", stack.name, todo[0], grid.row_count)
    stream = WindowStream(
        stack=stack, area=area, grid=grid, tensors=partial(predictor.tensors, stack.name),
        batch_size=options.batch_size or _batch_size(predictor.device), readers=options.readers,
    )  # fmt: skip
    answers = WindowAnswers(
        network=predictor.network, prior=predictor.prior, reliance=options.reliance, synergy=options.contributions,
        precision=options.precision, augment=options.augment, temperature=predictor.temperature,
        core=slice(grid.margin, grid.margin + grid.stride),
    )  # fmt: skip
    rows = _Rows(grid, predictor, options=options, parts=parts, first=todo[0])
    total = (grid.row_count - first) * stream.strips_a_row
    with contextlib.closing(stream.strips(first)) as strips, WriteBehind(most=MOST_WAITING) as behind:
        for strip in track(strips, f"predict {stack.name}", total=total):
            for batch in strip.batches:
                probability, phi = answers(batch.tensors)
                behind(rows.add, replace(batch, tensors={}), probability, phi)  # inputs are not kept while it waits
            if strip.is_last:
                behind(rows.finish, strip.row)


class _Rows:
    """Blends answers into the rows of a map and keeps each row of windows as soon as it is final."""

    def __init__(
        self, grid: WindowGrid, predictor: Predictor, *, options: PredictOptions, parts: Path, first: int
    ) -> None:
        self._grid, self._predictor, self._parts, self._first = grid, predictor, parts, first
        self._tile, self._with_reliance = options.reliance_tile, options.reliance != "none"
        self._with_probability, self._with_contribution = options.probabilities, options.contributions
        self._blender = RowBlender(grid, channels=len(predictor.classes))
        self._clear()

    def _clear(self) -> None:
        edge = self._grid.stride // self._tile
        shape = (edge, self._grid.col_count * edge)
        self._sums = np.zeros((len(self._predictor.network.modalities), *shape), dtype=np.float32)
        self._counts = np.zeros(shape, dtype=np.int32)
        self._signed = np.zeros((len(self._sums) + 1, *shape), dtype=np.float32)

    def add(self, batch: WindowBatch, probability: NDArray[np.float32], phi: NDArray[np.float32]) -> None:
        """Add a batch of the current row: probabilities to blend, |phi| by tile of the windows' cores."""
        grid = self._grid
        core, edge = slice(grid.margin, grid.margin + grid.stride), grid.stride // self._tile
        for col, seen, chance, shares in zip(batch.cols, batch.seen, probability, phi, strict=True):
            self._blender.add(col, chance, seen=seen)
            if not self._with_reliance:
                continue
            left = (col + grid.margin) // grid.stride * edge
            at = (slice(None), slice(left, left + edge))
            phi_core, seen_core = shares, seen[core, core]
            self._sums[:, *at], self._counts[at] = tile_sums(
                phi_core[: len(self._sums)], seen_core, tile=self._tile
            )  # fmt: skip
            if self._with_contribution:
                self._signed[:, *at] = signed_tile_sums(phi_core, seen_core, tile=self._tile)

    def finish(self, row: int) -> None:
        """Close a row of windows and keep what is final, unless it was kept before."""
        grid = self._grid
        probability, seen = self._blender.finish(row)
        if row >= self._first:
            rows = -(-min(grid.stride, grid.rows - row * grid.stride) // self._tile)
            cols = -(-grid.cols // self._tile)
            sums, counts = self._sums[:, :rows, :cols], self._counts[:rows, :cols]
            band = _finished_band(self._predictor, probability, seen, sums if self._with_reliance else None, counts)
            if self._with_probability:
                band = replace(band, probability=quantised(probability, seen))
            if self._with_contribution:
                band = replace(band, contribution=tile_means(self._signed[:, :rows, :cols], counts))
            _save_part(self._parts, row, band)
        self._clear()


def _finished_band(
    predictor: Predictor,
    probability: NDArray[np.float32],
    seen: NDArray[np.bool_],
    sums: NDArray[np.float32] | None,
    counts: NDArray[np.int32],
) -> Band:
    """Make the rows of a map from blended probabilities, where something was seen, and |phi| sums and counts a tile."""
    values = np.array([item.value for item in predictor.classes], dtype=np.uint8)
    undefined = np.full((len(predictor.network.modalities), *counts.shape), np.nan, dtype=np.float32)
    return Band(
        classes=np.where(seen, values[probability.argmax(axis=0)], IGNORE).astype(np.uint8),
        confidence=np.where(seen, probability.max(axis=0), np.nan).astype(np.float32),
        reliance=undefined if sums is None else tile_shares(sums, counts),
    )


def _batch_size(device: torch.device) -> int:
    # Measured on two cores: 4 windows of 256 px a call take five times as long as 4 calls of one window.
    return 1 if device.type == "cpu" else 8


def _part(parts: Path, row: int) -> Path:
    return parts / f"row-{row:05d}.npz"


def _save_part(parts: Path, row: int, band: Band) -> None:
    temporary = parts / f".row-{row:05d}.tmp.npz"
    np.savez(temporary, **{name: values for name, values in vars(band).items() if values is not None})
    temporary.replace(_part(parts, row))


def _load_part(parts: Path, row: int) -> Band:
    with np.load(_part(parts, row), allow_pickle=False) as data:
        return Band(**{name: data[name] for name in data.files})


def _reliance_tags(predictor: Predictor, stack: AlignedStack, options: PredictOptions) -> Mapping[str, str]:
    present = [name for name in predictor.network.modalities if name in stack.present]
    return {
        "metric": METRICS.get(options.reliance, "none"),
        "baseline": "class prior",
        "subsets": str(len(present) + 2 if options.reliance == "leave_one_out" else 2 ** len(present)),
        "tile_px": str(options.reliance_tile),
        "model": predictor.digest,
        "approximate": str(predictor.approximate).lower(),
        "missing": ",".join(name for name in predictor.network.modalities if name not in present),
    }
