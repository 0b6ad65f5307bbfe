"""How fast an exported model answers, beside the model that it was made of, and how far their answers are apart.

The windows are those of the real scenes of a finished run: from values in physical units to calibrated probabilities,
normalisation included, at the same number of threads, in turn within one process. Absolute times mean little on a
shared machine; ratios are of the least time of each.

Writes export.json beside this file and the table of docs/export.md. The run is that of `make study` (studies/
real_imagery), or that of `--run`; without one, nothing is measured. `--small` measures once and writes nothing.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.datasets.stack import StackReader, StackWindow
from equipoise.models.inference_form import inference_form
from equipoise.pipeline.export import export_model
from equipoise.pipeline.export_check import export_inputs, read_stacks
from equipoise.pipeline.export_format import Exported
from equipoise.pipeline.model_folder import load_predictor
from equipoise.pipeline.predict import Predictor
from equipoise.pipeline.run_folder import package_versions

ROOT = Path(__file__).parents[1]
RUN = ROOT / "runs" / "real_imagery" / "landcover"
RESULT, PAGE = Path(__file__).with_suffix(".json"), ROOT / "docs" / "export.md"
THREADS, EDGE = 1, 256

#: What the others are compared with: what maps are made with.
BASE = "torch, as maps are made"

_Answer = Callable[[StackWindow], Tensor]


def engines(folder: Path, predictor: Predictor, out: Path) -> tuple[dict[str, _Answer], dict[str, float]]:
    """Return what answers windows, by name, and how far each export was from the model when it was written."""
    found: dict[str, _Answer] = {
        BASE: _torch(replace(predictor, network=inference_form(predictor.network))),
        "torch, as it was trained": _torch(predictor),
    }
    gaps = {}
    for format, name in (("torch", "torch.export (.pt2)"), ("onnx", "onnxruntime (.onnx)")):
        suffix = {"torch": ".pt2", "onnx": ".onnx"}[format]
        result = export_model(folder, out / f"model{suffix}", format=format, check=folder.parent)
        gaps[name] = result.scenes.difference
        found[name] = _exported(Exported(result.path, format=format, threads=THREADS), predictor)
    return found, gaps


def measure(answers: Mapping[str, _Answer], windows: list[StackWindow], *, rounds: int) -> dict[str, float]:
    """Return the least seconds that each takes for all windows, in turn."""
    least = dict.fromkeys(answers, float("inf"))
    for number in range(rounds + 1):  # the first warms up
        for name, answer in answers.items():
            begin = time.perf_counter()
            for window in windows:
                answer(window)
            if number:
                least[name] = min(least[name], time.perf_counter() - begin)
    return least


def table(record: Mapping[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = ["| engine | time | largest difference of a probability |", "| --- " * 3 + "|"]
    for name, ratio in record["ratios"].items():
        gap = record["difference"].get(name)
        lines.append(f"| {name} | {ratio:.2f} | {'' if gap is None else f'{gap:.1e}'} |")
    first = f"{record['windows']} windows of up to {EDGE} px of real scenes ({', '.join(record['scenes'])})"
    return "\n".join([*lines, "", f"{first}; {THREADS} thread; time of {BASE!r} = 1."])


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=RUN, help="finished run with a model and aligned scenes")
    parser.add_argument("--small", action="store_true", help="measure once and write nothing")
    chosen = parser.parse_args()
    if not (chosen.run / "model" / "model.json").is_file():
        print(f"no finished run at {chosen.run}: nothing was measured; `make study` makes one, or give --run")
        return
    torch.set_num_threads(THREADS)
    predictor = load_predictor(chosen.run / "model", device="cpu")
    stacks = [stack.of_modalities(predictor.network.modalities) for stack in read_stacks(chosen.run)]
    windows = []
    for stack in stacks:
        rows, cols = (min(EDGE, int(length)) for length in stack.geobox.shape)
        windows.append(StackReader(stack).read(0, 0, height=rows, width=cols))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
        answers, gaps = engines(chosen.run / "model", predictor, Path(folder))
        seconds = measure(answers, windows, rounds=1 if chosen.small else 15)
    record = {
        "versions": {**package_versions(), **_runtime()}, "threads": THREADS, "windows": len(windows),
        "scenes": [stack.name for stack in stacks], "seconds": seconds, "difference": gaps,
        "ratios": {name: value / seconds[BASE] for name, value in seconds.items()},
    }  # fmt: skip
    print(table(record))
    if not chosen.small:
        RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        begin, end = "<!-- table: benchmarks/export.py -->", "<!-- end of table -->"
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
        PAGE.write_text(f"{before}{begin}\n{table(record)}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def _torch(predictor: Predictor) -> _Answer:
    @torch.inference_mode()
    def answer(window: StackWindow) -> Tensor:
        given = predictor.tensors("", [window])
        logits = predictor.network(given["image"], valid=given["valid"], available=given["available"])
        return (logits / predictor.temperature).softmax(dim=1)

    return answer


def _exported(exported: Exported, predictor: Predictor) -> _Answer:
    return lambda window: exported(export_inputs(predictor, window))


def _runtime() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")}


if __name__ == "__main__":
    main()
