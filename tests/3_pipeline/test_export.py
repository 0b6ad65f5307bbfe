"""Exported models: they say what the model says, tell what they are, and map rasters without torch."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch

from equipoise.pipeline import export as stage
from equipoise.pipeline import export_format
from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.export import TOLERANCE, export_model
from equipoise.pipeline.export_check import read_stacks
from equipoise.pipeline.export_format import DESCRIPTION, export_form
from equipoise.pipeline.export_predict import CORE, OnnxModel, map_onnx, predict_onnx
from equipoise.pipeline.model_folder import load_predictor

pytest.importorskip("onnxruntime")  # an extra: pip install equipoise[onnx]

WITHOUT_TORCH = """
import sys, json
sys.modules["torch"] = None  # importing it is an error from here on
from pathlib import Path
from equipoise.pipeline.export_predict import map_onnx
model, output, *files = map(Path, sys.argv[1:])
map_onnx(model, {file.stem: file for file in files}, output, threads=1)
"""


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    """The trained model as ONNX, compared on its scene as well."""
    output = tmp_path_factory.mktemp("export") / "model.onnx"
    return export_model(trained_run.root / "model", output, format="onnx", check=trained_run.root)


def test_an_onnx_file_says_what_the_model_says(exported):
    assert exported.random.difference <= TOLERANCE
    assert exported.scenes.difference <= TOLERANCE
    assert exported.random.cases == 3 * 2**3  # sizes, subsets of three sensors
    assert exported.scenes.changed < 1e-5 * exported.scenes.places  # where two classes are as likely as each other
    assert [path.name for path in exported.path.parent.iterdir()] == ["model.onnx"]


def test_its_axes_are_open_and_it_tells_what_it_is(exported, trained_run):
    import onnx

    graph = onnx.load(exported.path)
    names = [item.name for item in graph.graph.input]
    assert names == ["eo", "sar", "ir", "eo_valid", "sar_valid", "ir_valid", "available"]
    assert all(axis.dim_param for axis in np.array(graph.graph.input[0].type.tensor_type.shape.dim)[[0, 2, 3]])
    record = OnnxModel(exported.path).record
    predictor = load_predictor(trained_run.root / "model", device="cpu")
    assert record["model"] == predictor.digest
    assert record["temperature"] == predictor.temperature
    assert [item["bands"] for item in record["modalities"]] == [
        list(item.band_names) for item in predictor.normaliser.modalities
    ]
    assert record["modalities"][1]["units"] == ["linear_power"] * 2
    assert [item["name"] for item in record["classes"]] == [item.name for item in predictor.classes]


def test_rasters_are_mapped_without_torch(exported, trained_run, tmp_path):
    stack = read_stacks(trained_run.root)[0]
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, exported.path, tmp_path / "map.tif", *stack.present.values()], check=True
    )
    with (
        rasterio.open(tmp_path / "map.tif") as found,
        rasterio.open(trained_run.root / "predictions" / f"{stack.name}.classes.tif") as wanted,
    ):
        assert found.transform == wanted.transform
        assert found.colormap(1)[0] == wanted.colormap(1)[0]
        # The run's maps blend windows of 128 px; these are one window.
        assert (found.read(1) == wanted.read(1)).mean() > 0.9
    assert (tmp_path / "map.qml").is_file()
    assert (tmp_path / "map.confidence.qml").is_file()


def test_a_sensor_may_be_missing_and_windows_meet_without_a_seam(exported, trained_run, tmp_path, monkeypatch):
    stack = read_stacks(trained_run.root)[0]
    files = {name: stack.present[name] for name in ("eo", "ir")}
    maps = map_onnx(exported.path, files, tmp_path / "whole.tif", threads=1)
    assert maps.missing == ("sar",)
    monkeypatch.setattr("equipoise.pipeline.export_predict.CORE", CORE // 8)
    cut = map_onnx(exported.path, files, tmp_path / "cut.tif", threads=1)
    with rasterio.open(maps.confidence) as whole, rasterio.open(cut.confidence) as pieces:
        np.testing.assert_allclose(pieces.read(1), whole.read(1), atol=1e-4)


def test_what_does_not_fit_is_said(exported, trained_run, tmp_path):
    stack = read_stacks(trained_run.root)[0]
    with pytest.raises(PipelineError, match="wanted some of"):
        predict_onnx(exported.path, {"lidar": np.zeros((1, 8, 8), np.float32)})
    with pytest.raises(PipelineError, match="check bands"):
        predict_onnx(exported.path, {"eo": np.zeros((1, 8, 8), np.float32)})
    taken = tmp_path / "taken.tif"
    taken.symlink_to(stack.present["eo"])
    with pytest.raises(PipelineError, match="would replace an input"):
        map_onnx(exported.path, {"eo": stack.present["eo"]}, taken)
    taken.unlink()
    with pytest.raises(PipelineError, match="found 1 bands"):
        map_onnx(exported.path, {"eo": stack.present["ir"]}, tmp_path / "map.tif")
    with rasterio.open(
        tmp_path / "decibels.tiff", "w", driver="GTiff", width=8, height=8, count=2, dtype="float32", crs="EPSG:32633",
        transform=rasterio.transform.from_origin(0, 0, 10, 10),
    ) as writer:  # fmt: skip
        writer.update_tags(unit="db")
    with pytest.raises(PipelineError, match="found values in db; wanted linear_power"):
        map_onnx(exported.path, {"sar": tmp_path / "decibels.tiff"}, tmp_path / "map.tif")
    with pytest.raises(PipelineError, match="no exported model"):
        OnnxModel(trained_run.config)
    with pytest.raises(PipelineError, match=r"ends in \.onnx"):
        export_model(trained_run.root / "model", tmp_path / "model.pt2", format="onnx")
    assert not list(tmp_path.glob("*.tif"))


def test_a_program_of_torch_says_the_same_and_needs_no_equipoise(trained_run, tmp_path, equipoise):
    done = equipoise("export", "torch", trained_run.root / "model", "-o", tmp_path / "model.pt2", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["random"]["difference"] <= TOLERANCE
    assert record["scenes"] is None
    extra = {DESCRIPTION: ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    assert json.loads(extra[DESCRIPTION])["task"] == "segmentation"
    image = [torch.rand(1, bands, 33, 70) for bands in (4, 2, 1)]
    answer = program(image, [torch.ones(1, 33, 70, dtype=torch.bool)] * 3, torch.tensor([[True, False, True]]))
    assert answer.shape == (1, 6, 33, 70)
    torch.testing.assert_close(answer.sum(dim=1), torch.ones(1, 33, 70))


def test_a_file_that_says_something_else_is_not_written(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "write_graph", lambda _form, path, **_: path.write_bytes(b"graph"))

    def other(*_, **__):
        return lambda inputs: torch.full((1, 6, *inputs.image[0].shape[-2:]), 1 / 6)

    monkeypatch.setattr(stage, "Exported", other)
    with pytest.raises(PipelineError, match="differ by"):
        export_model(trained_run.root / "model", tmp_path / "model.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_traced_is_said_in_one_line(trained_run, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("Constraints violated (height)!\n  - and more")

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(PipelineError, match=r"cannot trace .*Constraints violated \(height\)! - and more"):
        export_model(trained_run.root / "model", tmp_path / "model.pt2", format="torch")
    assert not list(tmp_path.iterdir())


def test_a_model_that_normalises_scenes_by_themselves_is_refused(trained_run):
    predictor = load_predictor(trained_run.root / "model", device="cpu")
    with pytest.raises(PipelineError, match="normalisation: training"):
        export_form(replace(predictor, normaliser=replace(predictor.normaliser, scenes={})))


def test_the_command_maps_and_says_what_it_takes(exported, trained_run, tmp_path, equipoise, forked):
    eo = read_stacks(trained_run.root)[0].present["eo"]
    done = equipoise("export", "predict", exported.path, f"eo={eo}", "-o", tmp_path / "map.tif", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [f"mapped without {name}: no file was given" for name in ("sar", "ir")]
    done = forked("export", "predict", exported.path, eo)
    assert done.returncode == 1
    assert "wanted MODALITY=FILE" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_packages_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(export_format, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(PipelineError, match=r"found no onnxscript; .* pip install 'equipoise\[onnx\]'"):
        export_model(tmp_path, tmp_path / "model.onnx", format="onnx")
