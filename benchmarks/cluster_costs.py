"""What a million km2 costs on machines that are hired, by their price and what the simulation says of the time.

Module of `cluster_simulation.py`. All of `MACHINES` is assumed: round numbers near the list prices of large providers
as of November 2026, in USD, for you to put your own in their place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster_calibration import Calibration, cluster_of, region_units
from cluster_model import simulate

PRICES_OF = "2026-11"

#: ASSUMED: what spot machines cost of the list price, and how long one lives on average, s.
SPOT_PRICE, SPOT_LIFE_S = 0.35, 12 * 3600.0

#: ASSUMED: the machine of scheduler and client, USD an hour; it is not spot.
HEAD_USD_H = 0.20


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A kind of machine.

    ``core``: speed of each of its workers, all at work, beside the core that was measured (a vCPU is half a core).
    ``gpu``: how much faster its GPU answers than that core; 0 where it has none. All workers share the GPU.
    """

    name: str
    usd_h: float
    workers: int
    core: float
    gpu: float = 0.0

    def seconds(self, unit: Calibration) -> float:
        """Return the median seconds of computing of a unit on one of its workers while all are at work."""
        if not self.gpu:
            return unit.compute_s / self.core
        on_gpu = unit.predict_s / self.gpu
        return max((unit.compute_s - unit.predict_s) / self.core + on_gpu, self.workers * on_gpu)


MACHINES = (
    Machine(name="4 vCPU, 16 GB, general purpose", usd_h=0.20, workers=4, core=0.6),
    Machine(name="4 vCPU, 16 GB, ARM", usd_h=0.16, workers=4, core=0.7),
    Machine(name="4 vCPU and a GPU of T4's class, 1 worker", usd_h=0.53, workers=1, core=1.0, gpu=20.0),
    Machine(name="4 vCPU and a GPU of T4's class, 4 workers", usd_h=0.53, workers=4, core=0.6, gpu=20.0),
    Machine(name="4 vCPU and a GPU of L4's class, 4 workers", usd_h=0.75, workers=4, core=0.6, gpu=50.0),
)


def costs(unit: Calibration, *, km2: float, machines: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return, for each kind of machine at its list price and as spot, what a million km2 costs with so many of them."""
    rows = []
    for machine in MACHINES:
        own = replace(unit, compute_s=machine.seconds(unit), predict_s=0.0)
        for spot in (False, True):
            life = {"life_s": SPOT_LIFE_S} if spot else {}
            cluster = cluster_of(own, machines * machine.workers, **life)
            outcome = simulate(region_units(own, km2, seed=seed), cluster, seed=seed)
            hours = outcome.makespan / 3600
            hired = machines * machine.usd_h * (SPOT_PRICE if spot else 1.0) * hours
            rows.append({
                "machine": machine.name, "spot": spot, "usd_h": machine.usd_h, "machines": machines,
                "workers": cluster.workers, "unit_s": own.compute_s, "hours": hours, "losses": outcome.losses,
                "efficiency": outcome.share("compute"), "usd_machines": hired / km2 * 1e6,
                "usd_head": HEAD_USD_H * hours / km2 * 1e6,
            })  # fmt: skip
    return rows


def assumptions() -> Mapping[str, Any]:
    """Return what is assumed of prices, for the record."""
    return {
        "prices_of": PRICES_OF, "spot_price": SPOT_PRICE, "spot_life_s": SPOT_LIFE_S, "head_usd_h": HEAD_USD_H,
        "machines": [vars(machine) for machine in MACHINES],
    }  # fmt: skip
