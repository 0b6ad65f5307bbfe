"""The network that a configuration asks for: encoders by modality, fusion, heads."""

from typing import get_args

import pytest

from equipoise.models.baselines import single_modality_spec
from equipoise.models.fusion import FUSIONS
from equipoise.pipeline.config import Config
from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.stage_options import TrainOptions
from equipoise.pipeline.train import TrainingData, network_spec

CLASSES = [{"value": 0, "name": "dry", "color": "#aabbcc"}, {"value": 1, "name": "wet", "color": "#0000ff"}]


def _spec(**train):
    config = Config.model_validate(
        {
            "modalities": {"eo": {"unit": "reflectance", "bands": ["red"]}, "sar": {"unit": "db", "bands": ["VV"]}},
            "classes": CLASSES,
            "scenes": [{"name": "one", "files": {"eo": "eo.tif", "sar": "sar.tif"}}],
            "train": train,
        }
    )
    data = TrainingData(
        index=None, stacks={}, normaliser=None, modalities=config.domain_modalities(), classes=config.classes,
        classification=False,
    )  # fmt: skip
    return network_spec(data, config)


def test_one_encoder_serves_all_unless_each_has_its_own():
    assert _spec().encoder == "resnet18"
    # The mapping may come in any order; the spec follows the modalities.
    spec = _spec(encoder={"sar": "mobilenet_v2", "eo": "resnet50"})
    assert spec.encoders == ("resnet50", "mobilenet_v2")
    assert single_modality_spec(spec, "sar").encoder == "mobilenet_v2"


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_fusion_and_heads_are_passed_on(fusion):
    spec = _spec(fusion=fusion, deep_supervision=True)
    assert (spec.fusion, spec.deep_supervision) == (fusion, True)


def test_the_configuration_offers_every_fusion():
    assert set(get_args(TrainOptions.model_fields["fusion"].annotation)) == set(FUSIONS)


@pytest.mark.parametrize(
    ("train", "surrogate"),
    [
        ({}, False),
        ({"surrogate": True}, True),
        ({"strategy": "latent_surrogate"}, True),
        ({"strategy": ["subset_sampling", "latent_surrogate"], "surrogate": True}, True),
    ],
)
def test_a_strategy_of_guesses_brings_the_part_that_guesses(train, surrogate):
    assert _spec(**train).surrogate is surrogate


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"strategy": "latent_surrogate", "surrogate": False}, "surrogate is false for strategy: latent_surrogate"),
        ({"strategy": "latent_surrogate", "network": "late"}, "strategy is latent_surrogate for network: late"),
        ({"surrogate": True, "network": "early"}, "surrogate is true for network: early; wanted network: fusion"),
    ],
)
def test_guesses_need_the_fusion_network(train, words):
    with pytest.raises(ValueError, match=words):
        _spec(**train)


@pytest.mark.parametrize(
    ("train", "norm"),
    [
        ({}, "batch"),
        ({"strategy": "response"}, "layer"),
        ({"strategy": ["subset_sampling", "mu_matched"]}, "layer"),
        ({"strategy": "mu_bounded", "utilization": {"target": {"eo": 0.5}}}, "layer"),
        ({"strategy": "response", "norm": "batch"}, "batch"),
        ({"norm": "layer"}, "layer"),
    ],
)
def test_steered_networks_are_normalised_by_place_unless_told_otherwise(train, norm):
    assert _spec(**train).norm == norm


def test_wavelengths_are_kept_where_an_encoder_reads_them():
    assert _spec(wavelengths_nm={"eo": [665]}).wavelengths == ()
    assert _spec(encoder="dofa_base", wavelengths_nm={"eo": [665]}).wavelengths == (665.0, -1.0)
    assert _spec(encoder={"eo": "resnet18", "sar": "panopticon_base"}).wavelengths == (0.0, -1.0)


@pytest.mark.parametrize("given", [{}, {"eo": [665, 560]}, {"eo": [0]}, {"eo": []}])
def test_wavelengths_that_do_not_fit_the_bands_are_one_clear_line(given):
    with pytest.raises(PipelineError, match=r"modality 'eo' \(red\).*give train.wavelengths_nm.eo"):
        _spec(encoder="dofa_base", wavelengths_nm=given)


def test_wavelengths_of_another_modality_are_refused():
    with pytest.raises(ValueError, match=r"train.wavelengths_nm names \['lidar'\]"):
        _spec(wavelengths_nm={"lidar": [1064]})
