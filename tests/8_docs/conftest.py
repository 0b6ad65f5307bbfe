"""The folder in which the documentation's blocks are run: what its pages say is there."""

import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import yaml
from fake_satellite_benchmarks import write_sen1floods11
from shapely.geometry import box
from shorten import SHORT

import equipoise
from equipoise.datasets.synthetic import SyntheticScene, write_scene
from equipoise.datasets.synthetic_catalog import write_catalog
from equipoise.pipeline.export import export_model

#: Names under which pages have the sensors' files and their labels.
NAMES = {
    "eo": ("optical.tif", "s2.tif", "data/eo.tif"),
    "sar": ("radar.tif", "s1.tif", "data/sar.tif"),
    "ir": ("thermal.tif",),
    "labels": ("classes.tif", "data/labels.tif"),
}


def _config(scene: SyntheticScene) -> dict:
    names = zip(scene.class_names, scene.class_colors, strict=True)
    return {
        "name": "flood",
        "modalities": {
            "eo": {"unit": "reflectance", "scale": 0.0001, "bands": ["blue", "green", "red", "nir"]},
            "sar": {"unit": "linear_power", "bands": ["vv", "vh"]},
        },
        "classes": [{"value": value, "name": name, "color": colour} for value, (name, colour) in enumerate(names)],
        "scenes": [
            {"name": "first", "files": {name: str(scene.paths[name]) for name in ("eo", "sar")},
             "labels": str(scene.labels)}
        ],
        **SHORT,
    }  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder: own files, a finished run and its model, a region with its catalog, and a finished batch run."""
    root = tmp_path_factory.mktemp("world")
    scene = write_scene(root / "known", size=256)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        _write_run(root, scene)
        for name, targets in NAMES.items():
            source = scene.labels if name == "labels" else scene.paths[name]
            for target in targets:
                (root / target).parent.mkdir(exist_ok=True)
                shutil.copy(source, root / target)
        _write_region(root)
        write_sen1floods11(root / "sen1floods11", np.random.default_rng(0))
        options = {"chunk": 256, "predict": SHORT["predict"]}
        (root / "short_batch.yaml").write_text(yaml.safe_dump(options))
        equipoise.batch(
            "regions.gpkg", "model", output="out", catalog="catalog", dates="2024-05-01/2024-05-31", workers=1,
            admin="districts.gpkg", options=options,
        )  # fmt: skip
    return root


def _write_run(root: Path, scene: SyntheticScene) -> None:
    """Write a finished run, its configuration, its model under several names and formats, and its aligned files."""
    config = _config(scene)
    (root / "flood.yaml").write_text(yaml.safe_dump(config))
    meter = {"robustness": True, "robustness_patches": 4, "degradation_seeds": 1}
    run = equipoise.run(config, changes={"evaluate": meter})
    demo = shutil.copytree(run.folder, root / "runs" / "demo")
    for path in (demo / "predictions").glob("first.*"):
        path.rename(path.with_name(path.name.replace("first", "embedded")))
    for target in ("model", "runs/landcover/model"):
        shutil.copytree(run.folder / "model", root / target)
    for suffix, format_ in ((".onnx", "onnx"), (".pt2", "torch")):
        export_model(run.folder / "model", root / f"model{suffix}", format=format_)
    (root / "aligned").mkdir()
    for name in ("eo", "sar"):
        for target in (f"{name}.tif", f"aligned/{name}.tif"):
            shutil.copy(run.folder / "aligned" / "first" / f"{name}.tif", root / target)


def _write_region(root: Path) -> None:
    write_catalog(write_scene(root / "catalog", size=256, seed=7), day="2024-05-10")
    with rasterio.open(root / "catalog" / "eo.tif") as source:
        left, bottom, right, top = source.bounds
        crs = source.crs
    middle = (left + right) / 2
    whole = geopandas.GeoDataFrame({"name": ["valley"]}, geometry=[box(left, bottom, right, top)], crs=crs)
    whole.to_file(root / "regions.gpkg")
    whole.to_crs("EPSG:4326").to_file(root / "regions.geojson")
    whole.to_crs("EPSG:4326").to_file(root / "area.geojson")
    halves = [box(left, bottom, middle, top), box(middle, bottom, right, top)]
    geopandas.GeoDataFrame({"name": ["west", "east"]}, geometry=halves, crs=crs).to_file(root / "districts.gpkg")
