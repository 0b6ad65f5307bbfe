"""A radar network with few labels, and what it gains from an optical teacher on places without labels.

On the oracle scene and on real flood chips a tenth of the training places has labels, others for each seed. A radar
network is trained on these alone, for as many steps as the others get with labels and again for as many as they get in
all; or it first learns from an optical teacher on all training places, whose labels are not read, and then from the
tenth and the teacher together. The teacher itself had the same tenth of the labels, or all of them. The epoch is chosen
on validation places, with their labels; the figures are those of test places, which choose nothing.

The real part needs ``EQUIPOISE_DATA``. Run by ``make study``, or alone; ``--smoke`` makes it short. Writes
``results.json`` beside this file and the tables of ``docs/missing/distillation.md``. Finished runs are kept in
``runs/studies/distillation``.
"""

import argparse
import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parents[1]))  # this folder is a package beside the other studies

import lightning as L
import numpy as np
import torch
from finished_runs import Found, Work, finish, mark_of, torch_of
from missing.counting import counted
from missing.sums import gains, mean_iou
from torch.utils.data import DataLoader
from utilization.networks import KeepBest

from distillation.places import SHARE, Labels, Place, flood_place, oracle_place
from equipoise.models.balancing import Strategy, build_strategy
from equipoise.models.balancing.distillation import CrossModalDistillation
from equipoise.models.baselines import single_modality_spec
from equipoise.models.network import FusionUNet
from equipoise.models.task import FusionTask
from equipoise.models.transfer import take_decision_layers, take_encoder
from equipoise.pipeline.run_folder import package_versions
from real_utilization.chips import read_chips
from real_utilization.imagery import Imagery

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
RUNS = ROOT / "runs" / "studies" / "distillation"
PAGE = ROOT / "docs" / "missing" / "distillation.md"
BEGIN, END = "<!-- table: benchmarks/studies/distillation/run.py -->", "<!-- end of table -->"
SEEDS = 3

#: Name -> what it is, in words.
ARMS = {
    "scratch": "radar from scratch, a tenth of the labels",
    "scratch, longer": "the same, with as many steps as the taught ones have in all",
    "taught only, few": "teacher with the same tenth; the student sees no label",
    "taught, few": "the same student, then the tenth beside the teacher",
    "taught only, all": "teacher with all optical labels; the student sees no label",
    "taught, all": "the same student, then the tenth beside the teacher",
    "scratch, all labels": "radar from scratch, all labels: what there is to gain",
}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Steps and epochs of one training, and its learning rate; a taught student has two."""

    steps: int = 300
    epochs: int = 10
    rate: float = 3e-3


def fit(
    place: Place, labels: Labels, strategy: Strategy | str, *, only: str, seed: int, budget: Budget, times: int = 1,
    begin: FusionUNet | None = None,
) -> FusionUNet:  # fmt: skip
    """Train a network of one modality; return it with the weights of the epoch that validation prefers.

    Parameters
    ----------
    place, labels, seed
        What it learns from.
    strategy
        Name, or a strategy that is built already.
    only
        The modality.
    budget, times
        Steps and epochs, and how many times as many.
    begin
        Network that it begins with: of the same modality, or another's, of which it takes the decision layers.
    """
    torch.manual_seed(seed)
    network = FusionUNet(single_modality_spec(place.spec, only))
    if begin is not None:
        take_decision_layers(network, begin)
        if begin.modalities == network.modalities:
            take_encoder(network, only, begin)
    built = strategy if isinstance(strategy, Strategy) else build_strategy(strategy, modalities=network.modalities)
    task = FusionTask(
        network, loss=place.loss, strategy=built, learning_rate=budget.rate, total_steps=times * budget.steps,
        seed=seed, batch_modalities=place.modalities,
    )  # fmt: skip
    keep = KeepBest()
    trainer = L.Trainer(
        max_epochs=times * budget.epochs, accelerator="cpu", devices=1, logger=False, callbacks=[keep],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
    )  # fmt: skip
    drawn = place.train(labels, seed, budget.steps // budget.epochs)
    trainer.fit(task, drawn, DataLoader(list(place.validation(seed)), batch_size=None))  # type: ignore[arg-type]
    network.load_state_dict(keep.weights)
    return network.eval()


def arms(place: Place, seed: int, budget: Budget) -> Iterator[tuple[str, FusionUNet]]:
    """Yield every arm with its trained radar network."""
    learn = partial(fit, place, seed=seed, budget=budget)
    yield "scratch", learn("few", "joint", only="sar")
    yield "scratch, longer", learn("few", "joint", only="sar", times=2)
    yield "scratch, all labels", learn("all", "joint", only="sar", times=2)
    for seen in ("few", "all"):
        teacher = learn(seen, "joint", only="eo")
        lesson = partial(CrossModalDistillation, teacher, batch_modalities=place.modalities)
        taught = learn("all", lesson(), only="sar", begin=teacher)
        yield f"taught only, {seen}", taught
        yield f"taught, {seen}", learn("beside", lesson(labels=1.0), only="sar", begin=taught)


def work(place: Place, seed: int, budget: Budget) -> Found:
    """Train all arms of one seed; count what each gets right of every unit of the test."""
    torch.set_num_threads(1)
    column = place.modalities.index("sar")
    batches = [({**batch, "available": batch["available"][:, [column]]}, unit) for batch, unit in place.test()]
    return {
        "seed": seed,
        "counts": {
            name: counted(network, batches, units=place.units).tolist() for name, network in arms(place, seed, budget)
        },
    }  # fmt: skip


def joined(runs: list[Found]) -> dict[str, Any]:
    """Sum up every arm over seeds, and hold the taught ones against those from scratch."""
    counts = {name: np.array([run["counts"][name] for run in runs]) for name in ARMS}
    # (seed, 3, class): one subset, all units together
    table = {name: mean_iou(found.sum(axis=1)[:, 0]).tolist() for name, found in counts.items()}
    against = {
        f"{ours} against {theirs}": gains(counts[ours], counts[theirs])["full"]
        for ours in ("taught, few", "taught, all") for theirs in ("scratch", "scratch, longer")
    }  # fmt: skip
    return {"mean_iou": table, "against": against}


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of the page."""
    for place in record["places"].values():
        yield from (f"**{place['title']}**, mean IoU in points", "", "| | seeds | mean |", "| --- | --- | --- |")
        for name, words in ARMS.items():
            found = place["mean_iou"][name]
            each = ", ".join(f"{100 * value:.1f}" for value in found)
            yield f"| {words} | {each} | {100 * float(np.mean(found)):.1f} |"
        yield from ("", "| gain (95 %, test places and seeds drawn) | |", "| --- | --- |")
        for name, found in place["against"].items():
            low, high = found["interval"]
            yield f"| {name} | {found['points']:+.1f} ({low:+.1f} to {high:+.1f}) |"
        yield ""


def places(*, smoke: bool) -> list[Place]:
    """Return the places that there is data for."""
    data = os.environ.get("EQUIPOISE_DATA")
    if data is None:
        print("EQUIPOISE_DATA is not set: the real part of the study is left out")
        return [oracle_place()]
    imagery = Imagery.of(read_chips(Path(data) / "B_internal_only" / "ombria"))
    return [oracle_place(), flood_place(imagery.thinned(6) if smoke else imagery)]


def main() -> None:
    """Run what is not done, and write results and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one seed, few steps; writes nothing committed")
    parser.add_argument("--seeds", type=int, help="fewer trainings of each; writes nothing committed")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same figures
    budget = Budget(steps=24, epochs=3) if chosen.smoke else Budget()
    seeds = range(1 if chosen.smoke else chosen.seeds or SEEDS)
    found = {place.name: place for place in places(smoke=chosen.smoke)}
    studies = HERE.parent
    sources = [*sorted((ROOT / "models").rglob("*.py")), *sorted((studies / "real_utilization").glob("*.py"))]
    sources += [*sorted((studies / "oracle").glob("*.py")), studies / "utilization" / "networks.py"]
    todo: dict[str, Work] = {
        f"{name}-{seed}": partial(work, place, seed, budget) for name, place in found.items() for seed in seeds
    }
    results = finish(todo, folder=RUNS, mark=mark_of([*sources, *sorted(HERE.glob("*.py"))], budget))
    record = {
        "budget": asdict(budget), "seeds": len(seeds), "share": SHARE,
        "places": {
            name: {"title": place.title, **joined([results[f"{name}-{seed}"] for seed in seeds])}
            for name, place in found.items()
        },
        "python": platform.python_version(),
        "versions": package_versions() | {"torch": torch_of(results.values())},
    }  # fmt: skip
    print("\n".join(lines(record)))
    if chosen.smoke or chosen.seeds or len(found) < 2:
        return
    (HERE / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    text = "\n".join(lines(record)).rstrip()
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    print(f"wrote {(HERE / 'results.json').relative_to(ROOT)} and the tables of {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
