"""Options on the command line come before those of the file, and are checked like them."""

from pathlib import Path

import pytest

from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.predict_overrides import with_predict_options
from equipoise.pipeline.templates import template_config

NOTHING = {"bbox": None, "aoi": None, "reliance": None, "precision": None}


@pytest.fixture
def config():
    return template_config("landcover")


def test_nothing_given_changes_nothing(config):
    assert with_predict_options(config, **NOTHING) == config


def test_what_is_given_replaces_what_the_file_says(config):
    found = with_predict_options(config, **{**NOTHING, "bbox": "1, 2,3,4.5", "reliance": "none", "precision": "bf16"})
    assert found.predict.bbox == (1, 2, 3, 4.5)
    assert found.predict.reliance == "none"
    assert found.predict.precision == "bf16"
    assert found.model_copy(update={"predict": config.predict}) == config


def test_one_kind_of_area_replaces_the_other(config):
    boxed = with_predict_options(config, **{**NOTHING, "bbox": "1,2,3,4"})
    found = with_predict_options(boxed, **{**NOTHING, "aoi": Path("area.geojson")})
    assert found.predict.bbox is None
    assert found.predict.aoi == Path("area.geojson").absolute()
    assert with_predict_options(found, **{**NOTHING, "bbox": "1,2,3,4"}).predict.aoi is None


@pytest.mark.parametrize(
    ("given", "words"),
    [({"bbox": "1,2,3"}, "bbox"), ({"bbox": "3,2,1,4"}, "each minimum below"), ({"bbox": "a,b,c,d"}, "number"),
     ({"reliance": "some"}, "shapley"), ({"precision": "64"}, "bf16"),
     ({"bbox": "1,2,3,4", "aoi": Path("x")}, "both set")],
)  # fmt: skip
def test_bad_options_are_one_line(config, given, words):
    with pytest.raises(ConfigError, match="command line") as caught:
        with_predict_options(config, **{**NOTHING, **given})
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_method_without_contributions_turns_them_off(config):
    wanted = config.predict.model_copy(update={"contributions": True})
    given = config.model_copy(update={"predict": wanted})
    assert not with_predict_options(given, **{**NOTHING, "reliance": "leave_one_out"}).predict.contributions
