"""A configuration for a trained model: its bands are taken, and what does not fit is one line that says what to do."""

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from equipoise.pipeline.cli import app
from equipoise.pipeline.config import load_config
from equipoise.pipeline.run_folder import RunFolder
from equipoise.pipeline.stages import Run
from equipoise.pipeline.validate import Validation, validate_inputs

UNITS = ("--unit", "eo=reflectance", "--unit", "ir=kelvin")


@pytest.fixture
def model(trained_run):
    return trained_run.root / "model"


def _init(*words):
    return CliRunner().invoke(app, ["init", "c.yaml", *map(str, words)])


def _rewritten(source, target, *, order, names):
    """Copy bands of a raster in another order and under other names; None: without a name."""
    with rasterio.open(source) as read:
        profile = {**read.profile, "count": len(order)}
        with rasterio.open(target, "w", **profile) as writer:
            writer.write(read.read(order))
            for place, name in enumerate(names, start=1):
                writer.set_band_description(place, name)


def test_the_configuration_validates_and_maps(own_files, model):
    done = _init("--eo", "eo.tif", "--sar", "sar.tif", *UNITS[:2], "--model", model)
    assert done.exit_code == 0, done.exception
    assert "it also knows ir" in done.stdout
    config = load_config(own_files / "c.yaml")
    assert validate_inputs(config) == Validation(scenes=1)
    run = Run(config=config, folder=RunFolder.open(own_files / "run"))
    run.do("coregister")
    run.do("predict")
    assert (own_files / "run" / "predictions" / "scene.classes.tif").is_file()


def test_the_bands_of_the_model_are_found_by_name_in_any_order(own_files, model):
    _rewritten("eo.tif", "more.tif", order=[4, 1, 3, 2, 1], names=["NIR", "Blue", "red", "green", "coastal"])
    done = _init("--eo", "more.tif", *UNITS[:2], "--model", model)
    assert done.exit_code == 0, done.exception
    assert "4 of 5 bands, reflectance" in done.stdout
    bands = load_config(own_files / "c.yaml").modalities["eo"].bands
    assert [(band.name, band.index) for band in bands] == [("blue", 2), ("green", 4), ("red", 3), ("nir", 1)]


def test_bands_without_names_are_taken_in_order_or_by_place(own_files, model):
    _rewritten("eo.tif", "bare.tif", order=[1, 2, 3, 4], names=[None] * 4)
    assert _init("--eo", "bare.tif", *UNITS[:2], "--model", model).exit_code == 0
    assert [band.index for band in load_config(own_files / "c.yaml").modalities["eo"].bands] == [1, 2, 3, 4]
    done = _init("--eo", "bare.tif", *UNITS[:2], "--model", model, "--bands", "eo=3,2,1,4", "--force")
    assert done.exit_code == 0, done.exception
    bands = load_config(own_files / "c.yaml").modalities["eo"].bands
    assert [(band.name, band.index) for band in bands] == [("blue", 3), ("green", 2), ("red", 1), ("nir", 4)]


def test_decibels_fit_a_model_of_linear_power(own_files, model):
    with rasterio.open("sar.tif") as read:
        power, profile = read.read(), read.profile
    with rasterio.open("db.tif", "w", **{**profile, "nodata": None}) as writer:
        writer.write(10 * np.log10(np.maximum(power, 1e-4)))
    done = _init("--sar", "db.tif", "--unit", "sar=db", "--model", model)
    assert done.exit_code == 0, done.exception
    assert load_config(own_files / "c.yaml").modalities["sar"].unit == "db"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--eo", "eo.tif"], ["in digital_number (values", "wanted reflectance", "add --unit eo=reflectance"]),
        (["--eo", "eo.tif", "--unit", "eo=kelvin"], ["'eo' in kelvin", "write --unit eo=reflectance if it is that"]),
        (["--ir", "labels.tif", "--bands", "ir=1"], ["do not look like it", "--unit ir=kelvin"]),
        (["--eo", "sar.tif", "--unit", "eo=reflectance"], ["found bands VV, VH", "blue, green, red, nir", "another"]),
        (["--modality", "optical=eo.tif"], ["'optical'", "knows: eo, sar, ir", "leave 'optical' away"]),
        (["--modality", "iro=ir.tif"], ["did you mean 'ir'?"]),
        (["--eo", "eo.tif", *UNITS[:2], "--bands", "eo=1,2"], ["wanted 4 places among 1, 2, 3, 4"]),
        (["--eo", "eo.tif", *UNITS[:2], "--bands", "eo=1,2,3,9"], ["wanted 4 places among 1, 2, 3, 4"]),
        (["--eo", "eo.tif", *UNITS[:2], "--task", "classification"], ["which is of segmentation", "--task"]),
        (["--eo", "eo.tif", *UNITS[:2], "--labels", "labels.tif"], ["--labels beside --model"]),
        (["--eo", "eo.tif", *UNITS[:2], "--classes", "a,b"], ["--classes beside --model"]),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(own_files, model, words, told):
    done = _init(*words, "--model", model)
    assert done.exit_code == 1
    text = str(done.exception)
    assert [part for part in told if part not in text] == [], text
    assert "\n" not in text
    assert not (own_files / "c.yaml").exists()


def test_bands_under_other_names_are_told_the_way_out(own_files, model):
    _rewritten("eo.tif", "other.tif", order=[1, 2, 3, 4], names=["B2", "B3", "B4", "B8"])
    done = _init("--eo", "other.tif", *UNITS[:2], "--model", model)
    assert "--bands eo=1,2,3,4" in str(done.exception)


def test_a_folder_that_is_no_model_is_refused(own_files, trained_run):
    done = _init("--eo", "eo.tif", "--model", trained_run.root)
    assert f"write --model {trained_run.root / 'model'}" in str(done.exception)
    assert "nowhere" in str(_init("--eo", "eo.tif", "--model", "nowhere").exception)
