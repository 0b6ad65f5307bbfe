"""What the command batch asks for, made into a plan, and done or estimated."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...models.inference_form import inference_form
from ..errors import ConfigError
from ..model_folder import load_predictor
from ..predict import Predictor
from .batch_options import BatchOptions, read_batch_options
from .cluster import ClusterOptions, worker_count
from .estimate import Estimate, estimate
from .inputs import ANY_TIME, Plan, base_options, make_plan, model_acquire_options, read_inputs
from .run import LEDGER, BatchResult, run_batch
from .run_options import RunOptions
from .unit_ledger import UnitLedger

#: What the files that a run ends with are.
_KINDS = {"collection.json": "collection", "report.html": "report"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The command's options, as given."""

    source: Path
    model: Path
    output: Path
    options: Path | None = None
    changes: Mapping[str, Any]
    catalog: str | None = None
    dates: str | None = None
    catalog_given: dict[str, Any]
    name_column: str | None = None
    scheduler: str | None = None
    workers: int | None = None
    threads: int = 1
    worker_resources: tuple[str, ...] = ()
    retry_failed: bool = False
    verify: bool = False
    mosaic: str = "cog,vrt"
    admin: Path | None = None
    admin_column: str | None = None
    price: float = 0.05
    log_json: bool = False
    dry_run: bool = False


def do(asked: Asked, *, announce: Callable[[str], None]) -> BatchResult | Estimate:
    """Run, or estimate.

    Raises
    ------
    ConfigError
        If an option or an input cannot be used.
    """
    kinds, resources = _kinds(asked.mosaic), read_resources(asked.worker_resources)
    inputs = read_inputs(asked.source, asked.catalog)
    chosen = read_batch_options(asked.options, asked.changes, base=base_options(inputs, asked.model))
    predictor = load_predictor(asked.model, device="cpu" if asked.dry_run else chosen.predict.device)
    acquire = None
    if inputs.catalog is not None:
        dates = asked.dates or (ANY_TIME if inputs.kind == "items" else None)
        if dates is None:
            raise ConfigError("found a catalog and no period; wanted one, such as 2021-07-01/2021-07-31; add --dates")
        acquire = model_acquire_options(predictor, {**asked.catalog_given, "dates": dates})
    plan = make_plan(
        inputs, predictor, model=asked.model, options=chosen, acquire=acquire, column=asked.name_column,
        out=asked.output, threads=asked.threads,
    )  # fmt: skip
    cluster = ClusterOptions(
        scheduler=asked.scheduler, workers=asked.workers, threads=asked.threads, resources=resources
    )
    if asked.dry_run:
        expected = _estimated(plan, predictor, asked, workers=worker_count(cluster))
        for line in expected.lines():
            announce(line)
        return expected
    options = RunOptions(
        cluster=cluster, attempts=chosen.attempts, retry_failed=asked.retry_failed, verify=asked.verify,
        kinds=kinds, admin=asked.admin, admin_column=asked.admin_column,
        log=sys.stdout if asked.log_json else None, settings=_settings(asked, chosen),
    )  # fmt: skip
    result = run_batch(plan, predictor, options, announce=announce)
    for line in told(result, asked.output):
        announce(line)
    return result


def told(result: BatchResult, out: Path) -> Iterator[str]:
    """Yield what a run came to, and where everything is."""
    counts = ", ".join(f"{count} {state}" for state, count in sorted(result.counts.items()))
    yield f"units       {counts}; {result.fresh} now, in {result.seconds:.1f} s"
    for state, (reason, count) in result.reasons.items():
        yield f"{state:<11} {count} unit(s): {reason}"
    yield f"ledger      {out / LEDGER}"
    yield f"maps        {out / 'units'}"
    made = result.finished
    for path in made.mosaics[:1]:
        more = f" and {len(made.mosaics) - 1} more" if len(made.mosaics) > 1 else ""
        yield f"mosaics     {out / path.relative_to(out.absolute())}{more}"
    for file in (*made.tables, made.collection, made.report):
        if file is not None:
            yield f"{_KINDS.get(file.name, 'table'):<11} {out / file.name}"


def read_resources(texts: Sequence[str]) -> dict[str, float]:
    """Read ``GPU=1`` texts.

    Raises
    ------
    ConfigError
        If one is not of that form.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, amount = text.partition("=")
        try:
            found[name.strip()] = float(amount or 1)
        except ValueError:
            name = ""
        if not name.strip() or not 0 < found[name.strip()] < math.inf:
            raise ConfigError(f"--worker-resources: found {text!r}; wanted name=amount, such as GPU=1")
    return found


def _kinds(text: str) -> frozenset[str]:
    kinds = frozenset(part.strip() for part in text.split(",") if part.strip()) - {"none"}
    if unknown := sorted(kinds - {"cog", "vrt"}):
        raise ConfigError(f"--mosaic: found {unknown[0]!r}; wanted cog, vrt, both with a comma between, or none")
    return kinds


def _estimated(plan: Plan, predictor: Predictor, asked: Asked, *, workers: int) -> Estimate:
    mapper = replace(predictor, network=inference_form(predictor.network))
    known = UnitLedger.read(asked.output / LEDGER)
    return estimate(plan, mapper, known=known, workers=workers, price=asked.price)


def _settings(asked: Asked, chosen: BatchOptions) -> dict[str, Any]:
    """Return what was asked for as plain values, for the record."""
    given = {name: value for name, value in vars(asked).items() if name not in ("options", "changes")}
    record = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return {**record, "options": chosen.model_dump(mode="json")}
