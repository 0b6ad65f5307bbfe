"""A batch run on 1 to 1000 workers, simulated: where it stops scaling and why, and what a million km2 costs.

A simulation of events (`cluster_model.py`), checked against closed forms in tests/3_pipeline.
What a unit costs is taken from batch.json beside this file where it is there (`benchmarks/batch.py` measures it), and
assumed otherwise; what is assumed stands in `cluster_calibration.py` and `cluster_costs.py`. No cluster is needed.

Writes cluster_simulation.json beside this file, docs/figures/cluster-*.png, and the tables of docs/scaling.md.
`--small` tries all of it on a small region and writes nothing. `--again` draws and writes from the JSON that is there.
"""

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cluster_calibration as known
from cluster_calibration import Calibration, calibration, cluster_of, drawn_seconds, region_units
from cluster_costs import assumptions, costs
from cluster_events import Link
from cluster_figures import write_figures
from cluster_model import PARTS, Cluster, Outcome, Units, simulate
from cluster_words import write_page

RESULT = Path(__file__).with_name("cluster_simulation.json")

#: A link, or a desk, that is busy for more of the time than this is what limits a run.
FULL_LINK = 0.8

#: What a part of the workers' time, other than computing, is called where it is the largest.
REASONS = {
    "fetch": "fetching files", "wait": "waiting for files", "disk": "shared disk",
    "lost": "lost work", "down": "start of the workers", "starved": "waiting for units", "tail": "the last units",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is simulated."""

    areas: tuple[float, float]  # km2
    workers: tuple[int, ...]
    several: tuple[int, ...]  # numbers of workers of the other sweeps
    seeds: int
    machines: int


FULL = Size(areas=(1e6, 1e7), workers=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), several=(10, 100, 1000), seeds=3,
            machines=25)  # fmt: skip
SMALL = Size(areas=(5e4, 1e5), workers=(1, 10, 50), several=(10, 50), seeds=1, machines=5)


def limit(outcome: Outcome) -> str:
    """Say what limits a run: what is shared and busy nearly all the time, or else what the workers' time goes to."""
    busy = {"shared disk": outcome.disk, "object store": outcome.store, "client's loop": outcome.client,
            "scheduler": outcome.scheduler}  # fmt: skip
    name = max(busy, key=lambda name: busy[name])
    if busy[name] > FULL_LINK:
        return name
    if outcome.share("compute") > 0.9:
        return "computing"
    return REASONS[max(REASONS, key=outcome.share)]


def row(units: Units, cluster: Cluster, *, seeds: int = 1, **named: Any) -> dict[str, Any]:
    """Return the means over seeds, which decide when workers die, and what limits the first."""
    outcomes = [simulate(units, cluster, seed=seed) for seed in range(seeds)]

    def mean(values: Sequence[float]) -> float:
        return round(float(statistics.fmean(values)), 5)

    return {
        **named, "workers": cluster.workers, "units": len(units.compute),
        "makespan_s": mean([item.makespan for item in outcomes]),
        "efficiency": mean([item.share("compute") for item in outcomes]),
        "shares": {part: mean([item.share(part) for item in outcomes]) for part in PARTS},
        "client": mean([item.client for item in outcomes]), "scheduler": mean([item.scheduler for item in outcomes]),
        "store": mean([item.store for item in outcomes]), "disk": mean([item.disk for item in outcomes]),
        "losses": mean([item.losses for item in outcomes]), "aside": mean([item.aside for item in outcomes]),
        "limit": limit(outcomes[0]),
    }  # fmt: skip


def sweep_workers(unit: Calibration, size: Size) -> dict[str, Any]:
    """Simulate more and more workers: two areas, and orders of the units of the larger."""
    large = {
        order: region_units(unit, size.areas[1], order=order) for order in ("row by row", "file by file", "scattered")
    }
    small = region_units(unit, size.areas[0])
    pairs = ((size.areas[0], small), (size.areas[1], large["row by row"]))
    return {
        "scaling": [row(units, cluster_of(unit, workers), km2=km2) for km2, units in pairs for workers in size.workers],
        "orders": [row(units, cluster_of(unit, workers), order=order)
                   for order, units in large.items() for workers in size.workers[-7:]],
    }  # fmt: skip


def sweep_units(unit: Calibration, size: Size) -> dict[str, Any]:
    """Simulate units of other sizes, and more that take long, over the smaller area."""
    edges, stragglers = [], []
    for edge in (512, 1024, 2048, 4096):
        other = unit.at_edge(edge)
        units = region_units(other, size.areas[0])
        edges += [row(units, cluster_of(other, workers), edge_px=edge, unit_s=round(other.compute_s, 2),
                      km2=size.areas[0])
                  for workers in size.several]  # fmt: skip
    for share, times in ((0.0, 1.0), (0.01, 4.0), (0.01, 20.0), (0.05, 4.0)):
        units = region_units(unit, size.areas[0], stragglers=share, times=times)
        stragglers += [row(units, cluster_of(unit, workers), share=share, times=times) for workers in size.several]
    return {"edges": edges, "stragglers": stragglers}


def sweep_shared(unit: Calibration, size: Size) -> dict[str, Any]:
    """Simulate other disks and stores, and loops of the client that nothing else limits, over the larger area."""
    units, several = region_units(unit, size.areas[1]), size.several[1:]
    return {
        "disks": [row(units, cluster_of(unit, workers, disk=Link(total=speed * 1e9, each=known.DISK.each,
                                                                 latency=known.DISK.latency)), gb_s=speed)
                  for speed in (0.1, 0.25, 0.5, 1.0, 2.0, 4.0) for workers in several],
        "stores": [row(units, cluster_of(unit, workers, store=Link(total=speed * 1e9, each=known.STORE.each,
                                                                   latency=known.STORE.latency)), gb_s=speed)
                   for speed in (0.1, 0.25, 1.0, 5.0) for workers in several],
        "clients": [row(units, cluster_of(unit, workers, submit_s=ms / 2000, result_s=ms / 2000, disk=Link(),
                                              store=Link()), client_ms=ms)
                    for ms in (5, 10, 20, 50, 100) for workers in several],
    }  # fmt: skip


def sweep_losses(unit: Calibration, size: Size) -> dict[str, Any]:
    """Simulate workers that live shorter, and half of them lost at once, over the larger area."""
    units, workers = region_units(unit, size.areas[1]), size.several[1]
    alone = row(units, cluster_of(unit, workers), life_h=None)
    lives = [alone]
    for hours in (24.0, 4.0, 1.0, 0.25):
        cluster = cluster_of(unit, workers, life_s=hours * 3600)
        lives.append({**row(units, cluster, seeds=size.seeds, life_h=hours),
                      "least_redone": redone(unit, hours * 3600)})  # fmt: skip
    middle = {"mass_loss_at": alone["makespan_s"] / 2, "mass_loss_share": 0.5}
    return {
        "lives": lives,
        "mass_loss": [row(units, cluster_of(unit, workers, **middle, restart_s=math.inf if back is None else back),
                          back_s=back) for back in (known.RESTART_S, 1800.0, None)],
    }  # fmt: skip


def redone(unit: Calibration, life_s: float) -> float:
    """Return what is lost for each second of work where workers live for an exponential time: (e^x - 1) / x - 1.

    x is the unit's time by the mean life. Only computing counts here: fetching and waiting come on top.
    """
    seconds = drawn_seconds(unit, 10_000, seed=0)
    return float((life_s * (math.e ** (seconds / life_s) - 1)).sum() / seconds.sum() - 1)


def simulated(size: Size) -> dict[str, Any]:
    """Simulate everything."""
    began, measured = time.perf_counter(), calibration()
    unit = measured.at_edge(known.EDGE_PX)
    return {
        "calibration": asdict(unit), "measured_km2": measured.km2,
        "mean_compute_s": float(drawn_seconds(unit, 10_000, seed=0).mean()),
        "assumptions": {
            "store": asdict(known.STORE), "disk": asdict(known.DISK), "scheduler_s": known.SCHEDULER_S,
            "restart_s": known.RESTART_S, "detect_s": known.DETECT_S, "stragglers": known.STRAGGLERS,
            "straggler_times": known.STRAGGLER_TIMES, "tile_km": known.TILE_KM, "zone_km": known.ZONE_KM,
            "fixed_s": known.FIXED_S, "rest_s": known.REST_S, "margin_px": known.MARGIN_PX,
            "in_flight": Cluster(workers=1).in_flight, "costs": assumptions(),
        },
        **sweep_workers(unit, size), **sweep_units(unit, size), **sweep_shared(unit, size), **sweep_losses(unit, size),
        "costs": costs(unit, km2=size.areas[0], machines=size.machines),
        "python": platform.python_version(), "simulated_in_s": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def table(record: Mapping[str, Any]) -> str:
    """Return the main figures in plain lines."""
    return "\n".join(
        f"{item['km2']:12,.0f} km2 {item['workers']:5} workers {item['makespan_s']:11.0f} s "
        f"{100 * item['efficiency']:5.1f} %  {item['limit']}" for item in record["scaling"]
    )  # fmt: skip


def main() -> None:
    """Simulate, write, say what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="try all of it on a small region; writes nothing")
    parser.add_argument("--again", action="store_true", help="draw and write from the JSON that is there")
    given = parser.parse_args()
    if given.again:
        record = json.loads(RESULT.read_text(encoding="utf-8"))
    else:
        record = simulated(SMALL if given.small else FULL)
    print(table(record))
    if given.small:
        print("tried on a small region: nothing was written")
        return
    temporary = RESULT.with_name(f".{RESULT.name}.tmp")
    temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(RESULT)
    write_figures(record)
    write_page(record)


if __name__ == "__main__":
    main()
