"""A configuration from files: it validates, its classes are those of the labels, and what is missing is named."""

import json
import shutil

import numpy as np
import pytest
import rasterio
import yaml
from typer.testing import CliRunner

from equipoise.pipeline.cli import app
from equipoise.pipeline.config import load_config
from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.init_classes import read_classes
from equipoise.pipeline.run_folder import RunFolder
from equipoise.pipeline.stages import Run
from equipoise.pipeline.validate import Validation, validate_inputs


def _init(*words):
    return CliRunner().invoke(app, ["init", "c.yaml", *map(str, words)])


FILES = ("--eo", "eo.tif", "--sar", "sar.tif", "--ir", "ir.tif", "--labels", "labels.tif")


def test_a_configuration_of_files_validates_and_cuts_patches(own_files):
    done = _init(*FILES, "--unit", "eo=reflectance", "--scale", "eo=0.0001", "--unit", "ir=kelvin", "--name", "mine")
    assert done.exit_code == 0, done.exception
    config = load_config(own_files / "c.yaml")
    assert validate_inputs(config) == Validation(scenes=1)
    assert {key: str(item.unit) for key, item in config.modalities.items()} == {
        "eo": "reflectance", "sar": "linear_power", "ir": "kelvin",
    }  # fmt: skip
    assert (config.name, config.modalities["eo"].scale) == ("mine", 0.0001)
    assert "forest" in [item.name for item in config.classes]
    assert (own_files / "c.yaml").read_text().count("# ") > 50
    run = Run(config=config, folder=RunFolder.open(own_files / "run"))
    run.do("coregister")
    record, _ = run.do("tile")
    assert all(count > 0 for count in record.figures["patches"].values())


def test_patterns_stand_for_many_scenes(own_files):
    for name in ("eo", "labels"):
        for number in (1, 2):
            shutil.copy(own_files / f"{name}.tif", own_files / f"{name}_{number}.tif")
    done = _init("--modality", "optical=eo_*.tif", "--labels", "labels_{id}.tif", "--json")
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["units"] == {"optical": "digital_number"}
    found = validate_inputs(load_config(own_files / "c.yaml"))
    assert (found.scenes, found.problems) == (2, [])
    (note,) = found.notes
    assert "optical is declared as digital_number" in note
    assert "(and so in 1 more)" in note


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--eo", "eo.tif"], "--labels"),
        (["--labels", "labels.tif"], "--eo"),
        (["--eo", "oe.tif", "--labels", "labels.tif"], "oe.tif"),
        (["--eo", "eo.tif", "--labels", "lables.tif"], "lables.tif"),
        (["--eo", "eo.tif", "--labels", "labels.tif", "--unit", "eo=kelvn"], "did you mean 'kelvin'?"),
        (["--eo", "eo.tif", "--labels", "labels.tif", "--unit", "sar=db"], "'sar'"),
        (["--eo", "eo.tif", "--labels", "labels.tif", "--scale", "eo=x"], "--scale"),
        (["--eo", "eo.tif", "--labels", "labels.tif", "--classes", "77=sea"], "--classes"),
        (["--eo", "eo.tif", "--labels", "labels.tif", "--template", "flood"], "--template"),
        (["--modality", "eo.tif"], "NAME=VALUE"),
        (["--eo", "*_*.tif", "--labels", "labels.tif"], "once"),
    ],
)
def test_what_is_missing_or_wrong_is_said_without_asking(own_files, words, told):
    done = _init(*words)
    assert done.exit_code == 1
    assert told in str(done.exception)
    assert not (own_files / "c.yaml").exists()


def _labels(path, values, *, nodata=None, palette=None, **tags):
    with rasterio.open(path, "w", driver="GTiff", width=4, height=1, count=1, dtype=values.dtype, nodata=nodata,
                       crs="EPSG:32632", transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as writer:  # fmt: skip
        writer.write(values.reshape(1, 1, 4))
        writer.update_tags(**tags)
        if palette:
            writer.write_colormap(1, palette)
    return path


def test_classes_are_the_values_that_occur_with_the_names_and_colours_of_the_file(tmp_path):
    palette = {1: (255, 0, 0, 255), 3: (0, 0, 255, 255)}
    path = _labels(tmp_path / "a.tif", np.array([1, 3, 0, 255], "uint8"), nodata=0, palette=palette, class_3="water")
    assert read_classes([path]) == [
        {"value": 1, "label_value": None, "name": "class_1", "color": "#ff0000"},
        {"value": 3, "label_value": None, "name": "water", "color": "#0000ff"},
    ]
    assert [item["name"] for item in read_classes([path], ["land", "3=sea"])] == ["land", "sea"]


def test_names_lie_beside_the_file_and_large_values_are_given_new_ones(tmp_path):
    path = _labels(tmp_path / "a.tif", np.array([1, 0, 1, 0], "uint8"))
    (tmp_path / "a.tif.aux.xml").write_text("<Category>dry &amp; bare</Category><Category>wet</Category>")
    assert [item["name"] for item in read_classes([path])] == ["dry & bare", "wet"]
    other = _labels(tmp_path / "b.tif", np.array([300, 7, 300, 7], "uint16"))
    assert [(item["value"], item["label_value"]) for item in read_classes([other])] == [(0, 7), (1, 300)]


@pytest.mark.parametrize("values", [np.array([1, 1, 1, 1], "uint8"), np.array([0.5, 1, 2, 3], "float32")])
def test_other_rasters_are_no_labels(tmp_path, values):
    with pytest.raises(ConfigError, match="--labels"):
        read_classes([_labels(tmp_path / "a.tif", values)])


def test_what_the_files_do_not_tell_is_proposed_in_words_that_can_be_copied(own_files):
    with rasterio.open("labels.tif") as read:
        values, profile = read.read(1), {**read.profile, "nodata": 255}
    with rasterio.open("bare.tif", "w", **profile) as writer:
        writer.write(values, 1)
    done = _init("--eo", "eo.tif", "--labels", "bare.tif")
    assert done.exit_code == 0, done.exception
    hint = next(line for line in done.stdout.splitlines() if "tells no unit" in line)
    assert "may be reflectance: if so, add --unit eo=reflectance --force" in hint
    assert "give them with --classes 0=...,1=...,... --force" in done.stdout
    assert "equipoise run c.yaml" in done.stdout
    told = _init("--eo", "eo.tif", "--labels", "bare.tif", "--unit", "eo=digital_number", "--force").stdout
    assert "tells no unit" not in told


def test_labels_of_other_scenes_are_refused(own_files):
    shutil.copy(own_files / "eo.tif", own_files / "eo_1.tif")
    shutil.copy(own_files / "labels.tif", own_files / "labels_2.tif")
    done = _init("--eo", "eo_*.tif", "--labels", "labels_*.tif")
    assert (done.exit_code, "the same ids" in str(done.exception)) == (1, True)


def test_the_command_writes_yaml_that_reads_as_it_was(own_files):
    assert _init(*FILES).exit_code == 0
    assert yaml.safe_load((own_files / "c.yaml").read_text())["scenes"][0]["files"]["eo"] == "eo.tif"
