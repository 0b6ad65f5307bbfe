"""Do the laws hold? What the meters and targets say on the oracle scene, beside what is exactly true there.

T1: coalition information of a network is that of the scene. T2: twins share equally, whatever the initialisation. T3:
what two modalities tell only together is shared by both, and the double count of permutation is flagged. T4: a modality
that tells nothing has no share, and a target that asks for one is not met in silence. T7: how shares and accuracy
follow the condition, beside the Bayes predictor. T8: half of the degradation families, at least, are unused in
training. Each has a bound; a miss is written down as one.

Run by ``make study``, or alone; ``--smoke`` makes it short. Writes ``results.json`` beside this file,
``docs/figures/laws.png`` and the tables of ``docs/studies.md``. Finished parts are kept in ``runs/studies/laws``: a
study that was stopped goes on.
"""

import argparse
import hashlib
import json
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))  # the oracle scene and the training of networks lie beside this

import measurement
import torch
from figure import draw
from measurement import EXACT
from page import write_page
from utilization.networks import Budget
from verdict import verdicts

from equipoise.pipeline.run_folder import package_versions

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FOLDER = ROOT / "runs" / "studies" / "laws"

Found = Mapping[str, Any]

#: Test -> what one training of it gets. T1 and T7 compare with Bayes, and are trained longest.
BUDGETS = {
    "T1": Budget(steps=700, batch=32, epochs=5),
    "T2": Budget(steps=200, batch=16, epochs=5),
    "T3": Budget(steps=400, batch=16, epochs=5),
    "T4": Budget(steps=250, batch=16, epochs=5),
    "T7": Budget(steps=300, batch=32, epochs=5),
}
SMOKE = dict.fromkeys(BUDGETS, Budget(steps=10, batch=8, epochs=2))


def parts(test: str, budget: Budget, *, smoke: bool) -> dict[str, Callable[[], Found]]:
    """Return the parts of a test by name; a smoke run does one of each."""
    if test == "T4":
        chosen = [("subset_sampling", 0), ("subset_sampling", 1), ("mu_bounded", 0), ("mu_legacy", 0)]
        found = {f"{name}-{seed}": partial(measurement.null, name, seed, budget) for name, seed in chosen}
    elif test == "T7":
        found = {name: partial(measurement.response, name, 0, budget) for name in measurement.RESPONSE_METHODS}
    else:
        work, seeds = {
            "T1": (measurement.oracle, 3), "T2": (measurement.redundancy, 6), "T3": (measurement.synergy, 3),
        }[test]  # fmt: skip
        found = {str(seed): partial(work, seed, budget) for seed in range(seeds)}
    return dict(list(found.items())[:1]) if smoke else found


def kept(name: str, work: Callable[[], Found], mark: str) -> Found:
    """Do a part unless it is done."""
    path = FOLDER / f"{name}.{mark}.json"
    if not path.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        began = time.process_time()
        temporary.write_text(json.dumps(work()), encoding="utf-8")
        temporary.replace(path)
        print(f"  {name}: {time.process_time() - began:.0f} s of one core", flush=True)
    found: Found = json.loads(path.read_text(encoding="utf-8"))
    return found


def marks(budgets: Mapping[str, Budget]) -> dict[str, str]:
    """Return the hash of the sources and the budget of each test."""
    sources = [*sorted((ROOT / "models").rglob("*.py")), *sorted((HERE.parent / "oracle").glob("*.py"))]
    sources += [HERE.parent / "utilization" / "networks.py", HERE / "measurement.py"]
    code = b"".join(path.read_bytes() for path in sources)
    return {test: hashlib.sha256(code + repr(budget).encode()).hexdigest()[:8] for test, budget in budgets.items()}


def main() -> None:
    """Run what is not done, and write results, figure and tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one part of each test, a few steps; nothing is written")
    parser.add_argument("--test", choices=tuple(BUDGETS), help="only this one, to be joined by a later run")
    smoke, only = (chosen := parser.parse_args()).smoke, chosen.test
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    budgets = SMOKE if smoke else BUDGETS
    if smoke:
        measurement.RESPONSE_CONDITIONS = ("clear", "haze_light")
    mark = marks(budgets)
    found = {
        test: [kept(f"{test}-{name}", work, mark[test]) for name, work in parts(test, budget, smoke=smoke).items()]
        for test, budget in budgets.items() if only in (None, test)
    }  # fmt: skip
    if only is not None:
        return
    judged = verdicts(found, EXACT)
    print(json.dumps(judged, indent=1))
    if smoke:
        return
    record = {
        "budgets": {test: vars(budget) for test, budget in BUDGETS.items()}, "verdicts": judged, "parts": found,
        "python": platform.python_version(), "versions": package_versions(),
    }  # fmt: skip
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, EXACT, ROOT / "docs" / "figures" / "laws.png")
    write_page(record, ROOT / "docs" / "studies.md")
    print(f"wrote {HERE / 'results.json'}, docs/figures/laws.png and the tables of docs/studies.md")


if __name__ == "__main__":
    main()
