"""Batch runs from Python: what the command does, and what its folder holds as tables and maps."""

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from fake_regions import write_regions

import equipoise
from equipoise.pipeline import batch_command, finished_batch
from equipoise.pipeline.batch.command import Asked
from equipoise.pipeline.batch.inputs import model_acquire_options
from equipoise.pipeline.batch.run import BatchResult
from equipoise.pipeline.errors import ConfigError, PipelineError, RunFolderError
from equipoise.pipeline.model_folder import load_predictor

OPTIONS = {
    "chunk": 128, "coregister": {"method": "none"},
    "predict": {"tile": 96, "overlap": 32, "reliance_tile": 16, "device": "cpu"},
}  # fmt: skip

JULY = "2021-07-01/2021-07-31"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch")
    made = write_regions(folder, np.random.default_rng(1), size=96, count=3)
    regions = geopandas.read_file(made.regions).rename(columns={"name": "district"})
    regions.to_file(folder / "districts.gpkg")
    return made


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def done(inputs, said):
    return equipoise.batch(
        inputs.regions, inputs.model, output=inputs.regions.parent / "out", catalog=inputs.catalog, dates=JULY,
        options=OPTIONS, admin=inputs.regions.parent / "districts.gpkg", admin_column="district", workers=1,
        announce=said.append,
    )  # fmt: skip


def test_every_unit_is_done_and_told(done, said):
    assert set(done.units["state"]) == {"done"}
    assert any(line.startswith("workers     1") for line in said)
    assert any(line.startswith(f"units       {len(done.units)} done") for line in said)
    assert done.report.is_file()


def test_tables_are_those_of_the_files(done):
    assert sorted(done.regions["name"]) == sorted(["both sides", "west 1", "east 2"])
    np.testing.assert_allclose(done.areas["mapped_km2"].sum(), done.regions["mapped_km2"].sum())
    assert done.regions.crs == done.areas.crs == "EPSG:4326"


def test_mosaics_are_maps_by_region_and_by_zone_where_there_are_two(done):
    maps = done.predictions
    assert sorted(maps) == ["both sides.32632", "both sides.32633", "east 2", "west 1"]
    (path,) = (done.folder / "regions").glob("west_1-*.classes.tif")
    with rasterio.open(path) as source:
        np.testing.assert_array_equal(maps["west 1"].classes, source.read(1))
    assert [item.name for item in maps["west 1"].legend] == ["water", "forest", "field"]
    assert maps["west 1"].scene == "west 1"
    assert sum(maps["west 1"].shares.values()) == pytest.approx(1)
    with pytest.raises(KeyError, match="did you mean"):
        maps["west"]


def test_a_folder_is_opened_again_and_shows_itself(done):
    page = equipoise.open_batch(done.folder)._repr_html_()
    assert f"{len(done.units)} done" in page
    assert "both sides" in page
    assert "<script" not in page


def test_python_asks_for_what_the_command_asks_for(inputs, monkeypatch):
    asked: list[Asked] = []

    def take(given: Asked, *, announce: object) -> BatchResult:
        asked.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("equipoise.pipeline.batch.command.do", take)
    monkeypatch.setattr(finished_batch, "do", take)
    given = {"catalog": str(inputs.catalog), "dates": JULY}
    for call in (batch_command.batch, equipoise.batch):
        with pytest.raises(KeyboardInterrupt):
            call(inputs.regions, inputs.model, **given)
    by_command, by_python = (dict(vars(item)) for item in asked)
    predictor = load_predictor(inputs.model, device="cpu")
    for item in (by_command, by_python):
        item["changes"] = {key: value for key, value in item["changes"].items() if value is not None}
        item["catalog_given"] = model_acquire_options(predictor, {**item["catalog_given"], "dates": JULY})
    assert by_python == by_command


def test_a_search_is_said_by_sensor():
    given = finished_batch._as_texts({"bands": {"eo": ["B2", "B3"]}, "scale": {"eo": 0.1}, "max_cloud": 0.2})
    assert (given["bands"], given["scale"], given["max_cloud"]) == (["eo=B2,B3"], ["eo=0.1"], 0.2)
    assert given["collections"] is None


def test_options_may_be_a_file_or_dicts(tmp_path):
    assert finished_batch._flat(OPTIONS)["predict.tile"] == 96
    assert finished_batch._flat({"chunk": 128}) == {"chunk": 128}


def test_what_cannot_be_done_is_refused_in_a_line(inputs, tmp_path):
    common = {"output": tmp_path / "out", "catalog": inputs.catalog, "options": OPTIONS, "workers": 1}
    with pytest.raises(ConfigError, match=r"unknown key 'predict\.tiel'"):
        equipoise.batch(inputs.regions, inputs.model, **{**common, "options": {"predict": {"tiel": 1}}}, dates=JULY)
    with pytest.raises(ConfigError, match="max-clouds"):
        equipoise.batch(inputs.regions, inputs.model, **common, dates=JULY, search={"max_clouds": 0.2})
    with pytest.raises(PipelineError, match=r"found nothing to map in \d+ unit"):
        equipoise.batch(inputs.regions, inputs.model, **common, dates="2020-07-01/2020-07-31")
    with pytest.raises(RunFolderError, match=r"found no batch\.json"):
        equipoise.open_batch(Path(tmp_path))
    with pytest.raises(RunFolderError, match=r"areas\.parquet: found no such table"):
        _ = equipoise.open_batch(tmp_path / "out").areas
