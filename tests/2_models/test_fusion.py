"""Fusion of one scale: closed forms, torch's own attention as the oracle, and the laws of a set."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equipoise.models.fusion import FUSIONS, MaskedMeanFusion, build_fusion
from equipoise.models.fusion_gated import AttentionFusion, masked_softmax

WIDTH, COUNT = 4, 3
LOCAL = sorted(name for name, kind in FUSIONS.items() if getattr(kind, "local", True))


def _maps(count=COUNT, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, WIDTH, 4, 5, generator=generator) for _ in range(count)]


def _weights(*values):
    return [torch.full((2, 1, 4, 5), float(value)) for value in values]


def _fusion(name, *, seed=0):
    """A fusion that has left its first state, in which some are the plain mean."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        fusion = FUSIONS[name](WIDTH, modalities=COUNT)
        for parameter in fusion.parameters():
            parameter += 0.5 * torch.randn(parameter.shape)
    return fusion


def test_equal_weights_give_the_mean():
    maps = _maps()
    fused, total = MaskedMeanFusion()(maps, _weights(1, 1, 1))
    torch.testing.assert_close(fused, torch.stack(maps).mean(dim=0))
    assert (total == 3).all()


def test_weights_are_shares():
    maps = _maps(2)
    fused, _ = MaskedMeanFusion()(maps, _weights(0.25, 0.75))
    torch.testing.assert_close(fused, 0.25 * maps[0] + 0.75 * maps[1])


def test_weight_zero_changes_nothing_and_the_rest_keeps_its_scale():
    maps = _maps()
    fused, _ = MaskedMeanFusion()(maps, _weights(0, 0.1, 0))
    torch.testing.assert_close(fused, maps[1])


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(FUSIONS)),
    weights=st.lists(st.sampled_from([0.0, 0.0, 1e-30, 0.3, 1.0]), min_size=COUNT, max_size=COUNT),
    garbage=st.sampled_from([0.0, -1e30, float("nan"), float("inf")]),
)
def test_what_is_absent_is_never_read(name, weights, garbage):
    fusion, maps = _fusion(name), _maps()
    spoiled = [
        torch.full_like(feature, garbage) if weight == 0 else feature
        for feature, weight in zip(maps, weights, strict=True)
    ]
    fused, total = fusion(maps, _weights(*weights))
    again, total_again = fusion(spoiled, _weights(*weights))
    assert fused.isfinite().all()
    assert torch.equal(fused, again)
    assert torch.equal(total, total_again)
    torch.testing.assert_close(total, torch.full_like(total, sum(weights)))


@pytest.mark.parametrize("name", LOCAL)
def test_presence_is_decided_cell_by_cell(name):
    fusion, maps, weights = _fusion(name), _maps(), _weights(1, 1, 1)
    weights[0][:, :, :2] = 0
    fused, _ = fusion(maps, weights)
    torch.testing.assert_close(fused[:, :, :2], fusion(maps, _weights(0, 1, 1))[0][:, :, :2])
    torch.testing.assert_close(fused[:, :, 2:], fusion(maps, _weights(1, 1, 1))[0][:, :, 2:])


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_nothing_seen_gives_zero(name):
    fused, total = _fusion(name)(_maps(), _weights(0, 0, 0))
    assert not fused.any()
    assert not total.any()


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(sorted(FUSIONS)), weight=st.floats(0, 1), step=st.floats(1e-7, 1e-4))
def test_weights_act_without_a_jump(name, weight, step):
    fusion, maps = _fusion(name), _maps()
    near, far = (fusion(maps, _weights(1, value, 0.5))[0] for value in (weight, weight + step))
    # Features are of the order of 1 and gates differ by a few e-folds at the most, hence 100 per unit of weight.
    assert (near - far).abs().max() <= 100 * step + 1e-4


@pytest.mark.parametrize("order", list(itertools.permutations(range(COUNT)))[1:])
@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_the_order_of_modalities_does_not_matter(name, order):
    fusion, shuffled = _fusion(name), _fusion(name)
    for part in ("gates", "private", "views", "intra"):
        if hasattr(fusion, part):
            own = getattr(fusion, part)
            setattr(shuffled, part, type(own)(own[column] for column in order))
    if name == "concat":
        columns = [column * WIDTH + channel for column in order for channel in range(WIDTH)]
        columns += [COUNT * WIDTH + column for column in order]
        shuffled.projection.weight.data = fusion.projection.weight.data[:, columns]
    maps, weights = _maps(), _weights(1, 0.2, 0.7)
    found, _ = shuffled([maps[column] for column in order], [weights[column] for column in order])
    torch.testing.assert_close(found, fusion(maps, weights)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_gradients_reach_what_is_present_and_nothing_else(name):
    fusion, maps = _fusion(name), _maps()
    maps[1] = torch.full_like(maps[1], float("nan"))
    maps = [feature.requires_grad_() for feature in maps]
    fusion(maps, _weights(1, 0, 0.5))[0].square().sum().backward()
    assert [bool(feature.grad.any()) for feature in maps] == [True, False, True]
    assert all(parameter.grad.isfinite().all() for parameter in fusion.parameters() if parameter.grad is not None)
    fusion.zero_grad()
    fusion([feature.requires_grad_() for feature in _maps()], _weights(1, 1, 0.5))[0].square().sum().backward()
    assert all(parameter.grad.any() for parameter in fusion.parameters())


@pytest.mark.parametrize("name", ["gated", "attention", "cell_attention"])
def test_learned_weighting_begins_as_the_mean(name):
    maps, weights = _maps(), _weights(1, 0.5, 0.25)
    found, _ = FUSIONS[name](WIDTH, modalities=COUNT)(maps, weights)
    torch.testing.assert_close(found, MaskedMeanFusion()(maps, weights)[0])


def test_attention_is_torchs_with_a_key_padding_mask():
    fusion, maps = _fusion("cell_attention"), _maps()
    present = torch.tensor([True, False, True])
    oracle = nn.MultiheadAttention(WIDTH, fusion.heads, batch_first=True)
    oracle.load_state_dict(
        {
            "in_proj_weight": fusion.query_key_value.weight, "in_proj_bias": fusion.query_key_value.bias,
            "out_proj.weight": fusion.out.weight, "out_proj.bias": fusion.out.bias,
        }
    )  # fmt: skip
    tokens = torch.stack(maps).permute(1, 3, 4, 0, 2).flatten(0, 2)
    normed = fusion.norm(tokens)
    attended, _ = oracle(normed, normed, normed, key_padding_mask=~present.expand(len(tokens), -1))
    expected = (tokens + attended)[:, present].mean(dim=1)
    found, _ = fusion(maps, _weights(*present))
    torch.testing.assert_close(found.permute(0, 2, 3, 1).flatten(0, 2), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("width", "heads"), [(16, 4), (6, 3), (10, 2), (7, 1)])
def test_heads_divide_the_width(width, heads):
    assert AttentionFusion(width, modalities=2).heads == heads


def test_masked_softmax_is_the_softmax_of_what_is_present():
    scores = torch.tensor([2.0, float("nan"), -1.0, 300.0])
    shares = masked_softmax(scores, torch.tensor([1.0, 0.0, 1.0, 0.0]), dim=0)
    torch.testing.assert_close(shares[[0, 2]], scores[[0, 2]].softmax(dim=0))
    assert not shares[[1, 3]].any()
    doubled = masked_softmax(torch.tensor([1.0, 1.0]), torch.tensor([0.2, 0.6]), dim=0)
    torch.testing.assert_close(doubled, torch.tensor([0.25, 0.75]))


def test_private_parts_are_zero_when_absent_and_the_shared_part_keeps_its_scale():
    fusion, maps = _fusion("shared_private"), _maps()
    alone, _ = fusion(maps, _weights(0, 1, 0))
    torch.testing.assert_close(alone, fusion.shared(maps[1]) + fusion.private[1](maps[1]))
    for private in fusion.private:
        nn.init.zeros_(private.weight)
        nn.init.zeros_(private.bias)
    same, _ = fusion([maps[0]] * COUNT, _weights(1, 1, 1))
    torch.testing.assert_close(same, fusion.shared(maps[0]), atol=1e-5, rtol=1e-5)


def test_one_fusion_a_scale_and_attention_where_cells_are_few():
    scales = build_fusion("cell_attention", widths={0: 4, 1: 4, 2: 8, 3: 16}, modalities=2)
    assert [type(scale).__name__ for scale in scales] == ["MaskedMeanFusion"] * 2 + ["AttentionFusion"] * 2
    assert len(build_fusion("cell_attention", widths={1: 8}, modalities=2).state_dict()) == 0
    scales = build_fusion("attention", widths={0: 4, 1: 4, 2: 8, 3: 16}, modalities=2)
    assert [type(scale).__name__ for scale in scales] == ["MaskedMeanFusion"] * 3 + ["BottleneckFusion"]
    gates = build_fusion("gated", widths={2: 8, 0: 4}, modalities=2)
    assert [scale.gates[0].in_channels for scale in gates] == [4, 8]
    assert not build_fusion("mean", widths={0: 4, 1: 4}, modalities=2).state_dict()
