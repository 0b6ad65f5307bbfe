"""The public names: images in as xarray, maps out as xarray, with the pixels that the command line writes."""

import subprocess
import sys

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
import yaml
from odc.geo.xr import wrap_xr

import equipoise
from equipoise.datasets.modality import Unit
from equipoise.pipeline.errors import ConfigError, PipelineError, RunFolderError
from equipoise.pipeline.finished_run import FinishedRun
from equipoise.pipeline.trust import Flag

#: Options of the light configuration.
LIGHT = {"tile": 128, "overlap": 32, "reliance_tile": 16}


@pytest.fixture(scope="module")
def done(trained_run):
    return equipoise.open_run(trained_run.root)


@pytest.fixture(scope="module")
def model(done):
    return done.model()


@pytest.fixture(scope="module")
def images(done):
    (stack,) = done.scenes.values()
    return {name: rioxarray.open_rasterio(path) for name, path in stack.present.items()}


@pytest.fixture(scope="module")
def prediction(model, images):
    return model.predict(images, **LIGHT)


def _file(done, kind: str) -> np.ndarray:
    (path,) = (done.folder / "predictions").glob(f"*.{kind}.tif")
    with rasterio.open(path) as source:
        return source.read()


@pytest.mark.parametrize("kind", ["classes", "confidence", "reliance", "trust"])
def test_arrays_are_mapped_as_the_command_line_maps_files(done, prediction, kind):
    found = getattr(prediction, kind).to_numpy()
    np.testing.assert_array_equal(found if found.ndim == 3 else found[None], _file(done, kind))


def test_a_prediction_lies_where_the_images_lie(prediction, images):
    image = next(iter(images.values()))
    assert prediction.classes.odc.geobox == image.odc.geobox
    assert prediction.reliance.odc.geobox.resolution.x == LIGHT["reliance_tile"] * image.odc.geobox.resolution.x
    assert tuple(prediction.reliance["modality"].values) == ("eo", "sar", "ir")


def test_shares_are_those_of_the_maps(prediction):
    shares = prediction.reliance.to_numpy()
    known = np.isfinite(shares).all(axis=0)
    np.testing.assert_allclose(list(prediction.shares.values()), shares[:, known].mean(axis=1), rtol=1e-5)
    assert sum(prediction.class_shares.values()) == pytest.approx(1)


def test_doubtful_tiles_are_those_with_a_defect(prediction, model, images):
    trust = prediction.trust.to_numpy()
    np.testing.assert_array_equal(prediction.doubtful, (trust > Flag.INDETERMINATE) & (trust != Flag.UNOBSERVED))
    assert sum(prediction.trust_shares.values()) == pytest.approx(1)
    seen = trust[trust != Flag.UNOBSERVED]
    assert prediction.trust_shares["sound"] == pytest.approx((seen == Flag.SOUND).mean())
    assert prediction.trust.attrs["flag_meanings"].split()[2] == "rests_on_clouded_data"
    without = model.predict({"eo": images["eo"]}, reliance="none", **LIGHT)
    assert without.trust_shares == {}
    with pytest.raises(PipelineError, match="found no trust layer"):
        _ = without.doubtful


def test_a_run_opens_its_own_maps(done, prediction):
    (name,) = done.predictions
    opened = done.predictions[name]
    assert opened.classes.chunks is not None, "pixels of large maps are read when they are asked for"
    np.testing.assert_array_equal(opened.load().classes, prediction.classes)
    assert done.metrics["fusion"]["mean_iou"] is not None
    assert len(done.patches) > 0
    assert done.seconds["train"] > 0
    with pytest.raises(KeyError, match="did you mean"):
        done.predictions[name[:-1]]


def test_a_sensor_may_be_missing(model, images):
    alone = model.predict({"sar": images["sar"]}, **LIGHT)
    shares = alone.reliance.to_numpy()
    known = np.isfinite(shares).all(axis=0)
    assert known.any()
    np.testing.assert_array_equal(shares[:, known], np.broadcast_to([[0], [1], [0]], (3, known.sum())))


def test_decibels_may_be_named(model, images, prediction):
    decibels = 10 * np.log10(images["sar"].clip(min=1e-5))
    found = model.predict({**images, "sar": decibels}, units={"sar": "db"}, **LIGHT)
    assert float((found.classes == prediction.classes).mean()) > 0.999
    with pytest.raises(PipelineError, match=r"'sar', band VV: found .* never negative"):
        model.predict({**images, "sar": decibels}, **LIGHT)


def test_a_part_that_is_all_dark_is_no_wrong_unit(model, images, monkeypatch):
    monkeypatch.setattr("equipoise.pipeline.array_stack.ROWS", 16)
    dark = images["eo"].copy()
    dark[:, 64:128] = 1e-4  # deep water: below what a whole scene can be
    model.predict({"eo": dark}, reliance="none", **LIGHT)
    with pytest.raises(PipelineError, match="no surface is that dark"):
        model.predict({"eo": dark * 0 + 1e-4}, reliance="none", **LIGHT)


def test_clouds_hide_and_the_trust_map_knows_why(model, images):
    eo, sar = images["eo"], images["sar"]
    hidden = xr.zeros_like(eo[0], dtype=bool)
    hidden[64:160, 64:160] = True
    found = model.predict({"eo": eo, "sar": sar}, clouds={"eo": hidden}, **LIGHT)
    same = model.predict({"eo": eo.where(~hidden), "sar": sar}, **LIGHT)
    np.testing.assert_array_equal(found.classes, same.classes)
    tiles = slice(4, 10)  # of 16 px, within the clouds
    rests_on_it = found.reliance.sel(modality="eo")[tiles, tiles].to_numpy() >= 0.3
    assert rests_on_it.any(), "the network still sees the edges of the clouds"
    for made, flag in ((found, Flag.CLOUDED), (same, Flag.MISSING)):
        np.testing.assert_array_equal(made.trust[tiles, tiles].to_numpy()[rests_on_it], flag)
    codes = hidden.astype("uint8").where(~hidden, 2).expand_dims("band")
    again = model.predict({"eo": eo, "sar": sar}, clouds={"eo": codes}, **LIGHT)
    np.testing.assert_array_equal(again.classes, found.classes)


def test_clouds_of_nothing_are_refused(model, images):
    eo, sar = images["eo"], images["sar"]
    hidden = xr.zeros_like(eo[0], dtype=bool)
    for clouds, words in [
        ({"sar": hidden}, "clouds of 'sar' and no such image"),
        ({"ea": hidden}, "wanted modalities"),
        ({"eo": xr.zeros_like(sar[0]).assign_coords(x=sar["x"] + 5)}, "clouds of 'eo' on another grid"),
        ({"eo": ~hidden}, "no valid pixel"),
    ]:
        with pytest.raises(PipelineError, match=words):
            model.predict({"eo": eo}, clouds=clouds)


def test_files_are_kept_where_they_are_asked_for(model, images, tmp_path):
    model.predict({"eo": images["eo"]}, name="place", folder=tmp_path / "maps", reliance="none", **LIGHT)
    assert {"place.classes.tif", "place.confidence.tif", "place.json"} <= {
        path.name for path in (tmp_path / "maps").iterdir()
    }


def test_what_cannot_be_mapped_is_refused_in_a_line(model, images):
    eo, sar = images["eo"], images["sar"]
    moved = sar.assign_coords(x=sar["x"] + 5)
    bare = eo.drop_vars(["spatial_ref", "x", "y"])
    for given, words in [
        ({"eo": eo, "sar": moved}, "on another grid"),
        ({"ea": eo}, "wanted modalities"),
        ({"eo": eo[:2]}, "found 2 bands; wanted"),
        ({"eo": eo.assign_coords(band=["red", "green", "blue", "nir"])}, "choose and order them"),
        ({"eo": eo.assign_attrs(long_name=("nir", "red", "green", "blue"))}, "choose and order them"),
        ({"eo": bare}, "without a position"),
        ({"eo": eo * np.nan}, "no valid pixel"),
        ({}, "found no image"),
    ]:
        with pytest.raises(PipelineError, match=words):
            model.predict(given)
    with pytest.raises(PipelineError, match="wanted one of"):
        model.predict({"sar": sar}, units={"sar": "decibel"})


def test_a_mapping_is_a_configuration(trained_run, tmp_path, monkeypatch):
    record = yaml.safe_load(trained_run.config.read_text())
    monkeypatch.chdir(tmp_path)
    record["predict"] = {**record["predict"], "model": str(trained_run.root / "model"), "reliance": "none"}
    done = equipoise.run(record, output="mapped")
    assert list(done.predictions) == list(done.scenes)
    assert done.report.is_file()
    assert done.predictions[next(iter(done.scenes))].reliance is None
    with pytest.raises(ConfigError, match="unknown key"):
        equipoise.run({**record, "trian": {}})


def test_options_may_be_changed_by_section(trained_run, tmp_path):
    model = {"model": str(trained_run.root / "model"), "reliance": "none"}
    done = equipoise.run(trained_run.config, output=tmp_path / "run", changes={"predict": {**model, "tile": 160}})
    (before,), config = equipoise.open_run(trained_run.root).stages.config.scenes, done.stages.config
    assert config.scenes[0].files == before.files, "paths are those of the file's folder"
    assert config.predict.tile == 160
    assert config.predict.overlap == LIGHT["overlap"]
    with pytest.raises(ConfigError, match=r"predict\.tiel"):
        equipoise.run(trained_run.config, output=tmp_path / "other", changes={"predict": {"tiel": 160}})


def test_robustness_is_a_table(done):
    table, record = done.robustness, done.metrics["robustness"]
    assert len(table) == 1 + sum(len(family["conditions"]) for family in record["families"])
    clear = table.iloc[0]
    assert (clear["kind"], clear["strength"], clear["mean_iou"]) == ("clear", 0, record["clear"]["mean_iou"]["mean"])
    shares = table[["reliance_eo", "reliance_sar", "reliance_ir"]].dropna()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    outage = table[(table["sensor"] == "sar") & (table["kind"] == "outage")].iloc[0]
    assert outage["information_sar"] == 0


def test_robustness_that_was_not_measured_is_missed_in_a_line(done, monkeypatch):
    monkeypatch.setattr(FinishedRun, "metrics", {"robustness": None})
    with pytest.raises(RunFolderError, match="found no robustness"):
        _ = done.robustness


def test_a_folder_of_something_else_is_no_run(tmp_path):
    with pytest.raises(RunFolderError, match=r"no manifest\.json"):
        equipoise.open_run(tmp_path)


def test_objects_show_themselves_without_scripts(done, model, prediction):
    for thing in (done, model, prediction):
        page = thing._repr_html_()
        assert page.startswith("<b>")
        assert "<script" not in page
    assert "class <" not in prediction._repr_html_()
    assert prediction.plot().axes[0].get_title(loc="left") == "classes"


def test_nothing_is_imported_before_it_is_asked_for():
    code = (
        "import sys, equipoise; assert 'torch' not in sys.modules and 'xarray' not in sys.modules; "
        "assert set(equipoise.__all__) <= set(dir(equipoise)); equipoise.open_run; assert 'xarray' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        equipoise.fly  # noqa: B018 (asking is the test)


def test_grids_made_by_hand_are_taken(model, images):
    grid = images["ir"].odc.geobox
    made = wrap_xr(images["ir"].to_numpy(), grid, axis=1, dims=("band", "y", "x"))
    assert model.units["ir"] == (str(Unit.KELVIN),)
    assert model.predict({"ir": made}, reliance="none", **LIGHT).classes.odc.geobox == grid
