"""A radar network with few labels, and what it gains from an optical teacher on tiles without labels.

On real flood chips, a tenth of the training chips have labels (others for each seed). A radar network is trained on
these alone, for as many steps as the others get with labels and again for as many as they get in all; or it first
learns from an optical teacher on all training chips, whose labels are not read, and then from the tenth. The teacher
itself had the same tenth of the labels, or all of them. The epoch is chosen on validation chips, with their labels; the
figures are those of test chips, which choose nothing.

Needs ``EQUIPOISE_DATA``. Run by ``make study``, or alone; ``--smoke`` makes it short. Writes ``results.json`` beside
this file and the table of ``docs/missing/distillation.md``. Finished runs are kept in ``runs/studies/distillation``.
"""

import argparse
import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))  # this folder is a package beside the other studies

import numpy as np
import torch
from finished_runs import Found, Work, finish, mark_of, torch_of
from missing.counting import counted
from missing.places import real_place
from missing.sums import gains, mean_iou

from equipoise.models.balancing.distillation import CrossModalDistillation
from equipoise.models.transfer import take_decision_layers, take_encoder
from equipoise.pipeline.run_folder import package_versions
from real_utilization.chips import MODALITIES, read_chips
from real_utilization.imagery import Imagery
from real_utilization.training import Budget, fit

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RUNS = ROOT / "runs" / "studies" / "distillation"
PAGE = ROOT / "docs" / "missing" / "distillation.md"
BEGIN, END = "<!-- table: benchmarks/studies/distillation/run.py -->", "<!-- end of table -->"
SEEDS, SHARE, TASK = 3, 0.1, "segmentation"

#: Name -> what it is, in words.
ARMS = {
    "scratch": "radar from scratch, a tenth of the labels",
    "scratch, longer": "the same, with as many steps as the taught ones have in all",
    "taught, few": "teacher with the same tenth; students after the tenth, too",
    "taught only, few": "the same student before it saw a label",
    "taught, all": "teacher with all optical labels; student with the tenth",
    "taught only, all": "the same student before it saw a label",
    "scratch, all labels": "radar from scratch, all labels: what there is to gain",
}


def few(imagery: Imagery, seed: int) -> Imagery:
    """Return the imagery with the tenth of the training chips that have labels."""
    rng = np.random.default_rng((seed, 77))
    train = imagery.division.train
    chosen = sorted(rng.choice(train, size=max(2, round(SHARE * len(train))), replace=False).tolist())
    return replace(imagery, division=replace(imagery.division, train=chosen))


def arms(imagery: Imagery, seed: int, budget: Budget) -> Iterator[tuple[str, Any]]:
    """Yield every arm with its trained radar network."""
    labelled = few(imagery, seed)
    options: Any = {"seed": seed, "budget": budget}
    longer: Any = {"seed": seed, "budget": replace(budget, steps=2 * budget.steps, epochs=2 * budget.epochs)}
    yield "scratch", fit(labelled, TASK, only="sar", **options)[0]
    yield "scratch, longer", fit(labelled, TASK, only="sar", **longer)[0]
    yield "scratch, all labels", fit(imagery, TASK, only="sar", **longer)[0]
    for name, seen in (("few", labelled), ("all", imagery)):
        teacher = fit(seen, TASK, only="eo", **options)[0]
        strategy = CrossModalDistillation(teacher, batch_modalities=MODALITIES)
        taught = fit(
            imagery, TASK, strategy, only="sar", begin=partial(take_decision_layers, source=teacher), **options
        )[0]
        yield f"taught only, {name}", taught

        def begin(network: Any, source: Any = taught) -> None:
            take_decision_layers(network, source)
            take_encoder(network, "sar", source)

        yield f"taught, {name}", fit(labelled, TASK, only="sar", begin=begin, **options)[0]


def work(imagery: Imagery, seed: int, budget: Budget) -> Found:
    """Train all arms of one seed; count what each gets right of every test chip."""
    torch.set_num_threads(1)
    place = real_place(imagery, steps=budget.steps, epochs=budget.epochs)
    batches = [
        ({**batch, "available": batch["available"][:, [MODALITIES.index("sar")]]}, unit)
        for batch, unit in place.batches("test", "clear")
    ]
    return {
        "seed": seed,
        "counts": {
            name: counted(network, batches, units=place.units("test")).tolist()
            for name, network in arms(imagery, seed, budget)
        },
    }  # fmt: skip


def joined(runs: list[Found]) -> dict[str, Any]:
    """Sum up every arm over seeds, and hold the taught ones against those from scratch."""
    counts = {name: np.array([run["counts"][name] for run in runs]) for name in ARMS}
    table = {}
    for name, found in counts.items():
        whole = found.sum(axis=1)[:, 0]  # (seed, 3, class): one subset, all chips together
        hits, truth, answers = whole[:, 0], whole[:, 1], whole[:, 2]
        flood = hits[:, 1] / (truth[:, 1] + answers[:, 1] - hits[:, 1])
        table[name] = {"mean_iou": mean_iou(whole).tolist(), "flood_iou": flood.tolist()}
    against = {
        f"{ours} against {theirs}": gains(counts[ours], counts[theirs])["full"]
        for ours in ("taught, few", "taught, all") for theirs in ("scratch", "scratch, longer")
    }  # fmt: skip
    return {"arms": table, "against": against}


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of the page."""
    yield "| | mean IoU on 24 test chips, seeds | mean | IoU of flooded |"
    yield "| --- | --- | --- | --- |"
    for name, words in ARMS.items():
        found = record["arms"][name]
        each = ", ".join(f"{100 * value:.1f}" for value in found["mean_iou"])
        mean, flood = (100 * float(np.mean(found[key])) for key in ("mean_iou", "flood_iou"))
        yield f"| {words} | {each} | {mean:.1f} | {flood:.1f} |"
    yield ""
    yield "| gain, points of mean IoU (95 %, chips and seeds drawn) | |"
    yield "| --- | --- |"
    for name, found in record["against"].items():
        low, high = found["interval"]
        yield f"| {name} | {found['points']:+.1f} ({low:+.1f} to {high:+.1f}) |"


def main() -> None:
    """Run what is not done, and write results and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one seed, few steps; writes nothing committed")
    parser.add_argument("--seeds", type=int, help="fewer trainings of each; writes nothing committed")
    chosen = parser.parse_args()
    data = os.environ.get("EQUIPOISE_DATA")
    if data is None:
        print("EQUIPOISE_DATA is not set: the study of distillation was not run")
        return
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    imagery = Imagery.of(read_chips(Path(data) / "B_internal_only" / "ombria"))
    imagery = imagery.thinned(6) if chosen.smoke else imagery
    budget = Budget(steps=24, batch=8, epochs=3) if chosen.smoke else Budget(steps=300, epochs=10)
    seeds = range(1 if chosen.smoke else chosen.seeds or SEEDS)
    sources = [*sorted((ROOT / "models").rglob("*.py")), *sorted((HERE.parent / "real_utilization").glob("*.py"))]
    todo: dict[str, Work] = {f"seed-{seed}": partial(work, imagery, seed, budget) for seed in seeds}
    results = finish(todo, folder=RUNS, mark=mark_of([*sources, HERE / "run.py"], budget))
    versions = package_versions() | {"torch": torch_of(results.values())}
    record = {
        "budget": vars(budget), "seeds": len(seeds), "share": SHARE, **joined(list(results.values())),
        "python": platform.python_version(), "versions": versions,
    }  # fmt: skip
    print("\n".join(lines(record)))
    if chosen.smoke or chosen.seeds:
        return
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    text = "\n".join(lines(record))
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    print(f"wrote {(HERE / 'results.json').relative_to(ROOT)} and the table of {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
