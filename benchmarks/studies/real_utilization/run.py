"""Does a chosen reliance arrive on real imagery, and what does it buy? Flood chips of Sentinel-2 and Sentinel-1.

Part ``targets`` trains to shares of the optical sensor (20 to 80 %), for pixels and for patches, and measures what
arrives on validation and on test chips. Part ``robustness`` trains every method with one budget and measures flood IoU
and accuracy on test chips, clear, under optical noise, and under families of degradation that no method saw. Nothing is
chosen on test chips.

Needs ``EQUIPOISE_DATA``, the folder with the real samples. Run by ``make study``, or alone: ``--part`` does one part,
``--worker 0/2`` and ``--worker 1/2`` share the runs between two processes, ``--smoke`` makes it short. A call without
them does what is left, and writes ``results.json`` beside this file, ``docs/figures/real_utilization.png`` and the
tables of ``docs/real-imagery.md``. Finished runs are kept in ``runs/studies/real_utilization``.
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
sys.path.insert(0, str(Path(__file__).parents[1]))  # this folder is a package beside the other studies

import torch

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
#: Methods that are compared with all others.
SUBJECTS = ("mu_bounded", "mu_matched", "response", "response_degradation")

Found = Mapping[str, Any]
Work = Callable[[], Found]
Budgets = Mapping[Task, Budget]


def kept(name: str, work: Work, mark: str) -> Found:
    """Do a run unless it is done."""
    path = RUNS / f"{name}.{mark}.json"
    if not path.is_file():
        RUNS.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(work()), encoding="utf-8")
        temporary.replace(path)
        print(f"  {name}: {path.read_text(encoding='utf-8')[:150]}", flush=True)
    found: Found = json.loads(path.read_text(encoding="utf-8"))
    return found


def mark_of(budgets: Budgets) -> str:
    """Return what tells runs of other sources or another budget apart."""
    sources = [*sorted((ROOT / "models").rglob("*.py")), *sorted((ROOT / "datasets").glob("degrad*.py"))]
    sources += [path for path in sorted(HERE.glob("*.py")) if path.name not in PRESENTATION]
    code = b"".join(path.read_bytes() for path in sources)
    return hashlib.sha256(code + repr(budgets).encode()).hexdigest()[:8]


def works(
    imagery: Imagery, budgets: Budgets, mark: str, *, seeds: tuple[int, ...], targets: tuple[float, ...]
) -> dict[str, Work]:
    """Return every run by name, in the order in which workers count them."""
    found: dict[str, Work] = {
        f"targets-{task}-{'plain' if target is None else target}-{seed}": partial(
            to_target, imagery, task, target, seed, budgets[task]
        )
        for task in TASKS for target in (None, *targets) for seed in seeds
    }  # fmt: skip

    budget = budgets["segmentation"]

    def robust(method: str, seed: int) -> Found:
        known = kept("information", partial(information, imagery, budget), mark)
        return robustness(imagery, method, methods(imagery, budget, information=known["share"])[method], seed)

    return found | {
        f"robustness-{method}-{seed}": partial(robust, method, seed) for seed in seeds for method in METHODS
    }


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
        "differences": {subject: differences(robust, subject) for subject in SUBJECTS},
        "targets": controlled, "plain": [run for run in targets if run["target"] is None],
        "methods": [{key: value for key, value in run.items() if key != "counts"} for run in robust],
        "python": platform.python_version(), "versions": package_versions(),
    }  # fmt: skip


def main() -> None:
    """Run what is not done, and write results, figure and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--smoke", action="store_true", help="one seed, two targets, few steps; writes nothing committed"
    )
    parser.add_argument("--part", choices=("targets", "robustness"), help="only this one, to be joined by a later run")
    parser.add_argument("--worker", metavar="I/N", help="only every N-th run from I on, to be joined by a later run")
    chosen = parser.parse_args()
    data = os.environ.get("EQUIPOISE_DATA")
    if data is None:
        print("EQUIPOISE_DATA is not set: the study of reliance on real imagery was not run")
        return
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    imagery = Imagery.of(read_chips(Path(data) / "B_internal_only" / "ombria"))
    imagery = imagery.thinned(6) if chosen.smoke else imagery
    short = Budget(steps=24, batch=8, epochs=3)
    budgets: Budgets = dict.fromkeys(BUDGETS, short) if chosen.smoke else BUDGETS
    seeds, targets = ((0,), (0.4, 0.8)) if chosen.smoke else ((0, 1, 2), TARGETS)
    mark = mark_of(budgets)
    todo = works(imagery, budgets, mark, seeds=seeds, targets=targets)
    if chosen.part is not None:
        todo = {name: work for name, work in todo.items() if name.startswith(chosen.part)}
    if chosen.worker is not None:
        first, workers = map(int, chosen.worker.split("/"))
        todo = dict(list(todo.items())[first::workers])
    results = {name: kept(name, work, mark) for name, work in todo.items()}
    if chosen.part is not None or chosen.worker is not None:
        return
    known = kept("information", partial(information, imagery, budgets["segmentation"]), mark)
    record = joined(imagery, results, known, budgets)
    print(json.dumps({name: record[name] for name in ("arrived", "differences")}, indent=1))
    if chosen.smoke:
        draw(record, RUNS / "smoke.png")
        (RUNS / "smoke.md").write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
        write_page(record, RUNS / "smoke.md")
        print(f"wrote {RUNS / 'smoke.png'} and smoke.md")
        return
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, ROOT / "docs" / "figures" / "real_utilization.png")
    write_page(record, ROOT / "docs" / "real-imagery.md")
    print(f"wrote {HERE / 'results.json'}, docs/figures/real_utilization.png and the tables of docs/real-imagery.md")


if __name__ == "__main__":
    main()
