"""What is left when sensors are missing or weak? Every way of training, from every subset of the sensors.

Each recipe is trained with one budget and three seeds on the oracle scene (EO, SAR, IR) and on real flood chips (EO
and SAR), the epoch chosen by the full set of sensors on validation patches. Then every subset of the sensors answers on
test patches, clear and under degradations that no training showed. The best recipe is named by validation figures; its
test figures are what is reported.

The real part needs ``EQUIPOISE_DATA``, the folder with the real samples. Run by ``make study``, or alone; ``--smoke``
makes it short, ``--only NAME`` trains some recipes. Writes ``benchmarks/studies/missing.json``,
``docs/figures/missing.png``, tables of ``docs/missing/index.md`` and lines of the pages beside it. Finished runs are
kept in ``runs/studies/missing``: a study that was stopped goes on.
"""

import argparse
import json
import logging
import os
import platform
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))  # this folder is a package beside the other studies

import numpy as np
import torch
from finished_runs import Found, Work, finish, kept, mark_of, torch_of

from equipoise.models.balancing import build_strategy
from equipoise.models.balancing.strategy import parts_of
from equipoise.pipeline.run_folder import package_versions
from missing.counting import counted, subset_names
from missing.figure import draw
from missing.page import write_measured, write_page
from missing.places import Place, oracle_place, real_place
from missing.recipes import REFERENCES, Recipe, known
from missing.sums import best, gains, mean_iou, summed
from real_utilization.chips import read_chips
from real_utilization.imagery import Imagery

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RUNS = ROOT / "runs" / "studies" / "missing"
SEEDS = 3
#: Trainings whose difference tells what a step takes.
COST_STEPS = (10, 40)
#: Of the other studies and of the package: what every recipe is trained by.
_REAL = ("training.py", "drawing.py", "cut.py", "chips.py", "imagery.py", "conditions.py", "division.py", "batch.py")
_NETWORK = ("task", "network", "encoders", "features", "losses", "scores", "norm", "surrogate", "transfer")
#: What makes no difference to a finished run.
PRESENTATION = {"run.py", "recipes.py", "sums.py", "page.py", "figure.py"}


def work(place: Place, recipe: Recipe, seed: int) -> Found:
    """Train once; count what every subset gets right, clear and under what no training showed."""
    torch.set_num_threads(1)
    network, seconds = place.train(recipe, seed)
    clear = counted(network, place.batches("test", "clear"), units=place.units("test"))
    chosen = counted(network, place.batches("validation", "clear"), units=place.units("validation"))
    held_out = {
        name: mean_iou(counted(network, place.batches("test", name), units=place.units("test")).sum(axis=0)).tolist()
        for name in place.held_out
    }
    return {
        "seed": seed, "seconds": seconds, "test": mean_iou(clear.sum(axis=0)).tolist(),
        "validation": mean_iou(chosen.sum(axis=0)).tolist(), "held_out": held_out, "counts": clear.tolist(),
    }  # fmt: skip


def sources(recipe: Recipe) -> list[Path]:
    """Return the files that decide what a recipe finds: a change of another strategy makes no run of it old."""
    studies, models = HERE.parent, ROOT / "models"
    found = [path for path in sorted(HERE.glob("*.py")) if path.name not in PRESENTATION]
    found += [*sorted((studies / "oracle").glob("*.py")), studies / "utilization" / "networks.py"]
    found += [studies / "real_utilization" / name for name in _REAL]
    found += [models / f"{name}.py" for name in _NETWORK]
    found += [*sorted(models.glob("fusion*.py")), models / "late_fusion.py", models / "early_fusion.py"]
    parts = parts_of(build_strategy(recipe.strategies, modalities=("eo", "sar")))
    modules = {type(part).__module__ for part in parts}
    return [*found, *sorted(Path(str(sys.modules[name].__file__)) for name in modules)]


def cost(recipe: Recipe) -> Found:
    """Return the processor time of one training step of all that a recipe trains, ms, on the oracle scene.

    The difference of a longer and a shorter training: what is done once, and the validation, cancel.
    """
    torch.set_num_threads(1)
    spent = []
    for steps in (COST_STEPS[0], *COST_STEPS):  # the first one pays for what only a first training does
        began = time.process_time()
        oracle_place(steps=steps, epochs=1).train(recipe, 0)
        spent.append(time.process_time() - began)
    return {"ms": 1000 * (spent[2] - spent[1]) / (COST_STEPS[1] - COST_STEPS[0])}


def joined(
    places: list[Place], recipes: dict[str, Recipe], results: dict[str, Found], costs: dict[str, Found], seeds: range
) -> dict[str, Any]:
    """Put everything into one record."""
    record: dict[str, Any] = {"places": {}, "against": {}, "seeds": len(seeds)}
    record["ms_a_step"] = {name: round(found["ms"], 1) for name, found in costs.items()}
    for place in places:
        runs = {name: [results[f"{place.name}-{name}-{seed}"] for seed in seeds] for name in recipes}
        record["places"][place.name] = {
            "subsets": subset_names(place.modalities), "held_out": list(place.held_out),
            "units": place.units("test"), "recipes": {name: summed(found) for name, found in runs.items()},
            "runs": {
                name: [{key: item[key] for key in ("seed", "test", "validation")} for item in found]
                for name, found in runs.items()
            },
        }  # fmt: skip
        counts = {name: np.array([item["counts"] for item in found]) for name, found in runs.items()}
        record["against"][place.name] = {
            reference: {name: gains(counts[name], counts[reference]) for name in recipes if name != reference}
            for reference in REFERENCES if reference in recipes
        }  # fmt: skip
    record["best"] = best({name: found["recipes"] for name, found in record["places"].items()})
    record["strategies"] = {name: [*recipe.strategies, recipe.kind] for name, recipe in recipes.items()}
    record["versions"] = package_versions() | {"torch": torch_of(results.values())}
    record["python"] = platform.python_version()
    return record


def main() -> None:
    """Run what is not done, and write results, figure and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one seed, few steps; writes nothing committed")
    parser.add_argument("--only", nargs="*", help="some recipes; writes nothing committed")
    parser.add_argument("--seeds", type=int, help="fewer trainings of each; writes nothing committed")
    parser.add_argument("--further", action="store_true", help="also recipes that are not in the table")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    budget = {"steps": 40, "epochs": 2} if chosen.smoke else {"steps": 300, "epochs": 6}
    few: Any = {"held_out": ("haze_heavy",)} if chosen.smoke else {}
    places = [oracle_place(**budget, **few)]
    data = os.environ.get("EQUIPOISE_DATA")
    if data is None:
        print("EQUIPOISE_DATA is not set: the real part of the study is left out")
    else:
        imagery = Imagery.of(read_chips(Path(data) / "B_internal_only" / "ombria"))
        few = {"held_out": ("haze_0.8",)} if chosen.smoke else {}
        places.append(real_place(imagery.thinned(6) if chosen.smoke else imagery, **budget, **few))
    recipes = {
        name: recipe
        for name, recipe in known(further=chosen.further or bool(chosen.only)).items()
        if not chosen.only or name in ("plain", *chosen.only)
    }
    seeds = range(1 if chosen.smoke else chosen.seeds or SEEDS)
    results: dict[str, Found] = {}
    for name, recipe in recipes.items():
        todo: dict[str, Work] = {
            f"{place.name}-{name}-{seed}": partial(work, place, recipe, seed) for place in places for seed in seeds
        }
        results |= finish(todo, folder=RUNS, mark=mark_of(sources(recipe), budget, recipe))
    # One after the other in this process, so that they are compared with each other alone.
    costs = {
        name: kept(
            f"cost-{name}", partial(cost, recipe), folder=RUNS, mark=mark_of(sources(recipe), COST_STEPS, recipe)
        )
        for name, recipe in recipes.items()
    }
    record = {"budget": budget, **joined(places, recipes, results, costs, seeds)}
    whole = data is not None and not (chosen.smoke or chosen.only or chosen.seeds)
    target = HERE.parent / "missing.json" if whole else RUNS / "short.json"
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    figure = ROOT / "docs" / "figures" / "missing.png" if whole else RUNS / "short.png"
    draw(record, figure)
    if whole:
        write_page(record, ROOT / "docs" / "missing" / "index.md")
        write_measured(record, ROOT / "docs" / "missing")
    print(f"best by validation: {record['best']}; wrote {target.relative_to(ROOT)} and {figure.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
