"""Configuration: wrong settings are named in one line, and what is printed can be read back."""

from pathlib import Path
from typing import get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from equipoise.models.balancing import STRATEGIES, Utilization, build_strategy
from equipoise.models.balancing.strategy import parts_of
from equipoise.pipeline.commented_yaml import commented_yaml
from equipoise.pipeline.config import Config, load_config, parse_config
from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.stage_options import NEED_ENCODERS
from equipoise.pipeline.templates import template_config, template_record

TEMPLATES = ("chips", "demo", "flood", "landcover", "terramesh")
ORIGIN = Path("some") / "config.yaml"


def _record(**changes):
    return {
        "modalities": {"eo": {"unit": "reflectance", "bands": ["red"]}, "sar": {"unit": "db", "bands": ["VV"]}},
        "classes": [{"value": 0, "name": "dry", "color": "#aabbcc"}, {"value": 1, "name": "wet", "color": "#0000ff"}],
        "scenes": [{"name": "one", "files": {"eo": "eo.tif", "sar": "sar.tif"}}],
        **changes,
    }


def _refused(record):
    with pytest.raises(ConfigError) as caught:
        parse_config(record, origin=ORIGIN)
    message = str(caught.value)
    assert message.startswith(str(ORIGIN))
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"epoch": 3}, "'epoch'"),
        ({"train": {"epoch": 3}}, "'train.epoch'"),
        ({"modalities": {"eo": {"unit": "db", "bands": ["VV"], "looks": 1}}}, "'modalities.eo.looks'"),
        ({"scenes": [{"name": "one", "files": {"eo": "a.tif"}, "label": "b.tif"}]}, "'scenes.0.label'"),
    ],
)
def test_an_unknown_key_is_named_where_it_stands(changes, key):
    message = _refused(_record(**changes))
    assert f"unknown key {key}" in message
    assert "remove it" in message


def test_every_problem_is_in_the_one_line():
    message = _refused(_record(train={"epoch": 3, "batch_size": 1}, tile={"patch_size": 0}))
    for key in ("train.epoch", "train.batch_size", "tile.patch_size"):
        assert key in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coregister": {"reference": "ir"}}, ["coregister.reference", "ir", "eo"]),
        ({"scenes": [{"name": "one", "files": {"ir": "a.tif"}}]}, ["scene 'one'", "ir"]),
        ({"classes": [{"value": 1, "name": "a", "color": "#000000"}] * 2}, ["values [1, 1]", "each once"]),
        ({"classes": []}, ["0 classes", "at least 2"]),
        ({"classes": [{"value": 255, "name": "a", "color": "#000000"}]}, ["classes.0.value", "255"]),
        ({"classes": [{"value": 1, "name": "a", "color": "red"}]}, ["classes.0.color", "red"]),
        ({"modalities": {}}, ["modalities"]),
        ({"modalities": {"../eo": {"unit": "db", "bands": ["VV"]}}}, ["../eo"]),
        ({"name": "../run"}, ["name", "../run"]),
        ({"train": {"depth": 3}}, ["decoder_channels", "4 values", "depth: 3"]),
        ({"train": {"encoder": {"eo": "resnet18"}}}, ["train.encoder", "['eo']", "['eo', 'sar']"]),
        ({"train": {"weights": {"ir": "imagenet"}}}, ["train.weights", "['ir']", "['eo', 'sar']"]),
        ({"train": {"fusion": "median"}}, ["train.fusion", "gated", "median"]),
        ({"train": {"network": "middle"}}, ["train.network", "i2m2", "middle"]),
        ({"train": {"network": "late", "deep_supervision": True}}, ["deep_supervision", "late", "fusion or early"]),
        ({"train": {"network": "early", "strategy": "greedy"}}, ["greedy", "network: early", "another strategy"]),
        (
            {
                "train": {
                    "network": "early",
                    "strategy": "mu_bounded",
                    "utilization": {"target": {"eo": 0.5}, "depth": "all"},
                }
            },
            ["depth is all", "network: early"],
        ),
        ({"train": {"network": "early", "weights": {"eo": "imagenet"}}}, ["weights name ['eo']", "network: early"]),
        ({"train": {"network": "early", "encoder": {"eo": "resnet18", "sar": "resnet34"}}}, ["encoder", "one name"]),
        ({"train": {"patience": 0}}, ["train.patience", "greater than or equal to 1"]),
        ({"train": {"precision": 16}}, ["train.precision", "'32' or 'bf16'"]),
        ({"train": {"accumulate": 0}}, ["train.accumulate", "greater than or equal to 1"]),
        ({"train": {"learning_rate": "search"}}, ["train.learning_rate", "'find'", "search"]),
        ({"train": {"learning_rate": float("inf")}}, ["train.learning_rate", "finite"]),
        ({"train": {"logs": ["wandb"]}}, ["train.logs.0", "'csv' or 'tensorboard'"]),
        ({"train": {"deep_supervision": True}, "task": "classification"}, ["deep_supervision", "segmentation"]),
        ({"tile": {"patch_size": 32, "overlap": 32}}, ["overlap is 32", "less than patch_size"]),
        ({"tile": {"validation": 0.5, "test": 0.5}}, ["validation + test", "below 1"]),
        ({"predict": {"overlap": 63}}, ["overlap is 63", "even"]),
        ({"predict": {"tile": 64, "overlap": 48}}, ["overlap is 48", "at most tile / 2"]),
        ({"predict": {"tile": 256, "overlap": 64, "reliance_tile": 50}}, ["192", "multiple of reliance_tile (50)"]),
        ({"predict": {"overlap": 64, "halo": 33}}, ["halo is 33", "at most overlap / 2 (32)"]),
        ({"predict": {"precision": "int8"}}, ["predict.precision", "'32', 'bf16' or 'fp16'"]),
        ({"predict": {"augment": "rotations"}}, ["predict.augment", "'none' or 'flips'"]),
        ({"predict": {"readers": 0}}, ["predict.readers", "greater than or equal to 1"]),
        ({"predict": {"bbox": [3, 2, 1, 4]}}, ["bbox is (3.0, 2.0, 1.0, 4.0)", "each minimum below its maximum"]),
        ({"predict": {"bbox": [1, 2, 3]}}, ["bbox", "found no"]),
        ({"predict": {"bbox": [1, 2, 3, 4], "aoi": "a.geojson"}}, ["bbox and aoi are both set"]),
    ],
)
def test_values_that_do_not_fit_say_what_was_found_and_wanted(changes, words):
    message = _refused(_record(**changes))
    assert [word for word in words if word not in message] == []


def test_the_area_of_a_map_is_beside_the_configuration():
    predict = parse_config(_record(predict={"aoi": "a.geojson"}), origin=ORIGIN).predict
    assert predict.aoi == ORIGIN.parent.resolve() / "a.geojson"


def test_a_precision_may_be_a_number():
    assert parse_config(_record(train={"precision": 32}), origin=ORIGIN).train.precision == "32"


def test_what_needs_encoders_is_what_says_so():
    needing = {
        name
        for name in STRATEGIES
        if any(
            part.needs_encoders
            for part in parts_of(
                build_strategy(name, modalities=("eo", "sar"), utilization=Utilization(target={"eo": 0.5}))
            )
        )
    }
    assert needing == NEED_ENCODERS


@pytest.mark.parametrize("missing", ["modalities", "scenes"])
def test_a_missing_section_is_named(missing):
    record = _record()
    del record[missing]
    assert f"found no '{missing}'" in _refused(record)


@pytest.mark.parametrize("record", [None, "text", ["a", "list"], 3])
def test_a_file_without_settings_is_refused(record):
    assert "found no settings" in _refused(record)


@pytest.mark.parametrize(
    ("content", "words"), [(b"a: [1, 2", "not YAML"), (b"\xff\xfe\x00\x01", "not YAML"), (None, "no readable file")]
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, content, words):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_paths_are_taken_from_the_folder_of_the_file(tmp_path):
    scene = {"name": "one", "files": {"eo": "data/eo.tif"}, "labels": "labels.tif", "informative": "/elsewhere/i.tif"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(_record(scenes=[scene], predict={"model": "model"})))
    config = load_config(path)
    assert config.scenes[0].files["eo"] == tmp_path.resolve() / "data" / "eo.tif"
    assert config.scenes[0].labels == tmp_path.resolve() / "labels.tif"
    assert config.scenes[0].informative == Path("/elsewhere/i.tif")
    assert config.predict.model == tmp_path.resolve() / "model"


def test_a_scene_offset_replaces_those_of_the_modality():
    record = _record(modalities={"eo": {"unit": "reflectance", "offset": 0.5, "bands": ["red", {"name": "nir"}]}})
    record["scenes"] = [{"name": "one", "files": {"eo": "eo.tif"}}]
    options = parse_config(record, origin=ORIGIN).modalities["eo"]
    assert [band.offset for band in options.modality("eo").bands] == [0.5, 0.5]
    assert [band.offset for band in options.modality("eo", offset=-0.1).bands] == [-0.1, -0.1]
    assert [band.offset for band in options.modality("eo", offset=0.0).bands] == [0.0, 0.0]


def test_the_reference_is_the_first_modality_unless_named():
    assert parse_config(_record(), origin=ORIGIN).reference == "eo"
    assert parse_config(_record(coregister={"reference": "sar"}), origin=ORIGIN).reference == "sar"


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_loads_and_its_print_reads_back_equal(name):
    config = template_config(name)
    printed = yaml.safe_load(commented_yaml(config))
    assert set(printed) == set(Config.model_fields)
    assert Config.model_validate(printed) == config
    # The shipped file says nothing that the schema does not know, and its print is stable.
    assert commented_yaml(Config.model_validate(printed)).count("\n") >= len(template_record(name))


# Keys and texts that YAML would take for something else if they were not quoted.
ODD_SLUGS = ["no", "on", "null", "1", "1.5", "1e3", "0x1f", "2024-01-01", "true"]
ODD_TEXTS = ["yes", "null", "# no comment", "a: b", "- a", "'", '"', "{id}", "1", " lead"]
SLUGS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,6}", fullmatch=True) | st.sampled_from(ODD_SLUGS)
LETTERS = st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))
TEXTS = st.text(LETTERS, min_size=1) | st.sampled_from(ODD_TEXTS)
BANDS = st.lists(st.one_of(TEXTS, st.builds(dict, name=TEXTS, index=st.integers(1, 20))), min_size=1, max_size=3)


@given(
    modalities=st.dictionaries(SLUGS, BANDS, min_size=1, max_size=3),
    names=st.lists(TEXTS, min_size=2, max_size=4),
    title=TEXTS,
    scale=st.floats(allow_nan=False, allow_infinity=False),
)
def test_what_is_printed_reads_back_equal_whatever_the_names(modalities, names, title, scale):
    record = _record(
        modalities={name: {"unit": "db", "bands": bands, "scale": scale} for name, bands in modalities.items()},
        classes=[{"value": number, "name": name, "color": "#a0b0c0"} for number, name in enumerate(names)],
        scenes=[{"name": title, "files": dict.fromkeys(modalities, "a.tif"), "offset": dict.fromkeys(modalities, 1.0)}],
        report={"title": title},
    )
    config = Config.model_validate(record)
    assert Config.model_validate(yaml.safe_load(commented_yaml(config))) == config


def _options(model):
    yield model
    for info in model.model_fields.values():
        pending = [info.annotation]
        while pending:
            annotation = pending.pop()
            if get_origin(annotation) is not None:
                pending.extend(get_args(annotation))
            elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
                yield from _options(annotation)


def test_every_option_is_described_and_refuses_unknown_keys():
    models = set(_options(Config))
    assert len(models) >= 11
    for model in models:
        assert model.model_config["extra"] == "forbid", model
        assert model.model_config["frozen"], model
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"


def test_the_print_explains_every_option_once():
    lines = commented_yaml(template_config("landcover")).splitlines()
    assert max(map(len, lines)) <= 140
    for name in ("seed", "max_shift_m", "patch_size", "learning_rate", "reliance_tile"):
        (place,) = (number for number, line in enumerate(lines) if line.strip().startswith(f"{name}:"))
        assert lines[place - 1].strip().startswith("#"), name
