"""The law of a batch run: maps of chunks are those of the whole, bit by bit, wherever it was cut."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from fake_catalog import EO_KEYS, FakeArchive
from fake_regions import write_model
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox, geobox_union_conservative
from pyproj import Transformer
from strategies import north_up

from equipoise.datasets.ledger import Ledger
from equipoise.datasets.raster import cog_writer
from equipoise.datasets.source import Source
from equipoise.datasets.stack import IGNORE, AlignedStack
from equipoise.datasets.world_grid import WorldGrid
from equipoise.models.inference_form import inference_form
from equipoise.pipeline.acquire_config import written_modality
from equipoise.pipeline.acquire_sensor import fetch_acquisition, write_acquisition
from equipoise.pipeline.area import Area
from equipoise.pipeline.batch.batch_options import BatchOptions
from equipoise.pipeline.batch.catalog_record import read_acquisition
from equipoise.pipeline.batch.chunk_layout import ChunkLayout
from equipoise.pipeline.batch.inputs import Plan, make_plan, model_acquire_options, read_inputs
from equipoise.pipeline.batch.job import Job
from equipoise.pipeline.batch.mosaics import write_mosaics
from equipoise.pipeline.batch.plan import Cutting, plan_stacks
from equipoise.pipeline.batch.unit import Unit
from equipoise.pipeline.batch.unit_ledger import UnitLedger
from equipoise.pipeline.batch.unit_work import map_unit
from equipoise.pipeline.coregister_scenes import align_scene
from equipoise.pipeline.model_folder import load_predictor
from equipoise.pipeline.predict import Predictor
from equipoise.pipeline.predict_scenes import predict_scenes
from equipoise.pipeline.scene_maps import write_scene_maps
from equipoise.pipeline.scenes import SceneFiles
from equipoise.pipeline.stage_options import CoregisterOptions, PredictOptions

#: Maps by what their pixels are.
OF_PIXELS, OF_TILES = ("classes", "confidence", "probability"), ("reliance", "contribution", "trust", "quality")

TO_DEGREES = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)

BANDS = {"eo": (EO_KEYS, "reflectance"), "sar": (("vv", "vh"), "linear_power")}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("seams") / "model")


@pytest.fixture(scope="module")
def predictor(model) -> Predictor:
    return load_predictor(model, device="cpu")


def _images(shape: tuple[int, int], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Numbers of every pixel's own, with holes: of one sensor, of both, of single pixels."""
    eo = rng.uniform(0.0, 0.5, (4, *shape)).astype(np.float32)
    sar = rng.gamma(2.0, 0.05, (2, *shape)).astype(np.float32)
    rows, cols = shape
    for image in (eo, sar):
        image[:, rng.random(shape) < 0.02] = np.nan
        top, left = rng.integers(0, rows), rng.integers(0, cols)
        image[:, top : top + rows // 3, left : left + cols // 3] = np.nan
    for image in (eo, sar):
        image[:, rows // 2 : rows // 2 + rows // 4, cols // 3 : cols // 3 + cols // 3] = np.nan
    return {"eo": eo, "sar": sar}


def _write(folder: Path, images: Mapping[str, NDArray], grid: GeoBox, rng: np.random.Generator) -> Path:
    """Write a stack of those sensors, with clouds over the optical one; return its description."""
    folder.mkdir(parents=True)
    clouds = {}
    for name, image in images.items():
        names, unit = BANDS[name]
        with cog_writer(
            folder / f"{name}.tif", grid, count=len(image), dtype="float32", nodata=float("nan"),
            overview_resampling="average", descriptions=list(names), tags={"unit": ",".join([unit] * len(image))},
        ) as writer:  # fmt: skip
            writer.write(image)
    if "eo" in images:
        clouds["eo"] = folder / "eo.quality.tif"
        with cog_writer(
            clouds["eo"], grid, count=1, dtype="uint8", nodata=255, overview_resampling="mode",
            descriptions=["quality"], tags={},
        ) as writer:  # fmt: skip
            writer.write(rng.choice(np.array([0, 0, 0, 1, 2], dtype=np.uint8), grid.shape), 1)
    AlignedStack(
        name=folder.name, geobox=grid, modalities=tuple(BANDS), clouds=clouds,
        present={name: folder / f"{name}.tif" for name in images},
        missing={name: "never flown" for name in BANDS if name not in images},
    ).save(folder / "stack.json")  # fmt: skip
    return folder / "stack.json"


def _options(**more) -> PredictOptions:
    return PredictOptions(**{"tile": 48, "overlap": 16, "reliance_tile": 16, "device": "cpu", **more})


#: Scene (rows, columns), edge of a chunk, options; and the sensors where one is missing.
CASES = {
    "no halo": ((70, 60), 64, _options(halo=0), ("eo", "sar")),
    "widest halo": ((60, 70), 64, _options(halo=8), ("eo", "sar")),
    "tiles as large as strides": ((70, 80), 64, _options(reliance_tile=32, halo=0, trust=0.5), ("eo", "sar")),
    "chunks of one stride": ((40, 45), 32, _options(), ("eo", "sar")),
    "smaller than a chunk": ((33, 57), 512, _options(), ("eo", "sar")),
    "awkward": (
        (71, 61), 50, _options(tile=40, overlap=12, halo=1, reliance_tile=14, reliance="leave_one_out"), ("eo", "sar")
    ),
    "all maps": ((50, 60), 64, _options(probabilities=True, contributions=True, reliance_tile=8), ("eo", "sar")),
    "all maps, one sensor missing": ((60, 50), 64, _options(probabilities=True, contributions=True), ("sar",)),
    "no reliance, no overlap": (
        (70, 40), 32, _options(tile=32, overlap=0, halo=0, reliance="none", probabilities=True), ("eo", "sar")
    ),
    "no trust, flips": ((40, 60), 64, _options(trust=None, augment="flips"), ("eo",)),
}  # fmt: skip


def _read(path: Path) -> NDArray:
    with rasterio.open(path) as source:
        return source.read()


def _assert_part(record: Mapping, unit: Unit, folder: Path, whole: GeoBox, maps: Mapping[str, Path], tile: int) -> None:
    """Compare all maps of a unit with that part of the maps of the whole."""
    col, row = (round(value) for value in ~whole.affine * (unit.geobox.affine.c, unit.geobox.affine.f))
    rows, cols = unit.geobox.shape
    assert whole[row : row + rows, col : col + cols] == unit.geobox
    classes = _read(maps["classes"])[0, row : row + rows, col : col + cols]
    if record["state"] == "empty":
        assert (classes == IGNORE).all()
        assert not folder.exists()
        return
    written = {name.removeprefix(f"{unit.name}.").removesuffix(".tif") for name in record["files"] if
               name.endswith(".tif")}  # fmt: skip
    assert written == set(maps)
    for kind, path in maps.items():
        step = 1 if kind in OF_PIXELS else tile
        part = (slice(None), slice(row // step, -(-(row + rows) // step)), slice(col // step, -(-(col + cols) // step)))
        found = folder / f"{unit.name}.{kind}.tif"
        np.testing.assert_array_equal(_read(found), _read(path)[part], err_msg=f"{unit.name} {kind}", strict=True)
        with rasterio.open(found) as one, rasterio.open(path) as all_of_it:
            assert one.descriptions == all_of_it.descriptions
            assert one.transform * (0, 0) == all_of_it.transform * (part[2].start, part[1].start)
    assert sum(record["figures"]["class_pixels"].values()) == (classes != IGNORE).sum() > 0


def _maps_of_whole(stack: Path, predictor: Predictor, options: PredictOptions, folder: Path) -> dict[str, Path]:
    loaded = AlignedStack.load(stack)
    folder.mkdir()
    predict_scenes([loaded], predictor, options=options, informative={}, folder=folder, resume="whole")
    kinds = {kind: folder / f"{loaded.name}.{kind}.tif" for kind in (*OF_PIXELS, *OF_TILES)}
    return {kind: path for kind, path in kinds.items() if path.exists()}


def _units(
    stack: Path, model: Path, predictor: Predictor, options: PredictOptions, chunk: int
) -> tuple[Job, list[Unit]]:
    job = Job(
        out=stack.parents[1] / "out", model=model, digest=predictor.digest, predict=options,
        coregister=CoregisterOptions(method="none"),
    )  # fmt: skip
    cutting = Cutting(layout=ChunkLayout.of(options, edge=chunk), resolution=10.0, mark="mark")
    return job, plan_stacks([stack], cutting=cutting)


@pytest.mark.parametrize("case", CASES)
def test_chunks_of_a_scene_are_the_scene(case, model, predictor, tmp_path):
    shape, chunk, options, sensors = CASES[case]
    rng, grid = np.random.default_rng(3), north_up(*shape)
    images = _images(shape, rng)
    stack = _write(tmp_path / "scene", {name: images[name] for name in sensors}, grid, rng)
    maps = _maps_of_whole(stack, predictor, options, tmp_path / "whole")
    job, units = _units(stack, model, predictor, options, chunk)
    assert len(units) > 1 or case == "smaller than a chunk"
    for unit in units:
        record = map_unit(unit.to_json(), job)
        _assert_part(record, unit, job.units / unit.name, grid, maps, options.reliance_tile)


def test_a_chunk_without_a_valid_pixel_is_empty_and_leaves_nothing(model, predictor, tmp_path):
    rng, grid, options = np.random.default_rng(4), north_up(40, 100), _options()
    images = _images(grid.shape, rng)
    for image in images.values():
        image[:, :, :70] = np.nan
    stack = _write(tmp_path / "scene", images, grid, rng)
    maps = _maps_of_whole(stack, predictor, options, tmp_path / "whole")
    job, units = _units(stack, model, predictor, options, 64)
    records = [map_unit(unit.to_json(), job) for unit in units]
    assert {record["state"] for record in records} == {"empty", "done"}
    for unit, record in zip(units, records, strict=True):
        assert (record["state"] == "empty") == (unit.geobox.boundingbox.right <= grid.boundingbox.left + 700)
        assert record["reason"] == ("no sensor has a valid pixel in the area" if record["state"] == "empty" else None)
        _assert_part(record, unit, job.units / unit.name, grid, maps, options.reliance_tile)
    assert not job.scratch.exists()


def test_batches_of_several_windows_change_no_more_than_the_last_bits(model, predictor, tmp_path):
    """A library may sum a batch in another order than a window, and chunks batch other windows than the whole."""
    rng, grid, options = np.random.default_rng(5), north_up(50, 70), _options(batch_size=3, reliance="none")
    stack = _write(tmp_path / "scene", _images(grid.shape, rng), grid, rng)
    maps = _maps_of_whole(stack, predictor, options, tmp_path / "whole")
    job, units = _units(stack, model, predictor, options, 64)
    whole = _read(maps["confidence"])[0]
    for unit in units:
        map_unit(unit.to_json(), job)
        found = _read(job.units / unit.name / f"{unit.name}.confidence.tif")[0]
        col, row = (round(value) for value in ~grid.affine * (unit.geobox.affine.c, unit.geobox.affine.f))
        np.testing.assert_allclose(found, whole[row:, col:][: found.shape[0], : found.shape[1]], rtol=2e-6)


def _archive(folder: Path, rng: np.random.Generator, *, shift: float) -> Path:
    """Write a catalog of one pass of each sensor around a corner of four chunks, its pixels off the lattice."""
    folder.mkdir()
    grid = north_up(112, 120, left=800 * 640.0 - 600 + shift, top=8300 * 640.0 + 570 - shift)
    archive = FakeArchive(folder=folder, rng=rng, grid=grid)
    archive.sentinel2("2021-07-10T10:00:00Z", cloud=10.0)
    archive.sentinel1("2021-07-11T05:00:00Z")
    archive.write_static()
    return folder


def _outline() -> shapely.Polygon:
    """A slanted outline around that corner, in longitude and latitude; none of its edges lies on a pixel's."""
    x, y = 800 * 640.0, 8300 * 640.0
    corners = [(x - 473, y - 391), (x + 522, y - 444), (x + 467, y + 489), (x - 91, y + 361), (x - 531, y + 463)]
    return shapely.Polygon([TO_DEGREES.transform(*corner) for corner in corners])


def _whole_stack(plan: Plan, windowed: GeoBox, folder: Path) -> AlignedStack:
    """Write what the units' records name onto one grid, by the stages of a single scene."""
    margin = plan.units[0].margin
    read = windowed.pad(margin, margin)
    files = {}
    for sensor in plan.job.sensors:
        acquisition = read_acquisition(plan.units[0].source["sensors"][sensor.name])
        fetched = fetch_acquisition(acquisition, sensor, ledger=Ledger.open(folder / "assets"))
        written = write_acquisition(
            fetched, sensor, read, folder=folder / "acquired", scratch=folder / sensor.name, acquired="2021-07-10"
        )
        files[sensor.name] = Source(path=written.raster, quality=written.quality)
    align_scene(
        SceneFiles(name="whole", files=files, missing={}),
        {sensor.name: written_modality(sensor) for sensor in plan.job.sensors},
        reference="eo", classes=(), options=plan.job.coregister, folder=folder / "aligned", part=read,
        with_pictures=False,
    )  # fmt: skip
    return AlignedStack.load(folder / "aligned" / "stack.json")


def test_the_mosaic_of_a_region_is_one_prediction_of_it(model, predictor, tmp_path):
    # Files between the pixels of the lattice: each chunk resamples its own part of them.
    catalog = _archive(tmp_path / "catalog", np.random.default_rng(6), shift=3.7)
    outline, options = _outline(), _options(reliance_tile=16, probabilities=True)
    gpd.GeoDataFrame({"name": ["valley"]}, geometry=[outline], crs="EPSG:4326").to_file(tmp_path / "regions.gpkg")
    plan = _plan(tmp_path / "regions.gpkg", catalog, predictor, model, options, out=tmp_path / "out")
    ledger = UnitLedger.create(tmp_path / "ledger.gpkg", plan.units, known={})
    assert len(plan.units) == 4
    for unit in plan.units:
        ledger.finish(unit.name, map_unit(unit.to_json(), plan.job), state="done", worker="here")
    ledger.close()
    rows = gpd.read_file(tmp_path / "ledger.gpkg", layer="units")
    mosaics = write_mosaics(plan.job.out, rows, "valley", outline=None, kinds={"vrt"})
    assert [path.name.split(".")[2] for path in mosaics] == ["classes", "confidence", "reliance", "trust", "quality"]

    first = plan.units[0]
    assert (first.before, first.after) == ((16, 16), (16, 16))
    union = geobox_union_conservative([unit.geobox for unit in plan.units])
    windowed = union.pad(16, 16)
    stack = _whole_stack(plan, windowed, tmp_path / "whole")
    (plane,) = WorldGrid(resolution=10.0, edge=64).covers(outline)
    area = Area(geobox=windowed, row=first.margin, col=first.margin, outline=plane.outline)
    (tmp_path / "maps").mkdir()
    mapper = replace(predictor, network=inference_form(predictor.network))
    write_scene_maps(stack, mapper, predictor, area=area, options=options, folder=tmp_path / "maps", resume="x")
    for path in mosaics:
        kind = path.name.split(".")[2]
        step = 1 if kind in OF_PIXELS else options.reliance_tile
        rim, size = 16 // step, 128 // step
        whole = _read(tmp_path / "maps" / f"whole.{kind}.tif")[:, rim : rim + size, rim : rim + size]
        np.testing.assert_array_equal(_read(path), whole, err_msg=kind, strict=True)
    # Pixels are those whose centre lies within the outline and that a sensor has seen.
    found = _read(mosaics[0])[0] != IGNORE
    cols, rows = np.meshgrid(np.arange(128) + 0.5, np.arange(128) + 0.5)
    x, y = union.affine.c + 10 * cols, union.affine.f - 10 * rows
    inside = shapely.contains_xy(outline, *TO_DEGREES.transform(x, y))
    assert (found & ~inside).sum() == 0
    assert found.sum() > 0.9 * inside.sum()


def _plan(
    regions: Path, catalog: Path, predictor: Predictor, model: Path, options: PredictOptions, *, out: Path
) -> Plan:
    given = dict.fromkeys(("collections", "bands", "unit", "scale", "offset", "nodata"))
    acquire = model_acquire_options(predictor, {**given, "dates": "2021-07-01/2021-07-31", "min_coverage": 0.2})
    return make_plan(
        read_inputs(regions, str(catalog)), predictor, model=model, acquire=acquire, column=None, out=out, threads=1,
        options=BatchOptions(chunk=64, coregister=CoregisterOptions(method="none"), predict=options),
    )  # fmt: skip
