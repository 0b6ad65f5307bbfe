"""The main job from files to maps and report, on the embedded scene and on chips."""

import json
import re

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml

from equipoise.datasets.chips import CHIP_NAMES, write_chips
from equipoise.pipeline.config import load_config
from equipoise.pipeline.templates import template_record

STAGES = ("coregister", "tile", "train", "evaluate", "predict", "report")


def _stages(done):
    """Return stage -> what its line of the output says it took."""
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        words = re.match(r"(\w+) +([\d.]+ s|unchanged)  ", line)
        if words:
            found[words[1]] = words[2]
    return found


def test_every_stage_is_done_and_announced(finished):
    assert finished.done.stderr == ""
    found = _stages(finished.done)
    assert tuple(found) == STAGES
    assert "unchanged" not in found.values()


def test_the_command_says_where_everything_is(finished):
    named = re.findall(r"^(?:map|model|report) +(/.+)$", finished.done.stdout, flags=re.MULTILINE)
    assert len(named) == 7
    for path in named:
        assert (finished.root / path).exists()
        assert str(finished.root) in path


def test_the_run_folder_holds_what_the_architecture_names(finished):
    names = {path.relative_to(finished.root).as_posix() for path in finished.root.rglob("*") if path.is_file()}
    assert names >= {
        "manifest.json", "config.yaml", "patches.parquet", "metrics.json", "report.html",
        *(f"aligned/embedded/{name}.tif" for name in ("eo", "sar", "ir", "labels")),
        *(f"model/{name}" for name in ("model.safetensors", "model.json", "README.md")),
        *(f"predictions/embedded.{name}.tif" for name in ("classes", "confidence", "reliance", "trust", "quality")),
        "predictions/embedded.classes.tif.aux.xml", "predictions/embedded.trust.tif.aux.xml",
    }  # fmt: skip
    assert [name for name in names if "tmp" in name or name.endswith((".part", ".tiled.tif", ".cog.tif"))] == []


def test_the_manifest_accounts_for_every_output(finished, embedded_scene):
    record = json.loads((finished.root / "manifest.json").read_text())
    assert tuple(record["stages"]) == STAGES
    for stage in record["stages"].values():
        for name, size in stage["outputs"].items():
            assert (finished.root / name).stat().st_size == size
    assert set(record["inputs"]) >= {str(path) for path in embedded_scene.paths.values()}


def test_the_kept_configuration_is_complete_and_equal(finished):
    kept, own = load_config(finished.root / "config.yaml"), load_config(finished.config)
    assert kept == own
    assert (finished.root / "config.yaml").read_text().count("#") > 50


def test_the_map_lies_on_the_reference_and_knows_more_than_chance(finished, embedded_scene):
    with (
        rasterio.open(embedded_scene.labels) as truth,
        rasterio.open(finished.root / "predictions" / "embedded.classes.tif") as found,
    ):
        assert (found.crs, found.transform, found.shape) == (truth.crs, truth.transform, truth.shape)
        labels, classes = truth.read(1), found.read(1)
    mapped = classes != 255
    assert mapped.mean() > 0.9
    majority = np.bincount(labels[mapped]).max() / mapped.sum()
    assert (labels == classes)[mapped].mean() > 1.5 * majority


def test_the_report_is_one_self_contained_page(finished):
    page = (finished.root / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "data:image/" in page
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)""", page) == []
    assert re.findall(r"<script[^>]+src|@import|url\((?!['\"]?data:)", page) == []


def test_the_evaluation_is_whole_and_the_report_shows_it(finished):
    metrics = json.loads((finished.root / "metrics.json").read_text())
    for measure in ("mean_iou", "accuracy"):
        summed = metrics["subset_summary"][measure]
        scores = [item[measure] for item in metrics["subsets"].values()]
        assert summed["mean"] == pytest.approx(np.mean(scores))
        assert summed["worst"]["score"] == min(scores)
        assert summed["monotonicity"]["pairs"] == 9
    assert metrics["trained_on_subsets"]
    assert metrics["targets"] == []
    counted = metrics["calibration"]
    assert sum(item["count"] for item in counted["bins"]) == metrics["fusion"]["count"]
    assert 0 <= counted["ece"] <= 1
    curves = metrics["robustness"]
    assert curves["patches"] <= 4
    assert {family["kind"] for family in curves["families"]} == {
        "noise", "thick_cloud", "speckle", "thermal_noise", "misregistration", "outage",
    }  # fmt: skip
    for family in curves["families"]:
        for item in family["conditions"]:
            assert {"strength", "accuracy", "mean_iou", "ece", "reliance", "information"} <= set(item)
    assert curves["utilization_calibration"]["error"] is not None
    page = (finished.root / "report.html").read_text(encoding="utf-8")
    for picture in (
        "Reliability diagram", "Bars of shares with 95 % intervals; reliance: ", "Matrix of the share of each",
        "Curves of mean IoU over classes against the strength", "Curves of reliance and information",
    ):  # fmt: skip
        assert f'alt="{picture}' in page
    assert "Utilization calibration error" in page


def test_a_second_run_does_nothing(finished, forked):
    before = {path: path.stat().st_mtime_ns for path in finished.root.rglob("*") if path.is_file()}
    again = forked("run", finished.config, "-o", finished.root)
    assert _stages(again) == dict.fromkeys(STAGES, "unchanged")
    after = {path: path.stat().st_mtime_ns for path in finished.root.rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before.get(path)} <= {"config.yaml"}


def test_chips_are_classified_by_the_same_trainer(tmp_path, forked):
    chips = write_chips(tmp_path / "chips", count=30, size=32)
    record = template_record("chips")
    record["tile"]["patch_size"] = 32
    record["train"] = {"depth": 2, "decoder_channels": [16, 8], "epochs": 2, "batch_size": 6, "device": "cpu"}
    record["evaluate"] = {"single_modality": False, "rolls": 1, "bootstrap": 100, "robustness_patches": 4}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record, sort_keys=False))
    done = forked("run", tmp_path / "config.yaml", "-o", tmp_path / "run")
    assert tuple(_stages(done)) == STAGES
    table = gpd.read_parquet(tmp_path / "run" / "predictions" / "chips.parquet")
    assert len(table) == 30
    assert sorted(table["scene"]) == sorted(path.stem for path in (chips.folder / "eo").glob("*.tif"))
    assert set(table["class_name"]) <= set(CHIP_NAMES)
    assert table["confidence"].between(1 / 3, 1).all()
    shares = table[["reliance_eo", "reliance_sar"]].dropna()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["fusion"]["count"] == 6
    assert set(metrics["subsets"]) == {"eo", "sar", "eo+sar"}
    assert {family["kind"] for family in metrics["robustness"]["families"]} >= {"outage", "speckle", "misregistration"}


@pytest.mark.real
def test_real_imagery_is_mapped_where_it_lies(tmp_path, data_folder, forked):
    """The labelled real sample, from its template, with two epochs: maps of three places in three zones."""
    from equipoise.pipeline.demo import prepare_demo

    path = prepare_demo(tmp_path / "run", scene="terramesh")
    record = yaml.safe_load(path.read_text())
    record["train"] |= {"epochs": 2, "depth": 2, "decoder_channels": [16, 8], "device": "cpu"}
    record["evaluate"] = {"single_modality": False, "rolls": 1, "bootstrap": 100, "robustness": False}
    path.write_text(yaml.safe_dump(record, sort_keys=False))
    done = forked("run", path, "-o", tmp_path / "run")
    assert tuple(_stages(done)) == STAGES
    values = {item["value"] for item in record["classes"]}
    for scene in record["scenes"]:
        with (
            rasterio.open(scene["files"]["eo"]) as source,
            rasterio.open(tmp_path / "run" / "predictions" / f"{scene['name']}.classes.tif") as found,
        ):
            assert (found.crs, found.transform, found.shape) == (source.crs, source.transform, source.shape)
            classes = found.read(1)
        assert set(np.unique(classes)) <= values | {255}
        assert (classes != 255).mean() > 0.9
        with rasterio.open(tmp_path / "run" / "predictions" / f"{scene['name']}.reliance.tif") as found:
            assert found.descriptions == ("eo", "sar")
            assert found.crs == source.crs
