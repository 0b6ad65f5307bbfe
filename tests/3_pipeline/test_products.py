"""Delivered products through the first stages: what their metadata say arrives in the stack and in the patch index."""

import re

import numpy as np
import pytest
import rasterio
import yaml
from fake_landsat import write_landsat
from fake_orbit import Geometry
from fake_sentinel1 import FakeGrd
from fake_sentinel2 import write_safe, zip_safe
from strategies import write_tiff

from equipoise.datasets.errors import SceneError
from equipoise.datasets.patches import PatchIndex
from equipoise.datasets.product import grid_of
from equipoise.datasets.quality import Quality
from equipoise.datasets.stack import AlignedStack, StackReader
from equipoise.pipeline.config import load_config
from equipoise.pipeline.inspection import inspect
from equipoise.pipeline.run_folder import RunFolder
from equipoise.pipeline.stages import Run


@pytest.fixture
def run(tmp_path) -> Run:
    """A zipped Sentinel-2 product, and thermal beside it that knows nothing of clouds."""
    safe = write_safe(tmp_path / "delivered", np.random.default_rng(3))
    grid = grid_of(str(next(safe.granule.glob("IMG_DATA/R10m/*_B04_10m.jp2"))), safe.path, georeferenced=True)
    rng = np.random.default_rng(4)
    warm = rng.normal(295, 4, (1, *grid.shape)).astype(np.float32)
    write_tiff(tmp_path / "ir.tif", warm, grid, tags={"ACQ_DATE": "2024-05-07"})
    write_tiff(tmp_path / "labels.tif", rng.integers(0, 2, (1, *grid.shape), dtype=np.uint8), grid)
    record = {
        "name": "products",
        "modalities": {
            "eo": {"unit": "reflectance", "bands": ["green", "red", "B11"], "clouds": "keep"},
            "ir": {"unit": "kelvin", "bands": ["brightness_temperature"]},
        },
        "classes": [{"value": 0, "name": "no", "color": "#000000"}, {"value": 1, "name": "yes", "color": "#ffffff"}],
        "scenes": [
            {"name": "one", "files": {"eo": str(zip_safe(safe)), "ir": "ir.tif"}, "labels": "labels.tif"},
        ],
        "coregister": {"method": "none"},
        "tile": {"patch_size": 16, "block_size": 24, "buffer": 2, "min_labelled": 0.0},
    }  # fmt: skip
    path = tmp_path / "products.yaml"
    path.write_text(yaml.safe_dump(record), encoding="utf-8")
    config = load_config(path)
    return Run(config=config, folder=RunFolder.open(tmp_path / "run", seed=config.seed))


def test_units_times_and_clouds_travel_from_the_product_to_the_stack(run):
    run.do("coregister")
    folder = run.folder.root / "aligned" / "one"
    stack = AlignedStack.load(folder / "stack.json")
    assert set(stack.clouds) == {"eo"}
    assert stack.acquired["ir"] == "2024-05-07"
    assert stack.acquired["eo"].startswith("20")
    with rasterio.open(folder / "eo.tif") as file:
        assert file.descriptions == ("green", "red", "B11")
        assert file.tags()["source_kind"] == "sentinel-2-l2a"
        assert "QUANTIFICATION" in file.tags()["source_scaling"]
    rows, cols = stack.geobox.shape
    window = StackReader(stack).read(0, 0, height=rows, width=cols)
    assert set(np.unique(window.quality["eo"])) >= {int(Quality.CLEAR), int(Quality.CLOUD)}
    # clouds: keep leaves them in the image; what the product calls unusable is gone.
    assert window.valid["eo"][window.quality["eo"] == Quality.CLOUD].any()
    assert not window.valid["eo"][window.quality["eo"] == Quality.UNUSABLE].any()


def test_the_patch_index_knows_the_share_of_clouds_of_each_sensor(run):
    run.do("coregister")
    run.do("tile")
    table = PatchIndex.load(run.folder.root / "patches.parquet").table
    reader = StackReader(run.stacks["one"])
    assert table["cloud_ir"].isna().all()
    assert table["cloud_eo"].max() > 0
    for row in table.itertuples():
        quality = reader.read(row.row, row.col, height=row.height, width=row.width).quality["eo"]
        observed = np.isin(quality, (Quality.CLEAR, Quality.CLOUD, Quality.SHADOW))
        expected = np.isin(quality, (Quality.CLOUD, Quality.SHADOW)).sum() / max(observed.sum(), 1)
        assert row.cloud_eo == pytest.approx(expected, abs=1e-6)


def test_a_changed_product_is_a_changed_input(run):
    before = run.fingerprint("coregister")
    path = run.scenes[0].files["eo"].path
    path.write_bytes(path.read_bytes() + b" ")
    assert Run(config=run.config, folder=run.folder).fingerprint("coregister") != before


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("packed", [False, True])
def test_inspect_refuses_pixels_that_contradict_the_checksum(tmp_path, packed):
    safe = write_safe(tmp_path, np.random.default_rng(3))
    assert any(line.startswith("  verified ") and "files agree" in line for line in inspect(safe.path))
    image = next(safe.granule.rglob("*_B04_10m.jp2"))
    _flip(image)
    with pytest.raises(SceneError, match=f"found '.*{image.name}' with another checksum"):
        list(inspect(zip_safe(safe) if packed else safe.path))


def test_inspect_says_that_a_product_has_nothing_to_compare(tmp_path):
    product = write_landsat(tmp_path, np.random.default_rng(4))
    assert "  verified    no: it carries no checksums; equipoise validate decodes all of it" in inspect(product.path)


def test_no_run_uses_pixels_that_contradict_the_checksum(run, tmp_path):
    safe = write_safe(tmp_path / "damaged", np.random.default_rng(3))
    image = next(safe.granule.rglob("*_B03_10m.jp2"))
    _flip(image)
    zip_safe(safe).replace(run.scenes[0].files["eo"].path)
    with pytest.raises(SceneError, match=f"found '.*{image.name}' with another checksum"):
        run.do("coregister")
    assert not list(run.folder.root.rglob("*.tif"))


def _without_vh(manifest, *parts):
    """Take files of VH away, from the manifest, too."""
    folder, text = manifest.parent, manifest.read_text("utf-8")
    for part in parts:
        for file in folder.glob(part):
            file.unlink()
    text = re.sub(r"<dataObject [^>]*>(?:(?!</dataObject>).)*-vh-(?:(?!</dataObject>).)*</dataObject>", "", text)
    manifest.write_text(text, "utf-8")


def test_inspect_lists_every_polarisation_and_refuses_a_product_that_lacks_one(tmp_path):
    product = FakeGrd(geometry=Geometry(shape=(60, 70))).write(tmp_path)
    lines = list(inspect(product))
    assert [line.split()[1] for line in lines if line.startswith("  values ")] == ["VV", "VH"]
    _without_vh(product / "manifest.safe", "measurement/*-vh-*")
    with pytest.raises(SceneError, match=r"found 0 files 'measurement/.*-vh-.*wanted exactly one"):
        list(inspect(product))


def test_inspect_refuses_a_measurement_without_its_annotation(tmp_path):
    product = FakeGrd(geometry=Geometry(shape=(60, 70))).write(tmp_path)
    _without_vh(product / "manifest.safe", "annotation/*-vh-*")
    with pytest.raises(SceneError, match=r"found 'measurement/.*-vh-.*' without an annotation"):
        list(inspect(product))
