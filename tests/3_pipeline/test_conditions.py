"""Conditions: the built-in table by units, a table of one's own, and what cannot be measured."""

import pytest
import yaml
from pydantic import TypeAdapter

from equipoise.datasets.degrade import DEGRADATIONS
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.pipeline.conditions import _STRENGTH, AXES, BUILT_IN, conditions
from equipoise.pipeline.config import parse_config
from equipoise.pipeline.degradation_options import DegradationOptions
from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.templates import template_record

EO, SAR, IR, CHIP = (
    Modality(name=name, bands=(Band(name="band", unit=unit),))
    for name, unit in (
        ("eo", Unit.REFLECTANCE), ("sar", Unit.DB), ("ir", Unit.KELVIN), ("chip", Unit.DIGITAL_NUMBER)
    )
)  # fmt: skip
TABLE = TypeAdapter(dict[str, list[DegradationOptions]])


def test_every_kind_has_a_strength_and_an_axis():
    assert set(_STRENGTH) == set(AXES) == set(DEGRADATIONS)
    assert set(BUILT_IN) <= set(DEGRADATIONS)


def test_the_built_in_table_gives_each_sensor_what_its_units_allow():
    found, left_out = conditions((EO, SAR, IR, CHIP), None, pixel_m=10.0)
    assert left_out == {}
    kinds = {name: {item.kind for item in found if item.modality == name} for name in ("eo", "sar", "ir", "chip")}
    anywhere = {"misregistration", "outage"}
    assert kinds == {
        "eo": {"noise", "thick_cloud", *anywhere}, "sar": {"speckle", *anywhere}, "ir": {"thermal_noise", *anywhere},
        "chip": anywhere,
    }  # fmt: skip
    assert len({item.name for item in found}) == len(found)
    # Two and five pixels of 10 m; looks fall as the strength rises.
    assert [item.strength for item in found if item.family == "sar misregistration"] == [20.0, 50.0]
    assert [item.settings["looks"] for item in found if item.kind == "speckle"] == [4.0, 2.0, 1.0]
    assert [item.strength for item in found if item.kind == "speckle"] == [0.25, 0.5, 1.0]


def test_what_cannot_be_measured_is_named_with_the_reason():
    found, left_out = conditions((SAR,), None, pixel_m=None)
    assert {item.kind for item in found} == {"speckle"}
    assert set(left_out) == {"sar misregistration", "sar outage"}
    assert "pixel size" in left_out["sar misregistration"]
    assert "last sensor" in left_out["sar outage"]
    assert "eo thick_cloud" in conditions((EO, SAR), None, pixel_m=None)[1]  # a cloud's size is in metres


def test_a_table_of_ones_own_replaces_the_built_in_one():
    text = "eo: [{kind: noise, sigma: 0.2}, {kind: haze, optical_depth: 1}, {kind: noise, sigma: 0.1}, " \
           "{kind: haze, optical_depth: 1, angstrom: 0}]"  # fmt: skip
    found, left_out = conditions((EO, SAR), TABLE.validate_python(yaml.safe_load(f"{{{text}}}")), pixel_m=None)
    assert [item.name for item in found] == [
        "eo noise sigma=0.1", "eo noise sigma=0.2", "eo haze optical_depth=1", "eo haze optical_depth=1 #2",
    ]  # fmt: skip
    assert found[3].settings["angstrom"] == 0
    assert left_out == {}
    assert conditions((EO, SAR), {}, pixel_m=10.0) == ([], {})


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"sar": [{"kind": "noise", "sigma": 0.1}]}, ["modality 'sar'", "Noise"]),
        ({"lidar": [{"kind": "outage"}]}, ["evaluate.degradations", "lidar"]),
        ({"eo": [{"kind": "noise", "sigma": -1}]}, ["sigma=-1"]),
    ],
)
def test_a_table_that_does_not_fit_is_refused_before_anything_runs(table, words, tmp_path):
    record = template_record("demo") | {"evaluate": {"degradations": table}}
    with pytest.raises(ConfigError) as caught:
        parse_config(record, origin=tmp_path / "config.yaml")
    assert [word for word in words if word not in str(caught.value)] == []
