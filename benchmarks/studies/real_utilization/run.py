"""Does a chosen reliance arrive on real imagery, and what does it buy? Flood chips of Sentinel-2 and Sentinel-1.

Part ``targets`` trains to shares of the optical sensor (20 to 80 %), for pixels and for patches, and measures what
arrives on validation and on test chips. Part ``robustness`` trains every method with one budget and measures flood IoU
and accuracy on test chips, clear, under optical noise, and under families of degradation that no method saw. Nothing is
chosen on test chips.

Needs ``EQUIPOISE_DATA``, the folder with the real samples. Run by ``make study``, or alone; ``--seeds 1`` and
``--smoke`` make it short. Writes ``results.json`` beside this file, ``docs/figures/real_utilization.png`` and the
tables of ``docs/real-imagery.md``. Finished runs are kept in ``runs/studies/real_utilization``.
"""

import argparse
import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))  # this folder is a package beside the other studies

import torch
from finished_runs import Found, Work, finish, kept, mark_of, torch_of

from equipoise.pipeline.run_folder import package_versions
from real_utilization.batch import Task
from real_utilization.chips import read_chips
from real_utilization.division import number_gap
from real_utilization.figure import draw
from real_utilization.imagery import Imagery
from real_utilization.methods import METHODS, methods
from real_utilization.page import BEGIN, END, write_page
from real_utilization.robustness import information, robustness
from real_utilization.summary import arrived, compared, differences
from real_utilization.targets import TARGETS, TASKS, to_target
from real_utilization.training import BUDGETS, Budget

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RUNS = ROOT / "runs" / "studies" / "real_utilization"
#: What makes no difference to a finished run.
PRESENTATION = {"run.py", "summary.py", "page.py", "figure.py"}
#: Trainings of each target and each method.
SEEDS = 3
#: Methods that are compared with all others.
SUBJECTS = ("mu_bounded", "mu_matched", "response", "response_degradation")

Budgets = Mapping[Task, Budget]


def mark(budgets: Budgets) -> str:
    """Return what tells runs of other sources or other budgets apart."""
    sources = [*sorted((ROOT / "models").rglob("*.py")), *sorted((ROOT / "datasets").glob("degrad*.py"))]
    sources += [path for path in sorted(HERE.glob("*.py")) if path.name not in PRESENTATION]
    return mark_of(sources, budgets)


def works(
    imagery: Imagery, budgets: Budgets, *, seeds: Iterable[int], targets: tuple[float, ...], known: Found
) -> dict[str, Work]:
    """Return every run by name; ``known`` is what :func:`~.robustness.information` found."""
    seeds, budget = tuple(seeds), budgets["segmentation"]
    trained = methods(imagery, budget, information=known["share"])
    targeted: dict[str, Work] = {
        f"targets-{task}-{'plain' if target is None else target}-{seed}": partial(
            to_target, imagery, task, target, seed, budgets[task]
        )
        for task in TASKS for target in (None, *targets) for seed in seeds
    }  # fmt: skip
    robust: dict[str, Work] = {
        f"robustness-{method}-{seed}": partial(robustness, imagery, method, trained[method], seed)
        for seed in seeds for method in METHODS
    }  # fmt: skip
    return robust | targeted


def joined(imagery: Imagery, results: Mapping[str, Found], known: Found, budgets: Budgets) -> dict[str, Any]:
    """Put all finished runs and what they say together in one record."""
    division, numbers = imagery.division, imagery.chips.number
    targets = [run for name, run in results.items() if name.startswith("targets")]
    robust = [run for name, run in results.items() if name.startswith("robustness")]
    controlled = [run for run in targets if run["target"] is not None]
    return {
        "budgets": {task: vars(budget) for task, budget in budgets.items()}, "information": known,
        "chips": {
            name: [int(numbers[chip]) for chip in getattr(division, name)]
            for name in ("train", "validation", "test", "left_out")
        },
        "touching": division.pairs, "border_likeness_gap": division.gap, "number_gap": number_gap(imagery.chips),
        "std": {name: values.ravel().tolist() for name, values in imagery.std.items()},
        "arrived": arrived(controlled), "compared": compared(robust),
        "differences": {subject: differences(robust, subject) for subject in SUBJECTS if robust},
        "targets": controlled, "plain": [run for run in targets if run["target"] is None],
        "methods": [{key: run[key] for key in ("method", "seed", "accuracy", "flood_iou")} for run in robust],
        "python": platform.python_version(), "versions": package_versions() | {"torch": torch_of(results.values())},
    }  # fmt: skip


def main() -> None:
    """Run what is not done, and write results, figure and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--smoke", action="store_true", help="one seed, two targets, few steps; writes nothing committed"
    )
    parser.add_argument("--part", choices=("targets",), help="only this one; tables and picture are of it alone")
    parser.add_argument("--seeds", type=int, help="fewer trainings of each; writes nothing committed")
    smoke, most = (chosen := parser.parse_args()).smoke, chosen.seeds
    data = os.environ.get("EQUIPOISE_DATA")
    if data is None:
        print("EQUIPOISE_DATA is not set: the study of reliance on real imagery was not run")
        return
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    imagery = Imagery.of(read_chips(Path(data) / "B_internal_only" / "ombria"))
    imagery = imagery.thinned(6) if smoke else imagery
    short = Budget(steps=24, batch=8, epochs=3)
    budgets: Budgets = dict.fromkeys(BUDGETS, short) if smoke else BUDGETS
    seeds, targets = ((0,), (0.4, 0.8)) if smoke else (range(SEEDS)[:most], TARGETS)
    place: Any = {"folder": RUNS, "mark": mark(budgets)}
    known = kept("information", partial(information, imagery, budgets["segmentation"]), **place)
    todo = works(imagery, budgets, seeds=seeds, targets=targets, known=known)
    results = finish({name: todo[name] for name in todo if name.startswith(chosen.part or "")}, **place)
    record = joined(imagery, results, known, budgets)
    print(json.dumps({name: record[name] for name in ("arrived", "differences")}, indent=1))
    if smoke or most is not None:
        draw(record, RUNS / "short.png")
        (RUNS / "short.md").write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
        write_page(record, RUNS / "short.md")
        print(f"wrote {RUNS / 'short.png'} and short.md")
        return
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, ROOT / "docs" / "figures" / "real_utilization.png")
    write_page(record, ROOT / "docs" / "real-imagery.md")
    print(f"wrote {HERE / 'results.json'}, docs/figures/real_utilization.png and the tables of docs/real-imagery.md")


if __name__ == "__main__":
    main()
