"""Attention over the bottleneck: torch's own layer as the oracle, masks of keys, windows of any size, bounded cost."""

import pytest
import torch
from torch import nn

from equipoise.models.checkpoint import ModelCard, load_model, save_model
from equipoise.models.errors import CheckpointError
from equipoise.models.fusion_attention import BottleneckFusion, TransformerLayer
from equipoise.models.fusion_gated import AttentionFusion
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.receptive_field import receptive_field

WIDTH, COUNT = 8, 3
SPEC = NetworkSpec(
    modalities=("eo", "sar"), in_channels=(2, 1), classes=3, depth=3, decoder_channels=(16, 8, 4), fusion="attention"
)


@pytest.fixture
def fusion():
    torch.manual_seed(0)
    built = BottleneckFusion(WIDTH, modalities=COUNT)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return built


def _maps(rows=4, columns=5, *, batch=2):
    make = torch.Generator().manual_seed(1)
    return [torch.randn(batch, WIDTH, rows, columns, generator=make) for _ in range(COUNT)]


def _weights(*values, rows=4, columns=5, batch=2):
    return [torch.full((batch, 1, rows, columns), float(value)) for value in values]


def test_a_layer_is_torchs_with_a_key_padding_mask():
    torch.manual_seed(0)
    layer = TransformerLayer(WIDTH)
    oracle = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True)
    names = {
        "norm": "norm1", "neurons.0": "norm2", "neurons.1": "linear1", "neurons.3": "linear2",
        "query_key_value.": "self_attn.in_proj_", "gather": "self_attn.out_proj",
    }  # fmt: skip
    state = {}
    for name, value in layer.state_dict().items():
        ours = next(part for part in names if name.startswith(part))
        state[names[ours] + name.removeprefix(ours)] = value
    oracle.load_state_dict(state)
    tokens, present = torch.randn(2, 7, WIDTH), torch.rand(2, 7) > 0.4
    found = layer(tokens, torch.zeros(7, WIDTH), present.float())
    torch.testing.assert_close(found, oracle(tokens, src_key_padding_mask=~present), atol=1e-5, rtol=1e-5)


def test_a_key_of_half_the_weight_counts_half():
    torch.manual_seed(0)
    layer, tokens = TransformerLayer(WIDTH), torch.randn(1, 3, WIDTH)
    twice = torch.cat([tokens, tokens[:, :1]], dim=1)
    found = layer(tokens, torch.zeros(3, WIDTH), torch.tensor([[1.0, 0.5, 0.5]]))
    wanted = layer(twice, torch.zeros(4, WIDTH), torch.tensor([[0.5, 0.5, 0.5, 0.5]]))[:, :3]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_an_absent_modality_is_as_good_as_none(fusion):
    maps = _maps()
    fewer = BottleneckFusion(WIDTH, modalities=COUNT - 1)
    fewer.load_state_dict(
        {name: fusion.state_dict()[name.replace("views.1", "views.2").replace("intra.1", "intra.2")]
         for name in fewer.state_dict()}
    )  # fmt: skip
    found, _ = fusion(maps, _weights(1, 0, 0.5))
    wanted, _ = fewer([maps[0], maps[2]], _weights(1, 0.5))
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)


def test_every_cell_reads_every_other_that_is_valid_and_no_more(fusion):
    maps, weights = _maps(), _weights(1, 1, 1)
    weights[1][:, :, 0] = 0
    maps = [feature.requires_grad_() for feature in maps]
    fusion(maps, weights)[0][0, :, 3, 4].square().sum().backward()
    for column, feature in enumerate(maps):
        reached = feature.grad.abs().sum(dim=1) > 0
        assert not reached[1].any()  # another sample
        assert reached[0, 1:].all()
        assert reached[0, 0].all() == (column != 1)


def test_a_sample_with_nothing_gives_zeros_and_teaches_nothing(fusion):
    maps, weights = [feature.requires_grad_() for feature in _maps()], _weights(1, 1, 1)
    for weight in weights:
        weight[1] = 0
    fused, total = fusion(maps, weights)
    assert not fused[1].any()
    assert not total[1].any()
    fused.square().sum().backward()
    both = [parameter.grad.clone() for parameter in fusion.parameters()]
    assert all(gradient.isfinite().all() for gradient in both)
    assert not any(feature.grad[1].any() for feature in maps)
    fusion.zero_grad()
    fusion([feature[:1] for feature in maps], [weight[:1] for weight in weights])[0].square().sum().backward()
    for found, parameter in zip(both, fusion.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad, atol=1e-4, rtol=1e-4)


def test_where_a_token_lies_matters_to_attention(fusion):
    maps = [torch.ones_like(feature) * feature[:, :, :1, :1] for feature in _maps()]
    flipped = [feature.clone() for feature in maps]
    for near, far in zip(maps, flipped, strict=True):
        near[:, 0, 0, 1] += 1
        far[:, 0, 3, 1] += 1
    near, far = (fusion(given, _weights(1, 1, 1))[0][:, :, 0, 4] for given in (maps, flipped))
    assert (near - far).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (37, 3), (90, 75)])
def test_windows_of_any_size(fusion, size):
    rows, columns = size
    seen = []
    for layer in (*fusion.intra, fusion.inter):
        layer.register_forward_hook(lambda _layer, given, _result: seen.append(given[0].shape[1]))
    maps, weights = _maps(rows, columns, batch=1), _weights(1, 0.5, 0, rows=rows, columns=columns, batch=1)
    fused, _ = fusion(maps, weights)
    assert fused.shape == maps[0].shape
    assert fused.isfinite().all()
    assert seen[-1] == sum(seen[:-1]) <= 4096


def test_many_cells_attend_in_blocks(fusion):
    """With maps that are constant in blocks of 2 x 2, blocks change nothing but how often each token is there."""
    fusion.edge = 3
    small = _maps(3, 3)
    large = [feature.repeat_interleave(2, 2).repeat_interleave(2, 3) for feature in small]
    whole, _ = fusion(small, _weights(1, 1, 0.5, rows=3, columns=3))
    pooled, _ = fusion(large, _weights(1, 1, 0.5, rows=6, columns=6))
    wanted = whole.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(pooled, wanted, atol=1e-5, rtol=1e-5)


def _network(**changes):
    torch.manual_seed(0)
    network = FusionUNet(NetworkSpec.from_dict(SPEC.to_dict() | changes)).eval()
    with torch.no_grad():
        for parameter in network.fusion.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return network


def test_cores_are_answered_from_the_whole_window():
    network, core = _network(), slice(24, 40)
    image = {"eo": torch.randn(2, 2, 64, 64), "sar": torch.randn(2, 1, 64, 64)}
    available = torch.tensor([[True, True], [False, True]])
    with torch.no_grad():
        features = network.encode(image)
        whole = network.decode(network.fuse(features, available), size=features.size)[..., core, core]
        found = network.core_answers(features, core, every=2)(available)
        torch.testing.assert_close(found, whole[..., ::2, ::2], atol=1e-5, rtol=1e-5)
        image["sar"][..., :2, :2] += 50  # far beyond what the core's convolutions see
        other = network.encode(image)
        moved = network.core_answers(other, core)(available)
    assert (moved - whole).abs().max() > 1e-4  # rounding is a hundred times less


def test_the_field_of_view_is_the_window():
    field = receptive_field(_network(), {"eo": torch.randn(1, 2, 64, 64), "sar": torch.randn(1, 1, 64, 64)})
    assert field.reaches_border
    assert field.radius >= 31


def test_a_model_of_the_attention_within_cells_is_refused(tmp_path):
    network = FusionUNet(SPEC)
    network.fusion[-1] = AttentionFusion(16, modalities=2)  # what the name stood for before
    classes = tuple({"value": value, "name": str(value), "color": "#000000"} for value in range(3))
    card = ModelCard(
        network=SPEC.to_dict(), classes=classes, modalities=({"name": "eo"}, {"name": "sar"}),
        class_prior=(0.4, 0.3, 0.3),
    )  # fmt: skip
    save_model(tmp_path, network, card)
    with pytest.raises(CheckpointError, match=r"tensors that differ from the card's network, first 'fusion\.3"):
        load_model(tmp_path)


def test_it_learns_what_only_a_far_cell_of_one_modality_tells():
    accuracy = {}
    for kind in (BottleneckFusion, AttentionFusion):
        torch.manual_seed(0)
        fusion, head = kind(WIDTH, modalities=2), nn.Conv2d(WIDTH, 2, 1)
        optimizer = torch.optim.AdamW([*fusion.parameters(), *head.parameters()], lr=1e-2)
        weights = [torch.ones(32, 1, 4, 4)] * 2
        for _ in range(250):
            maps = [torch.randn(32, WIDTH, 4, 4) for _ in weights]
            truth = (maps[1][:, 0, 0, 0] > 0).long()
            logits = head(fusion(maps, weights)[0])[:, :, 3, 3]  # asked for in the opposite corner
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, truth).backward()
            optimizer.step()
            found = float((logits.argmax(dim=1) == truth).float().mean())
            accuracy[kind] = 0.9 * accuracy.get(kind, 0.5) + 0.1 * found
    assert accuracy[BottleneckFusion] > 0.85
    assert accuracy[AttentionFusion] < 0.6
