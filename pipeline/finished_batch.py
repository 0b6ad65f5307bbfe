"""Batch runs from Python: maps of regions, or of many scenes, as `equipoise batch` makes them."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets.ledger import safe_name
from .batch.command import Asked, do
from .batch.run import LEDGER, MANIFEST, BatchResult
from .batch.unit_ledger import DONE, EMPTY, FAILED, LAYER
from .errors import PipelineError, RunFolderError
from .nearest import did_you_mean
from .prediction import Prediction
from .scene_options import ClassOptions

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

#: Options of a catalog that have a value a sensor; the others have one.
_BY_SENSOR = ("collections", "bands", "unit", "scale", "offset", "nodata")

#: Columns of the ledger that people read; others are for the machine.
_COLUMNS = ["name", "regions", "state", "attempts", "losses", "error", "seconds", "pixels", "km2"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FinishedBatch:
    """What the folder of a batch run holds.

    Attributes
    ----------
    folder
        The folder; that of a run that goes on may be looked into, too.
    """

    folder: Path

    @property
    def units(self) -> "GeoDataFrame":
        """State of every unit, with its outline: a row a unit."""
        import geopandas

        return geopandas.read_file(self.folder / LEDGER, layer=LAYER, columns=_COLUMNS)

    @property
    def regions(self) -> "GeoDataFrame":
        """Areas of the classes, confidence and reliance: a row a region, or a scene."""
        return self._table("regions.parquet")

    @property
    def areas(self) -> "GeoDataFrame":
        """The same by administrative unit, where such were given."""
        return self._table("areas.parquet")

    @property
    def predictions(self) -> "Mosaics":
        """Maps of whole regions by name; pixels are read when they are asked for."""
        return Mosaics(self.folder / "regions", self._manifest)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def _table(self, name: str) -> "GeoDataFrame":
        import geopandas

        path = self.folder / name
        if not path.is_file():
            raise RunFolderError(
                f"{path}: found no such table; wanted one of a run with maps; give `admin` for administrative units"
            )
        return geopandas.read_parquet(path)

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        return record

    def _repr_html_(self) -> str:
        """Return the units by state, and the regions, for notebooks."""
        units = self.units
        states = ", ".join(f"{count} {state}" for state, count in units["state"].value_counts().items())
        rows = "".join(
            f"<tr><th>{escape(str(row.name))}</th><td>{row.mapped_km2:.2f} km2</td><td>{row.confidence:.2f}</td></tr>"
            for row in (self.regions.itertuples(index=False) if (self.folder / "regions.parquet").is_file() else ())
        )
        return (
            f"<b>Batch run</b> in {escape(str(self.folder))}: {escape(states)} unit(s)"
            f"<table><tr><th>region</th><th>mapped</th><th>mean confidence</th></tr>{rows}</table>"
        )


class Mosaics(Mapping[str, Prediction]):
    """The maps of a batch run's regions by name; by ``name.epsg`` where a region lies in two UTM zones."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self._folder = folder
        self._legend = tuple(ClassOptions.model_validate(item) for item in manifest["model"]["classes"])
        self._stems: dict[str, str] = {}
        for name in manifest["regions"]:
            before = f"{safe_name(name)}."
            found = (path.name.removesuffix(".classes.tif") for path in folder.glob(f"{before}*.classes.tif"))
            # Another region's name may begin so, and go on after a dot.
            stems = sorted(stem for stem in found if "." not in stem.removeprefix(before))
            for stem in stems:
                self._stems[name if len(stems) == 1 else f"{name}.{stem.rpartition('.')[2]}"] = stem

    def __getitem__(self, name: str) -> Prediction:
        if name not in self._stems:
            known = tuple(self._stems)
            raise KeyError(f"found no mosaic of '{name}'; wanted one of {known}{did_you_mean(name, known)}")
        return replace(Prediction.open(self._folder, self._stems[name], legend=self._legend), scene=name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stems)

    def __len__(self) -> int:
        return len(self._stems)


def batch(
    source: Path | str,
    model: Path | str,
    *,
    output: Path | str = "batch",
    catalog: Path | str | None = None,
    dates: str | None = None,
    search: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | Path | str | None = None,
    name_column: str | None = None,
    admin: Path | str | None = None,
    admin_column: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = False,
    announce: Callable[[str], None] = log.info,
) -> FinishedBatch:
    """Map regions, or many scenes, in units that workers share; what is done is not done again, as `equipoise batch`.

    Parameters
    ----------
    source
        Regions (vector file); or scenes: a configuration, a folder of aligned stacks, a STAC catalog on disk.
    model
        Model folder.
    output
        Folder of the run.
    catalog, dates
        Of regions: a STAC search API (``http...``) or a catalog on disk, and a period, ``2021-07-01/2021-07-31``.
    search
        How the catalog is searched, by the names of the command's options: ``collections``, ``bands``, ``unit``,
        ``scale``, ``offset``, ``nodata`` (each sensor -> value), ``max_gap``, ``max_cloud``, ``min_coverage``,
        ``resolution``, ``allow_network``.
    options
        ``chunk``, ``attempts``, ``coregister``, ``predict``: a YAML file, or the same as nested dicts.
    name_column
        Column of the regions' names.
    admin, admin_column
        Vector file of administrative units to sum up, too, and its column of names.
    workers, scheduler
        Processes of this machine, or the address of a Dask scheduler.
    retry_failed
        Try units again that were set aside.
    announce
        Called with lines on how the run goes, such as ``print``; by default they are logged.

    Returns
    -------
    What the folder holds. Units that were set aside are ``failed`` in its ``units``.

    Raises
    ------
    ConfigError
        If an option or an input cannot be used.
    PipelineError
        If there is nothing to map.
    """
    given = options if isinstance(options, Mapping) else {}
    asked = Asked(
        source=Path(source), model=Path(model), output=Path(output), catalog=None if catalog is None else str(catalog),
        dates=dates, options=Path(options) if isinstance(options, Path | str) else None, changes=_flat(given),
        catalog_given=_as_texts(search or {}), name_column=name_column, scheduler=scheduler, workers=workers,
        retry_failed=retry_failed, admin=None if admin is None else Path(admin), admin_column=admin_column,
    )  # fmt: skip
    result = do(asked, announce=announce)
    if isinstance(result, BatchResult) and not result.counts.get(DONE) and not result.counts.get(FAILED):
        reason, count = result.reasons.get(EMPTY, ("", 0))
        raise PipelineError(f"found nothing to map in {count} unit(s): {reason}; wanted imagery there; see the report")
    return open_batch(output)


def open_batch(folder: Path | str) -> FinishedBatch:
    """Open the folder of a batch run, as `equipoise batch` leaves it.

    Raises
    ------
    RunFolderError
        If it is not the folder of a batch run.
    """
    root = Path(folder)
    if not (root / MANIFEST).is_file():
        raise RunFolderError(
            f"{root}: found no {MANIFEST}; wanted the folder of a batch run, as `equipoise batch` makes it"
        )
    return FinishedBatch(folder=root)


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the command gives its own: ``section.key`` -> value."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        flat |= {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat


def _as_texts(search: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a catalog as the command gives them: ``sensor=value`` texts."""
    texts: dict[str, Any] = dict.fromkeys(_BY_SENSOR) | dict(search)
    for option in _BY_SENSOR:
        if texts[option] is not None:
            texts[option] = [f"{sensor}={_joined(value)}" for sensor, value in texts[option].items()]
    return texts


def _joined(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
