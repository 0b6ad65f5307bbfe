"""Dates end to end: two dates of one sensor, from files to maps, and models that are not told when."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio
import rioxarray
import yaml

import equipoise
from equipoise.datasets.acquisition_dates import date_values
from equipoise.datasets.errors import SceneError
from equipoise.datasets.synthetic_dates import ACQUIRED, CLASS_COLORS, CLASS_NAMES, write_two_dates
from equipoise.pipeline.config import Config, load_config, parse_config
from equipoise.pipeline.errors import ConfigError, PipelineError
from equipoise.pipeline.export import export_model
from equipoise.pipeline.run_folder import RunFolder
from equipoise.pipeline.scene_dates import check_dates
from equipoise.pipeline.stages import Run
from equipoise.pipeline.summary import summary
from equipoise.pipeline.trained_model import load_model
from equipoise.pipeline.validate import validate_inputs


def _record(place, **changes):
    return {
        "name": "seasons",
        "modalities": {
            "july": {"unit": "reflectance", "scale": 0.0001, "bands": ["blue", "green", "red", "nir"], "sensor": "s2"},
            "may": {"same_as": "july", "prior": True},
        },
        "classes": [
            {"value": value, "name": name, "color": color}
            for value, (name, color) in enumerate(zip(CLASS_NAMES, CLASS_COLORS, strict=True))
        ],
        "scenes": [
            {
                "name": "place", "files": {name: str(path) for name, path in place.paths.items()},
                "labels": str(place.labels), "informative": str(place.informative),
            }
        ],
        "coregister": {"method": "none"},
        "tile": {"patch_size": 32, "block_size": 64, "buffer": 8},
        "train": {
            "dates": True, "depth": 2, "decoder_channels": [16, 8], "epochs": 12, "batch_size": 6,
            "learning_rate": 0.003, "device": "cpu",
        },
        "evaluate": {"single_modality": False, "rolls": 1, "bootstrap": 100, "robustness": False},
        "predict": {"tile": 128, "overlap": 32, "reliance_tile": 16, "device": "cpu"},
        **changes,
    }  # fmt: skip


def _run(folder: Path, record, *stages):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "seasons.yaml"
    path.write_text(yaml.safe_dump(record, sort_keys=False))
    config = load_config(path)
    run = Run(config=config, folder=RunFolder.open(folder / "run", seed=config.seed))
    for stage in stages:
        run.do(stage)
    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_two_dates(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, place):
    """The place, trained on with dates, measured, mapped and reported."""
    return equipoise.run(_record(place), output=tmp_path_factory.mktemp("seasons") / "run").stages


def test_both_dates_are_read_and_used(finished):
    metrics = json.loads((finished.folder.root / "metrics.json").read_text())
    both, alone = metrics["fusion"]["accuracy"], [metrics["subsets"][name]["accuracy"] for name in ("july", "may")]
    assert both > 0.9
    assert max(alone) < both - 0.1  # each date knows one class only
    (scene,) = finished.folder.stages["predict"].figures["scenes"].values()
    # Where one date tells the class, the map rests on that one more than on the other.
    assert min(scene["planted"].values()) > 0.5


def test_tables_show_reliance_by_date_and_by_sensor(finished):
    metrics = json.loads((finished.folder.root / "metrics.json").read_text())
    (row,) = metrics["by_sensor"]
    assert (row["sensor"], [item["modality"] for item in row["dates"]]) == ("s2", ["july", "may"])
    assert row["reliance"] == pytest.approx(1) == sum(item["reliance"] for item in row["dates"])
    assert row["information"] == pytest.approx(1)
    assert [item["reliance"] for item in row["dates"]] == metrics["utilization"]["brier"]["share"]
    assert [item["acquired"] for item in row["dates"]] == [["2024-07-12"] * 2, ["2024-05-03"] * 2]
    assert "s2 in all 1.000 of the reliance (july 0." in summary("evaluate", metrics)
    page = (finished.folder.root / "report.html").read_text()
    assert "By sensor and date" in page
    assert "<td>2024-05-03</td>" in page


def test_sensors_of_one_date_need_no_table(trained_run):
    metrics = json.loads((trained_run.root / "metrics.json").read_text())
    assert metrics["by_sensor"] == []


def test_the_model_knows_what_day_it_maps(finished):
    card = json.loads((finished.folder.root / "model" / "model.json").read_text())["card"]
    assert card["network"]["dates"]
    assert card["training"]["dates_from"] == "july"
    assert finished._predictor().normaliser.reference == "july"


def test_patches_and_windows_say_the_same_dates(finished):
    sample = next(iter(finished._training_data().module(finished.config).loader("test")))
    assert sample["image"]["may@date"][0].tolist() == [1.0, pytest.approx(123.4375), 1.0, -70.0]
    assert sample["image"]["july@date"][0, 3] == 0
    assert set(sample["valid"]) == {"july", "may"}


def test_the_saved_configuration_is_complete_and_means_the_same(finished):
    again = load_config(finished.folder.root / "config.yaml")
    assert again.modalities == finished.config.modalities
    assert again.sensors == {"july": "s2", "may": "s2"}


def test_python_maps_are_those_of_the_run_and_need_no_dates(finished, place, caplog):
    images = {}
    for name, path in place.paths.items():
        image = rioxarray.open_rasterio(path).astype("float32") * 1e-4
        images[name] = image.assign_coords(band=["blue", "green", "red", "nir"])
    model, options = load_model(finished.model_folder, device="cpu"), {"tile": 128, "overlap": 32, "reliance_tile": 16}
    told = model.predict(images, acquired=ACQUIRED, **options)
    with rasterio.open(finished.folder.root / "predictions" / "place.classes.tif") as source:
        kept = source.read(1)
    assert (told.classes.values.squeeze() == kept).mean() > 0.999
    with caplog.at_level(logging.WARNING):
        untold = model.predict(images, **options)
    assert "the model reads dates, and that of july, may is not known: it is mapped without" in caplog.text
    assert (untold.classes.values.squeeze() == kept).mean() > 0.5


def test_exports_refuse_dates(finished, tmp_path):
    with pytest.raises(PipelineError, match="found a model that reads when images were taken"):
        export_model(finished.model_folder, tmp_path / "model.pt2", format="torch")


def test_a_prior_from_later_is_refused(tmp_path, place):
    record = _record(place)
    record["scenes"][0]["acquired"] = {"may": "2024-09-01"}
    said = r"found 'may' of 2024-09-01, 50\.56 days after 'july'"
    with pytest.raises(SceneError, match=said):
        _run(tmp_path, record, "coregister")
    assert not list(tmp_path.rglob("aligned/**/*.tif")), "before anything is aligned"
    (problem,) = validate_inputs(Config.model_validate(record)).problems
    assert re.search(said, problem)


def test_the_gap_to_a_missing_image_is_known_where_its_date_is_declared(place, tmp_path):
    record = _record(place)
    del record["scenes"][0]["files"]["july"]
    record["scenes"][0]["acquired"] = {"july": "2024-07-12T10:30:00Z"}
    stack = _run(tmp_path, record, "coregister").stacks["place"]
    assert set(stack.present) == {"may"}
    assert date_values(stack.acquired, "may", reference="july")[2:].tolist() == [1, -70]


def test_dates_that_never_differ_teach_nothing(finished, caplog):
    stack, normaliser = finished.stacks["place"], finished._training_data().normaliser
    with caplog.at_level(logging.WARNING):
        check_dates([stack, replace(stack, acquired={**stack.acquired, "may": "2024-05-10"})], normaliser)
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        check_dates([stack, replace(stack, name="twin")], normaliser)
    assert "all scenes are of the same dates" in caplog.text


def test_training_on_dates_needs_one(tmp_path, caplog):
    place = write_two_dates(tmp_path / "place", size=128, acquired={})
    with caplog.at_level(logging.WARNING), pytest.raises(PipelineError, match="found no date of any of 2 images"):
        _run(
            tmp_path,
            _record(place, tile={"patch_size": 16, "block_size": 32, "buffer": 0}),
            "coregister",
            "tile",
            "train",
        )
    assert "that 'may' is from before 'july' is believed, not checked" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"may": {"same_as": "juli"}}, "wanted one of .*did you mean 'july'"),
        ({"may": {"same_as": "may"}}, "modality 'may' is the same as 'may'"),
        ({"may": {"same_as": "july"}, "june": {"same_as": "may"}}, "modality 'june' is the same as 'may'"),
        ({"july": {"unit": "reflectance", "bands": ["red"], "prior": True}}, "'july' is the reference and has prior"),
    ],
)
def test_modalities_that_cannot_be_alike_are_refused(place, changes, words):
    record = _record(place)
    record["modalities"] |= changes
    with pytest.raises(ConfigError, match=words):
        parse_config(record, origin=Path("x.yaml"))


def test_what_is_said_for_itself_is_not_copied(place):
    record = _record(place)
    record["modalities"]["may"] = {"same_as": "july", "scale": 0.5}
    config = parse_config(record, origin=Path("x.yaml"))
    assert (config.modalities["may"].scale, config.modalities["may"].prior) == (0.5, False)
    assert config.modalities["may"].bands == config.modalities["july"].bands


def test_dates_of_a_sensor_may_share_an_encoder(place, tmp_path):
    record = _record(place)
    record["train"] |= {"epochs": 1, "share_encoders": True}
    run = _run(tmp_path, record, "coregister", "tile", "train", "evaluate", "predict")
    network = run._predictor().network
    assert (network.spec.sensors, len(network.encoders)) == (("s2", "s2"), 1)


@pytest.mark.parametrize(
    ("modalities", "train", "words"),
    [
        ({"may": {"same_as": "july", "bands": ["blue", "green", "red"]}}, {}, "'may' differs from 'july'"),
        ({"may": {"same_as": "july", "sensor": "s3"}}, {}, "no sensor has several modalities"),
        ({}, {"encoder": {"july": "resnet18", "may": "resnet34"}}, "'may' differs from 'july'"),
        ({}, {"network": "late"}, "share_encoders is true for network: late"),
        ({}, {"strategy": ["ogm_ge"]}, "share_encoders is true for strategy: ogm_ge"),
    ],
)
def test_what_cannot_share_an_encoder_is_refused(place, modalities, train, words):
    record = _record(place)
    record["modalities"] |= modalities
    record["train"] |= {"share_encoders": True, **train}
    with pytest.raises(ConfigError, match=words):
        parse_config(record, origin=Path("x.yaml"))


def test_dates_are_read_as_yaml_gives_them(place, tmp_path):
    record = _record(place)
    record["scenes"][0]["acquired"] = {"july": "JULY", "may": "MAY"}
    text = yaml.safe_dump(record).replace("JULY", "2024-07-12T10:30:00Z").replace("MAY", "2024-05-03")
    (tmp_path / "seasons.yaml").write_text(text)
    (scene,) = load_config(tmp_path / "seasons.yaml").scenes
    assert scene.acquired == {"july": "2024-07-12T10:30:00+00:00", "may": "2024-05-03"}


def test_early_fusion_refuses_dates(place):
    record = _record(place)
    record["train"] |= {"network": "early"}
    with pytest.raises(ConfigError, match="dates is true for early fusion"):
        parse_config(record, origin=Path("x.yaml"))
