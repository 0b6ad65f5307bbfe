"""Other engines than torch for the two parts of a network that take nearly all of its time, encoders and decoder.

Each engine answers the same windows of 13 + 2 bands, one at a time on both threads and two at a time on a thread each;
without reliance and with it. Engines that are not installed are left out: `pip install openvino onnx onnxscript
onnxruntime` adds them. Writes backends.json beside this file (docs/decisions/0005-engines.md says what followed from
it). `--small` tries all of it on little data and writes nothing.
"""

import argparse
import copy
import io
import json
import os
import platform
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import predict
import torch
from torch import Tensor, nn

from equipoise.models.features import padded_size
from equipoise.models.network import FusionUNet
from equipoise.pipeline.window_answers import PRECISIONS, WindowAnswers

RESULT = Path(__file__).with_name("backends.json")

#: Engine -> packages that it needs beside torch, and precisions that it is tried at.
NEEDS: dict[str, tuple[str, ...]] = {
    "torch": (), "compile": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",),
}  # fmt: skip
TRIED = {"torch": ("32", "bf16"), "compile": ("32", "bf16"), "onnx": ("32",), "openvino": ("32", "bf16")}

_Run = Callable[[Sequence[Tensor]], list[Tensor]]


class Outside(nn.Module):
    """A part of a network that another engine runs.

    Parameters
    ----------
    run
        Turns the part's inputs into its outputs, in order; called on several threads at a time.
    part
        What it stands for; its attributes can still be asked for.
    takes_list
        Whether the part is called with one list of maps, and gives one map, or with one map, and gives a list.
    """

    def __init__(self, run: _Run, part: nn.Module, *, takes_list: bool) -> None:
        super().__init__()
        self._run, self._takes_list = run, takes_list
        self.part = part

    def forward(self, given: Any) -> Any:
        """Run the engine."""
        return self._run(given)[0] if self._takes_list else self._run([given])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("part"), name)


def with_backend(network: FusionUNet, backend: str, *, tile: int, dtype: torch.dtype, streams: int) -> FusionUNet:
    """Return a network whose encoders and decoder are run by another engine; fusion and head stay with torch.

    ``streams`` windows are answered at the same time, each by its part of torch's threads.
    """
    if backend == "torch":
        return network
    engine = {"compile": _compiled, "onnx": _onnx, "openvino": _openvino}[backend]
    return _replaced(network, engine, tile=tile, dtype=dtype, streams=streams)


def _replaced(network: FusionUNet, engine: Any, *, tile: int, dtype: torch.dtype, streams: int) -> FusionUNet:
    other = copy.copy(network)
    other._modules = dict(network._modules)
    edge, _ = padded_size((tile, tile), depth=network.spec.depth)
    scales = sorted(network.spec.widths)
    make = {"dtype": dtype, "streams": streams}
    other.encoders = nn.ModuleList(
        Outside(engine(encoder, [(bands, edge)], outputs=len(scales), **make), encoder, takes_list=False)
        for encoder, bands in zip(network.encoders, network.spec.in_channels, strict=True)
    )
    shapes = [(network.spec.widths[scale], edge >> scale) for scale in scales]
    decoder = engine(_Decoder(network.decoder), shapes, outputs=1, **make)
    other.decoder = Outside(decoder, network.decoder, takes_list=True)
    return other


class _Decoder(nn.Module):
    """The decoder as engines want it: with one argument a map."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *fused: Tensor) -> Tensor:
        return cast("Tensor", self.decoder(list(fused)))


def _compiled(
    part: nn.Module, shapes: Sequence[tuple[int, int]], *, outputs: int, dtype: torch.dtype, streams: int
) -> _Run:
    del shapes, dtype, streams
    compiled = torch.compile(part, dynamic=False, options={"freezing": True})

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        found = compiled(*given)
        return [found] if outputs == 1 else list(found)

    return run


def _onnx(
    part: nn.Module, shapes: Sequence[tuple[int, int]], *, outputs: int, dtype: torch.dtype, streams: int
) -> _Run:
    del dtype
    import onnxruntime

    written = io.BytesIO()
    batch = {0: torch.export.Dim("batch", min=1, max=1024)}
    with torch.no_grad():
        torch.onnx.export(
            part,
            _examples(shapes),
            written,
            dynamo=True,
            verbose=False,
            dynamic_shapes=(tuple(batch for _ in shapes),) if isinstance(part, _Decoder) else (batch,),
        )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = max(1, torch.get_num_threads() // streams)
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(written.getvalue(), settings, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        # An input that only gives its shape away may have been left out of the graph.
        arrays = [values.float().contiguous().numpy() for values in given][-len(names) :]
        return [torch.from_numpy(item) for item in session.run(None, dict(zip(names, arrays, strict=True)))][:outputs]

    return run


def _openvino(
    part: nn.Module, shapes: Sequence[tuple[int, int]], *, outputs: int, dtype: torch.dtype, streams: int
) -> _Run:
    import openvino

    with torch.no_grad():
        model = openvino.convert_model(part, example_input=_examples(shapes))
    kept = len(model.inputs)
    model.reshape({item: [-1, channels, edge, edge]
                   for item, (channels, edge) in zip(model.inputs, shapes[-kept:], strict=True)})  # fmt: skip
    precision = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    compiled = openvino.Core().compile_model(
        model, "CPU",
        {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": streams,
         "INFERENCE_NUM_THREADS": max(1, torch.get_num_threads())},
    )  # fmt: skip
    own = threading.local()

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        arrays = [values.float().contiguous().numpy() for values in given][-kept:]
        own.request.infer(arrays, share_inputs=True)
        return [torch.from_numpy(np.array(own.request.get_output_tensor(k).data)) for k in range(outputs)]

    return run


def _examples(shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(2, channels, edge, edge) for channels, edge in shapes)


def inputs(network: FusionUNet, *, tile: int) -> dict[str, Any]:
    generator, names = torch.Generator().manual_seed(0), network.modalities
    return {
        "image": {name: torch.randn(1, predict.BANDS[name], tile, tile, generator=generator) for name in names},
        "valid": {name: torch.ones(1, tile, tile, dtype=torch.bool) for name in names},
        "available": torch.ones(1, len(names), dtype=torch.bool),
    }


def milliseconds(answers: WindowAnswers, given: dict[str, Any], *, streams: int, windows: int) -> float:
    """Return the wall time a window, of ``streams`` threads that answer at the same time."""

    def answer(count: int) -> None:
        torch.set_num_threads(predict.THREADS // streams)
        for _ in range(count):
            answers(given)

    answer(2)
    threads = [threading.Thread(target=answer, args=(windows // streams,)) for _ in range(streams)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1000 * (time.perf_counter() - began) / (windows // streams * streams)


def measure(*, tile: int, depth: int, steps: int, windows: int, rounds: int) -> list[dict[str, Any]]:
    """Time every engine in turn, as often as there are rounds."""
    predictor = predict.trained(("eo", "sar"), depth=depth, steps=steps)
    network, given = predictor.network, inputs(predictor.network, tile=tile)
    core, found = slice(tile // 8, tile - tile // 8), []
    wish = WindowAnswers(network=network, prior=predictor.prior, reliance="none")(given)[0]
    for backend, precisions in TRIED.items():
        if any(find_spec(name) is None for name in NEEDS[backend]):
            print(f"{backend}: not installed")
            continue
        for precision in precisions:
            for streams in (1, 2):
                torch.set_num_threads(predict.THREADS)
                network_of = with_backend(network, backend, tile=tile, dtype=PRECISIONS[precision], streams=streams)
                # OpenVINO casts by itself.
                own = "32" if backend == "openvino" else precision
                kinds = {
                    reliance: WindowAnswers(network=network_of, prior=predictor.prior, reliance=reliance, core=core,
                                            every=2, precision=own, reliance_precision="bf16")
                    for reliance in ("none", "shapley")
                }  # fmt: skip
                times = {
                    name: statistics.median(
                        milliseconds(answers, given, streams=streams, windows=windows) for _ in range(rounds)
                    )
                    for name, answers in kinds.items()
                }
                difference = float(np.abs(kinds["none"](given)[0] - wish).mean())
                found.append({"engine": backend, "precision": precision, "windows_at_a_time": streams,
                              "ms_a_window": times, "probability_difference": difference})  # fmt: skip
                print(found[-1], flush=True)
    return found


def main() -> None:
    from equipoise.pipeline.run_folder import package_versions

    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="try all of it on little data; writes nothing")
    small = parser.parse_args().small
    found = measure(tile=64 if small else 256, depth=2 if small else 4, steps=2 if small else 8,
                    windows=2 if small else 16, rounds=1 if small else 5)  # fmt: skip
    missing = set(TRIED) - {item["engine"] for item in found}
    if missing and not small:
        print(f"nothing was written: {', '.join(sorted(missing))} would be lost from {RESULT.name}")
        return
    if small:
        print("tried on little data: nothing was written")
        return
    record = {"engines": found, "threads": predict.THREADS, "cpu_count": os.cpu_count(),
              "load_average": os.getloadavg(), "python": platform.python_version(),
              "versions": package_versions()}  # fmt: skip
    temporary = RESULT.with_name(f".{RESULT.name}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(RESULT)


if __name__ == "__main__":
    main()
