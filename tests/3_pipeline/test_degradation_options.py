"""Degradations in a configuration: every kind, its own strengths, and nothing else."""

import dataclasses
from typing import get_args

import pytest
import yaml
from pydantic import Field, ValidationError

from equipoise.datasets.degradation import DegradationError
from equipoise.datasets.degrade import DEGRADATIONS
from equipoise.datasets.degrade_sensor import Speckle
from equipoise.datasets.degrade_sky import Haze
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.pipeline.commented_yaml import commented_yaml
from equipoise.pipeline.degradation_options import DegradationOptions, degradations
from equipoise.pipeline.options import Options

KINDS = {get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in get_args(get_args(DegradationOptions)[0])}
SENSORS = (
    Modality(name="eo", bands=(Band(name="red", unit=Unit.REFLECTANCE), Band(name="nir", unit=Unit.REFLECTANCE))),
    Modality(name="sar", bands=(Band(name="VV", unit=Unit.DB),)),
    Modality(name="ir", bands=(Band(name="B10", unit=Unit.KELVIN),)),
)


class Holder(Options):
    degradations: dict[str, list[DegradationOptions]] = Field({}, description="Modality -> what may be wrong.")


def held(text):
    return Holder.model_validate(yaml.safe_load(text)).degradations


def test_every_degradation_can_be_configured_with_all_its_strengths_and_defaults():
    assert set(KINDS) == set(DEGRADATIONS)
    for name, options in KINDS.items():
        declared = {field.name: field for field in dataclasses.fields(DEGRADATIONS[name])}
        assert set(options.model_fields) - {"kind"} == set(declared)
        for key, field in declared.items():
            info = options.model_fields[key]
            assert info.is_required() == (field.default is dataclasses.MISSING), (name, key)
            if not info.is_required():
                assert info.default == field.default
            assert info.description


def test_a_configuration_becomes_degradations_in_order():
    options = held(
        "degradations: {sar: [{kind: speckle, looks: 4, probability: 0.3}, {kind: outage, probability: 0.1}], "
        "eo: [{kind: haze, optical_depth: 0.2, wavelengths_nm: [660, 860]}]}"
    )
    made = degradations(options, modalities=SENSORS)
    assert made["sar"] == (Speckle(looks=4, probability=0.3), DEGRADATIONS["outage"](probability=0.1))
    assert made["eo"] == (Haze(optical_depth=0.2, wavelengths_nm=(660.0, 860.0)),)


def test_what_is_printed_can_be_read_back():
    text = "degradations: {eo: [{kind: thick_cloud, cover: 0.2}], ir: [{kind: misregistration, metres: 9}]}"
    holder = Holder.model_validate(yaml.safe_load(text))
    assert Holder.model_validate(yaml.safe_load(commented_yaml(holder))) == holder


@pytest.mark.parametrize(
    ("item", "match"),
    [
        ("{kind: rain, mm: 3}", "'rain' found using 'kind'.*'speckle'"), ("{looks: 3}", "kind"),
        ("{kind: speckle, looks: 3, sigma: 1}", "sigma\n.*Extra inputs"), ("{kind: speckle}", "looks\n.*required"),
        ("{kind: speckle, looks: 0}", "Speckle: found looks=0; wanted above 0"),
        ("{kind: outage, probability: 2}", "less than or equal to 1"),
        ("{kind: stripe_loss, share: 0.1, along: diagonal}", "'rows' or 'columns'"),
    ],
)  # fmt: skip
def test_unknown_kinds_keys_and_strengths_are_refused(item, match):
    with pytest.raises(ValidationError, match=match):
        held(f"degradations: {{sar: [{item}]}}")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sar: [{kind: thermal_noise, netd_k: 0.5}]", "modality 'sar': found ThermalNoise on band 'VV'"),
        ("ir: [{kind: haze, optical_depth: 0.5}]", "modality 'ir': found Haze on band 'B10' in kelvin"),
        ("eo: [{kind: haze, optical_depth: 0.5, wavelengths_nm: [500]}]", "1 wavelengths for 2 bands"),
        ("dem: [{kind: outage}]", "modality \\['dem'\\]; wanted only those declared"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_modality_is_refused(text, match):
    with pytest.raises(DegradationError, match=match) as caught:
        degradations(held(f"degradations: {{{text}}}"), modalities=SENSORS)
    assert "\n" not in str(caught.value)
