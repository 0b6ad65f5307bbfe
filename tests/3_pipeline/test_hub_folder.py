"""Model folders in the layout of a hub: its own reader accepts them, and so does ours."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, metadata_load

from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.export_hub import export_hub
from equipoise.pipeline.model_folder import load_predictor


@pytest.fixture(scope="module")
def hub_folder(trained_run, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("hub") / "light"
    export_hub(trained_run.root / "model", output, name="light: a test", licence="cc-by-4.0")
    return output


def test_the_hub_reads_its_front_matter(hub_folder):
    data = ModelCard.load(hub_folder / "README.md").data
    assert (data.library_name, data.license, data.pipeline_tag) == ("equipoise", "cc-by-4.0", "image-segmentation")
    assert {"remote-sensing", "eo", "sar", "ir"} <= set(data.tags)
    assert data.model_name == "light: a test"
    (result,) = data.eval_results
    assert result.metric_type == "validation_score"
    assert 0 < result.metric_value < 1
    assert result.dataset_split == "validation"
    assert metadata_load(hub_folder / "README.md")["model-index"][0]["name"] == "light: a test"


def test_it_is_the_same_model(hub_folder, trained_run):
    assert [file.name for file in sorted(hub_folder.iterdir())] == [
        "README.md", "config.json", "model.json", "model.safetensors",
    ]  # fmt: skip
    predictor = load_predictor(hub_folder, device="cpu")
    assert predictor.digest == load_predictor(trained_run.root / "model", device="cpu").digest
    config = json.loads((hub_folder / "config.json").read_text())
    assert config["network"] == json.loads((hub_folder / "model.json").read_text())["card"]["network"]
    assert config["model"] == predictor.digest


def test_nothing_is_replaced(hub_folder, trained_run):
    before = {file: file.read_bytes() for file in hub_folder.iterdir()}
    with pytest.raises(PipelineError, match="wanted a new or empty folder"):
        export_hub(trained_run.root / "model", hub_folder)
    assert {file: file.read_bytes() for file in hub_folder.iterdir()} == before
    assert [path.name for path in hub_folder.parent.iterdir()] == ["light"]


def test_the_command_says_what_it_wrote(trained_run, tmp_path, equipoise):
    done = equipoise("export", "hub", trained_run.root / "model", "-o", tmp_path / "hub", "--json")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["files"][0]).name == "README.md"
    assert ModelCard.load(tmp_path / "hub" / "README.md").data.license == "unknown"
