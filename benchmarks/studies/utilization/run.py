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
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the oracle scene is a study beside this one

import torch
from figure import draw
from networks import Budget, ensemble, fit, hits, shares
from page import write_page
from sums import arrived, compared, headline

from equipoise.models.balancing import Utilization
from equipoise.models.share_checks import hack_alarm
from equipoise.pipeline.run_folder import package_versions
from oracle.conditions import HELD_OUT_FAMILIES, TRAINING_FAMILIES, named
from oracle.exact import BayesNetwork, exact_figures
from oracle.scene import OracleScene

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
TASKS = ("segmentation", "classification")
TARGETS = (0.2, 0.4, 0.5, 0.6, 0.8)
NOISE = ("clear", "eo_noise_0.03", "eo_noise_0.06", "eo_noise_0.12", "eo_noise_0.3", "eo_noise_0.6")
#: Trainings of each target in part one, of each method in part two, and of those that are measured only when asked.
TARGET_SEEDS, NOISE_SEEDS, FURTHER_SEEDS = 3, 5, 2
FURTHER = ("ogm_ge", "mmpareto", "inverse_reliance", "early fusion", "i2m2", "response, mu_bounded")
#: What is held against every other method.
HEADLINE = "response"
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
    wanted = Utilization(target={"eo": target}, tolerance=WITHIN)
    network, figures = fit(scene, "mu_bounded", seed=seed, budget=budget, utilization=wanted)
    found = shares(network, scene, seed=777)
    alarm = hack_alarm(found["ce_share"], found["share"])
    effort = max(value for name, value in figures.items() if name.startswith("effort"))
    return {
        "task": task, "target": target, "seed": seed, "share": found["share"][0],
        "interval": found["interval"][0],
        "ce_share": found["ce_share"][0], "hack_alarm": None if alarm is None else any(alarm), "effort": effort,
        "accuracy": float(hits(network, scene, "clear", patches=PATCHES, seed=778).mean()),
        "seconds": figures["seconds"],
    }  # fmt: skip


def methods(budget: Budget, scene: OracleScene) -> dict[str, Method]:
    """Every method: seed -> trained network and figures."""
    # Every other patch is clear; the others draw from the families that training may see.
    seen = named(*TRAINING_FAMILIES)
    degraded = ("clear",) * (len(seen) - 1) + seen
    focus = Utilization(target={"eo": 0.75})
    ranges = Utilization(target={"eo": (0.3, 0.45), "sar": (0.25, 0.45)})

    def trained(strategy: Any, conditions: Any = "clear", utilization: Any = None, baseline: Any = None) -> Method:
        return lambda seed: fit(
            scene, strategy, seed=seed, budget=budget, conditions=conditions, utilization=utilization, baseline=baseline
        )

    return {
        "plain": trained("joint"),
        "frozen_head": trained("frozen_head"),
        "mu_legacy": trained("mu_legacy", utilization=focus),
        "mu_bounded": trained("mu_bounded", utilization=ranges),
        "sensor_dropout": trained("subset_sampling"),
        "degradation": trained("joint", conditions=degraded),
        "ensemble": lambda seed: ensemble(scene, seed=seed, budget=budget, conditions="clear"),
        "mu_matched": trained(["subset_sampling", "mu_matched"], conditions=degraded),
        "response": trained("response"),
        "response, degradation": trained("response", conditions=degraded),
        "response, mu_bounded": trained(["response", "mu_bounded"], utilization=ranges),
        "ogm_ge": trained("ogm_ge"),
        "mmpareto": trained("mmpareto"),
        "inverse_reliance": trained("inverse_reliance"),
        "early fusion": trained("joint", baseline="early"),
        "i2m2": trained("joint", baseline="i2m2"),
    }


def robustness(method: str, seed: int, budget: Budget) -> Found:
    """Train by a method; measure clean, under noise, and under what nobody was shown."""
    scene = scene_of("segmentation")
    network, figures = methods(budget, scene)[method](seed)
    held_out = named(*HELD_OUT_FAMILIES)
    found = {name: hits(network, scene, name, patches=PATCHES, seed=779) for name in dict.fromkeys((*NOISE, *held_out))}
    each = torch.stack([found[name] for name in held_out]).mean(dim=0)
    return {
        "method": method, "seed": seed, "accuracy": {name: float(value.mean()) for name, value in found.items()},
        "share": shares(network, scene, seed=777)["share"], "seconds": figures["seconds"],
        "held_out_of_patch": [round(float(value), 5) for value in each],
        "clear_of_patch": [round(float(value), 5) for value in found["clear"]],
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


def main() -> None:
    """Run what is not done, and write results and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a tenth of the steps")
    parser.add_argument("--part", choices=("targets", "noise"), help="only this one, to be joined by a later run")
    parser.add_argument("--further", action="store_true", help="also the further comparisons, with fewer seeds")
    parser.add_argument("--worker", default="0/1", help="I/N: every Nth run from the Ith, to be joined by a later run")
    smoke, part = (chosen := parser.parse_args()).smoke, chosen.part
    worker, workers = (int(number) for number in chosen.worker.split("/"))
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    budget, seeds = (Budget(steps=60, epochs=6), (0,)) if smoke else (Budget(), tuple(range(NOISE_SEEDS)))
    sources = [*sorted((ROOT / "models").rglob("*.py")), *sorted((HERE.parent / "oracle").glob("*.py"))]
    sources.append(HERE / "networks.py")
    code = b"".join(path.read_bytes() for path in sources)
    mark = hashlib.sha256(code + repr(budget).encode()).hexdigest()[:8]
    folder = ROOT / "runs" / "studies" / "utilization"
    target_runs = {} if part == "noise" else {
        f"target-{task}-{x}-{s}": partial(to_target, task, x, s, budget)
        for task in TASKS for x in TARGETS for s in seeds[:TARGET_SEEDS]
    }  # fmt: skip
    noise_runs = {} if part == "targets" else {
        f"noise-{name}-{s}": partial(robustness, name, s, budget)
        for s in seeds for name in methods(budget, scene_of("segmentation"))
        if name not in FURTHER or (chosen.further and s < FURTHER_SEEDS)
    }  # fmt: skip
    mine = list({**target_runs, **noise_runs}.items())[worker::workers]
    for name, work in mine:
        kept(name, work, folder, mark)
    if part is not None or workers > 1:
        return
    targets = [kept(name, work, folder, mark) for name, work in target_runs.items()]
    noise = [kept(name, work, folder, mark) for name, work in noise_runs.items()]
    record = {
        "smoke": smoke, "budget": vars(budget), "seeds": list(seeds), "target_seeds": list(seeds[:TARGET_SEEDS]),
        "arrived": arrived(targets, within=WITHIN),
        "compared": compared(noise, noise=NOISE, held_out=named(*HELD_OUT_FAMILIES)),
        "headline": {"method": HEADLINE, "against": headline(noise, HEADLINE)},
        "exact": kept("exact", exact, folder, mark), "targets": targets,
        "methods": [{name: v for name, v in run.items() if not name.endswith("of_patch")} for run in noise],
        "python": platform.python_version(), "versions": package_versions(),
    }  # fmt: skip
    print(json.dumps({name: record[name] for name in ("arrived", "compared", "headline")}, indent=1))
    if smoke:
        return
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, ROOT / "docs" / "figures" / "utilization.png")
    write_page(record, ROOT / "docs" / "strategies.md")
    print(f"wrote {HERE / 'results.json'}, docs/figures/utilization.png and the tables of docs/strategies.md")


if __name__ == "__main__":
    main()
