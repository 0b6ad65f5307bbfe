"""What units cost: measured, where benchmarks/batch.json is there, and assumed otherwise; and runs made of such units.

Module of `cluster_simulation.py`.
"""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cluster_events import Link
from cluster_model import Cluster, Units
from numpy.typing import NDArray

HERE = Path(__file__).parent
MEASURED = HERE / "batch.json"
PIXEL_M, EDGE_PX = 10.0, 2048  # the command's chunk

#: ASSUMED, whether or not units were measured. Files: the extent of a Sentinel-2 tile, and as much of a Sentinel-1
#: scene; a unit reads one file of each. Zones: the width of a UTM zone at middle latitudes.
TILE_KM, ZONE_KM, FILE_KINDS = 110.0, 500.0, 2
#: ASSUMED: what a unit costs whatever its size (opening, records), s; px that windows read beyond a unit's edge.
FIXED_S, MARGIN_PX = 1.0, 64
#: ASSUMED: this share of the units takes this many times as long as the lognormal distribution says.
STRAGGLERS, STRAGGLER_TIMES = 0.01, 4.0
#: ASSUMED: an object store in the workers' region, a shared file system of medium size.
STORE = Link(total=5e9, each=60e6, latency=0.1)
DISK = Link(total=1e9, each=250e6, latency=0.002)
#: ASSUMED: the scheduler's work for a task, s; the client's work for a unit that is spent when it is submitted.
SCHEDULER_S, SUBMIT_SHARE = 0.001, 0.5
#: ASSUMED: reading, trust and writing of a unit that nobody has measured, s.
REST_S = 6.0
#: ASSUMED: another worker after one was lost, and hearing of the loss, s.
RESTART_S, DETECT_S = 180.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A unit of ``km2``: on one core, without waiting for anything that is shared.

    ``predict_s`` is the part of ``compute_s`` that a GPU makes shorter. ``bytes_in`` is a unit's part of the files that
    are fetched, each once; ``bytes_out`` is what is written. ``measured``: not assumed.
    """

    km2: float
    compute_s: float  # median
    predict_s: float
    sigma: float  # of the logarithm of the seconds of computing
    client_s: float
    bytes_in: float
    bytes_out: float
    start_s: float
    measured: bool

    @property
    def edge_px(self) -> float:
        """Edge of the unit, px."""
        return math.sqrt(self.km2) * 1000 / PIXEL_M

    def at_edge(self, edge_px: float) -> "Calibration":
        """Return what units of another size cost: bytes go with the area, computing also with the margin around it."""
        area = (edge_px / self.edge_px) ** 2
        work = ((edge_px + 2 * MARGIN_PX) / (self.edge_px + 2 * MARGIN_PX)) ** 2
        fixed = min(FIXED_S, self.compute_s - self.predict_s)
        return Calibration(
            km2=self.km2 * area, compute_s=fixed + (self.compute_s - fixed) * work, predict_s=self.predict_s * work,
            sigma=self.sigma, client_s=self.client_s, bytes_in=self.bytes_in * area, bytes_out=self.bytes_out * area,
            start_s=self.start_s, measured=self.measured,
        )  # fmt: skip


def assumed() -> Calibration:
    """Return a unit of the command's chunk that nobody has measured.

    Its network and its registration take what larger scenes took in benchmarks that were; the rest is guessed.
    """
    maps = json.loads((HERE / "predict.json").read_text(encoding="utf-8"))
    predict = statistics.median(maps["seconds"]["reliance of 2"]) * maps["threads"] * (EDGE_PX / maps["scene_px"]) ** 2
    tile = json.loads((HERE / "coregister_tile.json").read_text(encoding="utf-8"))
    coregister = tile["cpu_s"] * (EDGE_PX / tile["edge_px"]) ** 2
    km2 = (EDGE_PX * PIXEL_M / 1000) ** 2
    return Calibration(
        km2=km2,
        compute_s=predict + coregister + REST_S,
        predict_s=predict,
        sigma=0.15,
        client_s=0.01,
        bytes_in=FILE_KINDS * 0.8e9 * km2 / TILE_KM**2,  # ten bands of a tile are about 0.8 GB; as much of radar
        bytes_out=13e6,
        start_s=60.0,
        measured=False,
    )


def fitted(record: Mapping[str, Any]) -> Calibration:
    """Return what was measured: the unit's median, and the spread of its logarithm.

    What acquiring took is left out: the simulation has links of its own.

    Raises
    ------
    ValueError
        If there are no times, or not as many of a part as of units.
    """
    units, parts = np.asarray(record["unit_seconds"], float), record["parts"]
    if not len(units) or any(len(parts[name]) != len(units) for name in ("acquire", "predict")):
        raise ValueError("found no unit_seconds, or parts of another number; wanted one value a unit; measure again")
    compute = np.maximum(units - np.asarray(parts["acquire"], float), 1e-3)
    return Calibration(
        km2=float(record["km2_per_unit"]), compute_s=float(np.median(compute)),
        predict_s=min(float(np.median(parts["predict"])), float(np.median(compute))),
        sigma=float(np.log(compute).std()), client_s=float(record["client_seconds_per_unit"]),
        bytes_in=float(record["bytes_in_per_unit"]), bytes_out=float(record["bytes_out_per_unit"]),
        start_s=float(record["worker_start_s"]), measured=True,
    )  # fmt: skip


def calibration(path: Path = MEASURED) -> Calibration:
    """Return what was measured where the file is there, and what is assumed otherwise."""
    if not path.is_file():
        return assumed()
    return fitted(json.loads(path.read_text(encoding="utf-8"))["calibration"])


def drawn_seconds(
    unit: Calibration, count: int, *, seed: int, stragglers: float = STRAGGLERS, times: float = STRAGGLER_TIMES
) -> NDArray[np.float64]:
    """Return (unit,) seconds of computing: lognormal, and for some units as many times as long."""
    rng = np.random.default_rng(seed)
    seconds = unit.compute_s * np.exp(unit.sigma * rng.standard_normal(count))
    return np.where(rng.random(count) < stragglers, seconds * times, seconds)


def region(unit: Calibration, km2: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of the units of a square region, in the order in which the command works: zone by zone,
    row by row.
    """  # noqa: D205 (one sentence)
    step, side = math.sqrt(unit.km2), math.sqrt(km2)
    across, down = max(1, round(side / step)), max(1, round(side / step))
    rows, cols = (item.ravel() for item in np.indices((down, across)))
    order = np.lexsort((cols, rows, (cols * step // ZONE_KM).astype(int)))
    return rows[order], cols[order]


def region_units(
    unit: Calibration, km2: float, *, seed: int = 0, order: str = "row by row",
    stragglers: float = STRAGGLERS, times: float = STRAGGLER_TIMES,
) -> Units:  # fmt: skip
    """Return the units of a region.

    Parameters
    ----------
    order
        ``row by row``, as the command works; ``file by file``: all units of a tile, then those of the next;
        ``scattered``: at random.
    """
    rows, cols = region(unit, km2)
    step = math.sqrt(unit.km2)
    # Files of the second kind lie half a tile aside: those of two satellites do not share their borders.
    places = [tuple(((item * step + kind * TILE_KM / FILE_KINDS) // TILE_KM).astype(int) for item in (rows, cols))
              for kind in range(FILE_KINDS)]  # fmt: skip
    files = np.stack([row * 100_000 + col for row, col in places])
    compute = drawn_seconds(unit, len(rows), seed=seed, stragglers=stragglers, times=times)
    if order == "file by file":
        files = files[:, np.argsort(files[0], kind="stable")]
    elif order == "scattered":
        files = files[:, np.random.default_rng(seed).permutation(len(rows))]
    return Units(
        compute=compute, files=files, file_bytes=unit.bytes_in / FILE_KINDS * TILE_KM**2 / unit.km2,
        read_bytes=unit.bytes_in, written_bytes=unit.bytes_out,
    )  # fmt: skip


def cluster_of(unit: Calibration, workers: int, **changes: Any) -> Cluster:
    """Return a cluster under the assumptions above, with some of them changed."""
    return Cluster(**{
        "workers": workers, "store": STORE, "disk": DISK, "submit_s": unit.client_s * SUBMIT_SHARE,
        "result_s": unit.client_s * (1 - SUBMIT_SHARE), "scheduler_s": SCHEDULER_S, "start_s": unit.start_s,
        "restart_s": RESTART_S, "detect_s": DETECT_S, **changes,
    })  # fmt: skip
