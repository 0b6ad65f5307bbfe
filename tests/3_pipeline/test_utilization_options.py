"""Options of the utilization: what is wanted is read, and what cannot be met is refused before anything runs."""

import pytest

from equipoise.models.balancing import STRATEGIES, Utilization
from equipoise.pipeline.config import parse_config
from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.stage_options import StrategyName
from equipoise.pipeline.utilization_options import UtilizationOptions


@pytest.fixture
def parse(light_record, tmp_path):
    return lambda **train: parse_config(light_record(train=train), origin=tmp_path / "config.yaml")


def test_every_strategy_has_a_name_in_the_configuration():
    assert set(StrategyName.__args__) == set(STRATEGIES)


def test_points_ranges_and_free_modalities_reach_the_strategy(parse):
    wanted = {"target": {"eo": 0.5, "sar": [0.2, 0.5], "ir": "free"}, "metric": "brier", "depth": "decoder"}
    config = parse(strategy=["subset_sampling", "mu_bounded"], utilization=wanted)
    assert config.train.strategies == ("subset_sampling", "mu_bounded")
    settings = Utilization(**config.train.utilization.settings(encoders=True))
    target = settings.of(("eo", "sar", "ir"))
    assert target.low == pytest.approx((0.48, 0.2, 0.0))
    assert target.high == pytest.approx((0.52, 0.5, 1.0))


@pytest.mark.parametrize(
    ("depth", "encoders", "reach"),
    [(None, True, "all"), (None, False, "decoder"), ("decoder", True, "decoder"), ("head", True, "decoder")],
)
def test_a_target_teaches_all_that_it_can_unless_told_otherwise(depth, encoders, reach):
    options = UtilizationOptions(target={"eo": 0.5}, depth=depth)
    assert Utilization(**options.settings(encoders=encoders)).reach("all") == reach


def test_the_default_asks_for_nothing(parse):
    config = parse()
    assert config.train.strategies == ("subset_sampling",)
    assert config.train.utilization == UtilizationOptions()


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"strategy": "magic"}, ["strategy"]),
        ({"strategy": "mu_bounded"}, ["mu_bounded", "wanted a share in train.utilization.target"]),
        ({"utilization": {"target": {"eo": 0.5}}}, ["binds ['eo']", "subset_sampling", "wanted mu_bounded"]),
        ({"strategy": "mu_bounded", "utilization": {"target": {"lidar": 0.5}}}, ["lidar", "eo", "sar"]),
        ({"strategy": "mu_bounded", "utilization": {"target": {"eo": 0.7, "sar": 0.5}}}, ["1.2", "sum to at most 1"]),
        (
            {"strategy": "mu_bounded", "utilization": {"target": {"eo": 0.2, "sar": 0.2, "ir": 0.2}}},
            ["0.6", "sum to 1"],
        ),
        (
            {"strategy": "mu_bounded", "utilization": {"target": {"eo": [0.6, 0.2]}}},
            ["[0.6, 0.2]", "[lowest, highest]"],
        ),
        ({"strategy": "mu_bounded", "utilization": {"target": {"eo": 1.5}}}, ["target", "eo"]),
        ({"strategy": "mu_bounded", "utilization": {"goal": {}}}, ["goal"]),
    ],
)
def test_what_cannot_be_met_is_one_clear_line(parse, train, words):
    with pytest.raises(ConfigError) as caught:
        parse(**train)
    line = str(caught.value)
    assert "\n" not in line
    assert [word for word in words if word not in line] == []
