"""Notes on units: what may be a slip is said, with what to do, and stops nobody."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from typer.testing import CliRunner

from equipoise.pipeline.cli import app
from equipoise.pipeline.config import Config
from equipoise.pipeline.validate import validate_inputs

UNITS = ("--unit", "eo=reflectance", "--scale", "eo=0.0001", "--unit", "ir=kelvin")
IR = ("--ir", "ir.tif", "--labels", "labels.tif")


def _run(*words):
    return CliRunner().invoke(app, [*map(str, words)])


def _without_scale(path):
    with rasterio.open(path, "r+") as raster:
        raster.scales = [1.0] * raster.count


@pytest.fixture
def validated(own_files):
    """Make a configuration of flags, validate it, return the answer to people and that to programs."""

    def make(*flags):
        made = _run("init", "c.yaml", *flags, *IR)
        assert made.exit_code == 0, made.output
        told = _run("validate", "c.yaml")
        return told, json.loads(_run("validate", "c.yaml", "--json").stdout)

    return make


def test_declared_units_have_no_note(validated):
    told, record = validated("--eo", "eo.tif", "--sar", "sar.tif", *UNITS)
    assert (told.exit_code, record["notes"], record["problems"]) == (0, [], [])
    assert "note" not in told.stdout


def test_numbers_without_a_unit_are_told_what_they_look_like(validated):
    told, record = validated("--eo", "eo.tif", "--sar", "sar.tif", "--unit", "sar=linear_power")
    assert told.exit_code == 0
    notes = dict(zip(("eo", "ir"), record["notes"], strict=True))
    assert "`modalities.eo.unit: reflectance`" in notes["eo"]
    assert "scale" not in notes["eo"], "the file's own scale holds once a unit is declared"
    assert "`modalities.ir.unit: kelvin`" in notes["ir"]
    assert all(f"note: {note}" in told.stdout for note in notes.values())


def test_a_scale_that_the_file_does_not_tell_is_proposed(own_files, validated):
    _without_scale(own_files / "eo.tif")
    _, record = validated("--eo", "eo.tif", "--sar", "sar.tif", "--unit", "sar=linear_power", "--unit", "ir=kelvin")
    (note,) = record["notes"]
    assert "`modalities.eo.unit: reflectance` and `scale: 0.0001`" in note
    assert "may be reflectance (unit: reflectance, scale: 0.0001)" in _run("inspect", "eo.tif").stdout


def test_optical_counts_in_the_place_of_backscatter_are_noted(own_files, validated):
    _without_scale(own_files / "eo.tif")
    told, record = validated("--eo", "sar.tif", "--sar", "eo.tif", "--unit", "sar=linear_power", "--unit", "ir=kelvin")
    assert told.exit_code == 0
    assert any("sar is declared as linear_power" in note and "exchanged" in note for note in record["notes"])


def test_inspect_proposes_a_unit_where_the_file_tells_none(own_files):
    assert "may be reflectance (unit: reflectance)" in _run("inspect", "eo.tif").stdout
    assert "may be" not in _run("inspect", "labels.tif").stdout


def test_bands_that_the_file_does_not_name_are_those_of_their_turn(tmp_path):
    """Counts are declared with names of one's own."""
    transform, values = Affine.scale(10, -10), np.full((2, 16, 16), 900, np.uint16)
    path, labels = tmp_path / "eo.tif", tmp_path / "labels.tif"
    kind = {"driver": "GTiff", "width": 16, "height": 16, "crs": "EPSG:32632", "transform": transform}
    with rasterio.open(path, "w", count=2, dtype="uint16", **kind) as raster:
        raster.write(values)
    with rasterio.open(labels, "w", count=1, dtype="uint8", **kind) as raster:
        raster.write(np.zeros((1, 16, 16), np.uint8))
    config = Config.model_validate({
        "name": "counts", "modalities": {"eo": {"unit": "digital_number", "bands": ["first", "second"]}},
        "classes": [{"value": n, "name": f"c{n}", "color": "#ff0000"} for n in range(2)],
        "scenes": [{"name": "place", "files": {"eo": str(path)}, "labels": str(labels)}],
    })  # fmt: skip
    found = validate_inputs(config)
    assert found.problems == []
    assert len(found.notes) == 1
    assert "may be reflectance" in found.notes[0]
