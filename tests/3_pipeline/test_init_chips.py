"""`equipoise init --task`: chips with a table of labels become a configuration that trains; what cannot be is said."""

import json

import pytest
from typer.testing import CliRunner

from equipoise.datasets.chips import write_chips
from equipoise.pipeline.cli import app
from equipoise.pipeline.config import load_config
from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.init_table import read_table_classes
from equipoise.pipeline.run_folder import RunFolder
from equipoise.pipeline.stages import Run
from equipoise.pipeline.validate import Validation, validate_inputs

CHIPS = ("--eo", "chips/eo/*.tif", "--sar", "chips/sar/{id}.tif", "--unit", "eo=reflectance")
TABLE = ("--labels", "chips/labels.csv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty chips of 32 px; read them only."""
    root = tmp_path_factory.mktemp("init_chips")
    write_chips(root / "chips", count=30, size=32)
    return root


@pytest.fixture
def place(folder, tmp_path, monkeypatch):
    (tmp_path / "chips").symlink_to(folder / "chips")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _init(*words):
    return CliRunner().invoke(app, ["init", "c.yaml", *map(str, words)])


@pytest.mark.parametrize("task", [(), ("--task", "classification")])
def test_chips_with_a_table_become_a_configuration_that_cuts_patches(place, task):
    done = _init(*CHIPS, *TABLE, "--classes", "bare,grass,2=wet", *task)
    assert done.exit_code == 0, done.exception
    assert "scenes      30\n" in done.stdout
    assert "a class a chip" in done.stdout
    config = load_config(place / "c.yaml")
    assert (config.task, config.tile.patch_size, config.coregister.method) == ("classification", 32, "none")
    assert [(item.value, item.name) for item in config.classes] == [(0, "bare"), (1, "grass"), (2, "wet")]
    assert validate_inputs(config) == Validation(scenes=30)
    run = Run(config=config, folder=RunFolder.open(place / "run"))
    run.do("coregister")
    record, _ = run.do("tile")
    assert record.figures["patches"] == {"train": 18, "validation": 6, "test": 6}


def test_chips_that_the_table_does_not_name_are_counted(place):
    (place / "some.csv").write_text("id,label\nchip_0000,0\nchip_0001,1\n")
    done = _init(*CHIPS, "--labels", "some.csv", "--json")
    assert (done.exit_code, json.loads(done.stdout)["scenes"]) == (0, 30)
    assert json.loads(done.stdout)["task"] == "classification"
    assert "30, 28 without labels" in _init(*CHIPS, "--labels", "some.csv", "--force").stdout


def test_without_files_the_task_chooses_the_template(place):
    done = _init("--task", "classification")
    assert "the template chips" in done.stdout
    assert load_config(place / "c.yaml").task == "classification"
    assert _init("--task", "segmentation", "--force").exit_code == 0
    assert load_config(place / "c.yaml").task == "segmentation"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([*CHIPS, *TABLE, "--task", "segmentation"], "a table of chips (chips/labels.csv); wanted a label raster"),
        ([*CHIPS, "--labels", "chips/eo/*.tif", "--task", "classification"], "wanted a CSV table with the columns id"),
        ([*CHIPS, *TABLE, "--task", "clasification"], "did you mean 'classification'?"),
        (["--eo", "chips/eo/chip_0000.tif", *TABLE], "--eo 'chips/eo/{id}.tif'"),
        (["--template", "flood", "--task", "classification"], "take one of them away"),
        ([*CHIPS, "--labels", "chips/lables.csv"], "found no file"),
        ([*CHIPS, *TABLE, "--classes", "7=sea"], "--classes 7=sea"),
        ([*CHIPS, *TABLE, "--bands", "eo=9"], "wanted places among 1, 2, 3, 4"),
        ([*CHIPS, *TABLE, "--bands", "eo=red"], "wanted places of bands in the file, from 1"),
        ([*CHIPS, *TABLE, "--bands", "ir=1"], "found --bands of 'ir'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(place, words, told):
    done = _init(*words)
    assert done.exit_code == 1
    assert told in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (place / "c.yaml").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,label\nchip_0000,forest\n", "give their names with --classes"),
        ("id,label\nchip_0000\n", "found label None"),
        ("name,label\nchip_0000,0\n", "without id"),
        ("", "without id and label"),
        ("id,label\n", "found no row"),
        ("id,label\na,0\nb,0\n", "found 1 values"),
        ("id,label\nnorth,0\nsouth,1\n", "the same ids"),
    ],
)
def test_tables_that_are_of_no_use_are_refused(place, text, told):
    (place / "t.csv").write_text(text)
    done = _init(*CHIPS, "--labels", "t.csv")
    assert (done.exit_code, told in str(done.exception)) == (1, True), done.exception
    assert not (place / "c.yaml").exists()


def test_a_table_of_a_spreadsheet_is_read_and_bytes_are_not(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\ufeffid,label,split\na,300,train\nb,7,test\n", encoding="utf-8")
    found = read_table_classes(path, ["low", "high"])
    assert [(item["value"], item["label_value"], item["name"]) for item in found] == [(0, 7, "low"), (1, 300, "high")]
    path.write_bytes(b"id,label\n\xff\xfe,1\n")
    with pytest.raises(ConfigError, match="found no table that can be read"):
        read_table_classes(path)


def test_bands_by_place_are_taken_to_train_too(place):
    assert _init(*CHIPS, *TABLE, "--bands", "eo=3,1").exit_code == 0
    bands = load_config(place / "c.yaml").modalities["eo"].bands
    assert [(band.name, band.index) for band in bands] == [("red", 3), ("blue", 1)]
