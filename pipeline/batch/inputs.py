"""Inputs of a batch run: regions of a catalog, scenes of a configuration, or stacks; made into units and a job."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shapely.geometry import box

from ...datasets.catalog import search_items
from ...datasets.modality import Band
from ...datasets.sensors import Sensor
from ...datasets.source import as_source
from ...datasets.stack import AlignedStack
from ..acquire_options import AcquireOptions
from ..config import load_config
from ..coregister_scenes import open_modality, reference_grid
from ..errors import ConfigError
from ..predict import check_bands
from ..run_folder import fingerprint
from ..scene_tables import images_of
from ..scenes import resolve_scenes
from ..stages import with_sources
from .batch_options import BatchOptions
from .chunk_layout import ChunkLayout
from .job import Job
from .plan import Cutting, plan_files, plan_regions, plan_stacks, sensors_mark
from .regions import VECTOR_SUFFIXES, Region, read_regions
from .unit import Unit

if TYPE_CHECKING:
    from ..predict import Predictor

#: Names of the files by which a folder is known as a STAC catalog.
CATALOG_FILES = ("catalog.json", "collection.json")

#: Any time: a catalog of scenes is mapped whatever their dates.
ANY_TIME = f"1970-01-01/{datetime.now(UTC).year + 1}-12-31"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is to be mapped.

    Attributes
    ----------
    kind
        ``regions``, ``scenes`` (of a configuration), ``stacks`` or ``items`` (of a catalog on disk).
    path
        As given.
    catalog
        STAC catalog; None for scenes and stacks.
    """

    kind: str
    path: Path
    catalog: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that is ready to begin.

    Attributes
    ----------
    job
        What all units share.
    units
        In the order in which they shall be done.
    regions
        Outlines, longitude and latitude; scenes with the outlines of their grids.
    """

    job: Job
    units: tuple[Unit, ...]
    regions: tuple[Region, ...]


def base_options(inputs: Inputs, model: Path) -> dict[str, dict[str, Any]]:
    """Return the options that a configuration has for its scenes; none for other inputs."""
    if inputs.kind != "scenes":
        return {}
    config = load_config(inputs.path, model=model)
    of_the_input = {"model", "scenes", "bbox", "aoi"}
    return {
        "coregister": config.coregister.model_dump(), "predict": config.predict.model_dump(exclude=of_the_input),
    }  # fmt: skip


def read_inputs(path: Path, catalog: str | None) -> Inputs:
    """Say what kind of input a path is.

    Raises
    ------
    ConfigError
        If it is none that can be mapped.
    """
    suffix = path.suffix.lower()
    if (path / "batch.json").is_file():
        raise ConfigError(f"{path}: found the folder of a batch run; wanted what is to be mapped; -o names the folder")
    if suffix in (".yaml", ".yml") and path.is_file():
        return _without_catalog(Inputs(kind="scenes", path=path), catalog)
    if path.is_dir() and any((path / name).is_file() for name in CATALOG_FILES):
        return Inputs(kind="items", path=path, catalog=catalog or str(path))
    if path.is_dir() and next(path.rglob("stack.json"), None) is not None:
        return _without_catalog(Inputs(kind="stacks", path=path), catalog)
    if suffix == ".json" and path.is_file() and catalog is None and _is_catalog(path):
        return Inputs(kind="items", path=path, catalog=str(path))
    if suffix in VECTOR_SUFFIXES and path.is_file():
        if catalog is None:
            raise ConfigError(f"{path}: found regions and no catalog; wanted one to take imagery from; add --catalog")
        return Inputs(kind="regions", path=path, catalog=catalog)
    raise ConfigError(
        f"{path}: found nothing to map; wanted regions (GeoPackage, GeoParquet, GeoJSON), a configuration (.yaml), a "
        "folder with aligned stacks (stack.json below it), or a STAC catalog on disk; correct the path"
    )


def make_plan(
    inputs: Inputs,
    predictor: "Predictor",
    *,
    model: Path,
    options: BatchOptions,
    acquire: AcquireOptions | None,
    column: str | None,
    out: Path,
    threads: int,
) -> Plan:
    """Cut the inputs into units.

    Parameters
    ----------
    inputs
        What is mapped.
    predictor
        The model.
    model
        Its folder.
    options, acquire
        Of the run; what is taken of the catalog, for regions and items.
    column
        Column of the regions' names.
    out
        Folder of the run.
    threads
        Threads of a unit.

    Raises
    ------
    ConfigError, CatalogError, GridError, SceneError
        If the inputs cannot be used.
    """
    _check_model(predictor, model)
    config = load_config(inputs.path, model=model) if inputs.kind == "scenes" else None
    coregister, predict = options.coregister, options.predict
    layout = ChunkLayout.of(predict, edge=options.chunk)
    sensors = () if acquire is None else tuple(acquire.resolved_sensors())
    _check_units(sensors, predictor)
    reference = coregister.reference or (config.reference if config is not None else predictor.network.modalities[0])
    job = Job(
        out=out.absolute(), model=model.absolute(), digest=predictor.digest, predict=predict, coregister=coregister,
        sensors=sensors, reference=reference, config=None if config is None else inputs.path.absolute(),
        collection=out.name, threads=threads,
    )  # fmt: skip
    mark = fingerprint(
        model=predictor.digest, predict=predict.model_dump(mode="json", exclude={"device", "readers", "streams"}),
        coregister=coregister.model_dump(mode="json"), sensors=sensors_mark(sensors), reference=reference,
        modalities=None if config is None else
        {name: item.model_dump(mode="json") for name, item in config.modalities.items()},
    )  # fmt: skip
    cutting = Cutting(layout=layout, resolution=10.0 if acquire is None else acquire.resolution, mark=mark)
    regions, units = _cut(inputs, predictor, sensors, acquire, cutting, column, model)
    return Plan(job=job, units=tuple(units), regions=regions)


def _cut(
    inputs: Inputs,
    predictor: "Predictor",
    sensors: Sequence[Sensor],
    acquire: AcquireOptions | None,
    cutting: Cutting,
    column: str | None,
    model: Path,
) -> tuple[tuple[Region, ...], list[Unit]]:
    if inputs.kind in ("regions", "items"):
        if acquire is None or inputs.catalog is None:
            raise ConfigError(f"{inputs.path}: found no period; wanted one, such as 2021-07-01/2021-07-31; add --dates")
        regions = (
            read_regions(inputs.path, column=column) if inputs.kind == "regions"
            else _item_regions(inputs, sensors[0], acquire)
        )  # fmt: skip
        return regions, plan_regions(regions, inputs.catalog, sensors, acquire, cutting=cutting)
    if inputs.kind == "stacks":
        units = plan_stacks(_checked_stacks(inputs.path, predictor), cutting=cutting)
    else:
        units = plan_files(_scene_grids(inputs.path, predictor.network.modalities, model), cutting=cutting)
    return _outlines(units), units


def _checked_stacks(folder: Path, predictor: "Predictor") -> list[Path]:
    """Return the stacks below a folder, each of a name of its own and with the bands of the model."""
    paths = sorted(folder.rglob("stack.json"))
    stacks = [AlignedStack.load(path) for path in paths]
    if doubled := [name for name, count in Counter(stack.name for stack in stacks).items() if count > 1][:3]:
        raise ConfigError(f"{folder}: found several scenes of one name ({doubled}); wanted each once; rename them")
    for stack in stacks:
        check_bands(stack, predictor)
    return paths


def model_acquire_options(predictor: "Predictor", given: dict[str, Any]) -> AcquireOptions:
    """Return what is looked for in a catalog: the sensors and bands of the model, where the user says nothing else."""
    from ..acquire_options import acquire_options

    names = [item.name for item in predictor.normaliser.modalities]
    said = {text.partition("=")[0].strip() for text in given.get("bands") or []}
    bands = [f"{item.name}={','.join(item.band_names)}" for item in predictor.normaliser.modalities
             if item.name not in said]  # fmt: skip
    return acquire_options(
        sensors=",".join(names), **{**given, "bands": [*(given.get("bands") or []), *bands], "limit": 1}
    )


def _check_model(predictor: "Predictor", model: Path) -> None:
    if predictor.network.spec.task == "classification":
        raise ConfigError(
            f"{model}: found a model of chips; wanted one that maps pixels; train with task: segmentation"
        )
    if predictor.normaliser.scenes is not None:
        raise ConfigError(
            f"{model}: found a model that normalises each scene by its own statistics; wanted one that can map a part "
            "of a scene; train with `tile.normalisation: training`"
        )


def _check_units(sensors: Sequence[Sensor], predictor: "Predictor") -> None:
    """Compare units before anything is fetched."""
    trained = {item.name: {band.working_unit for band in item.bands} for item in predictor.normaliser.modalities}
    for sensor in sensors:
        found, wanted = Band(name=sensor.name, unit=sensor.unit).working_unit, trained.get(sensor.name, set())
        if wanted and wanted != {found}:
            raise ConfigError(
                f"sensor '{sensor.name}': found collections in {found}; wanted {', '.join(sorted(wanted))}, which the "
                f"model was trained on; name others with --collections {sensor.name}=..., or correct --unit"
            )


def _without_catalog(inputs: Inputs, catalog: str | None) -> Inputs:
    if catalog is not None:
        raise ConfigError(
            f"{inputs.path}: found scenes and a catalog; wanted one of them; leave --catalog out, or give regions"
        )
    return inputs


def _is_catalog(path: Path) -> bool:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        kind = record.get("type")
        features = record.get("features") if kind == "FeatureCollection" else [record] if kind == "Feature" else []
        return kind in ("Catalog", "Collection") or any("stac_version" in item for item in features or [])
    except (OSError, ValueError, AttributeError, TypeError):
        return False  # the reader of regions says what is wrong with it


def _item_regions(inputs: Inputs, sensor: Sensor, options: AcquireOptions) -> tuple[Region, ...]:
    """Return the outlines of the reference's items as regions."""
    start, end = options.period
    items = search_items(
        str(inputs.catalog), area=box(-180, -80, 180, 84), start=start, end=end, collections=sensor.collections,
        allow_network=options.allow_network,
    )  # fmt: skip
    if not items:
        raise ConfigError(
            f"{inputs.path}: found no item of {' or '.join(sensor.collections)}; wanted some of sensor "
            f"'{sensor.name}'; name the collection with --collections {sensor.name}=..."
        )
    return tuple(Region(name=item.id, outline=item.footprint) for item in items)


def _scene_grids(path: Path, modalities: Sequence[str], model: Path) -> dict[str, tuple[Any, list[Path]]]:
    config, found = load_config(path, model=model), {}
    for scene in resolve_scenes(config):
        if not set(scene.files) & set(modalities):
            raise ConfigError(
                f"scene '{scene.name}': found modalities {sorted(scene.files)}; wanted one at least that the model "
                f"knows ({', '.join(modalities)}); correct `modalities`"
            )
        anchor = config.reference if config.reference in scene.files else images_of(scene, config.modalities)[0]
        grid = reference_grid(open_modality(scene, anchor, config.modalities[anchor]))
        files = [file for source in scene.files.values() for path in as_source(source).inputs
                 for file in with_sources(path)]  # fmt: skip
        found[scene.name] = (grid, files)
    return found


def _outlines(units: Sequence[Unit]) -> tuple[Region, ...]:
    """Return the outlines of scenes, in longitude and latitude; none of those without a position."""
    from shapely import unary_union

    found: dict[str, list[Any]] = {}
    for unit in units:
        if unit.geobox.crs is not None:
            shape = unit.geobox.extent.to_crs("EPSG:4326", resolution=unit.geobox.extent.boundingbox.span_x / 8).geom
            found.setdefault(unit.regions[0], []).append(shape.buffer(1e-9))
    return tuple(Region(name=name, outline=unary_union(shapes)) for name, shapes in found.items())
