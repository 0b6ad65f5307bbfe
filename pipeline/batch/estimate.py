"""Estimate: what a run will take, before it begins."""

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...datasets.stack import AlignedStack
from ..mosaic import WindowGrid
from ..predict import Predictor, window_answers
from ..stage_options import PredictOptions
from .inputs import Plan
from .unit import Unit
from .unit_ledger import DONE, UnitRow

#: Windows of which the quickest counts, after one that does not.
TIMED = 6

#: Units that must be done before their times are taken for those of the others.
ENOUGH = 3

#: Bytes of maps a mapped pixel, compressed: about what classes, confidence and tiles take on real scenes.
BYTES_A_PIXEL = 3.5


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take.

    Attributes
    ----------
    edge
        Of a unit, px: whole windows.
    units, empty, done
        Number of units; of them with nothing in the catalog; done already.
    why
        The commonest reason of those.
    pixels, km2
        Of the units that are to be mapped.
    bytes_in, undeclared
        Bytes of the files that are read, each counted once; files whose size nobody tells.
    bytes_out
        Of the maps, roughly.
    seconds_per_km2
        Time of one worker.
    measured
        ``units`` where the time is that of units which are done; ``network`` where it is that of the network alone on
        this machine.
    workers, price
        Workers, and cost of one of them for an hour.
    """

    edge: int
    units: int
    empty: int
    why: str
    done: int
    pixels: int
    km2: float
    bytes_in: int
    undeclared: int
    bytes_out: int
    seconds_per_km2: float
    measured: str
    workers: int
    price: float

    def lines(self) -> Iterator[str]:
        """Yield the estimate in words."""
        yield f"units       {self.units}: {self.done} done, {self.empty} with nothing to map, {self._left} to do"
        yield f"a unit      {self.edge} px"
        yield f"to map      {f'{self.pixels:,} px'.replace(',', ' ')}, {f'{self.km2:,.1f} km2'.replace(',', ' ')}"
        if self.empty:
            yield f"            mostly because: {self.why}"
        unknown = f", and {self.undeclared} files whose size is not declared" if self.undeclared else ""
        yield f"to read     {_bytes(self.bytes_in)}{unknown}"
        yield f"to write    about {_bytes(self.bytes_out)}"
        what = (
            "as the units that are done took"
            if self.measured == "units"
            else ("the network alone, as timed on this machine just now; fetching and aligning come on top")
        )
        total, thousand = self.seconds_per_km2 * self.km2, 1000 * self.seconds_per_km2
        yield f"time        {_time(total / self.workers)} with {self.workers} worker(s) ({what})"
        cost = thousand / 3600 * self.price
        yield (
            f"            {_time(thousand)} of one worker per 1000 km2; at {self.price:g} an hour and worker "
            f"that is {_money(cost)} per 1000 km2, {_money(cost * self.km2 / 1000)} in all"
        )

    @property
    def _left(self) -> int:
        return self.units - self.done - self.empty


def estimate(plan: Plan, predictor: Predictor, *, known: Mapping[str, UnitRow], workers: int, price: float) -> Estimate:
    """Estimate a run.

    Parameters
    ----------
    plan
        Units.
    predictor
        The model, in the form for prediction; timed on this machine where no units are done.
    known
        What the ledger knows.
    workers, price
        Workers, and cost of one of them for an hour.
    """
    done = [unit for unit in plan.units if _is_done(unit, known.get(unit.name))]
    finished = {unit.name for unit in done}
    left = [unit for unit in plan.units if unit.name not in finished and unit.reason is None]
    chosen = left or done
    if len(done) >= ENOUGH:
        pace = statistics.median(_seconds(known[unit.name]) / max(_km2(unit), 1e-9) for unit in done)
        measured = "units"
    else:
        windows = sum(_windows(unit, plan.job.predict) for unit in chosen)
        seconds = window_seconds(predictor, plan.job.predict) * windows
        pace, measured = seconds / max(sum(map(_km2, chosen)), 1e-9), "network"
    read, undeclared = _files(left)
    todo = sum(map(_pixels, left))
    return Estimate(
        edge=max((max(unit.geobox.shape) for unit in plan.units), default=0), why=_commonest(plan.units),
        units=len(plan.units), empty=sum(unit.reason is not None for unit in plan.units), done=len(done), pixels=todo,
        km2=sum(map(_km2, left)), bytes_in=read,
        undeclared=undeclared, bytes_out=int(todo * BYTES_A_PIXEL), seconds_per_km2=pace, measured=measured,
        workers=workers, price=price,
    )  # fmt: skip


def _commonest(units: Sequence[Unit]) -> str:
    reasons = Counter(unit.reason for unit in units if unit.reason is not None)
    return reasons.most_common(1)[0][0] if reasons else ""


def _money(cost: float) -> str:
    return f"{cost:.2f}" if cost >= 0.01 else "less than 0.01"


def _is_done(unit: Unit, row: UnitRow | None) -> bool:
    return row is not None and row.state == DONE and row.fingerprint == unit.fingerprint


def window_seconds(predictor: Predictor, options: PredictOptions) -> float:
    """Return the seconds that one window takes the network, reliance included, on one thread."""
    edge, threads = options.tile, torch.get_num_threads()
    grid = WindowGrid(rows=edge, cols=edge, tile=edge, overlap=options.overlap, halo=options.chosen_halo)
    generator, names = torch.Generator().manual_seed(0), predictor.network.modalities
    tensors = {
        "image": {item.name: torch.randn(1, len(item.bands), edge, edge, generator=generator).to(predictor.device)
                  for item in predictor.normaliser.modalities},
        "valid": {name: torch.ones(1, edge, edge, dtype=torch.bool, device=predictor.device) for name in names},
        "available": torch.ones(1, len(names), dtype=torch.bool, device=predictor.device),
    }  # fmt: skip
    answers = window_answers(predictor, grid, options)
    torch.set_num_threads(1)
    try:
        answers(tensors)
        times = []
        for _ in range(TIMED):
            began = time.perf_counter()
            answers(tensors)
            times.append(time.perf_counter() - began)
        return min(times)  # what other work on the machine adds is not the network's
    finally:
        torch.set_num_threads(threads)


def _windows(unit: Unit, options: PredictOptions) -> float:
    """Return the number of windows of a unit, by the share of it that is mapped."""
    rows, cols = unit.windowed.shape
    stride = options.tile - options.overlap
    return -(-rows // stride) * -(-cols // stride) * _share(unit)


def _share(unit: Unit) -> float:
    if unit.outline is None:
        return 1.0
    whole = unit.geobox.extent.geom
    return float(unit.outline.intersection(whole).area / whole.area)


def _pixels(unit: Unit) -> int:
    return int(np.prod(unit.geobox.shape) * _share(unit))


def _km2(unit: Unit) -> float:
    return _pixels(unit) * abs(unit.geobox.affine.determinant) / 1e6


def _seconds(row: UnitRow) -> float:
    return float((row.record or {}).get("seconds", 0.0))


def _files(units: Sequence[Unit]) -> tuple[int, int]:
    """Return the bytes of all files that units are made of, and the number of files without a size."""
    sizes: dict[str, int | None] = {}
    for path in {str(unit.source["path"]) for unit in units if unit.source["kind"] == "stack"}:
        sizes |= {str(file): file.stat().st_size for file in AlignedStack.load(Path(path)).present.values()}
    for unit in units:
        for sensor in unit.source.get("sensors", {}).values():
            for item in sensor["items"]:
                for asset in item["assets"].values():
                    sizes[asset["href"]] = asset["size"] if asset["size"] is not None else _size(asset["href"])
    known = [size for size in sizes.values() if size is not None]
    return sum(known), len(sizes) - len(known)


def _size(href: str) -> int | None:
    if href.startswith(("http://", "https://")):
        return None
    path = Path(href)
    return path.stat().st_size if path.is_file() else None


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
