"""Explanations: every output of a run is told from its content, with the numbers of that very file."""

import json
import shutil
import sqlite3

import numpy as np
import pytest
import rasterio

from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.explain import explain
from equipoise.pipeline.explanation import told


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("predictions/embedded.classes.tif", "class map"),
        ("predictions/embedded.confidence.tif", "confidence map"),
        ("predictions/embedded.reliance.tif", "reliance map"),
        ("predictions/embedded.trust.tif", "trust map"),
        ("predictions/embedded.quality.tif", "quality map"),
        ("predictions/embedded.json", "STAC item"),
        ("aligned/embedded/eo.tif", "aligned stack"),
        ("aligned/embedded/labels.tif", "label raster"),
        ("aligned/embedded/sar.registration.tif", "registration layer"),
        ("aligned/embedded/coregistration.json", "registration record"),
        ("aligned/embedded/stack.json", "stack description"),
        ("aligned/embedded", "aligned scene"),
        ("aligned", "aligned scenes"),
        ("predictions", "maps"),
        ("patches", "patch store"),
        ("patches.parquet", "patch index"),
        ("metrics.json", "metrics"),
        ("manifest.json", "manifest"),
        ("model", "model folder"),
        ("model/model.json", "model card"),
        (".", "run folder"),
    ],
)
def test_every_output_of_a_run_is_known(trained_run, name, kind):
    item = explain(trained_run.root / name)
    assert item.kind == kind
    assert item.found
    assert all(len(line.splitlines()) == 1 for line in item.lines())
    json.dumps(item.record(), default=str)


def test_numbers_are_those_of_the_file(trained_run):
    folder = trained_run.root / "predictions"
    with rasterio.open(folder / "embedded.classes.tif") as source:
        values, tags = source.read(1), source.tags()
    shares = explain(folder / "embedded.classes.tif").found["share of classes"]
    assert sum(shares.values()) == pytest.approx(1)
    for value in np.unique(values[values != 255]):
        assert shares[tags[f"class_{value}"]] == pytest.approx((values == value).sum() / (values != 255).sum())
    with rasterio.open(folder / "embedded.reliance.tif") as source:
        expected = dict(zip(source.descriptions, np.nanmean(source.read(), axis=(1, 2)), strict=True))
    item = explain(folder / "embedded.reliance.tif")
    assert item.found["mean reliance"] == pytest.approx(expected, abs=1e-6)
    assert item.made["metric"] == "shapley_share"
    assert item.made["subsets of sensors asked"] == "8"


def test_a_file_is_known_by_its_content_and_not_by_its_name(trained_run, tmp_path):
    shutil.copy(trained_run.root / "predictions" / "embedded.trust.tif", tmp_path / "reliance.tif")
    shutil.copy(trained_run.root / "metrics.json", tmp_path / "manifest.json")
    assert explain(tmp_path / "reliance.tif").kind == "trust map"
    assert explain(tmp_path / "manifest.json").kind == "metrics"


def test_other_rasters_are_inspected_and_called_unknown(embedded_scene):
    item = explain(embedded_scene.paths["eo"])
    assert item.kind == "unknown"
    assert "inspect" in item.what
    assert len(item.found["band"]) == 4


@pytest.mark.parametrize("text", ["{}", '{"registrations": 3}', '{"equipoise": 1, "stages": {"a": 2}}'])
def test_foreign_records_are_unknown(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert explain(tmp_path / "a.json").kind == "unknown"


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", "[1]"), ("b.json", "{"), ("a.parquet", "no"), ("a.gpkg", "no" * 999)]
)
def test_what_does_not_open_is_one_line(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(PipelineError, match=name):
        explain(tmp_path / name)
    with pytest.raises(PipelineError, match="found no file"):
        explain(tmp_path / "gone.tif")


def test_a_ledger_tells_its_states_and_stays_as_it_is(tmp_path):
    path = tmp_path / "ledger.gpkg"
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE gpkg_contents (table_name TEXT)")
        base.execute("INSERT INTO gpkg_contents VALUES ('units')")
        base.execute("CREATE TABLE units (state TEXT, attempts INT, losses INT)")
        base.executemany("INSERT INTO units VALUES (?, 0, 0)", [("done",), ("done",), ("failed",)])
    base.close()
    before = path.read_bytes()
    item = explain(path)
    assert (item.kind, item.found) == ("batch ledger", {"units": 3, "states": {"done": 2, "failed": 1}})
    assert path.read_bytes() == before
    assert explain(tmp_path).kind == "batch folder"


def test_a_page_is_no_broken_raster(tmp_path):
    (tmp_path / "report.html").write_text("<!doctype html>")
    assert explain(tmp_path / "report.html").kind == "page"


def test_words_of_values():
    assert told({"eo": 0.33333333, "sar": [1, None]}) == "eo 0.3333, sar 1, none"
    assert told({}) == "none"
