"""Beside the maps: a STAC Item that pystac and its extensions read, and styles that name every class."""

import hashlib
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension

from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.pipeline.predict_scenes import predict_scenes
from equipoise.pipeline.stac_item import MapAsset, write_item
from equipoise.pipeline.stage_options import PredictOptions
from equipoise.pipeline.trust import FLAG_NAMES

OPTIONS = PredictOptions(tile=32, overlap=0, reliance_tile=8, device="cpu", probabilities=True)


@pytest.fixture(scope="module")
def mapped(make_predictor, write_stack, tmp_path_factory):
    """A scene of two days, mapped with a network that has a description, and the model folder's weights."""
    folder = tmp_path_factory.mktemp("run")
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(2, 1), classes=3, depth=1, decoder_channels=(4,))
    predictor = make_predictor(FusionUNet(spec), bands={"eo": 2, "sar": 1}, classes=3)
    rng = np.random.default_rng(0)
    stack = write_stack(folder, {"eo": rng.normal(size=(2, 40, 48)), "sar": rng.normal(size=(1, 40, 48))})
    stack = replace(stack, acquired={"eo": "2024-05-01T10:00:00Z", "sar": "2024-05-03T05:30:00.25"})
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    (folder / "maps").mkdir()
    outputs, _ = predict_scenes(
        [stack], predictor, options=OPTIONS, informative={}, folder=folder / "maps", resume="one",
        model=folder / "model",
    )  # fmt: skip
    return stack, predictor, folder / "maps", outputs


@pytest.fixture
def item(mapped):
    return pystac.Item.from_file(str(mapped[2] / "place.json"))


def test_the_item_lists_every_map_where_it_is(mapped, item):
    _, _, folder, outputs = mapped
    assert set(item.assets) == {"classes", "confidence", "probability", "reliance", "trust", "quality", "model"}
    listed = {(folder / asset.href).resolve() for asset in item.assets.values()}
    assert {path for path in outputs if path.suffix == ".tif"} <= listed
    for key, asset in item.assets.items():
        content = (folder / asset.href).read_bytes()
        assert FileExtension.ext(asset).size == len(content)
        assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
        if key == "model":
            continue
        with rasterio.open(folder / asset.href) as source:
            projection = ProjectionExtension.ext(asset)
            assert (tuple(projection.shape), projection.code) == (source.shape, "EPSG:32633")
            assert list(source.transform)[:6] == projection.transform
            assert [band["name"] for band in asset.extra_fields["bands"]] == list(source.descriptions)


def test_the_outline_is_the_scene_in_longitude_and_latitude(mapped, item):
    grid = mapped[0].geobox
    west, south, east, north = grid.extent.to_crs("EPSG:4326").boundingbox
    np.testing.assert_allclose(item.bbox, (west, south, east, north), atol=1e-6)
    assert shapely.from_geojson(json.dumps(item.geometry)).exterior.is_ccw


def test_the_time_is_that_of_the_acquisitions(mapped, item, tmp_path):
    assert item.datetime is None
    assert item.properties["start_datetime"] == "2024-05-01T10:00:00Z"
    assert item.properties["end_datetime"] == "2024-05-03T05:30:00Z"
    stack, _, folder, _ = mapped
    maps = [MapAsset(path=folder / "place.classes.tif", title="classes", classes={})]
    for acquired, wanted in (({"sar": "2024-05-03T05:30:00"}, "2024-05-03T05:30:00Z"), ({"eo": "in spring"}, None)):
        write_item(tmp_path / "one.json", replace(stack, acquired=acquired), maps, model=None)
        found = json.loads((tmp_path / "one.json").read_text())["properties"]
        assert wanted is None or found["datetime"] == wanted
        assert ("time" in found.get("description", "")) == (wanted is None)


def test_classes_and_model_are_described(mapped, item):
    predictor = mapped[1]
    classes = ClassificationExtension.ext(item.assets["classes"]).classes
    assert [(entry.value, entry.to_dict()["title"]) for entry in classes] == [
        (option.value, option.name) for option in predictor.classes
    ]
    assert [entry.name for entry in classes] == ["class_0", "class_1", "class_2"]
    assert [entry.color_hint for entry in classes] == ["018040", "028040", "038040"]
    assert len(ClassificationExtension.ext(item.assets["trust"]).classes) == len(FLAG_NAMES)
    model = MLMExtension.ext(item)
    assert item.properties["mlm:name"] == f"equipoise-{predictor.digest}"
    assert [entry.name for entry in model.input] == ["eo", "sar"]
    assert model.output[0].result.shape == [-1, 3, -1, -1]
    assert model.total_parameters == sum(weight.numel() for weight in predictor.network.parameters())
    assert item.assets["probability"].extra_fields["bands"][0]["raster:scale"] == 0.004


def test_a_scene_without_a_position_has_no_item(mapped, tmp_path):
    stack = mapped[0]
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "map.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8") as writer,
    ):
        writer.write(np.zeros((1, 4, 4), np.uint8))
    bare = replace(stack, geobox=GeoBox((4, 4), stack.geobox.affine, None))
    maps = [MapAsset(path=tmp_path / "map.tif", title="classes", classes={})]
    assert write_item(tmp_path / "place.json", bare, maps, model=None) is None
    assert not (tmp_path / "place.json").exists()


def test_styles_name_every_class(mapped):
    _, predictor, folder, _ = mapped
    root = ElementTree.parse(folder / "place.classes.qml").getroot()  # noqa: S314 (written by the fixture)
    entries = root.findall("./pipe/rasterrenderer[@type='paletted']/colorPalette/paletteEntry")
    assert [(int(entry.get("value")), entry.get("label"), entry.get("color")) for entry in entries] == [
        (option.value, option.name, option.color) for option in predictor.classes
    ]
    assert "rests on clouded data" in (folder / "place.trust.qml").read_text()
