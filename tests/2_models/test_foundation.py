"""Foundation encoders: shapes at any size, torchgeo's own answers, clear refusals, nothing downloaded unless named."""

import warnings

import pytest
import torch

from equipoise.models import foundation
from equipoise.models.checkpoint import ModelCard, load_model, save_model
from equipoise.models.encoders import ModalityEncoder, build_encoder
from equipoise.models.errors import ModelError
from equipoise.models.foundation import FOUNDATION, Transformer
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.receptive_field import receptive_field
from equipoise.models.transformers import CromaTokens, DofaTokens, TimmTokens, distance_bias

TINY = {
    "croma_base": Transformer(family="croma", sizes={"width": 32, "depth": 2}, weights="CROMABase_Weights"),
    "dofa_base": Transformer(family="dofa", sizes={"width": 32, "depth": 1, "heads": 2}, weights="DOFABase16_Weights"),
    "panopticon_base": Transformer(
        family="panopticon",
        sizes={"name": "vit_base_patch14_dinov2", "attention": 48, "embed_dim": 32, "depth": 1, "num_heads": 2},
        weights="Panopticon_Weights",
    ),
    "vit_small": Transformer(
        family="vit",
        sizes={"name": "vit_small_patch16_224", "embed_dim": 32, "depth": 1, "num_heads": 2},
        weights="ViTSmall16_Weights",
    ),
}
RGB = (665.0, 560.0, 490.0)
RADAR = (-1.0, -2.0)


@pytest.fixture(scope="module", autouse=True)
def torchgeo():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that torchgeo imports
        import torchgeo.models
    return torchgeo.models


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    for name, entry in TINY.items():
        monkeypatch.setitem(FOUNDATION, name, entry)
    torch.manual_seed(0)


def _network(name, *, bands=(12, 2), wavelengths=(), **changes):
    spec = NetworkSpec(
        **{"modalities": ("eo", "sar"), "in_channels": bands, "classes": 3, "encoder": name, "depth": 3,
           "decoder_channels": (8, 8, 4), "wavelengths": wavelengths, **changes}
    )  # fmt: skip
    return FusionUNet(spec)


NETWORKS = {
    "croma_base": {},
    "dofa_base": {"bands": (3, 2), "wavelengths": (*RGB, *RADAR)},
    "panopticon_base": {"bands": (3, 2), "wavelengths": (*RGB, *RADAR)},
    "vit_small": {"bands": (3, 2)},
}


def _image(network, rows, columns, *, batch=2):
    return {
        name: torch.randn(batch, bands, rows, columns)
        for name, bands in zip(network.modalities, network.spec.in_channels, strict=True)
    }


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("depth", [1, 3, 5])
def test_features_have_every_stride(name, depth):
    options = NETWORKS[name]
    encoder = build_encoder(name, in_channels=2, depth=depth, wavelengths=options.get("wavelengths", ())[-2:])
    rows, columns = 3 * 2**depth, 5 * 2**depth
    image = torch.randn(1, 2, rows, columns)
    maps = encoder(image)
    assert torch.equal(maps[0], image)
    assert [tuple(part.shape) for part in maps[1:]] == [
        (1, width, rows >> scale, columns >> scale) for scale, width in enumerate(encoder.out_channels[1:], start=1)
    ]


@pytest.mark.parametrize("name", TINY)
def test_a_network_answers_any_window_and_every_weight_learns(name):
    network = _network(name, **NETWORKS[name])
    image = _image(network, 37, 45)
    logits = network(image)
    assert tuple(logits.shape) == (2, 3, 37, 45)
    logits.square().sum().backward()
    # Places before the window's are CROMA's alone; DOFA's are fixed, and what only a class token or a wavelength of
    # another kind would reach learns nothing.
    idle = {key for key, value in network.encoders.named_parameters() if value.requires_grad and value.grad is None}
    assert {key.rsplit(".", 1)[-1] for key in idle} <= {"embed_transmit", "embed_receive", "embed_orbit"}
    assert not {key for key in idle if key.startswith("1.")}


@pytest.mark.parametrize("name", TINY)
def test_an_absent_modality_changes_nothing(name):
    network = _network(name, **NETWORKS[name]).eval()
    image = _image(network, 32, 40)
    available = torch.tensor([[True, False], [True, True]])
    with torch.no_grad():
        one = network(image, available=available)
        image["sar"][0] = 1e6
        assert torch.equal(network(image, available=available), one)


@pytest.mark.parametrize("name", TINY)
def test_a_model_folder_holds_it(name, tmp_path):
    network = _network(name, **NETWORKS[name]).eval()
    card = ModelCard(
        network=network.spec.to_dict(),
        classes=tuple({"value": i, "name": f"c{i}", "color": "#000000"} for i in range(3)),
        modalities=tuple({"name": item} for item in network.modalities),
        class_prior=(0.2, 0.3, 0.5),
    )
    save_model(tmp_path / "model", network, card)
    again = load_model(tmp_path / "model")[0].eval()
    image = _image(network, 24, 24)
    assert again.spec == network.spec
    with torch.no_grad():
        assert torch.equal(again(image), network(image))


@pytest.mark.parametrize("name", TINY)
def test_a_core_is_decoded_as_in_the_whole_window(name):
    network = _network(name, **NETWORKS[name]).eval()
    available = torch.tensor([[True, True], [False, True]])
    core = slice(13, 37)
    with torch.no_grad():
        features = network.encode(_image(network, 50, 48))
        whole = network.decode(network.fuse(features, available), size=features.size)
        found = network.core_answers(features, core)(available)
    torch.testing.assert_close(found, whole[..., core, core], atol=1e-5, rtol=1e-5)


def test_a_transformer_sees_the_whole_window():
    network = _network("croma_base").eval()
    field = receptive_field(network, _image(network, 64, 64, batch=1))
    assert field.reaches_border
    assert field.radius == 32 or field.radius == 31


def test_croma_is_torchgeos(torchgeo):
    from torchgeo.models.croma import CROMA, get_2dalibi

    oracle = CROMA(modalities=["optical"], encoder_dim=32, encoder_depth=2, image_size=32).eval()
    ours = CromaTokens(12, width=32, depth=2).eval()
    ours.vit.load_state_dict(oracle.s2_encoder.state_dict())
    image = torch.randn(2, 12, 32, 32)
    with torch.no_grad():
        expected = oracle(x_optical=image)["optical_encodings"]
        found = ours(image).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(distance_bias(4, 4, slopes=ours.slopes), get_2dalibi(16, 16))


def test_dofa_is_torchgeos(torchgeo):
    ours = DofaTokens((*RGB, -1.0), width=32, depth=2, heads=2).eval()
    image = torch.randn(2, 4, 224, 224)
    with torch.no_grad():
        expected = ours.vit.forward_features(image, [0.665, 0.56, 0.49, 5.405])
        tokens = ours.vit.patch_embed(image, ours.wavelengths)[0]
        # Its own answer is normalised after the mean, ours before.
        tokens = torch.cat([(ours.vit.cls_token + ours.vit.pos_embed[:, :1]).expand(2, -1, -1),
                            tokens + ours.vit.pos_embed[:, 1:]], dim=1)  # fmt: skip
        for block in ours.vit.blocks:
            tokens = block(tokens)
        found = ours(image).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, ours.vit.fc_norm(tokens[:, 1:]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.vit.fc_norm(tokens[:, 1:].mean(dim=1)), expected, atol=1e-4, rtol=1e-4)


def test_panopticons_bands_are_torchgeos(torchgeo):
    from torchgeo.models.panopticon import PanopticonPE

    waves = (*RGB, -1.0, -2.0, -3.0, -4.0)
    oracle = PanopticonPE(attn_dim=48, embed_dim=32, patch_size=14, chnfus_cfg={"attn_cfg": {"num_heads": 16}})
    for part in ("embed_transmit", "embed_receive", "embed_orbit"):
        torch.nn.init.normal_(getattr(oracle.chnfus.chnemb, part))
    ours = foundation.TimmTokens(7, wavelengths=waves, **TINY["panopticon_base"].sizes).vit.patch_embed
    state = {key: value.squeeze(2) if value.ndim == 5 else value for key, value in oracle.state_dict().items()}
    ours.load_state_dict({key.replace("conv3d.conv3d", "conv3d"): value for key, value in state.items()})
    image = torch.randn(2, 7, 28, 42)
    with torch.no_grad():
        expected = oracle({"imgs": image, "chn_ids": torch.tensor([waves, waves])})
        torch.testing.assert_close(ours(image), expected, atol=1e-5, rtol=1e-4)


def test_a_plain_transformer_is_timms():
    ours = TimmTokens(3, **TINY["vit_small"].sizes).eval()
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = ours.vit.forward_features(image)[:, 1:]
        torch.testing.assert_close(ours(image).flatten(2).transpose(1, 2), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "depth"), [("croma_base", 3), ("dofa_base", 4), ("panopticon_base", 4)])
def test_it_can_be_traced_with_open_sizes(name, depth):
    encoder = build_encoder(name, in_channels=2, depth=depth, wavelengths=RADAR).eval()
    rows, columns = (2**depth * torch.export.Dim(label, min=4, max=64) for label in ("rows", "columns"))
    shapes = ({0: torch.export.Dim("batch"), 2: rows, 3: columns},)
    image = torch.randn(2, 2, 6 * 2**depth, 5 * 2**depth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.export.export(encoder, (image,), dynamic_shapes=shapes, strict=False).module()
    image = torch.randn(3, 2, 7 * 2**depth, 4 * 2**depth)
    with torch.no_grad():
        for found, expected in zip(program(image), encoder(image), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("croma_base", {"in_channels": 13}, r"13 bands for encoder 'croma_base'.*12 \(Sentinel-2"),
        ("dofa_base", {"in_channels": 3}, r"wavelengths \(\) for 3 bands.*wavelengths_nm"),
        ("panopticon_base", {"in_channels": 2, "wavelengths": (665.0, 0.0)}, "wavelengths.*polarisation"),
        ("panopticon_base", {"in_channels": 1, "wavelengths": (-0.5,)}, "wavelengths.*polarisation"),
        ("croma_base", {"in_channels": 12, "weights": "imagenet"}, "weights 'imagenet'.*CROMABase_Weights"),
        ("croma_base", {"in_channels": 12, "weights": "CROMALarge_Weights.CROMA_VIT"}, "wanted a member of CROMABase"),
        ("vit_small", {"in_channels": 3, "weights": "ViTSmall16_Weights.SENTINEL1_GRD_MAE"}, "3 bands.*wanted 2"),
        ("croma_base", {"in_channels": 12, "weights": "CROMABase_Weights.CROMA_VITT"}, "nearest is"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(name, options, said):
    with pytest.raises(ModelError, match=said) as caught:
        build_encoder(name, depth=2, **options)
    assert "\n" not in str(caught.value)


def test_weights_are_read_by_torchgeos_names(torchgeo, monkeypatch):
    radar, optical = (CromaTokens(bands, width=32, depth=depth).vit for bands, depth in ((2, 1), (12, 2)))
    state = {"s1_encoder": radar.state_dict(), "s2_encoder": optical.state_dict()}
    monkeypatch.setattr(torchgeo.CROMABase_Weights, "get_state_dict", lambda _self, **_: state)
    name = "CROMABase_Weights.CROMA_VIT"
    network = FusionUNet(_network("croma_base").spec, weights={"sar": name})
    assert torch.equal(network.encoders[1].backbone.tokens.vit.linear_input.weight, radar.linear_input.weight)
    both = FusionUNet(_network("croma_base").spec, weights=name)
    assert torch.equal(both.encoders[0].backbone.tokens.vit.linear_input.weight, optical.linear_input.weight)
    del state["s1_encoder"]["linear_input.weight"]
    with pytest.raises(ModelError, match=r"1 tensors.*linear_input\.weight"):
        build_encoder("croma_base", in_channels=2, depth=2, weights=name)


def test_panopticons_weights_fit(torchgeo, monkeypatch):
    from torchgeo.models.panopticon import PanopticonPE

    source = TimmTokens(3, wavelengths=RGB, **TINY["panopticon_base"].sizes)
    state = {key: value for key, value in source.vit.state_dict().items() if not key.startswith("patch_embed.")}
    embed = PanopticonPE(attn_dim=48, embed_dim=32, patch_size=14, chnfus_cfg={"attn_cfg": {"num_heads": 16}})
    state |= {f"patch_embed.{key}": value for key, value in embed.state_dict().items()}
    state["mask_token"] = torch.zeros(1, 32)
    monkeypatch.setattr(torchgeo.Panopticon_Weights, "get_state_dict", lambda _self, **_: state)
    encoder = build_encoder(
        "panopticon_base", in_channels=3, depth=2, weights="Panopticon_Weights.VIT_BASE14", wavelengths=RGB
    )
    assert torch.equal(encoder.tokens.vit.patch_embed.conv3d.weight, embed.conv3d.conv3d.weight.squeeze(2))


def test_nothing_is_downloaded_unless_named(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))
    for name, options in NETWORKS.items():
        _network(name, **options)


def test_projections_give_the_widths_asked_for():
    encoder = ModalityEncoder("croma_base", in_channels=2, depth=3, widths={0: 4, 1: 4, 3: 6})
    assert [tuple(part.shape[1:]) for part in encoder(torch.randn(2, 2, 32, 32))] == [
        (4, 32, 32), (4, 16, 16), (6, 4, 4),
    ]  # fmt: skip


def test_wavelengths_survive_a_description_and_go_with_their_modality():
    spec = _network("dofa_base", **NETWORKS["dofa_base"]).spec
    assert NetworkSpec.from_dict(spec.to_dict()) == spec
    assert spec.single("sar").wavelengths == RADAR
    old = {key: value for key, value in spec.to_dict().items() if key != "wavelengths"}
    assert NetworkSpec.from_dict({**old, "encoder": "resnet18"}).wavelengths == ()
    with pytest.raises(ModelError, match="wanted none, or 5 numbers"):
        _network("dofa_base", bands=(3, 2), wavelengths=RGB)
