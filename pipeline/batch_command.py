"""The command `equipoise batch`: maps of regions, or of many scenes."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answers import Json, answer

if TYPE_CHECKING:
    from .batch.command import Asked
    from .batch.run import BatchResult

Texts = list[str] | None

Source = Annotated[
    Path,
    typer.Argument(metavar="INPUT", help="Regions (vector file); or scenes: YAML, folder of stacks, STAC on disk."),
]
Model = Annotated[Path, typer.Option(help="Model folder, as `equipoise train` writes it.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")]
Catalog = Annotated[str | None, typer.Option(help="Of regions: STAC search API (http...), or a catalog on disk.")]
Dates = Annotated[str | None, typer.Option(help="Of a catalog: period, 2021-07-01/2021-07-31.")]
Options = Annotated[Path | None, typer.Option(help="YAML: chunk, attempts, coregister, predict.")]
Chunk = Annotated[int | None, typer.Option(help="Edge of a unit, px, rounded to whole windows; default: 2048.")]
NameColumn = Annotated[str | None, typer.Option(help="Column of the regions' names; default: name.")]
Collections = Annotated[Texts, typer.Option(help="eo=sentinel-2-l2a; best first.")]
Bands = Annotated[Texts, typer.Option(help="eo=blue,green; default: the model's.")]
Unit = Annotated[Texts, typer.Option(help="sar=db, where it is not the sensor's usual.")]
Scale = Annotated[Texts, typer.Option(help="eo=0.0001, in the place of the item's.")]
Offset = Annotated[Texts, typer.Option(help="eo=-0.1, in the place of the item's.")]
Nodata = Annotated[Texts, typer.Option(help="eo=0, in the place of the file's.")]
MaxGap = Annotated[str, typer.Option(help="Longest time between sensors: 3d, 12h.")]
MaxCloud = Annotated[float, typer.Option(help="Largest claimed cloud share, 0 to 1.")]
MinCoverage = Annotated[float, typer.Option(help="Least claimed share of a unit, 0 to 1.")]
Resolution = Annotated[float, typer.Option(help="Of a catalog: pixel size, m.")]
AllowNetwork = Annotated[bool, typer.Option(help="A catalog on disk may name files on the network.")]
Coregister = Annotated[str | None, typer.Option(help="structure (default), or none: the files' positions.")]
Reliance = Annotated[str | None, typer.Option(help="shapley, leave_one_out or none.")]
Precision = Annotated[str | None, typer.Option(help="32, bf16 or fp16.")]
Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, tcp://host:8786; default: this machine.")]
Workers = Annotated[int | None, typer.Option(help="Workers of this machine; default: by cores and memory.", min=1)]
Threads = Annotated[int, typer.Option(help="Threads of a unit.", min=1)]
WorkerResources = Annotated[Texts, typer.Option(help="GPU=1: only workers with this tag, one unit each.")]
Attempts = Annotated[int | None, typer.Option(help="Errors, or dead workers, until a unit is set aside; default: 3.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try units again that were set aside.")]
Verify = Annotated[bool, typer.Option("--verify", help="Compare every byte of finished units with its hash.")]
Mosaic = Annotated[str, typer.Option(help="cog,vrt | cog | vrt | none: mosaics of each region.")]
Admin = Annotated[Path | None, typer.Option(help="Vector file of administrative units to sum up, too.")]
AdminColumn = Annotated[str | None, typer.Option(help="Its column of names; default: name.")]
Price = Annotated[float, typer.Option(help="For the estimate: cost of a worker for an hour.", min=0)]
LogJson = Annotated[bool, typer.Option("--log-json", help="A line of JSON for each unit, in the place of the bar.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and what it will take.")]


def batch(
    source: Source,
    model: Model,
    output: Output = Path("batch"),
    catalog: Catalog = None,
    dates: Dates = None,
    options: Options = None,
    chunk: Chunk = None,
    name_column: NameColumn = None,
    collections: Collections = None,
    bands: Bands = None,
    unit: Unit = None,
    scale: Scale = None,
    offset: Offset = None,
    nodata: Nodata = None,
    max_gap: MaxGap = "3d",
    max_cloud: MaxCloud = 0.4,
    min_coverage: MinCoverage = 0.5,
    resolution: Resolution = 10.0,
    allow_network: AllowNetwork = False,
    coregister: Coregister = None,
    reliance: Reliance = None,
    precision: Precision = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    threads: Threads = 1,
    worker_resources: WorkerResources = None,
    attempts: Attempts = None,
    retry_failed: RetryFailed = False,
    verify: Verify = False,
    mosaic: Mosaic = "cog,vrt",
    admin: Admin = None,
    admin_column: AdminColumn = None,
    price: Price = 0.05,
    log_json: LogJson = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Map regions, or many scenes, in units that workers share; skips what is done."""
    from .batch.command import Asked

    changes = {
        "chunk": chunk, "attempts": attempts, "coregister.method": coregister, "predict.reliance": reliance,
        "predict.precision": precision,
    }  # fmt: skip
    catalog_given: dict[str, Any] = {
        "collections": collections, "bands": bands, "unit": unit, "scale": scale, "offset": offset, "nodata": nodata,
        "max_gap": max_gap, "max_cloud": max_cloud, "min_coverage": min_coverage, "resolution": resolution,
        "allow_network": allow_network,
    }  # fmt: skip
    asked = Asked(
        source=source, model=model, output=output, catalog=catalog, dates=dates, options=options, changes=changes,
        catalog_given=catalog_given, name_column=name_column, scheduler=scheduler, workers=workers, threads=threads,
        worker_resources=tuple(worker_resources or ()), retry_failed=retry_failed, verify=verify, mosaic=mosaic,
        admin=admin, admin_column=admin_column, price=price, log_json=log_json, dry_run=dry_run,
    )  # fmt: skip
    _work(asked, as_json=json)


def _work(asked: "Asked", *, as_json: bool) -> None:
    from .batch.command import do
    from .batch.run import BatchResult
    from .errors import ConfigError

    if as_json and asked.log_json:
        raise ConfigError("found --json and --log-json; wanted one: an answer at the end, or a line for each unit")
    result = do(asked, announce=lambda line: typer.echo(line, err=asked.log_json or as_json))
    if as_json:
        record = asdict(result)
        answer([], {"estimate": record} if asked.dry_run else {"folder": asked.output, **record}, as_json=True)
    if isinstance(result, BatchResult):
        _end(result)


def _end(result: "BatchResult") -> None:
    from .errors import PipelineError

    if not result.counts.get("done") and not result.counts.get("failed"):
        reason, count = result.reasons.get("empty", ("", 0))
        raise PipelineError(f"found nothing to map in {count} unit(s): {reason}; wanted imagery there; see the report")
    failed = result.counts.get("failed", 0)
    if failed:
        raise PipelineError(
            f"{failed} unit(s) set aside; their errors are in the report and the ledger; "
            "--retry-failed tries them again"
        )
