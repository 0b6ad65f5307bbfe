"""Masked-mean fusion: closed forms and the laws of a set."""

import torch

from equipoise.models.fusion import MaskedMeanFusion


def _maps(count, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 4, 5, generator=generator) for _ in range(count)]


def _weights(*values):
    return [torch.full((2, 1, 4, 5), float(value)) for value in values]


def test_equal_weights_give_the_mean():
    maps = _maps(3)
    fused, total = MaskedMeanFusion()(maps, _weights(1, 1, 1))
    torch.testing.assert_close(fused, torch.stack(maps).mean(dim=0))
    assert (total == 3).all()


def test_weights_are_shares():
    maps = _maps(2)
    fused, _ = MaskedMeanFusion()(maps, _weights(0.25, 0.75))
    torch.testing.assert_close(fused, 0.25 * maps[0] + 0.75 * maps[1])


def test_weight_zero_changes_nothing_and_the_rest_keeps_its_scale():
    maps = _maps(3)
    fused, _ = MaskedMeanFusion()(maps, _weights(0, 0.1, 0))
    torch.testing.assert_close(fused, maps[1])
    other = [maps[0] + 1e6, maps[1], -maps[2]]
    assert torch.equal(fused, MaskedMeanFusion()(other, _weights(0, 0.1, 0))[0])


def test_nothing_seen_gives_zero():
    fused, total = MaskedMeanFusion()(_maps(2), _weights(0, 0))
    assert not fused.any()
    assert not total.any()
