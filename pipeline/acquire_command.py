"""The command `equipoise acquire`: from an area and a period to an aligned stack."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answers import Json, answer

if TYPE_CHECKING:
    from .acquire import AcquireResult


def acquire(
    aoi: Annotated[Path, typer.Option(help="Area: GeoJSON or another vector file.")],
    dates: Annotated[str, typer.Option(help="Period: 2021-07-01/2021-07-31.")],
    catalog: Annotated[str, typer.Option(help="STAC search API (http...), or a static catalog on disk.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for assets and stacks.")] = Path("acquired"),
    sensors: Annotated[str, typer.Option(help="Modalities, the reference first: eo, sar, ir.")] = "",
    collections: Annotated[list[str] | None, typer.Option(help="eo=sentinel-2-l2a; best first.")] = None,
    bands: Annotated[list[str] | None, typer.Option(help="eo=blue,green,red,nir.")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="sar=db, where it is not the sensor's usual.")] = None,
    scale: Annotated[list[str] | None, typer.Option(help="eo=0.0001, in the place of the item's.")] = None,
    offset: Annotated[list[str] | None, typer.Option(help="eo=-0.1, in the place of the item's.")] = None,
    nodata: Annotated[list[str] | None, typer.Option(help="eo=0, in the place of the file's.")] = None,
    max_gap: Annotated[str, typer.Option(help="Longest time between sensors: 3d, 12h.")] = "3d",
    max_cloud: Annotated[float, typer.Option(help="Largest claimed cloud share, 0 to 1.")] = 0.4,
    min_coverage: Annotated[float, typer.Option(help="Least claimed share of the area, 0 to 1.")] = 0.5,
    resolution: Annotated[float, typer.Option(help="Pixel size, m.")] = 10.0,
    limit: Annotated[int, typer.Option(help="Most pairs, best first.")] = 1,
    allow_network: Annotated[bool, typer.Option(help="A catalog on disk may name files on the network.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the pairs; fetch and write nothing.")] = False,
    json: Json = False,
) -> None:
    """Search a catalog for an area and a period, pair sensors in time, fetch and align them; resumes."""
    from .acquire import acquire as do
    from .acquire_options import acquire_options
    from .acquire_summary import acquired

    options = acquire_options(
        dates=dates, sensors=sensors, collections=collections, bands=bands, unit=unit, scale=scale, offset=offset,
        nodata=nodata, max_gap=max_gap, max_cloud=max_cloud, min_coverage=min_coverage, resolution=resolution,
        limit=limit, allow_network=allow_network,
    )  # fmt: skip
    result = do(aoi, catalog, options, folder=output, dry_run=dry_run)
    answer(acquired(result, dry_run=dry_run), _record(result, dry_run=dry_run), as_json=json)


def _record(result: "AcquireResult", *, dry_run: bool) -> dict[str, Any]:
    pairs = [
        {
            "name": result.names[number] if number < len(result.names) else None,
            "reference": pairing.reference,
            "present": {
                sensor: {
                    "items": [part.id for part in item.items], "acquired": item.acquired.isoformat(),
                    "coverage": item.coverage, "cloud": item.cloud,
                    "gap_days": pairing.gaps[sensor].total_seconds() / 86400,
                }
                for sensor, item in pairing.present.items()
            },
            "missing": dict(pairing.missing),
        }
        for number, pairing in enumerate(result.pairings)
    ]  # fmt: skip
    return {
        "dry_run": dry_run, "pairs": pairs, "stacks": list(result.stacks), "fresh": sorted(result.fresh),
        "config": result.config,
    }  # fmt: skip
