"""Do the laws hold? What the meters and targets say on the oracle scene, beside what is exactly true there.

T1: coalition information of a network is that of the scene. T2: twins share equally, whatever the initialisation. T3:
what two modalities tell only together is shared by both, and the double count of permutation is flagged. T4: a modality
that tells nothing has no share, and a target that asks for one is not met in silence. T7: how shares and accuracy
follow the condition, beside the Bayes predictor. T8: half of the degradation families, at least, are unused in
training. Each has a bound; a miss is written down as one.

Run by ``make study``, or alone; ``--seeds 1`` and ``--smoke`` make it short. Writes ``results.json`` beside this file,
``docs/figures/laws.png`` and the tables of ``docs/studies.md``. Finished parts are kept in ``runs/studies/laws``: a
study that was stopped goes on.
"""

import argparse
import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the oracle scene and the training of networks lie beside this

import measurement
import torch
from figure import draw
from finished_runs import Found, finish, mark_of, torch_of
from measurement import EXACT
from page import write_page
from utilization.networks import Budget
from verdict import verdicts

from equipoise.pipeline.run_folder import package_versions

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FOLDER = ROOT / "runs" / "studies" / "laws"

#: Test -> what one training of it gets. T1 and T7 compare with Bayes, and are trained longest.
BUDGETS = {
    "T1": Budget(steps=700, batch=32, epochs=5),
    "T2": Budget(steps=200, batch=16, epochs=5),
    "T3": Budget(steps=400, batch=16, epochs=5),
    "T4": Budget(steps=250, batch=16, epochs=5),
    "T7": Budget(steps=300, batch=32, epochs=5),
}
SMOKE = dict.fromkeys(BUDGETS, Budget(steps=10, batch=8, epochs=2))


def parts(test: str, budget: Budget) -> dict[str, Callable[[], Found]]:
    """Return the parts of a test by name."""
    if test == "T4":
        chosen = [("subset_sampling", 0), ("subset_sampling", 1), ("mu_bounded", 0), ("mu_legacy", 0)]
        return {f"{name}-{seed}": partial(measurement.null, name, seed, budget) for name, seed in chosen}
    if test == "T7":
        return {name: partial(measurement.response, name, 0, budget) for name in measurement.RESPONSE_METHODS}
    work, seeds = {
        "T1": (measurement.oracle, 3), "T2": (measurement.redundancy, 6), "T3": (measurement.synergy, 3),
    }[test]  # fmt: skip
    return {str(seed): partial(work, seed, budget) for seed in range(seeds)}


def marks(budgets: Mapping[str, Budget]) -> dict[str, str]:
    """Return what tells the runs of each test apart from those of other sources or budgets."""
    sources = [*sorted((ROOT / "models").rglob("*.py")), *sorted((HERE.parent / "oracle").glob("*.py"))]
    sources += [HERE.parent / "utilization" / "networks.py", HERE / "measurement.py"]
    return {test: mark_of(sources, budget) for test, budget in budgets.items()}


def done(test: str, budget: Budget, mark: str, *, most: int | None) -> list[Found]:
    """Return what the parts of a test found, the first ones alone where ``most`` is given."""
    works = {f"{test}-{name}": work for name, work in list(parts(test, budget).items())[:most]}
    return list(finish(works, folder=FOLDER, mark=mark).values())


def main() -> None:
    """Run what is not done, and write results, figure and tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one part of each test, a few steps; nothing is written")
    parser.add_argument("--seeds", type=int, help="fewer trainings of each test; writes nothing committed")
    smoke, most = (chosen := parser.parse_args()).smoke, 1 if chosen.smoke else chosen.seeds
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    budgets = SMOKE if smoke else BUDGETS
    if smoke:
        measurement.RESPONSE_CONDITIONS = ("clear", "haze_light")
    mark = marks(budgets)
    found = {test: done(test, budget, mark[test], most=most) for test, budget in budgets.items()}
    judged = verdicts(found, EXACT)
    print(json.dumps(judged, indent=1))
    if most is not None:
        return
    record = {
        "budgets": {test: vars(budget) for test, budget in BUDGETS.items()}, "verdicts": judged, "parts": found,
        "python": platform.python_version(),
        "versions": package_versions() | {"torch": torch_of(part for test in found.values() for part in test)},
    }  # fmt: skip
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, EXACT, ROOT / "docs" / "figures" / "laws.png")
    write_page(record, ROOT / "docs" / "studies.md")
    print(f"wrote {HERE / 'results.json'}, docs/figures/laws.png and the tables of docs/studies.md")


if __name__ == "__main__":
    main()
