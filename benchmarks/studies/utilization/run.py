"""Does a chosen reliance arrive, and what does it buy? Targets and noise on the oracle scene, with exact answers.

Part one trains to shares of the optical sensor (20 to 80 %) and measures what arrives, by the bounded score, on patches
that training and selection never saw. Part two trains every method with one budget and measures accuracy as optical
noise grows, and under the families of degradation that no method saw. A target that does not arrive is reported with
the nearest share that did.

Run by ``make study``, or alone; ``--smoke`` makes it short. Writes ``results.json`` beside this file and
``docs/figures/utilization.png``. Finished runs are kept in ``runs/studies/utilization``: a study that was stopped goes
on.
"""

import argparse
import hashlib
import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the oracle scene is a study beside this one

import numpy as np
import torch
from figure import draw
from networks import Budget, accuracy, ensemble, fit, shares
from page import write_page

from equipoise.models.balancing import Utilization
from equipoise.models.share_checks import hack_alarm
from equipoise.pipeline.run_folder import package_versions
from oracle.conditions import HELD_OUT_FAMILIES, TRAINING_FAMILIES, named
from oracle.exact import BayesNetwork, exact_figures
from oracle.scene import OracleScene

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
#: What a target teaches. A chip's head is one linear layer, which alone could not move a share far when it was tried.
DEPTH: dict[str, Literal["decoder", "all"]] = {"segmentation": "decoder", "classification": "all"}
TARGETS = (0.2, 0.4, 0.5, 0.6, 0.8)
NOISE = ("clear", "eo_noise_0.03", "eo_noise_0.06", "eo_noise_0.12", "eo_noise_0.3", "eo_noise_0.6")
#: Trainings of each method in part two; five would be wanted for intervals.
NOISE_SEEDS = 2
#: A share this near to its target has arrived (the paper: .10).
WITHIN = 0.02
PATCHES = 1024

Found = Mapping[str, Any]
Method = Callable[[int], tuple[Any, Found]]


def scene_of(task: str) -> OracleScene:
    """Return the scene: 64 cells a patch, of four native pixels each."""
    return OracleScene(task=task, cells=8 if task == "segmentation" else 2, cell_px=2)


def kept(name: str, work: Callable[[], Found], folder: Path, mark: str) -> Found:
    """Do a run unless it is done."""
    path = folder / f"{name}.{mark}.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(work()), encoding="utf-8")
        temporary.replace(path)
        print(f"  {name}: {path.read_text(encoding='utf-8')[:150]}", flush=True)
    found: Found = json.loads(path.read_text(encoding="utf-8"))
    return found


def to_target(task: str, target: float, seed: int, budget: Budget) -> Found:
    """Train to a share of the optical sensor; say what arrived."""
    scene = scene_of(task)
    wanted = Utilization(target={"eo": target}, tolerance=WITHIN, depth=DEPTH[task])
    network, figures = fit(scene, "mu_bounded", seed=seed, budget=budget, utilization=wanted)
    found = shares(network, scene, seed=777)
    alarm = hack_alarm(found["ce_share"], found["share"])
    effort = max(value for name, value in figures.items() if name.startswith("effort"))
    return {
        "task": task, "depth": DEPTH[task], "target": target, "seed": seed, "share": found["share"][0],
        "interval": found["interval"][0],
        "ce_share": found["ce_share"][0], "hack_alarm": None if alarm is None else any(alarm), "effort": effort,
        "accuracy": accuracy(network, scene, "clear", patches=PATCHES, seed=778), "seconds": figures["seconds"],
    }  # fmt: skip


def methods(budget: Budget, scene: OracleScene) -> dict[str, Method]:
    """Every method: seed -> trained network and figures."""
    degraded = named(*TRAINING_FAMILIES)
    focus = Utilization(target={"eo": 0.75})
    bounded = Utilization(target={"eo": (0.3, 0.45), "sar": (0.25, 0.45)})

    def trained(strategy: Any, conditions: Any = "clear", utilization: Any = None) -> Method:
        return lambda seed: fit(
            scene, strategy, seed=seed, budget=budget, conditions=conditions, utilization=utilization
        )

    return {
        "plain": trained("joint"),
        "frozen_head": trained("frozen_head"),
        "mu_legacy": trained("mu_legacy", utilization=focus),
        "mu_bounded": trained("mu_bounded", utilization=bounded),
        "sensor_dropout": trained("subset_sampling"),
        "degradation": trained("joint", conditions=degraded),
        "ensemble": lambda seed: ensemble(scene, seed=seed, budget=budget, conditions="clear"),
        "mu_matched": trained(["subset_sampling", "mu_matched"], conditions=degraded),
    }


def robustness(method: str, seed: int, budget: Budget) -> Found:
    """Train by a method; measure clean, under noise, and under what nobody was shown."""
    scene = scene_of("segmentation")
    network, figures = methods(budget, scene)[method](seed)
    conditions = dict.fromkeys((*NOISE, *named(*HELD_OUT_FAMILIES)))
    found = {name: accuracy(network, scene, name, patches=PATCHES, seed=779) for name in conditions}
    return {
        "method": method, "seed": seed, "accuracy": found, "share": shares(network, scene, seed=777)["share"],
        "seconds": figures["seconds"],
    }  # fmt: skip


def exact() -> Found:
    """Return what can be known at all: Bayes accuracy a condition, and the shares that belong to the clear scene."""
    scene = scene_of("segmentation")
    clear = exact_figures(scene, patches=512)
    conditions = dict.fromkeys((*NOISE, *named(*HELD_OUT_FAMILIES)))
    return {
        "bayes": {name: float(exact_figures(scene, name, patches=256).accuracy[-1]) for name in conditions},
        "information_share": clear.shares("brier_gain").tolist(),
        "bayes_reliance_share": shares(BayesNetwork(scene), scene, seed=777)["share"],
    }


def arrived(runs: list[Found]) -> Found:
    """Sum up part one: how many runs came within two points, and the nearest share where none did."""
    table: dict[str, Any] = {}
    for task in dict.fromkeys(run["task"] for run in runs):
        rows = [run for run in runs if run["task"] == task]
        hit = [abs(run["share"] - run["target"]) <= WITHIN for run in rows]
        missed = {
            str(target): min((run["share"] for run in rows if run["target"] == target), key=lambda x: abs(x - target))
            for target in dict.fromkeys(run["target"] for run, is_hit in zip(rows, hit, strict=True) if not is_hit)
        }
        table[task] = {
            "runs": len(rows), "within_2_points": sum(hit), "hack_alarms": sum(bool(run["hack_alarm"]) for run in rows),
            "largest_miss": max(abs(run["share"] - run["target"]) for run in rows), "nearest_where_missed": missed,
        }  # fmt: skip
    return table


def compared(runs: list[Found]) -> Found:
    """Sum up part two, method by method, over seeds: clean, mean over noise, at .12, mean over what was held out."""
    table = {}
    for method in dict.fromkeys(run["method"] for run in runs):
        rows = [run["accuracy"] for run in runs if run["method"] == method]
        held_out = named(*HELD_OUT_FAMILIES)
        values = {
            "clear": [row["clear"] for row in rows],
            "noise_mean": [float(np.mean([row[name] for name in NOISE])) for row in rows],
            "noise_0.12": [row["eo_noise_0.12"] for row in rows],
            "held_out_mean": [float(np.mean([row[name] for name in held_out])) for row in rows],
        }
        table[method] = {name: {"mean": float(np.mean(x)), "each": x} for name, x in values.items()}
    return table


def main() -> None:
    """Run what is not done, and write results and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a tenth of the steps")
    parser.add_argument("--part", choices=("targets", "noise"), help="only this one, to be joined by a later run")
    smoke, part = (chosen := parser.parse_args()).smoke, chosen.part
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    budget, seeds = (Budget(steps=60, epochs=6), (0,)) if smoke else (Budget(), (0, 1, 2))
    sources = [*sorted((ROOT / "models").rglob("*.py")), *sorted((HERE.parent / "oracle").glob("*.py"))]
    sources.append(HERE / "networks.py")
    code = b"".join(path.read_bytes() for path in sources)
    mark = hashlib.sha256(code + repr(budget).encode()).hexdigest()[:8]
    folder = ROOT / "runs" / "studies" / "utilization"
    targets = [] if part == "noise" else [
        kept(f"target-{task}-{depth}-{x}-{s}", partial(to_target, task, x, s, budget), folder, mark)
        for task, depth in DEPTH.items() for x in TARGETS for s in seeds
    ]  # fmt: skip
    noise = [] if part == "targets" else [
        kept(f"noise-{name}-{s}", partial(robustness, name, s, budget), folder, mark)
        for s in seeds[:NOISE_SEEDS] for name in methods(budget, scene_of("segmentation"))
    ]  # fmt: skip
    if part is not None:
        return
    record = {
        "smoke": smoke, "budget": vars(budget), "seeds": list(seeds), "arrived": arrived(targets),
        "compared": compared(noise), "exact": kept("exact", exact, folder, mark), "targets": targets,
        "methods": noise, "python": platform.python_version(), "versions": package_versions(),
    }  # fmt: skip
    print(json.dumps({name: record[name] for name in ("arrived", "compared")}, indent=1))
    if smoke:
        return
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, ROOT / "docs" / "figures" / "utilization.png")
    write_page(record, ROOT / "docs" / "strategies.md")
    print(f"wrote {HERE / 'results.json'}, docs/figures/utilization.png and the tables of docs/strategies.md")


if __name__ == "__main__":
    main()
