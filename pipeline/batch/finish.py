"""What is made of the units once they are mapped: mosaics, tables, collection and report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..map_companions import model_source
from .cluster import Workers
from .inputs import Plan
from .regions import Region, read_regions
from .run_options import RunOptions
from .unit_ledger import DONE, LAYER, UnitLedger

if TYPE_CHECKING:
    import geopandas

    from ..predict import Predictor

#: What the files of a run are, for its collection.
TITLES = {
    "regions.parquet": "areas, confidence and reliance by region", "areas.parquet": "the same by administrative unit",
    "ledger.gpkg": "state of every unit", "report.html": "report of the run",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Files that were made.

    Attributes
    ----------
    mosaics
        Of regions; maps alone.
    tables
        Summaries by region and by administrative unit.
    collection
        STAC collection; None where nothing has a position, or nothing was mapped.
    report
        Page.
    """

    mosaics: tuple[Path, ...]
    tables: tuple[Path, ...]
    collection: Path | None
    report: Path


def finish(
    plan: Plan,
    predictor: "Predictor",
    manifest: Mapping[str, Any],
    *,
    options: RunOptions,
    ledger: Path,
    workers: Workers,
) -> Finished:
    """Make everything that is made of the units; what is made already, of the same units, is kept.

    Parameters
    ----------
    plan
        The run.
    predictor
        Its model.
    manifest
        Content of ``batch.json``.
    options
        What is wanted.
    ledger
        Closed ledger of the run.
    workers
        Who does what there is much of.
    """
    import geopandas

    from .progress_map import write_progress_map
    from .run_page import write_run_page

    out = plan.job.out
    names = ["name", "crs", "regions", "state", "attempts", "losses", "worker", "started", "finished", "seconds",
             "pixels", "km2", "error", "fingerprint", "record", "payload"]  # fmt: skip
    units = geopandas.read_file(ledger, layer=LAYER, columns=names)
    is_done = bool((units["state"] == DONE).any())
    mosaics = _mosaics(out, units, plan, options, workers) if is_done else ()
    tables = _tables(out, units, plan.regions, options, workers) if is_done and plan.regions else {}
    write_progress_map(out, units)
    shown = {what: geopandas.read_parquet(path) for what, path in tables.items()}
    report = write_run_page(
        out, name=plan.job.collection, ledger=units, manifest=manifest, summaries=shown, mosaics=mosaics
    )
    collection = None
    if is_done and plan.regions:
        collection = _collection(plan, predictor, [*mosaics, *tables.values(), ledger, report])
    return Finished(mosaics=mosaics, tables=tuple(tables.values()), collection=collection, report=report)


def _mosaics(
    out: Path, units: "geopandas.GeoDataFrame", plan: Plan, options: RunOptions, workers: Workers
) -> tuple[Path, ...]:
    from .after_work import write_region_mosaics

    if not options.kinds:
        return ()
    # Scenes are mapped whole: nothing is cut off.
    regions = [(region.name, region.outline if plan.job.sensors else None) for region in plan.regions]
    written = write_region_mosaics(out, units, regions, kinds=options.kinds, workers=workers)
    return tuple(path for path in written if path.suffix in (".tif", ".vrt"))


def _tables(
    out: Path, units: "geopandas.GeoDataFrame", regions: Sequence[Region], options: RunOptions, workers: Workers
) -> dict[str, Path]:
    """Write the summaries: what their rows are -> file."""
    from .after_work import counted
    from .region_summary import AREA, REGION, summary_polygons, summary_table, write_summary

    areas = () if options.admin is None else read_regions(options.admin, column=options.admin_column)
    polygons = summary_polygons(_frame(regions), _frame(areas) if areas else None)
    table = summary_table(polygons, units, counted(out, units, polygons, workers=workers))
    wanted = {"regions": (REGION, "regions.parquet"), "administrative units": (AREA, "areas.parquet")}
    return {
        what: write_summary(out / name, table[table["kind"] == kind].drop(columns="kind"))
        for what, (kind, name) in wanted.items() if (table["kind"] == kind).any()
    }  # fmt: skip


def _frame(regions: Sequence[Region]) -> "geopandas.GeoDataFrame":
    import geopandas

    return geopandas.GeoDataFrame(
        {"name": [region.name for region in regions]}, geometry=[region.outline for region in regions], crs="EPSG:4326"
    )


def _collection(plan: Plan, predictor: "Predictor", files: Sequence[Path]) -> Path:
    from .collection import write_collection

    out = plan.job.out
    rows = UnitLedger.read(out / "ledger.gpkg").values()
    titles = {path: TITLES.get(path.name, f"map of a region: {path.name}") for path in files}
    written = write_collection(
        out, name=plan.job.collection, rows=rows, model=model_source(predictor, folder=plan.job.model), files=titles,
        regions={region.name: region.outline.bounds for region in plan.regions},
    )  # fmt: skip
    return written[0]
