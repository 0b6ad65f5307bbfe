"""Maps from an exported ONNX file: onnxruntime alone, window by window, without torch."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader

from ..datasets.product import quiet_open
from ..datasets.stack import IGNORE
from .checked_map import checked_map
from .errors import PipelineError
from .map_files import category_names
from .qgis_style import write_ramp, write_style
from .run_folder import write_text

#: Key of the description within the file's metadata.
DESCRIPTION = "equipoise.json"

#: Edge of what is kept of a window, and what is read around it, px: the neighbourhood that answers depend on.
CORE, MARGIN = 512, 64


class OnnxModel:
    """An exported model.

    Parameters
    ----------
    path
        Written by `equipoise export onnx`.
    threads
        Of onnxruntime; None: as many as the machine has cores.

    Attributes
    ----------
    record
        What the file tells: ``modalities`` with bands and units, ``classes``, ``task``, ``temperature``, ``model``.
    bands, units
        Modality -> those of its bands, in order.

    Raises
    ------
    PipelineError
        If onnxruntime is missing, or the file is none that Equipoise exported.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        if find_spec("onnxruntime") is None:
            raise PipelineError("found no onnxruntime; wanted it to run an ONNX file; pip install 'equipoise[onnx]'")
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        # Threads that spin while they wait take the cores from whoever has work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self.record: dict[str, Any] = json.loads(self._session.get_modelmeta().custom_metadata_map[DESCRIPTION])
            self.bands = {item["name"]: tuple(item["bands"]) for item in self.record["modalities"]}
            self.units = {item["name"]: tuple(item["units"]) for item in self.record["modalities"]}
        except Exception as error:  # onnxruntime's own errors have no common base
            reason = " ".join(str(error).split())[:100]
            raise PipelineError(
                f"{path}: found no exported model ({reason}); wanted the output of `equipoise export onnx`; redo it"
            ) from error

    def __call__(self, images: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return probabilities of one image.

        Parameters
        ----------
        images
            Modality -> float32 (band, y, x) in working units, NaN where not valid; those that are missing are left out.

        Returns
        -------
        float32 (class, y, x), or (class,) for classification.
        """
        unknown = sorted(set(images) - set(self.bands))
        if unknown or not images:
            raise PipelineError(
                f"found modalities {unknown or 'none'}; wanted some of {sorted(self.bands)}; correct them"
            )
        shape = next(iter(images.values())).shape[-2:]
        fed: dict[str, NDArray[Any]] = {}
        available = []
        for name, bands in self.bands.items():
            wanted = (len(bands), *shape)
            image = images[name] if name in images else np.full(wanted, np.nan, dtype=np.float32)
            if image.shape != wanted:
                raise PipelineError(f"found '{name}' of shape {image.shape}; wanted {wanted}; check bands and grid")
            valid = _usable(image)
            fed |= {name: image[None].astype(np.float32, copy=False), f"{name}_valid": valid[None]}
            available.append(bool(valid.any()))
        answer: NDArray[np.float32] = self._session.run(None, {**fed, "available": np.array([available])})[0]
        return answer[0]


def predict_onnx(
    path: Path, images: Mapping[str, NDArray[np.float32]], *, threads: int | None = None
) -> NDArray[np.float32]:
    """Return the probabilities of one image, as :class:`OnnxModel` does, from a file that is opened for it."""
    return OnnxModel(path, threads=threads)(images)


@dataclass(frozen=True, kw_only=True)
class OnnxMaps:
    """Maps that were written.

    Attributes
    ----------
    classes, confidence
        COGs: class values (255: nothing observed), and the probability of the class.
    missing
        Sensors of the model that no file was given of.
    """

    classes: Path
    confidence: Path
    missing: tuple[str, ...]


def map_onnx(path: Path, files: Mapping[str, Path], output: Path, *, threads: int | None = None) -> OnnxMaps:
    """Map rasters on one grid, in bounded memory.

    Windows of :data:`CORE` px are answered with :data:`MARGIN` px around them, and put side by side.

    Parameters
    ----------
    path
        The exported model.
    files
        Modality -> raster in working units, as `equipoise coregister` writes it; sensors that are missing are left out.
    output
        Map of classes; its confidence is written beside it.
    threads
        As for :class:`OnnxModel`.

    Raises
    ------
    PipelineError
        If the model labels whole images, or rasters differ from it in bands or unit, or from each other in their grid.
    """
    model = OnnxModel(path, threads=threads)
    if model.record["task"] != "segmentation":
        raise PipelineError(f"{path}: found a model that labels whole images; wanted one of pixels; use predict_onnx")
    if output.suffix != ".tif":
        raise PipelineError(f"{output}: found another kind of name; wanted a file that ends in .tif; correct -o")
    confidence = output.with_suffix(".confidence.tif")
    if {path.resolve() for path in files.values()} & {output.resolve(), confidence.resolve()}:
        raise PipelineError(f"{output}: found a name that would replace an input; wanted another; correct -o")
    classes = model.record["classes"]
    values = np.array([item["value"] for item in classes], dtype=np.uint8)
    names = {int(item["value"]): str(item["name"]) for item in classes}
    colours = {int(item["value"]): _rgb(item["color"]) for item in classes}
    tags = {"model": str(model.record["model"]), "software": "onnxruntime"}
    with contextlib.ExitStack() as opened:
        sources = {name: opened.enter_context(quiet_open(file)) for name, file in files.items()}
        grid = _grid(sources, model)
        class_map = opened.enter_context(
            checked_map(output, grid, descriptions=("class",), dtype="uint8", nodata=IGNORE,
                        overview_resampling="mode", tags=tags, colours=colours)
        )  # fmt: skip
        sure = opened.enter_context(
            checked_map(confidence, grid, descriptions=("confidence",), dtype="float32", nodata=float("nan"),
                        overview_resampling="average", tags=tags)
        )  # fmt: skip
        for probability, seen in _rows(model, sources, grid):
            best = values[probability.argmax(axis=0)]
            class_map.write(np.where(seen, best, IGNORE).astype(np.uint8)[None])
            sure.write(np.where(seen, probability.max(axis=0), np.nan).astype(np.float32)[None])
    write_text(output.with_name(f"{output.name}.aux.xml"), category_names(names))
    write_style(output, names, colours=colours)
    write_ramp(confidence)
    return OnnxMaps(
        classes=output, confidence=confidence, missing=tuple(name for name in model.bands if name not in files)
    )


def _grid(sources: Mapping[str, DatasetReader], model: OnnxModel) -> GeoBox:
    """Return the grid of all rasters, after their bands were compared with the model's."""
    grids = {name: GeoBox(source.shape, source.transform, source.crs) for name, source in sources.items()}
    if not grids or (unknown := sorted(set(grids) - set(model.bands))):
        raise PipelineError(f"found rasters of {unknown if grids else 'no modality'}; wanted {sorted(model.bands)}")
    first = next(iter(grids.values()))
    for name, source in sources.items():
        if source.count != len(model.bands[name]):
            raise PipelineError(f"{source.name}: found {source.count} bands; wanted {model.bands[name]}, in this order")
        unit, wanted = source.tags().get("unit"), model.units[name]
        if unit is not None and unit not in (",".join(wanted), *(wanted[:1] if len(set(wanted)) == 1 else ())):
            raise PipelineError(f"{source.name}: found values in {unit}; wanted {', '.join(wanted)}; convert them")
        if grids[name] != first:
            raise PipelineError(
                f"{source.name}: found another grid; wanted that of the first; run equipoise coregister"
            )
    return first


def _rows(
    model: OnnxModel, sources: Mapping[str, DatasetReader], grid: GeoBox
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Yield probabilities (class, y, x), and where anything was observed, of one row of windows after the other."""
    height, width = (int(length) for length in grid.shape)
    for row in range(0, height, CORE):
        pieces, seen = [], []
        for col in range(0, width, CORE):
            top, left = max(0, row - MARGIN), max(0, col - MARGIN)
            bottom, right = min(height, row + CORE + MARGIN), min(width, col + CORE + MARGIN)
            images = {name: _read(source, ((top, bottom), (left, right))) for name, source in sources.items()}
            rows = slice(row - top, min(height, row + CORE) - top)
            cols = slice(col - left, min(width, col + CORE) - left)
            pieces.append(model(images)[:, rows, cols])
            observed = np.any([_usable(image) for image in images.values()], axis=0)
            seen.append(observed[rows, cols])
        yield np.concatenate(pieces, axis=2), np.concatenate(seen, axis=1)


def _read(source: DatasetReader, window: tuple[tuple[int, int], tuple[int, int]]) -> NDArray[np.float32]:
    """Read all bands, NaN where the file says that nothing was observed, with the file's own scale and offset."""
    values = source.read(window=window, masked=True)
    scale, offset = (np.array(part, dtype=np.float32)[:, None, None] for part in (source.scales, source.offsets))
    filled: NDArray[np.float32] = values.astype(np.float32).filled(np.nan) * scale + offset
    return filled


def _usable(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where all bands (band, y, x) are numbers, (y, x)."""
    usable: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(image), axis=0)
    return usable


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue
