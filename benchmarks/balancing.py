"""What balancing costs: milliseconds and memory of a training step under every strategy, as a ratio to joint training.

The network is the product's default (resnet18, depth 4) on two modalities, patches of 128 px, batches of 8, two
threads. All strategies train one network in turn, step by step, many times over; a ratio is the median over rounds of
the two times of one round, so that a machine that is busy for a while slows both; processor time, summed over threads,
is hardly touched by that at all. Memory is what a step takes beyond what was resident before it, at its peak, in a
round of its own (Linux and glibc; elsewhere it is left out). Steps are those of the second half
of a training, when every strategy acts; of the controlled shares one is pressed, as where a target is not met.

Below the strategies stand ways to make `mu_bounded` cheaper; those that are no setting of it are written here as
subclasses. What a cheaper measurement costs stands in a second table: how the reliance that one step measures varies
over draws of patches and exchange.

Run by ``make bench``. Writes ``benchmarks/balancing.json`` and the table in
``docs/studies.md``, and prints the figures.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import ctypes
import json
import math
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.models.balancing import Step, Strategy, Utilization, build_strategy
from equipoise.models.balancing.exchange import kept_statistics, rise
from equipoise.models.balancing.mu_bounded import MuBounded
from equipoise.models.balancing.mu_matched import MuMatched
from equipoise.models.exchanges import roll_derangement
from equipoise.models.features import Features
from equipoise.models.network import FusionUNet
from equipoise.models.scores import brier_score
from equipoise.models.spec import NetworkSpec

MODALITIES, BANDS, CLASSES = ("eo", "sar"), (4, 2), 6
PATCH_PX, BATCH, THREADS = 128, 8, 2
ROUNDS = 5
#: Draws behind a spread, and training steps before the first.
DRAWS, LEARNING = 30, 20
GOAL = 1.3
RESULT = Path(__file__).with_name("balancing.json")
PAGE = Path(__file__).parents[1] / "docs" / "studies.md"


class Pressed(MuBounded):
    """Share targets with a steady effort on the first modality: what is measured must not depend on how a share is."""

    def _steer(self, condition: int, *, progress: float) -> None:  # noqa: ARG002
        self.control.effort[condition] = torch.tensor([1.0] + [0.0] * (len(self.target.low) - 1))

    def _pressed(self, condition: int, column: int) -> bool:  # noqa: ARG002
        return column == 0


class PressedMatched(MuMatched):
    """The same for matched targets."""

    _steer, _pressed = Pressed._steer, Pressed._pressed


class OneCall(Pressed):
    """Variant: all exchanged modalities go through one call of the decoder."""

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Add the pressure."""
        columns, count = range(step.available.shape[1]), len(step.available)
        features = step.features
        donors = roll_derangement(count, 1 + int(torch.randint(count - 1, (1,), generator=step.generator)))
        moved = [features.rolled(step.network.modalities[column], donors) for column in columns]
        with kept_statistics(step.network):
            logits = step.decode(step.available.repeat(len(moved), 1), features=joined(moved)).float()
        rises = brier_score(logits, step.target.repeat(len(moved), 1, 1)).reshape(len(moved), count).mean(dim=1)
        rises = rises - brier_score(step.logits.detach().float(), step.target).mean()
        self.control.measure({(0, column): float(rises[column].detach()) for column in columns})
        self._steer(0, progress=step.progress)
        efforts = self.control.effort[0].to(rises)
        return loss + (efforts * rises.clamp_min(0)).sum() / self.control.total(0)


class Window(Pressed):
    """Variant: the exchange is decoded on a window of the patch; all samples take part.

    The window lies on whole cells of the deepest scale. ``side`` is its side as a share of the patch's.
    """

    side = 0.5

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Add the pressure on a window."""
        return super().loss(windowed(step, side=self.side), loss)


class SmallWindow(Window):
    """Variant: a window of a quarter of the side."""

    side = 0.25


def windowed(step: Step, *, side: float) -> Step:
    """Return the step on a window that is drawn for all samples together."""
    deepest = step.features.maps[step.network.modalities[0]][-1].shape[-1]
    length = max(1, round(side * deepest))
    top, left = (int(torch.randint(deepest - length + 1, (1,), generator=step.generator)) for _ in range(2))
    stride = step.features.size[0] // deepest

    def cut(tensor: Tensor) -> Tensor:
        scale = tensor.shape[-1] // deepest
        return tensor[..., top * scale : (top + length) * scale, left * scale : (left + length) * scale]

    features = replace(
        step.features, size=(length * stride, length * stride),
        maps={name: [cut(item) for item in maps] for name, maps in step.features.maps.items()},
        shares={name: [cut(item) for item in shares] for name, shares in step.features.shares.items()},
    )  # fmt: skip
    return replace(step, features=features, logits=cut(step.logits), target=cut(step.target))


def joined(parts: list[Features]) -> Features:
    """Put several features one behind the other as one batch."""

    def stacked(kind: str) -> dict[str, list[Tensor]]:
        names = getattr(parts[0], kind)
        return {name: [torch.cat(level) for level in zip(*(getattr(part, kind)[name] for part in parts), strict=True)]
                for name in names}  # fmt: skip

    return Features(maps=stacked("maps"), shares=stacked("shares"), size=parts[0].size)


def strategies() -> dict[str, Callable[[], Strategy]]:
    """Name -> what makes the strategy anew."""
    target = Utilization(target={"eo": 0.4}).of(MODALITIES)
    legacy = Utilization(target={"eo": 0.4})
    named: dict[str, Callable[[], Strategy]] = {
        name: partial(build_strategy, name, modalities=MODALITIES, utilization=legacy)
        for name in ("joint", "subset_sampling", "auxiliary", "frozen_head", "mu_legacy", "ogm_ge", "mmpareto",
                     "greedy", "inverse_reliance")
    }  # fmt: skip
    for fraction in (1.0, 0.5, 0.25):
        for count in (None, 1):
            turn = "all in each step" if count is None else "one a step"
            named[f"mu_bounded, fraction {fraction:g}, {turn}"] = partial(
                Pressed, target, fraction=fraction, per_step=count
            )
    named["mu_bounded, depth decoder"] = partial(Pressed, target, depth="decoder")
    named["mu_matched"] = partial(PressedMatched, len(MODALITIES))
    named["one decoder call for all"] = partial(OneCall, target)
    named["window of half the side"] = partial(Window, target, fraction=1.0)
    named["window of a quarter of the side"] = partial(SmallWindow, target, fraction=1.0)
    return named


def network_of() -> FusionUNet:
    torch.manual_seed(0)
    spec = NetworkSpec(
        modalities=MODALITIES, in_channels=BANDS, classes=CLASSES, encoder="resnet18", depth=4,
        decoder_channels=(128, 64, 32, 16), norm="layer",
    )  # fmt: skip
    return FusionUNet(spec).train()


def batch_of(seed: int) -> dict[str, Any]:
    """Return a batch whose classes are blocks that both modalities show, with noise."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(CLASSES, (BATCH, PATCH_PX // 16, PATCH_PX // 16), generator=generator)
    mask = mask.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    image = {}
    for name, bands in zip(MODALITIES, BANDS, strict=True):
        clean = torch.stack([(mask * (band + 1) % CLASSES).float() / 2 - 1 for band in range(bands)], dim=1)
        image[name] = clean + torch.randn(clean.shape, generator=generator)
    valid = {name: torch.ones(BATCH, PATCH_PX, PATCH_PX, dtype=torch.bool) for name in MODALITIES}
    return {"image": image, "valid": valid, "mask": mask, "available": torch.ones(BATCH, 2, dtype=torch.bool)}


def train_step(network: FusionUNet, strategy: Strategy, optimiser: Any, batch: Mapping[str, Any], seed: int) -> None:
    """One step as :class:`~equipoise.models.task.FusionTask` does it, late in a training."""
    generator = torch.Generator().manual_seed(seed)
    available = strategy.available(batch["available"], generator=generator)
    features = network.encode(batch["image"], valid=batch["valid"], available=available)
    features = strategy.adapt(features, modalities=network.modalities)
    logits = network.decode(network.fuse(features, available), size=features.size)
    criterion = torch.nn.functional.cross_entropy
    step = Step(
        network=network, features=features, available=available, logits=logits, target=batch["mask"],
        criterion=criterion, generator=generator, progress=0.9,
    )  # fmt: skip
    loss = strategy.loss(step, criterion(logits, batch["mask"]))
    optimiser.zero_grad()
    loss.backward()
    strategy.gradients(network)
    optimiser.step()


def resident_mb(field: str) -> float:
    """Return a figure of this process from /proc, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in status if line.startswith(field)).split()[1]) / 1024


def peak_mb(work: Callable[[], None]) -> float:
    """Return by how much the resident memory rises at its peak; NaN where the system does not say."""
    try:
        # What the allocator keeps of earlier steps would hide what this one takes.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        work()
        return math.nan
    before = resident_mb("VmRSS")
    work()
    return resident_mb("VmHWM") - before


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Train one step of each strategy in turn: once for memory, then ``rounds`` times for time."""
    made = {name: make() for name, make in strategies().items()}
    network, batch = network_of(), batch_of(0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    train_step(network, build_strategy("joint"), optimiser, batch, 0)  # the optimiser's state is made in the first step
    found: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": [], "peak": []} for name in made}
    for number in range(rounds + 1):
        for name, strategy in made.items():
            network.requires_grad_(True).train()
            strategy.begin_epoch(network, progress=0.9)
            work = partial(train_step, network, strategy, optimiser, batch, number)
            if number == 0:
                found[name]["peak"].append(peak_mb(work))
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            found[name]["wall"].append(time.perf_counter() - wall)
            found[name]["cpu"].append(time.process_time() - cpu)
    return found


def spread(draws: int, *, learning: int) -> dict[str, float]:
    """Measure how a step's reliance on the first modality varies, in a network that has learned a little."""
    network = network_of()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for number in range(learning):
        train_step(network, build_strategy("joint"), optimiser, batch_of(number), number)
    cases: dict[str, Callable[[Step], Tensor]] = {
        "whole batch": lambda step: first_rise(step, BATCH),
        "fraction 0.5": lambda step: first_rise(step, BATCH // 2),
        "fraction 0.25": lambda step: first_rise(step, BATCH // 4),
        "window of half the side": lambda step: first_rise(windowed(step, side=0.5), BATCH),
        "window of a quarter of the side": lambda step: first_rise(windowed(step, side=0.25), BATCH),
    }
    values: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(draws):
        batch = batch_of(10_000 + number)
        with torch.no_grad():
            features = network.encode(batch["image"], valid=batch["valid"], available=batch["available"])
            logits = network.decode(network.fuse(features, batch["available"]), size=features.size)
            for name, case in cases.items():
                step = Step(
                    network=network, features=features, available=batch["available"], logits=logits,
                    target=batch["mask"], criterion=torch.nn.functional.cross_entropy,
                    generator=torch.Generator().manual_seed(number), progress=0.9,
                )  # fmt: skip
                values[name].append(float(case(step)))
    return {name: {"mean": statistics.mean(x), "sd": statistics.stdev(x)} for name, x in values.items()}


def first_rise(step: Step, count: int) -> Tensor:
    return rise(step, 0, torch.arange(count), score=brier_score, detached=True).mean()


def summed(found: Mapping[str, Mapping[str, list[float]]]) -> list[dict[str, Any]]:
    """Medians, and ratios to joint within a round."""
    base = found["joint"]
    rows = []
    for name, item in found.items():
        ratios = {kind: [a / b for a, b in zip(item[kind], base[kind], strict=True)] for kind in ("wall", "cpu")}
        rows.append({
            "strategy": name, "ms": 1000 * statistics.median(item["wall"]),
            "ratio": statistics.median(ratios["wall"]), "cpu_ratio": statistics.median(ratios["cpu"]),
            "quartiles": statistics.quantiles(ratios["wall"], n=4)[::2],
            "peak_mb": item["peak"][0], "peak_ratio": item["peak"][0] / base["peak"][0],
        })  # fmt: skip
    return rows


def table(record: Mapping[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = ["| a training step, x joint | time | processor time | memory |", "| --- " * 4 + "|"]
    for row in record["steps"]:
        ratios = " | ".join(f"{row[name]:.2f}" for name in ("ratio", "cpu_ratio", "peak_ratio"))
        lines.append(f"| {row['strategy']} | {ratios} |")
    lines += ["", "| reliance as one step measures it | mean | sd over steps |", "| --- " * 3 + "|"]
    for name, found in record["reliance_of_a_step"].items():
        lines.append(f"| {name} | {found['mean']:.3f} | {found['sd']:.3f} |")
    return "\n".join(lines)


def write_table(text: str, page: Path, *, script: str) -> None:
    """Put a table between its marks on a page."""
    begin, end = f"<!-- table: benchmarks/{script}.py -->", "<!-- end of table -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def main() -> None:
    from equipoise.pipeline.run_folder import package_versions

    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)
    began = time.perf_counter()
    steps = summed(measure(ROUNDS))
    cost = spread(DRAWS, learning=LEARNING)
    met = [
        row["strategy"]
        for row in steps
        if row["strategy"].startswith("mu_bounded") and max(row["ratio"], row["cpu_ratio"]) <= GOAL
    ]
    record = {
        "goal": {"wanted": GOAL, "met_by": met},
        "modalities": MODALITIES, "patch_px": PATCH_PX, "batch": BATCH, "threads": THREADS, "rounds": ROUNDS,
        "steps": steps, "reliance_of_a_step": cost, "seconds": round(time.perf_counter() - began, 1),
        "cpu_count": os.cpu_count(), "load_average": os.getloadavg(), "python": platform.python_version(),
        "versions": package_versions(),
    }  # fmt: skip
    print(table(record))
    print(f"joint: {steps[0]['ms']:.0f} ms a step")
    print(f"goal {GOAL} x, met by: {', '.join(record['goal']['met_by']) or 'none'}; {record['seconds']} s")
    temporary = RESULT.with_name(f".{RESULT.name}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(RESULT)
    write_table(table(record), PAGE, script="balancing")


if __name__ == "__main__":
    main()
