"""Inputs of a batch run: what is taken for what, regions and options as they are read, records that come back."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from fake_catalog import FakeArchive
from fake_regions import write_model
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, Point, Polygon, box
from strategies import geoboxes, north_up, write_tiff

from equipoise.datasets.catalog import search_items
from equipoise.datasets.catalog_items import AssetBand, CatalogAsset, CatalogItem
from equipoise.datasets.pairing import Acquisition, acquisitions
from equipoise.datasets.raster import cog_writer
from equipoise.datasets.sensors import KNOWN_SENSORS
from equipoise.datasets.stack import AlignedStack
from equipoise.datasets.statistics import BandStatistics
from equipoise.models.network import FusionUNet
from equipoise.pipeline.batch.batch_options import BatchOptions, read_batch_options
from equipoise.pipeline.batch.catalog_record import acquisition_record, read_acquisition
from equipoise.pipeline.batch.command import Asked, do, read_resources
from equipoise.pipeline.batch.inputs import Inputs, base_options, make_plan, model_acquire_options, read_inputs
from equipoise.pipeline.batch.regions import read_regions
from equipoise.pipeline.batch.unit import Unit
from equipoise.pipeline.errors import ConfigError, PipelineError
from equipoise.pipeline.model_folder import load_predictor
from equipoise.pipeline.predict import Predictor, check_bands

JULY = "2021-07-01/2021-07-31"
GIVEN = dict.fromkeys(("collections", "bands", "unit", "scale", "offset", "nodata"))
SQUARE = box(12.0, 45.0, 12.02, 45.02)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("inputs") / "model")


@pytest.fixture(scope="module")
def predictor(model) -> Predictor:
    return load_predictor(model, device="cpu")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    """A catalog on disk with one pass of each sensor."""
    folder = tmp_path_factory.mktemp("catalog")
    archive = FakeArchive(folder=folder, rng=np.random.default_rng(0), grid=north_up(40, 40))
    archive.sentinel2("2021-07-10T10:00:00Z")
    archive.sentinel1("2021-07-11T05:00:00Z")
    archive.write_static()
    return folder


def _regions(path: Path, shapes: dict | None = None, *, crs: str = "EPSG:4326", **columns) -> Path:
    shapes = shapes or {"square": SQUARE}
    frame = gpd.GeoDataFrame(columns or {"name": list(shapes)}, geometry=list(shapes.values()), crs="EPSG:4326")
    frame = frame.to_crs(crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
    return path


def _refused(match: str):
    return pytest.raises(ConfigError, match=re.escape(match))


# What a path is


def test_inputs_are_known_by_what_is_there(tmp_path, catalog):
    config = tmp_path / "scenes.yaml"
    config.write_text("modalities: {}")
    assert read_inputs(config, None) == Inputs(kind="scenes", path=config)
    regions = _regions(tmp_path / "r.GEOJSON")
    assert read_inputs(regions, "https://stac.example") == Inputs(
        kind="regions", path=regions, catalog="https://stac.example"
    )
    assert read_inputs(catalog, None) == Inputs(kind="items", path=catalog, catalog=str(catalog))
    assert read_inputs(catalog / "catalog.json", None).kind == "items"
    deep = tmp_path / "runs" / "a" / "aligned"
    deep.mkdir(parents=True)
    (deep / "stack.json").write_text("{}")
    assert read_inputs(tmp_path / "runs", None) == Inputs(kind="stacks", path=tmp_path / "runs")


@pytest.mark.parametrize(
    "record",
    [
        {"type": "Catalog", "id": "a"},
        {"type": "Collection", "id": "a"},
        {"type": "Feature", "stac_version": "1.1.0"},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "stac_version": "1.0.0"}]},
    ],
)
def test_a_json_file_of_items_is_a_catalog_unless_one_is_named(tmp_path, record):
    path = tmp_path / "some.json"
    path.write_text(json.dumps(record))
    assert read_inputs(path, None) == Inputs(kind="items", path=path, catalog=str(path))
    assert read_inputs(path, "catalog").kind == "regions"


@pytest.mark.parametrize(
    ("name", "content", "catalog", "words"),
    [
        ("r.geojson", "{}", None, "found regions and no catalog"),
        ("r.json", '{"type": "FeatureCollection", "features": []}', None, "found regions and no catalog"),
        ("r.json", '{"type": "FeatureCollection", "features": [3]}', None, "found regions and no catalog"),
        ("r.json", '[{"type": "Catalog"}]', None, "found regions and no catalog"),
        ("r.json", "no JSON", None, "found regions and no catalog"),
        ("r.json", '{"type": "FeatureCollection", "features": null}', None, "found regions and no catalog"),
        ("r.gpkg", None, "catalog", "found nothing to map"),  # is not there
        ("c.yaml", None, None, "found nothing to map"),
        ("c.yaml", "a: 1", "catalog", "found scenes and a catalog"),
        ("image.tif", "x", None, "found nothing to map"),
        ("image.tif", "x", "catalog", "found nothing to map"),
        ("empty/", None, None, "found nothing to map"),
        ("empty/", None, "catalog", "found nothing to map"),
    ],
)
def test_what_cannot_be_mapped_is_refused(tmp_path, name, content, catalog, words):
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with _refused(words) as raised:
        read_inputs(path, catalog)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_stacks_and_a_catalog_are_too_much(tmp_path):
    (tmp_path / "stack.json").write_text("{}")
    with _refused("found scenes and a catalog; wanted one of them"):
        read_inputs(tmp_path, "https://stac.example")


# Regions


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32633", "EPSG:3035"])
@pytest.mark.parametrize("ending", ["gpkg", "geojson", "parquet"])
def test_regions_are_read_from_any_vector_file(tmp_path, ending, crs):
    shapes = {"Á/B <i>": SQUARE, "c": MultiPolygon([box(13, 45, 13.1, 45.1), box(14, -3, 14.1, -2.9)])}
    path = _regions(tmp_path / f"regions.{ending}", shapes, crs="EPSG:4326" if ending == "geojson" else crs)
    found = read_regions(path)
    assert [region.name for region in found] == list(shapes)
    for region, shape in zip(found, shapes.values(), strict=True):
        assert region.outline.symmetric_difference(shape).area < 1e-6 * shape.area


def test_a_file_without_a_crs_is_in_degrees(tmp_path):
    gpd.GeoDataFrame({"name": ["a"]}, geometry=[SQUARE], crs="EPSG:4326").to_file(tmp_path / "a.shp")
    (tmp_path / "a.prj").unlink()
    (region,) = read_regions(tmp_path / "a.shp")
    assert region.outline.equals(SQUARE)
    # GeoJSON is in degrees by its standard, GeoParquet where it says nothing.
    bare = gpd.GeoDataFrame({"name": ["a"]}, geometry=[SQUARE])
    bare.to_parquet(tmp_path / "b.parquet")
    assert read_regions(tmp_path / "b.parquet")[0].outline.equals(SQUARE)


@pytest.mark.parametrize(
    ("columns", "chosen", "names"),
    [
        ({"name": ["a", "b"], "id": [1, 2]}, None, ["a", "b"]),
        ({"id": [1, 2], "REGION": ["x", "y"]}, None, ["x", "y"]),
        ({"Name": ["a", "b"], "other": ["x", "y"]}, "other", ["x", "y"]),
        ({"id": [7, 8]}, None, ["7", "8"]),
        ({"other": ["x", "y"]}, None, ["region-1", "region-2"]),
        ({"name": ["a", None]}, None, ["a", "region-2"]),
        ({"name": ["", " "]}, None, ["region-1", "region-2"]),
        ({"name": ["a\nb", " c\t d "]}, None, ["a b", "c d"]),  # the ledger joins names by line breaks
    ],
)
@pytest.mark.parametrize("ending", ["gpkg", "parquet"])
def test_names_are_those_of_a_column_in_one_line(tmp_path, ending, columns, chosen, names):
    path = tmp_path / f"regions.{ending}"
    _regions(path, {"left": SQUARE, "right": box(12.02, 45, 12.04, 45.02)}, **columns)
    assert [region.name for region in read_regions(path, column=chosen)] == names


def test_polygons_of_one_name_are_one_region(tmp_path):
    parts = {"left": SQUARE, "right": box(12.02, 45, 12.04, 45.02), "far": box(13, 45, 13.1, 45.1)}
    path = _regions(tmp_path / "r.gpkg", parts, name=["both", "both", "far"])
    both, far = read_regions(path)
    assert (both.name, far.name) == ("both", "far")
    assert both.outline.equals(box(12.0, 45.0, 12.04, 45.02))
    assert both.outline.geom_type == "Polygon"


def test_what_crosses_itself_is_mended_and_lines_are_left_out(tmp_path):
    bow = Polygon([(12, 45), (12.02, 45.02), (12.02, 45), (12, 45.02)])
    with_line = shapely.GeometryCollection([SQUARE, shapely.LineString([(12, 45), (19, 45)]), Point(3, 3)])
    path = tmp_path / "r.parquet"
    gpd.GeoDataFrame({"name": ["bow", "lined"]}, geometry=[bow, with_line], crs="EPSG:4326").to_parquet(path)
    mended, lined = read_regions(path)
    assert mended.outline.is_valid
    assert mended.outline.area == pytest.approx(SQUARE.area / 2)
    assert lined.outline.equals(SQUARE)


def test_a_shape_without_an_area_does_no_harm_to_one_of_its_name(tmp_path):
    path = _regions(tmp_path / "r.gpkg", {"a": SQUARE, "b": Point(12, 45), "c": Polygon()}, name=["one", "one", "one"])
    (region,) = read_regions(path)
    assert region.outline.equals(SQUARE)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("areas.geojson", "wanted 'name'; name another one"),
        ("points.geojson", "found region 'a' with bounds 0, 0, 0, 0; wanted polygons"),
        ("empty.geojson", "found no region; wanted one polygon at least"),
        ("text.geojson", "found no readable regions"),
        ("text.parquet", "found no readable regions"),
        ("none.geojson", "found no file"),
        (
            "north.gpkg",
            "found region 'north' with bounds 12, 83, 13, 85; wanted polygons between 80 south and 84 north",
        ),
        ("wide.gpkg", "found region 'wide' with bounds 170, 0, 190, 1"),
        ("folder.gpkg", "found no file"),
    ],
)
def test_what_is_no_region_is_refused_in_one_line(tmp_path, name, words):
    _regions(tmp_path / "areas.geojson", id=[1])
    _regions(tmp_path / "points.geojson", {"a": Point(0, 0)})
    (tmp_path / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "text.geojson").write_text("not a\nvector file")
    (tmp_path / "text.parquet").write_text("not a\nvector file")
    _regions(tmp_path / "north.gpkg", {"north": box(12, 83, 13, 85)})
    _regions(tmp_path / "wide.gpkg", {"wide": box(170, 0, 190, 1)})
    (tmp_path / "folder.gpkg").mkdir()
    with _refused(words) as raised:
        read_regions(tmp_path / name, column="name" if name == "areas.geojson" else None)
    assert "\n" not in str(raised.value)


# Options


def test_options_of_the_command_go_before_those_of_the_file(tmp_path):
    path = tmp_path / "o.yaml"
    path.write_text("chunk: 128\nattempts: 7\npredict: {tile: 96, overlap: 32, reliance: leave_one_out}\n")
    changes = {"chunk": 256, "attempts": None, "predict.reliance": "none", "coregister.method": "none"}
    found = read_batch_options(path, changes)
    assert (found.chunk, found.attempts) == (256, 7)
    assert (found.predict.tile, found.predict.overlap, found.predict.reliance) == (96, 32, "none")
    assert found.coregister.method == "none"
    assert read_batch_options(None, {"chunk": None}) == BatchOptions()
    assert read_batch_options(None, changes).predict.tile == BatchOptions().predict.tile
    path.write_text("")
    assert read_batch_options(path, {}) == BatchOptions()


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        ("chunks: 64", {}, "found unknown key 'chunks'; wanted some of chunk, coregister"),
        ("predict: {tiles: 64}", {}, "found unknown key 'predict.tiles'; wanted some of model"),
        ("chunk: 31", {}, "chunk: Input should be greater than or equal to 32"),
        ("chunk: 64", {"chunk": 8}, "chunk: Input should be greater than or equal to 32"),
        ("attempts: 0", {}, "attempts: Input should be greater than or equal to 1"),
        ("predict: {overlap: 33}", {}, "predict: overlap is 33; wanted an even number"),
        ("[1, 2]", {}, "found no settings"),
        ("word", {}, "found no settings"),
        ("a: [", {}, "found no readable YAML"),
        ("!!python/object/apply:os.getcwd []", {}, "found no readable YAML"),
        ("\xff\xfe", {}, "found no"),
        ("predict:", {"predict.reliance": "none"}, "predict: Input should be a valid dictionary"),
        ("predict: 5", {"predict.reliance": "none"}, "predict: Input should be a valid dictionary"),
        ("predict: {bbox: [1, 2, 3, 4]}", {}, "predict: bbox is set; wanted it null"),
        ("predict: {aoi: a.geojson}", {}, "predict: aoi is set; wanted it null"),
        ("predict: {scenes: [a]}", {}, "predict: scenes is set; wanted it null"),
        ("predict: {model: m}", {}, "predict: model is set; wanted it null"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, text, changes, words):
    path = tmp_path / "o.yaml"
    path.write_text(text, encoding="latin-1" if text[0] == "\xff" else "utf-8")
    with _refused(words) as raised:
        read_batch_options(path, changes)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_option_of_the_command_alone_is_refused_in_its_name():
    with _refused("the command: chunk: Input should be greater than or equal to 32"):
        read_batch_options(None, {"chunk": 1})
    with _refused("found no readable YAML"):
        read_batch_options(Path("not there.yaml"), {})


def test_resources_are_names_and_amounts():
    assert read_resources([]) == {}
    assert read_resources(["GPU=1", "memory = 2.5", "FPGA"]) == {"GPU": 1.0, "memory": 2.5, "FPGA": 1.0}


@pytest.mark.parametrize("text", ["", "=1", "GPU=x", "GPU=1=2", "GPU=nan", "GPU=inf", "GPU=-1", "GPU=0", " = 3"])
def test_resources_of_no_amount_are_refused(text):
    with _refused(f"--worker-resources: found {text!r}; wanted name=amount"):
        read_resources(["CPU=1", text])


# Plans


def _acquire(predictor, **given):
    return model_acquire_options(predictor, {**GIVEN, "dates": JULY, **given})


def _plan(inputs: Inputs, predictor: Predictor, model: Path, *, acquire=None, **options):
    return make_plan(
        inputs, predictor, model=model, acquire=acquire, column=None, out=model.parent / "out", threads=1,
        options=BatchOptions(chunk=32, predict={"tile": 48, "overlap": 16, "reliance_tile": 16}, **options),
    )  # fmt: skip


def test_the_model_says_which_bands_are_looked_for(predictor):
    eo, sar = _acquire(predictor).resolved_sensors()
    assert (eo.name, eo.bands, sar.name, sar.bands) == ("eo", ("blue", "green", "red", "nir"), "sar", ("vv", "vh"))
    told = _acquire(predictor, bands=["sar=VH,VV"], collections=["sar=mine"], unit=["sar=db"])
    eo, sar = told.resolved_sensors()
    assert (sar.bands, sar.collections, sar.unit) == (("VH", "VV"), ("mine",), "db")
    assert eo.bands == ("blue", "green", "red", "nir")


def test_a_model_that_cannot_map_parts_is_refused(predictor, model, tmp_path):
    inputs = Inputs(kind="regions", path=_regions(tmp_path / "r.geojson"), catalog="nowhere")
    spec = replace(predictor.network.spec, task="classification")
    with _refused("found a model of chips; wanted one that maps pixels"):
        _plan(inputs, replace(predictor, network=FusionUNet(spec)), model, acquire=_acquire(predictor))
    statistics = {"a": {"eo": BandStatistics(mean=(0.0,) * 4, std=(1.0,) * 4, count=1)}}
    own = replace(predictor, normaliser=replace(predictor.normaliser, scenes=statistics))
    with _refused("found a model that normalises each scene by its own statistics"):
        _plan(inputs, own, model, acquire=_acquire(predictor))


def test_other_units_are_refused_before_anything_is_fetched(predictor, model, tmp_path):
    inputs = Inputs(kind="regions", path=tmp_path / "not read.geojson", catalog=str(tmp_path / "not searched"))
    acquire = _acquire(predictor, collections=["sar=mine"], unit=["sar=kelvin"])
    with _refused("sensor 'sar': found collections in kelvin; wanted linear_power"):
        _plan(inputs, predictor, model, acquire=acquire)


def test_decibels_of_a_catalog_fit_a_model_of_linear_power(predictor, model, catalog, tmp_path):
    """They are brought to linear power when they are read."""
    acquire = _acquire(predictor, unit=["sar=db"])
    corner = north_up(40, 40).extent.to_crs("EPSG:4326").geom
    inputs = Inputs(kind="regions", path=_regions(tmp_path / "r.geojson", {"a": corner}), catalog=str(catalog))
    assert _plan(inputs, predictor, model, acquire=acquire).units


def test_a_catalog_needs_a_period(predictor, model, tmp_path, catalog):
    regions = _regions(tmp_path / "r.geojson")
    with _refused("found a catalog and no period"):
        do(
            Asked(source=regions, model=model, output=tmp_path / "out", changes={}, catalog=str(catalog),
                  catalog_given=GIVEN),
            announce=print,
        )  # fmt: skip
    with _refused("found no period"):
        _plan(Inputs(kind="regions", path=regions, catalog=str(catalog)), predictor, model)
    assert not (tmp_path / "out").exists()


def test_a_mosaic_of_no_known_kind_is_refused(model, tmp_path):
    asked = Asked(source=tmp_path, model=model, output=tmp_path, changes={}, catalog_given=GIVEN)
    with _refused("--mosaic: found 'tiff'; wanted cog, vrt"):
        do(replace(asked, mosaic="cog,tiff"), announce=print)


def test_units_of_regions_know_whom_they_serve_and_what_is_missing(predictor, model, catalog, tmp_path):
    grid = north_up(40, 40)
    inside = grid[2:38, 2:38].extent.to_crs("EPSG:4326").geom
    far = shapely.affinity.translate(inside, yoff=2.0)
    west, _, east, _ = inside.bounds
    half = inside.intersection(box(west, -80, (west + east) / 2, 84))
    path = _regions(tmp_path / "r.gpkg", {"all": inside, "half": half, "far": far})
    plan = _plan(Inputs(kind="regions", path=path, catalog=str(catalog)), predictor, model, acquire=_acquire(predictor))
    assert [region.name for region in plan.regions] == ["all", "half", "far"]
    for unit in plan.units:
        square = unit.geobox.extent.to_crs("EPSG:4326").geom.buffer(-1e-6)
        served = {name for name, shape in {"all": inside, "half": half, "far": far}.items() if shape.intersects(square)}
        assert set(unit.regions) == served
        if "far" in served:
            assert unit.reason.startswith("nothing in the catalog fits (")
            assert unit.source["sensors"] == {}
        elif unit.reason is None:
            assert set(unit.source["sensors"]) <= {"eo", "sar"}
    assert {unit.reason is None for unit in plan.units} == {True, False}
    assert len({unit.fingerprint for unit in plan.units}) == len(plan.units)
    assert len({unit.name for unit in plan.units}) == len(plan.units)


def test_a_unit_changes_its_mark_with_all_that_its_maps_depend_on(predictor, model, catalog, tmp_path):
    corner = north_up(40, 40)[4:20, 4:20].extent.to_crs("EPSG:4326").geom
    inputs = Inputs(kind="regions", path=_regions(tmp_path / "r.geojson", {"a": corner}), catalog=str(catalog))

    def marks(acquire=None, who=predictor, **options) -> tuple[str, ...]:
        plan = _plan(inputs, who, model, acquire=acquire or _acquire(predictor), **options)
        return tuple(unit.fingerprint for unit in plan.units)

    first = marks()
    assert marks() == first
    assert marks(attempts=9) == first  # of the run, not of its maps
    assert not set(first) & set(marks(coregister={"method": "none"}))
    assert not set(first) & set(marks(_acquire(predictor, scale=["sar=2"])))
    assert not set(first) & set(marks(who=replace(predictor, digest="another")))


def test_scenes_of_one_name_are_refused(predictor, model, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = write_tiff(tmp_path / folder / "eo.tif", np.zeros((4, 20, 20), np.float32), north_up(20, 20))
        AlignedStack(name="twin", geobox=north_up(20, 20), modalities=("eo",), present={"eo": file}).save(
            tmp_path / folder / "stack.json"
        )
    with _refused("found several scenes of one name (['twin'])"):
        _plan(Inputs(kind="stacks", path=tmp_path), predictor, model)


def test_stacks_with_other_bands_are_refused_before_anything_is_mapped(predictor, model, tmp_path):
    file = write_tiff(tmp_path / "eo.tif", np.zeros((2, 20, 20), np.float32), north_up(20, 20))
    AlignedStack(name="odd", geobox=north_up(20, 20), modalities=("eo",), present={"eo": file}).save(
        tmp_path / "stack.json"
    )
    with pytest.raises(PipelineError, match="scene 'odd': found bands"):
        _plan(Inputs(kind="stacks", path=tmp_path), predictor, model)


@pytest.mark.parametrize(
    ("unit", "fits"), [("reflectance", True), (",".join(["reflectance"] * 4), True), ("db", False)]
)
def test_one_unit_may_stand_for_that_of_all_bands(predictor, tmp_path, unit, fits):
    """`equipoise acquire` names it once, `equipoise coregister` band by band."""
    file = tmp_path / "eo.tif"
    bands = next(item.band_names for item in predictor.normaliser.modalities if item.name == "eo")
    with cog_writer(file, north_up(20, 20), count=4, dtype="float32", nodata=np.nan, overview_resampling="average",
                    descriptions=bands, tags={"unit": unit}) as writer:  # fmt: skip
        writer.write(np.zeros((4, 20, 20), np.float32))
    stack = AlignedStack(name="a", geobox=north_up(20, 20), modalities=("eo",), present={"eo": file})
    if fits:
        check_bands(stack, predictor)
    else:
        with pytest.raises(PipelineError, match="found modality 'eo' in db; wanted reflectance"):
            check_bands(stack, predictor)


def test_a_folder_of_a_batch_run_is_no_input(tmp_path):
    (tmp_path / "batch.json").write_text("{}")
    (tmp_path / "catalog.json").write_text("{}")
    with _refused("found the folder of a batch run"):
        read_inputs(tmp_path, None)


def test_a_configuration_gives_the_options_of_its_scenes(model, tmp_path):
    """Its own come first, then those of the file, then the command's; it need not declare classes."""
    config = tmp_path / "config.yaml"
    write_tiff(tmp_path / "eo.tif", np.zeros((4, 20, 20), np.float32), north_up(20, 20))
    config.write_text(
        "modalities: {eo: {unit: reflectance, bands: [blue, green, red, nir]}}\n"
        "scenes: [{name: a, files: {eo: eo.tif}}]\n"
        "coregister: {method: none, max_shift_m: 33}\npredict: {tile: 128, overlap: 32, reliance: none}\n"
    )
    base = base_options(read_inputs(config, None), model)
    (tmp_path / "options.yaml").write_text("predict: {tile: 192}")
    found = read_batch_options(tmp_path / "options.yaml", {"predict.reliance": "shapley"}, base=base)
    assert (found.coregister.method, found.coregister.max_shift_m) == ("none", 33)
    assert (found.predict.tile, found.predict.overlap, found.predict.reliance) == (192, 32, "shapley")
    assert base_options(Inputs(kind="stacks", path=tmp_path), model) == {}


# Records that come back


@st.composite
def units(draw: st.DrawFn) -> Unit:
    grid = draw(geoboxes(largest=200))
    kind = draw(st.sampled_from(["code", "text", "none"]))
    if kind == "none":
        grid = GeoBox(grid.shape, grid.affine, None)
    elif kind == "text":
        plane = "+proj=laea +lat_0=52 +lon_0=10 +x_0=0 +y_0=0 +ellps=GRS80 +units=m +no_defs"
        grid = GeoBox(grid.shape, grid.affine, plane)
    x, y, size = draw(st.floats(-1e7, 1e7)), draw(st.floats(-1e7, 1e7)), draw(st.floats(1e-3, 1e5))
    outline = draw(
        st.sampled_from([None, box(x, y, x + size, y + size), Point(x, y).buffer(size),
                         MultiPolygon([box(x, y, x + size, y + size), box(x + 2 * size, y, x + 3 * size, y + size)])])
    )  # fmt: skip
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6,
    )  # fmt: skip
    pair = st.tuples(st.integers(0, 300), st.integers(0, 300))
    return Unit(
        name=draw(st.text(min_size=1)), geobox=grid, before=draw(pair), after=draw(pair), outline=outline,
        margin=draw(st.integers(0, 99)), regions=tuple(draw(st.lists(st.text(), max_size=3))),
        source=draw(st.dictionaries(st.text(), values, max_size=3)), fingerprint=draw(st.text()),
        reason=draw(st.none() | st.text()),
    )  # fmt: skip


@settings(max_examples=60)
@given(unit=units())
def test_a_unit_comes_back_from_json_to_the_last_bit(unit):
    text = unit.to_json()
    found = Unit.from_json(text)
    assert found == unit
    assert found.geobox.crs == unit.geobox.crs
    assert tuple(found.geobox.affine) == tuple(unit.geobox.affine)
    assert found.to_json() == text


@given(unit=units(), row=st.integers(-500, 500), col=st.integers(-500, 500))
def test_what_a_unit_reads_and_keeps_lies_around_its_grid(unit, row, col):
    rows, cols = unit.geobox.shape
    assert unit.windowed.shape == (unit.before[0] + rows + unit.after[0], unit.before[1] + cols + unit.after[1])
    assert unit.read.shape == tuple(length + 2 * unit.margin for length in unit.windowed.shape)
    scene = unit.windowed.pad(unit.margin, unit.margin).translate_pix(col, row)
    area = unit.area(scene)
    assert (area.row, area.col) == (unit.margin - row, unit.margin - col)
    np.testing.assert_allclose(tuple(area.written.affine)[:6], tuple(unit.geobox.affine)[:6], rtol=1e-9)
    assert area.written.shape == unit.geobox.shape
    assert area.outline is unit.outline


def test_acquisitions_of_a_catalog_come_back_with_the_files_that_are_needed(catalog):
    day = datetime(2021, 7, 10, tzinfo=UTC)
    area = box(-180, -80, 180, 84)
    for name, keys in {"eo": {"blue", "green", "red", "nir", "scl"}, "sar": {"vv", "vh"}}.items():
        sensor = KNOWN_SENSORS[name]
        items = search_items(
            str(catalog), area=area, start=day, end=day + timedelta(days=2), collections=sensor.collections
        )
        (made,) = acquisitions(items, area)
        found = read_acquisition(json.loads(json.dumps(acquisition_record(made, sensor))))
        assert (found.acquired, found.coverage, found.cloud) == (made.acquired, made.coverage, made.cloud)
        (item,), (whole,) = found.items, made.items
        assert set(item.assets) == keys
        assert item.assets == {key: whole.assets[key] for key in keys}
        assert shapely.equals_exact(item.footprint, whole.footprint, 1e-6)
        assert replace(item, footprint=whole.footprint, assets=whole.assets) == whole


def test_odd_items_come_back_as_they_were():
    sensor = replace(KNOWN_SENSORS["sar"], bands=("vv", "vh"))
    bands = (AssetBand(name="vv", scale=0.1, offset=-0.0, nodata=-32768.0), AssetBand(common_name="vh"))
    both = CatalogAsset(key="both", href="https://a.example/x?sig=1", bands=bands, roles=("data", "x"), size=3)
    plain = {key: CatalogAsset(key=key, href=f"/files/{key}.tif", checksum="1220ab") for key in ("vv", "vh", "other")}
    items = tuple(
        CatalogItem(
            id=f"Á{number}", collection="c", acquired=datetime(2021, 7, 10, 23, 59, 59, 999999, UTC), cloud=None,
            footprint=MultiPolygon([box(0, 0, 1, 1), box(2, 2, 3, 3.5)]), assets=assets, href=None,
            properties={"platform": "p", "deep": {"list": [1, None, True, "ß"]}},
        )
        for number, assets in enumerate(({"both": both}, plain))
    )  # fmt: skip
    made = Acquisition(items=items[1:], acquired=items[0].acquired, coverage=0.1 + 0.2, cloud=None)
    found = read_acquisition(json.loads(json.dumps(acquisition_record(made, sensor))))
    kept = replace(items[1], assets={key: plain[key] for key in ("vv", "vh")})
    assert found == replace(made, items=(kept,))
    named = replace(sensor, keys={"vv": ("both",), "vh": ("both",)})
    made = replace(made, items=items[:1])
    assert read_acquisition(json.loads(json.dumps(acquisition_record(made, named)))) == made
