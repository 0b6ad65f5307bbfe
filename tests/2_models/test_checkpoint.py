"""Model folders: round trip, and every kind of damage is one clear line."""

import contextlib
import dataclasses
import hashlib
import json
import os
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from equipoise.models.baselines import BASELINES, SinglesEnsemble, build_network
from equipoise.models.checkpoint import ModelCard, load_model, model_digest, save_model
from equipoise.models.errors import CheckpointError, ModelError
from equipoise.models.fusion import FUSIONS
from equipoise.models.network import FusionUNet, NetworkSpec

SPEC = NetworkSpec(modalities=("eo", "sar"), in_channels=(2, 1), classes=2, depth=1, decoder_channels=(4,))


def _card(spec=SPEC, **changes):
    return ModelCard(
        **{
            "network": spec.to_dict(),
            "classes": ({"value": 3, "name": "wet", "color": "#0000ff"}, {"value": 7, "name": "d|ry", "color": "#aa0"}),
            "modalities": (
                {"name": "eo", "bands": ["red", "nir"], "units": "reflectance", "statistics": {"mean": [0.1, 0.2]}},
                {"name": "sar", "bands": ["vv"], "units": "linear_power", "statistics": {"mean": [0.05]}},
            ),
            "class_prior": (0.25, 0.75),
            "training": {"seed": 1, "epochs": 2},
            "metrics": {"validation_score": 0.5},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = FusionUNet(SPEC).train()
    network({"eo": torch.randn(4, 2, 8, 8), "sar": torch.randn(4, 1, 8, 8)})  # moves the running statistics
    return network.eval()


@pytest.fixture
def folder(tmp_path, network):
    save_model(tmp_path / "model", network, _card())
    return tmp_path / "model"


def _refused(folder, match="found"):
    with pytest.raises(CheckpointError, match=match) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def _sealed(folder, weights):
    """Replace the weights and their checksum: a forgery that only the content gives away."""
    (folder / "model.safetensors").write_bytes(weights)
    _edit(folder, lambda envelope: envelope.update(weights_sha256=hashlib.sha256(weights).hexdigest()))


def _edit(folder, change):
    envelope = json.loads((folder / "model.json").read_text())
    change(envelope)
    (folder / "model.json").write_text(json.dumps(envelope))


def test_round_trip(folder, network):
    loaded, card = load_model(folder)
    assert card == _card()
    assert not loaded.training
    image = {"eo": torch.randn(2, 2, 9, 5), "sar": torch.randn(2, 1, 9, 5)}
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.json", "model.safetensors"]


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_every_fusion_makes_the_round_trip(tmp_path, fusion):
    torch.manual_seed(0)
    spec = dataclasses.replace(SPEC, depth=2, decoder_channels=(8, 4), fusion=fusion, deep_supervision=True)
    network = FusionUNet(spec).eval()
    save_model(tmp_path, network, _card(spec))
    loaded, card = load_model(tmp_path)
    assert card.spec == spec
    image = {"eo": torch.randn(2, 2, 9, 5), "sar": torch.randn(2, 1, 9, 5)}
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
        fused = loaded.fuse(loaded.encode(image), torch.ones(2, 2, dtype=torch.bool))
        assert len(loaded.side_logits(fused, size=(9, 5))) == 2


@pytest.mark.parametrize("kind", sorted(BASELINES))
def test_every_competitor_makes_the_round_trip(tmp_path, kind):
    torch.manual_seed(0)
    network = build_network(dataclasses.replace(SPEC, kind=kind)).eval()
    save_model(tmp_path, network, _card(network.spec))
    loaded, card = load_model(tmp_path)
    assert type(loaded) is BASELINES[kind]
    assert card.network["kind"] == card.spec.kind == kind
    assert "fus" in (tmp_path / "README.md").read_text() or kind == "i2m2"
    image = {"eo": torch.randn(2, 2, 9, 5), "sar": torch.randn(2, 1, 9, 5)}
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))


def test_a_network_that_no_description_rebuilds_is_not_saved(tmp_path):
    network = SinglesEnsemble([FusionUNet(SPEC.single(name)) for name in SPEC.modalities])
    with pytest.raises(ModelError, match=r"a SinglesEnsemble; wanted a FusionUNet"):
        save_model(tmp_path / "model", network, _card(network.spec))
    assert not (tmp_path / "model").exists()


def test_an_unknown_kind_of_network_is_refused(folder):
    _edit(folder, lambda envelope: envelope["card"]["network"].update(kind="transformer"))
    _refused(folder, match=r"network kind 'transformer'; wanted one of \('fusion', 'early', 'late', 'i2m2'\)")


def test_a_card_from_before_competitors_is_that_of_a_fusion_network(folder, network):
    _edit(folder, lambda envelope: envelope["card"]["network"].pop("kind"))
    loaded, card = load_model(folder)
    assert type(loaded) is FusionUNet
    assert card.spec == SPEC


def test_a_card_from_before_deep_supervision_still_loads(folder, network):
    _edit(folder, lambda envelope: envelope["card"]["network"].pop("deep_supervision"))
    loaded, card = load_model(folder)
    assert card.spec == SPEC
    # A saved mean has no tensors of its own, and neither has a network without side heads.
    assert not [name for name in loaded.state_dict() if name.startswith(("fusion", "side_heads"))]
    image = {"eo": torch.randn(2, 2, 9, 5), "sar": torch.randn(2, 1, 9, 5)}
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))


def test_readme_names_what_matters(folder):
    text = (folder / "README.md").read_text()
    for word in ("eo", "sar", "wet", "d\\|ry", "0.7500", "validation_score"):
        assert word in text


def test_channels_last_weights_are_saved(tmp_path, network):
    torch.manual_seed(0)
    other = FusionUNet(SPEC)
    other.load_state_dict(network.state_dict())
    save_model(tmp_path, other.to(memory_format=torch.channels_last), _card())
    loaded, _ = load_model(tmp_path)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_digest_follows_content(folder, network):
    before = model_digest(folder)
    assert len(before) == 16
    save_model(folder, network, _card())
    assert model_digest(folder) == before
    save_model(folder, network, _card(metrics={"validation_score": 0.6}))
    assert model_digest(folder) != before
    (folder / "model.json").unlink()
    with pytest.raises(CheckpointError, match="no readable"):
        model_digest(folder)


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.001, 0.5, 0.999999])
def test_truncated_weights(folder, share):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _refused(folder, "truncated, damaged")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, 5000, -1])
def test_truncated_weights_with_a_forged_checksum(folder, length):
    _sealed(folder, (folder / "model.safetensors").read_bytes()[:length])
    _refused(folder, "safetensors")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), sealed=st.booleans())
def test_flipped_header_bits(folder, network, place, bit, sealed):
    save_model(folder, network, _card())
    content = bytearray((folder / "model.safetensors").read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    content[int(place * header)] ^= 1 << bit
    if sealed:
        _sealed(folder, bytes(content))
    else:
        (folder / "model.safetensors").write_bytes(content)
    # A resealed flip may hit white space or a spelling that means the same; unsealed ones never pass.
    with contextlib.suppress(CheckpointError) if sealed else pytest.raises(CheckpointError):
        load_model(folder)


def test_one_flipped_weight_bit(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    _refused(folder, "checksum")


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_missing_files(folder, name):
    (folder / name).unlink()
    _refused(folder, f"no readable .*{name}")


def test_missing_folder(tmp_path):
    _refused(tmp_path / "nowhere", "no readable")
    (tmp_path / "file").write_text("text")
    _refused(tmp_path / "file", "no readable")


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", "\x00\xff", "[" * 100_000, '{"format": "other"}', '{"format": "equipoise-model"}']
)
def test_bad_json(folder, text):
    (folder / "model.json").write_bytes(text.encode("latin-1"))
    _refused(folder, "model.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda envelope: envelope.update(format_version=99),
        lambda envelope: envelope.pop("weights_sha256"),
        lambda envelope: envelope.update(card=None),
        lambda envelope: envelope.update(card=[]),
        lambda envelope: envelope["card"].pop("classes"),
        lambda envelope: envelope["card"].update(surprise=1),
        lambda envelope: envelope["card"].update(classes=None),
        lambda envelope: envelope["card"].update(classes=[1, 2]),
        lambda envelope: envelope["card"].update(modalities=[{}, {}]),
        lambda envelope: envelope["card"].update(class_prior=["a", "b"]),
        lambda envelope: envelope["card"].update(class_prior=[1.0]),
        lambda envelope: envelope["card"].update(network=None),
        lambda envelope: envelope["card"]["network"].pop("depth"),
        lambda envelope: envelope["card"]["network"].update(encoder="resnet1"),
        lambda envelope: envelope["card"]["network"].update(encoder=7),
        lambda envelope: envelope["card"]["network"].update(encoder={"a": 1, "b": 2}),
        lambda envelope: envelope["card"]["network"].update(modalities=3),
        lambda envelope: envelope["card"]["network"].update(modalities=[["eo"], ["sar"]]),
        lambda envelope: envelope["card"]["network"].update(fusion={}),
        lambda envelope: envelope["card"]["network"].update(depth="1"),
        lambda envelope: envelope["card"]["network"].update(fusion="gated"),
        lambda envelope: envelope["card"]["network"].update(deep_supervision=True),
        lambda envelope: envelope["card"]["network"].update(deep_supervision="yes"),
        lambda envelope: envelope["card"]["network"].update(decoder_channels=[10**12]),
        lambda envelope: envelope["card"]["network"].update(in_channels=[10**30, 1]),
    ],
)
def test_cards_that_were_tampered_with(folder, change):
    _edit(folder, change)
    _refused(folder)


def test_weights_of_another_network(folder):
    other = FusionUNet(dataclasses.replace(SPEC, decoder_channels=(8,)))
    _sealed(folder, save({name: value.contiguous() for name, value in other.state_dict().items()}))
    _refused(folder, "where the network has")
    _sealed(folder, save({"stranger": torch.zeros(2)}))
    _refused(folder, "tensors that differ")
    halves = {name: value.half().contiguous() for name, value in FusionUNet(SPEC).state_dict().items()}
    _sealed(folder, save(halves))
    _refused(folder, "float16")


def test_a_pickle_is_not_read(folder, network):
    torch.save(network.state_dict(), folder / "model.safetensors")
    _refused(folder, "checksum")
    _sealed(folder, (folder / "model.safetensors").read_bytes())
    _refused(folder, "not safetensors")


def test_cards_must_fit_their_network(tmp_path, network):
    with pytest.raises(ModelError, match="another network"):
        save_model(tmp_path, network, _card(dataclasses.replace(SPEC, decoder_channels=(8,))))
    with pytest.raises(ModelError, match="JSON cannot hold"):
        save_model(tmp_path, network, _card(metrics={"iou": float("nan")}))
    with pytest.raises(ModelError, match="JSON cannot hold"):
        save_model(tmp_path, network, _card(metrics={"iou": torch.zeros(1)}))
    with pytest.raises(ModelError, match="1 class priors"):
        _card(class_prior=(1.0,))
    with pytest.raises(ModelError, match="modalities"):
        _card(modalities=({"name": "sar"}, {"name": "eo"}))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_no_debris(folder, network, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    before = model_digest(folder)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        save_model(folder, network, _card(metrics={}))
    assert model_digest(folder) == before
    assert len(list(folder.iterdir())) == 3
