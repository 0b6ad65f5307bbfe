"""Does a chosen reliance arrive, and what does it buy? Targets and noise on the oracle scene, with exact answers.

Part one trains to shares of the optical sensor (20 to 80 %) and measures what arrives, by the bounded score, on patches
that training and selection never saw. Part two trains every method with one budget and measures accuracy as optical
noise grows, and under the families of degradation that no method saw. A target that does not arrive is reported with
the nearest share that did.

Run by ``make study``, or alone; ``--seeds 1`` and ``--smoke`` make it short. Writes ``results.json`` beside this file,
``docs/figures/utilization.png`` and the tables of ``docs/strategies.md``. Finished runs are kept in
``runs/studies/utilization``: a study that was stopped goes on.
"""

import argparse
import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the oracle scene is a study beside this one

import torch
from figure import draw
from finished_runs import Found, Work, finish, mark_of, torch_of
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
FOLDER = ROOT / "runs" / "studies" / "utilization"
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

Method = Callable[[int], tuple[Any, Found]]


def scene_of(task: str) -> OracleScene:
    """Return the scene: 64 cells a patch, of four native pixels each."""
    return OracleScene(task=task, cells=8 if task == "segmentation" else 2, cell_px=2)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one seed, a tenth of the steps; writes nothing committed")
    parser.add_argument("--seeds", type=int, help="fewer trainings of each; writes nothing committed")
    parser.add_argument("--further", action="store_true", help="also the further comparisons, with fewer seeds")
    chosen = parser.parse_args()
    smoke, most = chosen.smoke, 1 if chosen.smoke else chosen.seeds
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    budget = Budget(steps=60, epochs=6) if smoke else Budget()
    sources = [*sorted((ROOT / "models").rglob("*.py")), *sorted((HERE.parent / "oracle").glob("*.py"))]
    mark = mark_of([*sources, HERE / "networks.py"], budget)
    target_runs: dict[str, Work] = {
        f"target-{task}-{x}-{s}": partial(to_target, task, x, s, budget)
        for task in TASKS for x in TARGETS for s in range(TARGET_SEEDS)[:most]
    }  # fmt: skip
    noise_runs: dict[str, Work] = {
        f"noise-{name}-{s}": partial(robustness, name, s, budget)
        for s in range(NOISE_SEEDS)[:most] for name in methods(budget, scene_of("segmentation"))
        if name not in FURTHER or (chosen.further and s < FURTHER_SEEDS)
    }  # fmt: skip
    found = finish({**target_runs, **noise_runs, "exact": exact}, folder=FOLDER, mark=mark)
    targets, noise = ([found[name] for name in runs] for runs in (target_runs, noise_runs))
    record = {
        "budget": vars(budget), "seeds": list(range(NOISE_SEEDS)), "target_seeds": list(range(TARGET_SEEDS)),
        "arrived": arrived(targets, within=WITHIN),
        "compared": compared(noise, noise=NOISE, held_out=named(*HELD_OUT_FAMILIES)),
        "headline": {"method": HEADLINE, "against": headline(noise, HEADLINE)},
        "exact": found["exact"], "targets": targets,
        "methods": [{name: run[name] for name in ("method", "seed", "accuracy", "seconds")} for run in noise],
        "python": platform.python_version(), "versions": package_versions() | {"torch": torch_of(found.values())},
    }  # fmt: skip
    print(json.dumps({name: record[name] for name in ("arrived", "compared", "headline")}, indent=1))
    if most is not None:
        return
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, ROOT / "docs" / "figures" / "utilization.png")
    write_page(record, ROOT / "docs" / "strategies.md")
    print(f"wrote {HERE / 'results.json'}, docs/figures/utilization.png and the tables of docs/strategies.md")


if __name__ == "__main__":
    main()
