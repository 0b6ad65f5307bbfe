"""What is left to do of units that are mapped, shared by the same workers: mosaics of regions, counts of units."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import track
from ..run_folder import fingerprint, write_text
from .cluster import Workers
from .mosaics import write_mosaics
from .region_summary import unit_polygons
from .unit_counts import unit_counts
from .unit_ledger import DONE

if TYPE_CHECKING:
    import geopandas
    from distributed import Client
    from shapely.geometry.base import BaseGeometry

#: Pieces of work that are done here, without workers: starting these takes longer.
FEW = 8

#: Pieces of work that are given to each thread of the workers at a time.
A_THREAD = 16

#: Columns of the ledger that a mosaic is made of.
_COLUMNS = ("name", "crs", "regions", "state", "record")


def write_region_mosaics(
    out: Path,
    units: "geopandas.GeoDataFrame",
    regions: Sequence[tuple[str, "BaseGeometry | None"]],
    *,
    kinds: frozenset[str],
    workers: Workers,
) -> list[Path]:
    """Write the mosaics of every region (:func:`~equipoise.pipeline.batch.mosaics.write_mosaics`), a region a task.

    Parameters
    ----------
    out
        Folder of the run.
    units
        Rows of the ledger.
    regions
        Name, and outline that mosaics are cut to, if they are.
    kinds
        ``vrt``, ``cog`` or both.
    workers
        Who does it, where there are many.
    """
    table = units[units["state"] == DONE][list(_COLUMNS)]
    jobs = []
    for name, outline in regions:
        belongs = [name in text.split("\n") for text in table["regions"]]
        jobs.append((out, table[belongs], name, outline, kinds))
    done = _shared(_write, jobs, "mosaics", workers=workers)
    return [path for written in done for path in written]


def counted(
    out: Path, units: "geopandas.GeoDataFrame", polygons: "geopandas.GeoDataFrame", *, workers: Workers
) -> Iterator[dict[str, Any]]:
    """Yield the counts of all units that are done (:func:`~.unit_counts.unit_counts`); known ones are kept.

    Parameters
    ----------
    out
        Folder of the run.
    units
        Rows of the ledger.
    polygons
        What is summed up.
    workers
        Who does it, where there is much.
    """
    path = out / "regions" / ".counts.json"
    known, found = _read(path), {}
    jobs = []
    for _, unit in units[units["state"] == DONE].iterrows():
        name, shapes = str(unit["name"]), unit_polygons(polygons, unit)
        mark = fingerprint(unit=unit["fingerprint"], shapes=[(key, shape.hex()) for key, shape in shapes])
        if known.get(name, {}).get("mark") == mark:
            found[name] = known[name]
            yield known[name]["counts"]
        else:
            jobs.append((mark, out / "units" / name, name, shapes))
    for mark, counts in _shared(_count, jobs, "sum up", workers=workers):
        found[counts["unit"]] = {"mark": mark, "counts": counts}
        yield counts
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(found))


def _write(job: tuple[Any, ...]) -> list[Path]:
    out, table, name, outline, kinds = job
    return write_mosaics(out, table, name, outline=outline, kinds=kinds)


def _count(job: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    mark, folder, name, shapes = job
    return mark, unit_counts(folder, name, shapes)


def _shared(work: Callable[[Any], Any], jobs: Sequence[Any], what: str, *, workers: Workers) -> Iterator[Any]:
    """Yield the results of jobs, in order; here where they are few, else by workers, some at a time."""
    if len(jobs) <= FEW:
        yield from track(map(work, jobs), what, total=len(jobs))
        return
    client = workers()
    step = max(1, sum(client.nthreads().values())) * A_THREAD
    batches = (jobs[start : start + step] for start in range(0, len(jobs), step))
    results = (result for batch in batches for result in _answers(client, work, batch))
    yield from track(results, what, total=len(jobs))


def _answers(client: "Client", work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
    """Yield what workers answer, in order; what is lost with a worker, or a scheduler, is done here."""
    from distributed import KilledWorker
    from distributed.client import ClosedClientError

    try:
        futures = client.map(work, jobs, pure=False)
    except ClosedClientError:
        yield from map(work, jobs)
        return
    for job, future in zip(jobs, futures, strict=True):
        try:
            result = future.result()
        except (CancelledError, KilledWorker, OSError, TimeoutError):
            result = work(job)
        yield result


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    except (OSError, ValueError):
        return {}  # counted again
