"""Stage predict: maps of classes, confidence and reliance of whole scenes, in bounded memory, resumable."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from ..datasets.normalise import Normaliser
from ..datasets.stack import IGNORE, AlignedStack, StackReader, StackWindow
from ..models.temperature import TemperedNetwork
from .errors import PipelineError
from .map_files import Band, MapFiles, map_names, quantised, write_maps
from .mosaic import RowBlender, WindowGrid
from .progress import track
from .reliance import METRICS, Method, contributions, tile_shares, tile_sums
from .run_folder import write_text
from .scene_options import ClassOptions
from .stage_options import PredictOptions

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
        What its logits are divided by so that it is as sure as it is right; fitted on the validation split.
    """

    network: Any
    normaliser: Normaliser
    classes: Sequence[ClassOptions]
    prior: torch.Tensor
    digest: str
    approximate: bool
    temperature: float = 1.0

    def calibrated(self) -> "Predictor":
        """Return the predictor of maps: the same answers, as sure as the temperature makes them."""
        network = TemperedNetwork(self.network, self.temperature).eval()
        return replace(self, network=network, temperature=1.0)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def tensors(self, scene: str, windows: Sequence[StackWindow]) -> dict[str, Any]:
        """Return image, valid and available of a batch of windows, on the device."""
        inputs = [self.normaliser.inputs(scene, window) for window in windows]
        names = self.network.modalities
        valid = {name: torch.from_numpy(np.stack([window.valid[name] for window in windows])) for name in names}
        available = torch.stack([valid[name].flatten(1).any(dim=1) for name in names], dim=1)
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
    """Map one scene.

    Finished rows are kept beside the maps until these are complete: after a kill, the same call goes on from there
    and ends with the same bytes.

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
    """
    parts, done = folder / f".{stack.name}.parts", folder / f".{stack.name}.done"
    known = map_names(
        folder, stack.name, with_reliance=options.reliance != "none", with_probability=options.probabilities
    )
    if done.is_file() and done.read_text(encoding="utf-8") == resume and all(path.is_file() for path in known.all):
        return known
    done.unlink(missing_ok=True)
    _start(parts, resume)
    grid = WindowGrid(
        rows=stack.geobox.shape[0], cols=stack.geobox.shape[1], tile=options.tile, overlap=options.overlap
    )
    _predict_rows(stack, predictor, grid, options=options, parts=parts)
    files = write_maps(
        stack,
        (_load_part(parts, row) for row in range(grid.row_count)),
        reliance_grid=reliance_grid(stack.geobox, options.reliance_tile),
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
    stack: AlignedStack, predictor: Predictor, grid: WindowGrid, *, options: PredictOptions, parts: Path
) -> None:
    todo = [row for row in range(grid.row_count) if not _part(parts, row).is_file()]
    if not todo:
        return
    reader = StackReader(stack)
    blender = RowBlender(grid, channels=len(predictor.classes))
    # Rows that a window row shares with the one before it need that one's weights: begin one row earlier.
    first = max(0, todo[0] - 1)
    if first:
        log.info("scene '%s': going on at window row %d of %d", stack.name, todo[0], grid.row_count)
    for row in track(range(first, grid.row_count), f"predict {stack.name}", total=grid.row_count - first):
        sums, counts, valid = _window_row(stack, predictor, grid, row, reader=reader, blender=blender, options=options)
        probability, covered = blender.finish(row)
        if row < todo[0]:
            continue
        top, last = grid.finished_rows(row)
        seen = covered & _any_valid(reader, top, last - top, width=grid.cols)
        values = np.array([item.value for item in predictor.classes], dtype=np.uint8)
        band = Band(
            classes=np.where(seen, values[probability.argmax(axis=0)], IGNORE).astype(np.uint8),
            confidence=np.where(seen, probability.max(axis=0), np.nan).astype(np.float32),
            reliance=tile_shares(sums, counts) if valid else np.full(sums.shape, np.nan, np.float32),
            probability=quantised(probability, seen) if options.probabilities else None,
        )
        _save_part(parts, row, band)


def _window_row(
    stack: AlignedStack,
    predictor: Predictor,
    grid: WindowGrid,
    row: int,
    *,
    reader: StackReader,
    blender: RowBlender,
    options: PredictOptions,
) -> tuple[NDArray[np.float32], NDArray[np.int32], bool]:
    """Predict a row of windows into the blender; return |phi| sums and counts a tile, and whether there are any."""
    modalities, edge = len(predictor.network.modalities), grid.stride // options.reliance_tile
    sums = np.zeros((modalities, edge, grid.col_count * edge), dtype=np.float32)
    counts = np.zeros((edge, grid.col_count * edge), dtype=np.int32)
    for batch in _batches(grid, row, reader=reader, size=options.batch_size or _batch_size(predictor.device)):
        windows = [window for _, window in batch]
        probability, phi = _forward(predictor, stack.name, windows, reliance=options.reliance)
        for (col, window), chance, shares in zip(batch, probability, phi, strict=True):
            blender.add(col, chance)
            core = slice(grid.margin, grid.margin + grid.stride)
            valid = np.any(list(window.valid.values()), axis=0)[core, core]
            left = (col + grid.margin) // grid.stride * edge
            at = (slice(None), slice(left, left + edge))
            sums[:, *at], counts[at] = tile_sums(shares[:, core, core], valid, tile=options.reliance_tile)
    rows = -(-min(grid.stride, grid.rows - row * grid.stride) // options.reliance_tile)
    cols = -(-grid.cols // options.reliance_tile)
    return sums[:, :rows, :cols], counts[:rows, :cols], options.reliance != "none"


def _batches(grid: WindowGrid, row: int, *, reader: StackReader, size: int) -> Iterator[list[tuple[int, StackWindow]]]:
    """Yield the windows of a row that hold data, with their first column, some at a time."""
    batch: list[tuple[int, StackWindow]] = []
    for top, left in grid.origins(row):
        window = reader.read(top, left, height=grid.tile, width=grid.tile)
        if any(mask.any() for mask in window.valid.values()):
            batch.append((left, window))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@torch.inference_mode()
def _forward(
    predictor: Predictor, scene: str, windows: Sequence[StackWindow], *, reliance: Method | Literal["none"]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    tensors, network = predictor.tensors(scene, windows), predictor.network
    features = network.encode(tensors["image"], valid=tensors["valid"], available=tensors["available"])
    logits = network.decode(network.fuse(features, tensors["available"]), size=features.size)
    phi = torch.zeros(len(windows), len(network.modalities), *features.size)
    if reliance != "none":
        phi = contributions(
            network, features, tensors["available"], full=logits, prior=predictor.prior, method=reliance
        )
    return logits.softmax(dim=1).float().cpu().numpy(), phi.float().cpu().numpy()


def _batch_size(device: torch.device) -> int:
    # Measured on two cores: 4 windows of 256 px a call take five times as long as 4 calls of one window.
    return 1 if device.type == "cpu" else 8


def _any_valid(reader: StackReader, top: int, height: int, *, width: int) -> NDArray[np.bool_]:
    window = reader.read(top, 0, height=height, width=width)
    return np.any(list(window.valid.values()), axis=0)


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
