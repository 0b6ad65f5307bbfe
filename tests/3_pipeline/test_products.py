"""Delivered products through the first stages: what their metadata say arrives in the stack and in the patch index."""

import numpy as np
import pytest
import rasterio
import yaml
from fake_sentinel2 import write_safe, zip_safe
from strategies import write_tiff

from equipoise.datasets.patches import PatchIndex
from equipoise.datasets.product import grid_of
from equipoise.datasets.quality import Quality
from equipoise.datasets.stack import AlignedStack, StackReader
from equipoise.pipeline.config import load_config
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
