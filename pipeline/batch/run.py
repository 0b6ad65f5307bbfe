"""Stage batch: plan, ledger, work, and what is made of the units; a run that is stopped anywhere goes on from there."""

import contextlib
import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...datasets.ledger import Ledger
from ..errors import RunFolderError
from ..run_folder import RunFolder, package_versions, write_text
from .cluster import Workers, connected
from .dispatch import Dispatch
from .finish import Finished, finish
from .inputs import Plan
from .run_options import RunOptions
from .run_progress import shown
from .unit_ledger import DONE, EMPTY, FAILED, PENDING, UnitLedger, UnitRow
from .unit_work import finished_unit, unchanged

if TYPE_CHECKING:
    from ..predict import Predictor

#: Files of a run's folder.
LEDGER, MANIFEST = "ledger.gpkg", "batch.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """What a run came to.

    Attributes
    ----------
    counts
        State -> number of units.
    fresh
        Units that were done now.
    seconds
        Wall time of the work on units.
    reasons
        State, empty or failed -> the commonest reason and the number of units that have it.
    finished
        What was made of them.
    """

    counts: dict[str, int]
    fresh: int
    seconds: float
    finished: Finished
    reasons: dict[str, tuple[str, int]]


def run_batch(
    plan: Plan, predictor: "Predictor", options: RunOptions, *, announce: Callable[[str], None]
) -> BatchResult:
    """Map all units that are not done, and make mosaics, tables, collection and report of all that are.

    Parameters
    ----------
    plan
        Units, and what they share.
    predictor
        The model.
    options
        How.
    announce
        Called with lines for people.

    Raises
    ------
    RunFolderError
        If the folder is not of a batch run, another command works in it, or the ledger is damaged.
    PipelineError
        If the cluster stays away, or the disk is full; the same command goes on.
    """
    out = plan.job.out
    open_folder(out)
    with RunFolder(root=out).locked():
        plan = replace(plan, job=replace(plan.job, collection=_name(out)))
        manifest = _manifest(plan, predictor, options)
        write_text(out / MANIFEST, json.dumps(manifest, indent=2))
        shutil.rmtree(plan.job.scratch, ignore_errors=True)  # of a run that was killed
        known = _known(plan, UnitLedger.read(out / LEDGER), options)
        ledger = UnitLedger.create(out / LEDGER, plan.units, known=known)
        with contextlib.ExitStack() as opened:
            workers = cache(lambda: opened.enter_context(connected(options.cluster)))
            before, counts, seconds = _work(plan, ledger, options, announce, workers)
            finished = finish(plan, predictor, manifest, options=options, ledger=out / LEDGER, workers=workers)
        fresh = counts.get(DONE, 0) - before.get(DONE, 0)
        rows = UnitLedger.read(out / LEDGER).values()
        return BatchResult(counts=counts, fresh=fresh, seconds=seconds, finished=finished, reasons=_reasons(rows))


def open_folder(out: Path) -> None:
    """Make the folder of a run.

    Raises
    ------
    RunFolderError
        If it cannot be written, or holds files that are not of a batch run.
    """
    if out.is_dir() and not (out / MANIFEST).exists() and any(out.iterdir()):
        raise RunFolderError(
            f"{out}: found a folder with files that are not of a batch run; wanted a new, an empty or such a folder; "
            "choose another with -o"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "units").mkdir(exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{out}: found a folder that cannot be written ({error.strerror}); choose another with -o"
                             ) from error  # fmt: skip


def _name(out: Path) -> str:
    """Return the name that the run was begun under: its items belong to it, wherever the folder was moved."""
    try:
        return str(json.loads((out / MANIFEST).read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return out.name


def _known(plan: Plan, rows: dict[str, UnitRow], options: RunOptions) -> dict[str, UnitRow]:
    """Return what is known of the units: what is done and still there; what a lost ledger forgot is found again."""
    known: dict[str, UnitRow] = {}
    for unit in plan.units:
        row, folder = rows.get(unit.name), plan.job.units / unit.name
        record = finished_unit(folder, unit.fingerprint)
        if record is not None and options.verify and not unchanged(folder, record):
            log.warning("unit %s: its files are not those that were written; doing it again", unit.name)
            shutil.rmtree(folder)
            record = None
        if record is not None:
            counts = (row.attempts, row.losses) if row is not None and row.fingerprint == unit.fingerprint else (0, 0)
            known[unit.name] = UnitRow(
                name=unit.name, state=DONE, fingerprint=unit.fingerprint, record=record, attempts=counts[0],
                losses=counts[1],
            )  # fmt: skip
        elif row is not None and row.fingerprint == unit.fingerprint:
            again = row.state == DONE or (row.state == FAILED and options.retry_failed)
            known[unit.name] = UnitRow(
                name=unit.name, state=PENDING if again else row.state, fingerprint=row.fingerprint, error=row.error,
                attempts=0 if again else row.attempts, losses=0 if again else row.losses,
                record=row.record if row.state == EMPTY else None,
            )  # fmt: skip
    return known


def _work(
    plan: Plan,
    ledger: UnitLedger,
    options: RunOptions,
    announce: Callable[[str], None],
    workers: Workers,
) -> tuple[dict[str, int], dict[str, int], float]:
    """Do the units that wait; return their states before and after, and the seconds."""
    began, before = time.perf_counter(), ledger.counts()
    try:
        if before.get(PENDING):
            client, total = workers(), sum(before.values())
            announce(f"workers     {len(client.nthreads()) or 'none yet'}; dashboard {client.dashboard_link}")
            with shown(total=total, already=total - before[PENDING], log=options.log) as tell:
                Dispatch(client, ledger, plan.job, attempts=options.attempts, resources=options.cluster.resources).run(
                    tell
                )
        return before, ledger.counts(), time.perf_counter() - began
    finally:
        shutil.rmtree(plan.job.scratch, ignore_errors=True)  # first: on a full disk it makes room for the ledger
        ledger.give_back_running()
        ledger.close()
        if (plan.job.out / "assets").is_dir():
            Ledger.open(plan.job.out / "assets").clear_locks()


def _reasons(rows: Iterable[UnitRow]) -> dict[str, tuple[str, int]]:
    """Return the commonest reason of the units that have no maps, by state."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        if row.state in (EMPTY, FAILED):
            # Units that fail alike differ in the names that their errors name.
            found.setdefault(row.state, Counter())[row.error.replace(row.name, "...")] += 1
    return {state: reasons.most_common(1)[0] for state, reasons in sorted(found.items())}


def _manifest(plan: Plan, predictor: "Predictor", options: RunOptions) -> dict[str, Any]:
    names: Sequence[str] = predictor.network.modalities
    return {
        "equipoise": __version__, "versions": package_versions(), "name": plan.job.collection,
        "options": options.settings,
        "model": {
            "folder": str(plan.job.model), "digest": predictor.digest, "modalities": list(names),
            "classes": [item.model_dump() for item in predictor.classes],
        },
        "regions": [region.name for region in plan.regions],
        "grid": {"resolution": abs(plan.units[0].geobox.resolution.x), "edge": plan.units[0].geobox.shape[0]}
        if plan.units else {},
    }  # fmt: skip
