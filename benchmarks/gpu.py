"""What a GPU changes: whether the same training gives the same figures, and how fast it is.

Trainings: the embedded scene with a target for the optical share, on the processor and on the GPU in float32 and in
bfloat16, with several seeds; the test figures of each, and how far a GPU's mean is from the processor's beside the
spread over seeds. Maps: the scene by one trained network at every precision, against the processor's classes.
Throughput: training steps of a network for 13 + 2 bands.

Run by ``make bench``; without a GPU it says so and measures nothing. Writes ``benchmarks/gpu.json`` and the table in
``docs/training.md``, and prints the figures.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rasterio
import torch
from balancing import Pressed, train_step, write_table

from equipoise.models.balancing import Strategy, Utilization, build_strategy
from equipoise.models.network import FusionUNet
from equipoise.models.spec import NetworkSpec
from equipoise.pipeline.demo import prepare_demo
from equipoise.pipeline.run_folder import package_versions
from equipoise.pipeline.templates import template_record, write_record

#: Name -> where and how.
CASES = {
    "processor": {"device": "cpu", "precision": "32"},
    "GPU, float32": {"device": "cuda", "precision": "32"},
    "GPU, bfloat16": {"device": "cuda", "precision": "bf16"},
}
SEEDS, TARGET = 3, 0.4
Budget = Mapping[str, int]
BANDS, CLASSES, PATCH_PX = {"eo": 13, "sar": 2}, 8, 256
BATCHES, WARM, STEPS = (16, 64), 5, 30
RESULT = Path(__file__).with_name("gpu.json")
PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def configured(folder: Path, *, scene: Path, **options: Any) -> Path:
    """Write the demo's configuration beside a run folder, with a target and other options by section."""
    record = template_record("demo")
    (item,) = record["scenes"]
    item["files"] = {name: str(scene / file) for name, file in item["files"].items()}
    item |= {name: str(scene / item[name]) for name in ("labels", "informative")}
    record["train"] |= {"strategy": ["subset_sampling", "mu_bounded"], "utilization": {"target": {"eo": TARGET}}}
    record["evaluate"] = {"single_modality": False, "robustness": False}
    record["predict"] |= {"reliance": "none", "trust": None}
    for name, value in options.items():
        record[name] = record[name] | value if isinstance(value, dict) else value
    path = folder.with_suffix(".yaml")
    write_record(record, path)
    return path


def command(*arguments: str) -> None:
    product = "from equipoise.pipeline.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", product, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"equipoise {' '.join(arguments)}: {done.stderr}")


def trained(folder: Path, base: Path, *, seed: int, case: Mapping[str, str], budget: Budget) -> dict[str, float]:
    """Train and evaluate on the patches of another run folder; return figures of the test split."""
    shutil.copytree(base, folder, dirs_exist_ok=True)
    config = configured(folder, scene=base.parent, seed=seed, train={**case, **budget})
    for stage in ("train", "evaluate"):
        command(stage, str(config), "-o", str(folder))
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    bounded = found["utilization"]["brier"]
    stages = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    return {
        "mean_iou": found["fusion"]["mean_iou"], "accuracy": found["fusion"]["accuracy"],
        "eo_share": bounded["share"][bounded["modalities"].index("eo")], "train_s": stages["train"]["seconds"],
    }  # fmt: skip


def classes_of(folder: Path, base: Path, *, device: str, precision: str) -> Any:
    """Map the scene by the network of a run folder and return its classes, uint8 (y, x)."""
    output = base.parent / f"map-{device}-{precision}"
    shutil.copytree(base, output)
    wanted = {"model": str(folder / "model"), "device": device, "precision": precision}
    command("predict", str(configured(output, scene=base.parent, predict=wanted)), "-o", str(output))
    with rasterio.open(output / "predictions" / "embedded.classes.tif") as source:
        return source.read(1)


def trainings(folder: Path, *, seeds: int, budget: Budget) -> dict[str, Any]:
    """Train every case with every seed, and compare maps by a network that the GPU trained."""
    prepare_demo(folder)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    for seed in range(seeds):
        config = configured(base := folder / f"base-{seed}", scene=folder, seed=seed)
        for stage in ("coregister", "tile"):
            command(stage, str(config), "-o", str(base))
        for name, case in CASES.items():
            place = folder / f"{case['device']}-{case['precision']}-{seed}"
            runs[name].append(trained(place, base, seed=seed, case=case, budget=budget))
            print(name, seed, runs[name][-1], flush=True)
    chosen, first = folder / "cuda-32-0", folder / "base-0"
    reference = classes_of(chosen, first, device="cpu", precision="32")
    agreement = {
        precision: float((classes_of(chosen, first, device="cuda", precision=precision) == reference).mean())
        for precision in ("32", "bf16", "fp16")
    }
    return {"runs": runs, "differences": differences(runs), "map_agreement": agreement}


def differences(runs: Mapping[str, list[dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """Per case and figure: mean difference to the processor, and the spread of the processor's over seeds."""

    def values(name: str, figure: str) -> list[float]:
        return [run[figure] for run in runs[name]]

    return {
        name: {
            figure: [
                statistics.mean(values(name, figure)) - statistics.mean(values("processor", figure)),
                statistics.stdev(values("processor", figure)) if len(runs[name]) > 1 else 0.0,
            ]
            for figure in ("mean_iou", "accuracy", "eo_share")
        }
        for name in runs if name != "processor"
    }  # fmt: skip


def patches_a_second(device: str, *, strategy: Strategy, precision: str, batch: int) -> float:
    """Return how many patches a second a training takes, once it is warm."""
    torch.manual_seed(0)
    spec = NetworkSpec(
        modalities=tuple(BANDS), in_channels=tuple(BANDS.values()), classes=CLASSES, encoder="resnet18", depth=4,
        decoder_channels=(128, 64, 32, 16), norm="layer",
    )  # fmt: skip
    network = FusionUNet(spec).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    size = (batch, PATCH_PX, PATCH_PX)
    data = {
        "image": {name: torch.randn(batch, bands, *size[1:], device=device) for name, bands in BANDS.items()},
        "valid": {name: torch.ones(size, dtype=torch.bool, device=device) for name in BANDS},
        "mask": torch.randint(CLASSES, size, device=device),
        "available": torch.ones(batch, len(BANDS), dtype=torch.bool, device=device),
    }  # fmt: skip
    strategy.begin_epoch(network, progress=0.9)
    began = 0.0
    for number in range(WARM + STEPS):
        if number == WARM:
            torch.cuda.synchronize()
            began = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            train_step(network, strategy, optimiser, data, number)
    torch.cuda.synchronize()
    return STEPS * batch / (time.perf_counter() - began)


def training_speed() -> dict[str, float]:
    """Measure training steps on the GPU, patches a second."""
    target = Utilization(target={"eo": TARGET}).of(tuple(BANDS))
    made: dict[str, Callable[[], Strategy]] = {
        "joint": lambda: build_strategy("joint"), "mu_bounded": lambda: Pressed(target),
    }  # fmt: skip
    return {
        f"{name}, {precision}, batches of {batch}": patches_a_second(
            "cuda", strategy=make(), precision=precision, batch=batch
        )
        for batch in BATCHES for precision in ("32", "bf16") for name, make in made.items()
    }  # fmt: skip


def table(record: Mapping[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = ["| embedded scene, optical share .40 | mean IoU | optical share | training |", "| --- " * 4 + "|"]
    for name, runs in record["runs"].items():
        cells = [", ".join(f"{run[figure]:.3f}" for run in runs) for figure in ("mean_iou", "eo_share")]
        seconds = statistics.median(run["train_s"] for run in runs)
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {seconds:.0f} s |")
    lines += ["", f"| 13 + 2 bands, {PATCH_PX} px, {record['gpu']} | patches a second |", "| --- " * 2 + "|"]
    lines += [f"| {name} | {value:.0f} |" for name, value in record["patches_a_second"].items()]
    lines += ["", "| map of a network that the GPU trained | same class as on the processor in float32 |"]
    lines += ["| --- " * 2 + "|"]
    lines += [f"| precision {name} | {100 * value:.2f} % |" for name, value in record["map_agreement"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="fewer trainings of each; writes nothing committed")
    parser.add_argument("--epochs", type=int, help="fewer epochs; writes nothing committed")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured")
        return
    warnings.simplefilter("ignore")
    fast = {"patches_a_second": training_speed()}
    print(json.dumps(fast, indent=1), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        budget = {} if given.epochs is None else {"epochs": given.epochs}
        found = trainings(Path(folder), seeds=given.seeds, budget=budget)
    record = {
        **found, **fast, "gpu": torch.cuda.get_device_name(), "cpu_count": os.cpu_count(),
        "load_average": os.getloadavg(), "python": platform.python_version(), "versions": package_versions(),
    }  # fmt: skip
    print(json.dumps({name: record[name] for name in ("differences", "map_agreement")}, indent=1))
    print(table(record))
    if given.seeds < SEEDS or given.epochs:
        print("tried briefly: nothing was written")
        return
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_table(table(record), PAGE, script="gpu")
    print(f"wrote {RESULT} and the table of {PAGE}")


if __name__ == "__main__":
    main()
