"""Suggestions: the nearest key, value or file, and nothing where none is near."""

import pytest
from pydantic import ValidationError

from equipoise.pipeline.batch.batch_options import read_batch_options
from equipoise.pipeline.config import Config, parse_config
from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.nearest import did_you_mean, nearest, unknown_key, with_nearest_file, wrong_value
from equipoise.pipeline.templates import template_record


@pytest.mark.parametrize(
    ("word", "found"),
    [("epoch", "epochs"), ("EPOCHS", "epochs"), ("batchsize", "batch_size"), ("sea", None), ("", None)],
)
def test_the_nearest_word_is_found_and_none_where_none_is_near(word, found):
    assert nearest(word, ["epochs", "batch_size", "depth"]) == found
    assert did_you_mean(word, ["epochs", "batch_size", "depth"]) == (f"; did you mean '{found}'?" if found else "")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("train", "epoch"), "did you mean 'epochs'?"),
        (("trian",), "did you mean 'train'?"),
        (("epochs",), "did you mean 'train.epochs'?"),
        (("train", "patch_size"), "did you mean 'tile.patch_size'?"),
        (("modalities", "eo", "units"), "did you mean 'unit'?"),
        (("modalities", "eo", "bands", 0, "BandOptions", "indx"), "did you mean 'index'?"),
        (("scenes", 0, "label"), "did you mean 'labels'?"),
        (("scenes", 0, "files", "eo", "FilesOptions", "qualty"), "did you mean 'quality'?"),
        (("train", "utilization", "targt"), "did you mean 'target'?"),
        (("train", "zzz"), ""),
    ],
)
def test_a_key_is_looked_for_at_its_level_first_and_then_in_the_other_stages(place, words):
    assert unknown_key(Config, place) == words


def _refused(tmp_path, **changes):
    with pytest.raises(ConfigError) as caught:
        parse_config({**template_record("demo"), **changes}, origin=tmp_path / "c.yaml")
    return str(caught.value)


def test_a_configuration_says_what_was_probably_meant(tmp_path):
    assert "found unknown key 'train.epoch'; did you mean 'epochs'?" in _refused(tmp_path, train={"epoch": 3})
    assert "did you mean 'shapley'?" in _refused(tmp_path, predict={"reliance": "shaply"})
    assert "did you mean" not in _refused(tmp_path, predict={"reliance": "zzz"})
    scene = {"name": "one", "files": {"eoo": "a.tif"}}
    assert "did you mean 'eo'?" in _refused(tmp_path, scenes=[scene])


def test_batch_options_say_it_too(tmp_path):
    path = tmp_path / "o.yaml"
    path.write_text("predict: {overlp: 3}")
    with pytest.raises(ConfigError, match=r"did you mean 'overlap'\?"):
        read_batch_options(path, {})
    with pytest.raises(ConfigError, match=r"did you mean 'bf16'\?"):
        read_batch_options(None, {"predict.precision": "bf61"})


def test_other_errors_of_values_have_no_suggestion():
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({**template_record("demo"), "seed": -1})
    assert [wrong_value(item) for item in caught.value.errors()] == [""]


@pytest.mark.parametrize(
    "sentence",
    [
        "{path}: found no file; wanted a raster; correct the path",
        "{path}: found no readable file (No such file or directory); wanted a configuration",
        "scene 'one': found no file {path}; wanted a raster; correct the path",
    ],
)
def test_a_file_that_is_not_there_gets_the_nearest_name_in_its_folder(tmp_path, sentence):
    (tmp_path / "sentinel2.tif").touch()
    (tmp_path / "other.json").touch()
    text = sentence.format(path=tmp_path / "sentinle2.tif")
    assert with_nearest_file(text) == f"{text}; did you mean '{tmp_path / 'sentinel2.tif'}'?"
    for name in ("zzz.dat", "sentinel2.tif"):  # nothing near; there, and damaged
        text = sentence.format(path=tmp_path / name)
        assert with_nearest_file(text) == text
    text = sentence.format(path=tmp_path / "gone" / "sentinel2.tif")
    assert with_nearest_file(text) == text
    assert with_nearest_file("found something else") == "found something else"
