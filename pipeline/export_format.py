"""What an exported model is: the network as one graph, what it takes and gives, and what its file tells of it."""

import json
import os
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .. import __version__
from ..models.export_form import ExportForm
from .errors import PipelineError
from .predict import Predictor

Format = Literal["onnx", "torch"]

#: Format -> suffix of its files.
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "torch": ".pt2"}

#: Key of the description within an ONNX file's metadata; in a .pt2 file it is the extra file of this name.
DESCRIPTION = "equipoise.json"

#: Largest batch and edge, px, that a graph is declared for.
_MOST_BATCH, _MOST_EDGE = 4096, 2**15


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Inputs of an exported model, a modality each, in order.

    Attributes
    ----------
    image
        float32 (batch, band, y, x) in working units.
    valid
        bool (batch, y, x).
    available
        bool (batch, modality).
    """

    image: list[Tensor]
    valid: list[Tensor]
    available: Tensor


def export_form(predictor: Predictor) -> ExportForm:
    """Return the network of a model with its normalisation and calibration as one graph.

    Raises
    ------
    PipelineError
        If the model normalises every scene by itself, or reads dates: no graph knows the scene.
    """
    if predictor.normaliser.reference is not None:
        raise PipelineError(
            "found a model that reads when images were taken; wanted one without, since an exported file is given "
            "images alone; train it with `dates: false` to export it"
        )
    if predictor.normaliser.scenes is not None:
        raise PipelineError(
            "found a model that normalises every scene by itself; wanted one whose statistics are those of its "
            "training; train it with `normalisation: training` to export it"
        )
    modalities = predictor.normaliser.modalities
    statistics = predictor.normaliser.training
    return ExportForm(
        predictor.network, temperature=predictor.temperature,
        mean={item.name: statistics[item.name].mean for item in modalities},
        std={item.name: statistics[item.name].std for item in modalities},
        decibels={item.name: [band.is_backscatter for band in item.bands] for item in modalities},
    ).eval()  # fmt: skip


def description(predictor: Predictor) -> dict[str, Any]:
    """Return what an exported file tells of its model, as plain values."""
    normaliser, spec = predictor.normaliser, predictor.network.spec
    return {
        "format": "equipoise-export", "format_version": 1, "equipoise": __version__, "model": predictor.digest,
        "task": spec.task, "temperature": predictor.temperature,
        "modalities": [
            {
                "name": item.name, "bands": list(item.band_names),
                "units": [str(band.working_unit) for band in item.bands],
                "mean": list(normaliser.training[item.name].mean), "std": list(normaliser.training[item.name].std),
                "network_units": [str(band.network_unit) for band in item.bands],
            }
            for item in normaliser.modalities
        ],
        "classes": [{"value": item.value, "name": item.name, "color": item.color} for item in predictor.classes],
    }  # fmt: skip


def require_onnx() -> None:
    """Say what to install where the packages that write and run ONNX are not there.

    Raises
    ------
    PipelineError
        If one of them is missing.
    """
    lacking = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if lacking:
        raise PipelineError(
            f"found no {', '.join(lacking)}; wanted the packages that ONNX needs; pip install 'equipoise[onnx]'"
        )


def write_graph(form: ExportForm, path: Path, *, format: Format, record: dict[str, Any]) -> None:
    """Trace a model and write it, with batch, height and width left open.

    Parameters
    ----------
    form
        The model.
    path
        File to write; an existing one is replaced.
    format
        ``onnx``, or ``torch`` for a program of `torch.export`.
    record
        What the file tells of the model.

    Raises
    ------
    PipelineError
        If torch cannot trace the network.
    """
    text = json.dumps(record, allow_nan=False)
    trace = _write_program if format == "torch" else _write_onnx
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries about themselves: what is written is compared afterwards
            trace(form, path, text)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise PipelineError(
            f"found a network that torch cannot trace with open sizes ({reason}); wanted one that it can; try the "
            "other of onnx and torch, or a ResNet as encoder"
        ) from error


def _write_program(form: ExportForm, path: Path, text: str) -> None:
    example, shapes, _ = _example(form)
    program = torch.export.export(form, example, dynamic_shapes=shapes, strict=False)
    # What nothing uses goes: an `unbind` of nothing, as of a single gate, can be written but not read again.
    program.graph_module.graph.eliminate_dead_code()
    torch.export.save(program, path, extra_files={DESCRIPTION: text})


def _write_onnx(form: ExportForm, path: Path, text: str) -> None:
    example, shapes, names = _example(form)
    graph = torch.onnx.export(
        form, example, dynamic_shapes=shapes, dynamo=True, input_names=names, output_names=["probability"],
        verbose=False,
    )  # fmt: skip
    if graph is None:  # only the old exporter gives nothing
        raise ValueError("nothing came from torch's exporter")
    graph.model.metadata_props[DESCRIPTION] = text
    graph.save(str(path))


class Exported:
    """An exported file that is open.

    Parameters
    ----------
    path
        The file.
    format
        As for :func:`write_graph`.
    threads
        For onnxruntime; None: those of torch.
    """

    def __init__(self, path: Path, *, format: Format, threads: int | None = None) -> None:
        self._session: Any = None
        if format == "torch":
            self._module = torch.export.load(path).module()
            return
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        self._session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        self._names = [item.name for item in self._session.get_inputs()]

    def __call__(self, inputs: Inputs) -> Tensor:
        """Return probabilities float32 (batch, class, y, x), or (batch, class)."""
        if self._session is None:
            with torch.no_grad():
                answer: Tensor = self._module(inputs.image, inputs.valid, inputs.available)
            return answer
        values = [*inputs.image, *inputs.valid, inputs.available]
        fed = {name: value.numpy() for name, value in zip(self._names, values, strict=True)}
        return torch.from_numpy(self._session.run(None, fed)[0])


def _example(form: ExportForm) -> tuple[tuple[Any, ...], tuple[Any, ...], list[str]]:
    """Return inputs to trace with, which of their axes are open, and their names."""
    spec = form.network.spec
    batch = torch.export.Dim("batch", min=1, max=_MOST_BATCH)
    rows = torch.export.Dim("height", min=1, max=_MOST_EDGE)
    columns = torch.export.Dim("width", min=1, max=_MOST_EDGE)
    count, edges = len(spec.modalities), (40, 56)
    example = (
        [torch.rand(2, bands, *edges) for bands in spec.in_channels],
        [torch.ones(2, *edges, dtype=torch.bool) for _ in range(count)],
        torch.ones(2, count, dtype=torch.bool),
    )
    shapes = ([{0: batch, 2: rows, 3: columns}] * count, [{0: batch, 1: rows, 2: columns}] * count, {0: batch})
    names = [*spec.modalities, *(f"{name}_valid" for name in spec.modalities), "available"]
    return example, shapes, names
