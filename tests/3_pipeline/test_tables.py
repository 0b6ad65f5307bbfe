"""Tables: weather and angles that hold for a whole scene, from CSV to maps."""

import csv
import gzip
import json
import logging
import re
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rioxarray
import yaml
from affine import Affine
from typer.testing import CliRunner

import equipoise
from equipoise.datasets.errors import SceneError
from equipoise.datasets.synthetic_dates import write_two_dates
from equipoise.datasets.value_table import read_series, read_values
from equipoise.pipeline.cli import app
from equipoise.pipeline.config import Config, load_config
from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.export import TOLERANCE, export_model
from equipoise.pipeline.label_table import read_label_table
from equipoise.pipeline.scene_tables import say_alike
from equipoise.pipeline.scenes import resolve_scenes
from equipoise.pipeline.validate import validate_inputs

COUNT, DAY = 10, "2024-07-12"
CLASSES = ("meadow", "rice", "maize")


def _rain(number: int) -> float:
    """Wet and dry places in turn."""
    return (8.0 if number % 2 else 1.0) + 0.1 * number


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Places whose one crop looks the same everywhere: where it rained it is rice, elsewhere maize."""
    folder = tmp_path_factory.mktemp("places")
    rows = []
    for number in range(COUNT):
        made = write_two_dates(folder / f"{number}", size=128, seed=number)
        with rasterio.open(made.paths["july"]) as source:
            _write(folder / f"eo_{number}.tif", source, source.read(), number, names=source.descriptions)
        with rasterio.open(made.labels) as source:
            crop = np.where(source.read() == 2, 1 if number % 2 else 2, 0).astype(np.uint8)
            _write(folder / f"labels_{number}.tif", source, crop, number, names=("class",))
        for day in (2, 7, 12):
            rows.append({"id": number, "date": f"2024-07-{day:02d}", "rain": _rain(number) + day - 7, "sun": 6})
        rows.append({"id": number, "date": "2024-07-13", "rain": 1000, "sun": 6})  # the day after is not read
    with (folder / "weather.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    splits = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    (folder / "splits.csv").write_text("id,split\n" + "".join(f"{n},{name}\n" for n, name in enumerate(splits)))
    return folder


def _write(path, like, values, number, *, names):
    """Write an image 20 km beside the one before; it carries no time."""
    profile = like.profile | {"transform": Affine.translation(20_000 * number, 0) @ like.transform}
    with rasterio.open(path, "w", **profile) as target:
        target.write(values)
        target.descriptions = names


def _record(places, **changes):
    return {
        "name": "weather",
        "modalities": {
            "eo": {"unit": "reflectance", "scale": 0.0001, "bands": ["blue", "green", "red", "nir"]},
            "weather": {"unit": "digital_number", "bands": ["rain", "sun"], "table": {"days": 10, "every": 5}},
        },
        "classes": [
            {"value": value, "name": name, "color": color}
            for value, (name, color) in enumerate(zip(CLASSES, ("#7fb069", "#2166ac", "#e9b824"), strict=True))
        ],
        "scenes": [
            {
                "name": "place{id}", "labels": str(places / "labels_{id}.tif"),
                "label_table": str(places / "splits.csv"),
                "files": {"eo": str(places / "eo_{id}.tif"), "weather": str(places / "weather.csv")},
                "acquired": {"eo": DAY},
            }
        ],
        "tile": {"patch_size": 32},
        "train": {
            "depth": 2, "decoder_channels": [16, 8], "epochs": 12, "batch_size": 16, "learning_rate": 0.003,
            "device": "cpu",
        },
        "evaluate": {"single_modality": False, "rolls": 1, "bootstrap": 100, "degradation_seeds": 1},
        "predict": {"tile": 128, "overlap": 32, "reliance_tile": 16, "device": "cpu", "scenes": ["place0", "place1"]},
        **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory, places):
    """Trained, measured, mapped and reported."""
    return equipoise.run(_record(places), output=tmp_path_factory.mktemp("weather") / "run").stages


def test_what_only_the_weather_tells_is_learned(finished):
    metrics = json.loads((finished.folder.root / "metrics.json").read_text())
    assert metrics["fusion"]["accuracy"] > 0.9
    # Without the weather the crop is known, and not which: no network can name both.
    without = metrics["subsets"]["eo"]["iou"]
    assert min(without["rice"], without["maize"]) < 0.1 < min(metrics["fusion"]["iou"][name] for name in CLASSES)
    assert min(metrics["utilization"]["brier"]["share"]) > 0.1


def test_what_is_exchanged_is_that_of_several_places(finished):
    batch = next(iter(finished._training_data().module(finished.config).loader("test")))
    assert len({round(float(values.mean()), 3) for values in batch["image"]["weather"]}) == 2


def test_what_is_the_same_everywhere_is_not_shifted(finished):
    robustness = json.loads((finished.folder.root / "metrics.json").read_text())["robustness"]
    families = [f"{item['modality']} {item['kind']}" for item in robustness["families"]]
    assert "eo misregistration" in families
    assert [name for name in families if name.startswith("weather")] == ["weather outage"]
    assert robustness["left_out"]["weather misregistration"] == "its values are the same everywhere"


def test_averages_stand_in_the_aligned_raster(finished):
    with rasterio.open(finished.folder.root / "aligned" / "place3" / "weather.tif") as source:
        assert source.descriptions == ("rain 10-5 d", "sun 10-5 d", "rain 5-0 d", "sun 5-0 d")
        values = source.read()
    # From 2 July, excluded, to 7 July, included; then to 12 July.
    expected = [_rain(3), 6, _rain(3) + 5, 6]
    np.testing.assert_allclose(values, np.broadcast_to(np.array(expected)[:, None, None], values.shape), rtol=1e-6)


def test_nothing_in_a_table_has_a_position(finished):
    record = json.loads((finished.folder.root / "aligned" / "place3" / "coregistration.json").read_text())
    assert record["registrations"]["weather"]["kind"] == "uniform"
    stack = json.loads((finished.folder.root / "aligned" / "place3" / "stack.json").read_text())
    assert stack["confidence"]["weather"] == 1  # no doubt about a position makes the map less trusted


def test_values_that_never_differ_teach_nothing(finished, caplog):
    data = finished._training_data()
    with caplog.at_level(logging.WARNING):
        say_alike(data.normaliser, finished.config.modalities)
    assert not caplog.records
    same = replace(data.normaliser.training["weather"], percentiles=((3.0, 3.0, 3.0),) * 4, resolution=(0.0,) * 4)
    with caplog.at_level(logging.WARNING):
        say_alike(
            replace(data.normaliser, training={**data.normaliser.training, "weather": same}),
            finished.config.modalities,
        )
    assert "'weather' holds the same values for all training scenes" in caplog.text


def test_tables_are_read_as_numbers_and_not_as_images(finished):
    card = json.loads((finished.folder.root / "model" / "model.json").read_text())["card"]
    assert card["network"]["encoder"] == ["resnet18", "values"]


def test_the_map_and_the_report_know_the_weather(finished):
    with rasterio.open(finished.folder.root / "predictions" / "place1.reliance.tif") as source:
        assert source.descriptions[:2] == ("eo", "weather")
        shares = source.read(2)
    assert np.nanmax(shares) > 0.05
    assert "weather" in (finished.folder.root / "report.html").read_text()


def test_the_saved_configuration_means_the_same(finished):
    again = load_config(finished.folder.root / "config.yaml")
    assert again.train.encoder == {"eo": "resnet18", "weather": "values"}
    assert again.modalities == finished.config.modalities


def test_a_scene_without_its_table_is_mapped_without(finished, places):
    with rioxarray.open_rasterio(places / "eo_0.tif") as image:
        eo = (image.astype("float32") * 1e-4).assign_coords(band=list(image.long_name))
    found = equipoise.load_model(finished.model_folder, device="cpu").predict(
        {"eo": eo}, tile=128, overlap=32, reliance_tile=16
    )
    assert set(np.unique(found.classes.values)) <= {0, 1, 2}
    assert np.nanmax(found.reliance.sel(modality="weather").values) == 0


def test_it_is_exported(finished, tmp_path):
    pytest.importorskip("onnxruntime")  # an extra: pip install equipoise[onnx]
    found = export_model(finished.model_folder, tmp_path / "model.onnx", format="onnx", check=finished.folder.root)
    assert found.scenes.difference <= TOLERANCE


def test_one_row_without_dates_is_enough(tmp_path, places):
    (tmp_path / "angles.csv").write_text("id,incidence\n0,31.5\n1,42\n")
    record = _record(places)
    record["modalities"] = {
        "eo": record["modalities"]["eo"],
        "angle": {"unit": "digital_number", "bands": ["incidence"], "table": {}},
    }
    record["scenes"][0]["files"]["angle"] = str(tmp_path / "angles.csv")
    del record["scenes"][0]["files"]["weather"]
    assert read_values(tmp_path / "angles.csv", ["incidence"], scene="1") == {"incidence": 42.0}
    problems = validate_inputs(Config.model_validate(record)).problems
    # Eight places have no row.
    assert len(problems) == COUNT - 2
    assert all("angles.csv: found 0 rows for scene" in line for line in problems)


def _series(tmp_path, text, **changes):
    path = tmp_path / "weather.csv"
    path.write_text(text)
    options = {"scene": "a", "until": DAY, "days": 4, "every": 2, **changes}
    return read_series(path, ["rain"], **options)


def test_a_row_counts_once_and_the_oldest_span_is_first(tmp_path):
    rows = "date,rain\n2024-07-08,9\n2024-07-09,1\n2024-07-10,3\n2024-07-11,\n2024-07-12,5\n2024-07-12T00:00:01,99\n"
    assert _series(tmp_path, rows) == {"rain 4-2 d": 2.0, "rain 2-0 d": 5.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("date,rain\n2024-07-09,1\n", "found no 'rain' from 2024-07-10 00:00 to 2024-07-12 00:00"),
        ("date,snow\n2024-07-09,1\n", "found no usable table (no column rain among date, snow)"),
        ("rain\n1\n", "found no column 'date'"),
        ("date,rain\nlast week,1\n", "found acquisition time 'last week'"),
        ("date,rain\n2024-07-09,wet\n", "found no usable table (Unable to parse string"),
        ("", "found no usable table (No columns to parse"),
        ("id,date,rain\nb,2024-07-11,1\nb,2024-07-09,1\n", "found no 'rain' from"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(tmp_path, text, words):
    with pytest.raises(SceneError, match=re.escape(words)) as caught:
        _series(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_spaces_after_commas_are_no_part_of_names(tmp_path):
    rows = "id, date, rain\na, 2024-07-09, 1\na, 2024-07-11, 2\nb, 2024-07-11, 9\n"
    assert _series(tmp_path, rows) == {"rain 4-2 d": 1.0, "rain 2-0 d": 2.0}


def test_a_packed_table_is_not_unpacked(tmp_path):
    path = tmp_path / "weather.csv.gz"
    path.write_bytes(gzip.compress(b"rain\n1\n"))
    with pytest.raises(SceneError, match="found no usable table"):
        read_values(path, ["rain"], scene="a")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "weather.csv").write_bytes(bytes(range(256)))
    with pytest.raises(SceneError, match="found no usable table"):
        read_values(tmp_path / "weather.csv", ["rain"], scene="a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("date,rain\n2024-07-09,1\n", "found a column 'date'"),
        ("rain\n1\n2\n", "found 2 rows for scene 'a'"),
        ("id,rain\na,\n", "found no number for rain"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(tmp_path, text, words):
    (tmp_path / "values.csv").write_text(text)
    with pytest.raises(SceneError, match=re.escape(words)):
        read_values(tmp_path / "values.csv", ["rain"], scene="a")


def test_days_before_a_day_that_is_not_known_are_refused(places):
    record = _record(places)
    record["scenes"][0]["acquired"] = {}
    problems = validate_inputs(Config.model_validate(record)).problems
    assert len(problems) == COUNT
    assert problems[0].startswith("scene 'place0': found no time of 'eo', before which 'weather' reads 10 days")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coregister": {"reference": "weather"}}, "is the reference and a table"),
        ({"train": {"encoder": {"eo": "resnet18", "snow": "resnet18"}}}, "train.encoder names modalities"),
    ],
)
def test_what_a_table_cannot_be_is_refused(places, changes, words):
    with pytest.raises(ValueError, match=words):
        Config.model_validate(_record(places, **changes))


def test_spans_that_do_not_divide_are_refused(places):
    record = _record(places)
    record["modalities"]["weather"]["table"] = {"days": 10, "every": 4}
    with pytest.raises(ValueError, match="multiple of every"):
        Config.model_validate(record)


def test_a_scene_of_tables_alone_is_refused(places):
    record = _record(places)
    record["scenes"] = [{"name": "a", "files": {"weather": str(places / "weather.csv")}}]
    with pytest.raises(ConfigError, match="scene 'a': found weather; wanted one image at least"):
        resolve_scenes(Config.model_validate(record))


def test_a_table_that_is_not_there_is_told(places):
    record = _record(places)
    record["scenes"][0]["files"]["weather"] = str(places / "wether.csv")
    with pytest.raises(ConfigError, match=r"found no file .*wether\.csv"):
        resolve_scenes(Config.model_validate(record))


def test_times_of_many_scenes_stand_in_the_label_table(places, tmp_path):
    (tmp_path / "times.csv").write_text("id,acquired.eo,split\n0,2024-07-01,test\n1,,\n")
    record = _record(places)
    record["scenes"][0]["label_table"] = str(tmp_path / "times.csv")
    first, second, *_ = resolve_scenes(Config.model_validate(record))
    assert (first.acquired, first.split, first.identifier) == ({"eo": "2024-07-01"}, "test", "0")
    assert second.acquired == {"eo": DAY}
    (tmp_path / "times.csv").write_text("id,acquired.oe\n0,2024-07-01\n")
    with pytest.raises(
        ConfigError, match=r"found a column 'acquired\.oe'.*wanted a modality that is declared: eo, weather"
    ):
        read_label_table(tmp_path / "times.csv", ["eo", "weather"])


def test_the_command_says_what_is_wrong(places, tmp_path):
    record = _record(places)
    (tmp_path / "weather.csv").write_text("date,rain,sun\n2024-07-11,nan,1\n")
    record["scenes"][0]["files"]["weather"] = str(tmp_path / "weather.csv")
    (tmp_path / "weather.yaml").write_text(yaml.safe_dump(record))
    answer = CliRunner().invoke(app, ["run", str(tmp_path / "weather.yaml"), "-o", str(tmp_path / "run")])
    assert "found no 'rain' from 2024-07-02 00:00 to 2024-07-07 00:00" in str(answer.exception)
    assert not list((tmp_path / "run").glob("aligned/*/*.tif"))
