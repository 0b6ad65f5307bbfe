"""The command coregister on files: what is written, what is kept, what is refused, and in how many words."""

import json
import re

import numpy as np
import pytest
import rasterio
from affine import Affine
from fake_pairs import ground, seen
from odc.geo.geobox import GeoBox
from typer.testing import CliRunner

from equipoise.datasets.raster import cog_writer
from equipoise.datasets.registration_layer import RegistrationLayer
from equipoise.pipeline.cli import app
from equipoise.pipeline.coregister_options import file_options
from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.file_modality import open_file

EDGE = 300
GRID = GeoBox((EDGE, EDGE), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), "EPSG:32633")
EAST, NORTH = 34.0, -21.0


def _ground(seed):
    """Fields of four kinds in irregular outlines, 0 to 1."""
    return (seen(ground(np.random.default_rng(seed), (EDGE, EDGE))) - 1) / 3


def _write(path, values, grid=GRID, *, name="value"):
    with cog_writer(
        path, grid, count=1, dtype="float32", nodata=float("nan"), overview_resampling="average", descriptions=(name,)
    ) as writer:
        writer.write(values.astype(np.float32), 1)
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Optics, and radar in decibels whose file claims a place that lies (EAST, NORTH) from the true one."""
    folder = tmp_path_factory.mktemp("pair")
    ground = _ground(0)
    speckle = np.random.default_rng(1).gamma(8, 1 / 8, ground.shape)
    claimed = GeoBox(GRID.shape, Affine.translation(-EAST, -NORTH) * GRID.affine, GRID.crs)
    radar = 10 * np.log10((1.2 - ground) * 0.1 * speckle)
    _write(folder / "eo.tif", 1000 * ground + 500)
    _write(folder / "sar.tif", radar, claimed, name="VV")
    _write(folder / "elsewhere.tif", 1000 * _ground(7) + 500)
    return folder


def _run(*words):
    return CliRunner().invoke(app, ["coregister", *map(str, words)])


@pytest.fixture(scope="module")
def aligned(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned") / "out"
    return folder, _run(pair / "eo.tif", pair / "sar.tif", "-o", folder)


def test_a_file_is_brought_to_its_place(pair, aligned):
    folder, result = aligned
    assert result.exit_code == 0, result.output
    record = json.loads((folder / "coregistration.json").read_text())["registrations"]["sar"]
    assert record["applied"]
    assert np.hypot(record["east"] - EAST, record["north"] - NORTH) < 2
    layer = RegistrationLayer.load(folder / "sar.registration.tif")
    assert layer.confidence.min() > 0.5
    with rasterio.open(folder / "sar.tif") as moved, rasterio.open(pair / "eo.tif") as reference:
        assert (moved.crs, moved.transform, moved.shape) == (reference.crs, reference.transform, reference.shape)
        assert moved.tags()["unit"] == "db"
        values = moved.read(1)
    assert np.nanmedian(values) < 0  # decibels stay decibels
    inside = np.isfinite(values)
    # Dark where the optics are bright, at the same place.
    assert np.corrcoef(values[inside], _ground(0)[inside])[0, 1] < -0.8


def test_the_last_lines_say_what_was_found_and_written(aligned):
    folder, result = aligned
    lines = result.output.splitlines()
    assert any(re.match(r"sar +moved (39|40)\.\d m; true within .* m \(90 %\); confidence", line) for line in lines)
    assert f"wrote     {folder / 'sar.tif'}" in lines
    assert f"wrote     {folder / 'registration.html'}" in lines
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_the_same_command_again_changes_nothing(pair, aligned):
    folder, _ = aligned
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    result = _run(pair / "eo.tif", pair / "sar.tif", "-o", folder)
    assert result.exit_code == 0
    assert "unchanged" in result.output
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_no_input_is_ever_replaced(pair):
    before = {path.name: path.read_bytes() for path in pair.iterdir()}
    result = _run(pair / "eo.tif", pair / "sar.tif", "-o", pair)
    assert "wanted another folder" in str(result.exception)
    assert {path.name: path.read_bytes() for path in pair.iterdir()} == before


@pytest.mark.parametrize("policy", ["refuse", "keep"])
def test_another_place_is_refused(pair, tmp_path, policy):
    result = _run(pair / "eo.tif", pair / "elsewhere.tif", "-o", tmp_path, "--on-failure", policy)
    assert result.exit_code == (1 if policy == "refuse" else 0)
    assert (tmp_path / "elsewhere.tif").is_file() == (policy == "keep")
    assert "chance" in result.output
    layer = RegistrationLayer.load(tmp_path / "elsewhere.registration.tif")
    assert (layer.confidence == 0).all()
    assert (tmp_path / "registration.html").is_file()


def test_files_that_do_not_overlap_are_one_line(pair, tmp_path):
    far = GeoBox(GRID.shape, Affine.translation(90_000, 0) * GRID.affine, GRID.crs)
    _write(tmp_path / "far.tif", _ground(3), far)
    result = _run(pair / "eo.tif", tmp_path / "far.tif", "-o", tmp_path / "out")
    assert result.exit_code != 0
    assert "outside the area" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"paths": ["eo.tif"]}, "alone"),
        ({"paths": ["config.yaml"], "max_shift": 100.0}, "under `coregister`"),
        ({"paths": ["a.tif", "b.tif"], "max_shift": -1.0}, "--max-shift -1"),
        ({"paths": ["a.tif", "b.tif"], "on_failure": "ignore"}, "--on-failure ignore"),
        ({"paths": ["a.tif", "b.tif"], "unit": ["b.tif=decibel"]}, "FILE=UNIT"),
    ],
)
def test_options_that_cannot_be_used_are_named(arguments, words, tmp_path):
    given = {"max_shift": None, "min_confidence": None, "on_failure": None, "unit": None} | arguments
    given["paths"] = [tmp_path / name for name in given["paths"]]
    with pytest.raises(ConfigError, match=words):
        file_options(given.pop("paths"), **given)


def test_a_configuration_is_told_from_files(tmp_path):
    nothing = {"max_shift": None, "min_confidence": None, "on_failure": None, "unit": None}
    assert file_options([tmp_path / "config.yaml"], **nothing) is None
    options, units = file_options([tmp_path / "a.tif", tmp_path / "b.tif"], **nothing | {"unit": ["b=db"]})
    assert (options.on_failure, units) == ("refuse", {"b": "db"})


@pytest.mark.parametrize(
    ("name", "values", "unit"), [("VV", -12.0, "db"), ("VV", 0.06, "linear_power"), ("red", -12.0, "digital_number")]
)
def test_the_unit_of_radar_is_seen_in_its_name_and_sign(tmp_path, name, values, unit):
    path = _write(tmp_path / "file.tif", np.full(GRID.shape, values), name=name)
    (band,) = open_file(path, name="file").modality.bands
    assert (band.name, band.unit) == (name, unit)
