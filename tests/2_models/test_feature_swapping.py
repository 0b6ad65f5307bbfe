"""Feature swapping: an involution, only where both modalities saw something, and it repeats itself."""

from dataclasses import replace

import pytest
import torch

from equipoise.models.balancing import build_strategy
from equipoise.models.balancing.feature_swapping import FeatureSwapping, drawn, swapped
from equipoise.models.balancing.mu_bounded import MuBounded
from equipoise.models.balancing.share_target import ShareTarget
from equipoise.models.balancing.strategy import Step
from equipoise.models.errors import ModelError
from equipoise.models.losses import SegmentationLoss
from equipoise.models.network import FusionUNet, NetworkSpec

NAMES = ("eo", "sar", "ir")
SPEC = NetworkSpec(modalities=NAMES, in_channels=(3, 2, 1), classes=3, depth=2, decoder_channels=(8, 4), norm="layer")


def encoded(batch=16, *, available=None, valid=None, **changes):
    torch.manual_seed(0)
    network = FusionUNet(replace(SPEC, **changes))
    image = {name: torch.randn(batch, bands, 16, 16) for name, bands in zip(NAMES, (3, 2, 1), strict=True)}
    return network, network.encode(image, available=available, valid=valid)


def equal(one, other):
    return all(torch.equal(a, b) for name in NAMES for a, b in zip(one.maps[name], other.maps[name], strict=True))


def test_the_same_swap_twice_is_the_identity_and_loses_nothing():
    _, features = encoded()
    draw = drawn(features, NAMES, probability=1.0)
    once = swapped(features, draw, NAMES)
    assert draw.chosen.all()
    assert not equal(once, features)
    assert equal(swapped(once, draw, NAMES), features)
    for level in range(3):
        before, after = (torch.stack([item.maps[name][level] for name in NAMES]) for item in (features, once))
        assert torch.equal(before.sort(dim=0).values, after.sort(dim=0).values)


def test_absent_modalities_never_move_and_a_sample_of_one_modality_stays():
    available = torch.ones(16, 3, dtype=torch.bool)
    available[:8, 1] = False
    available[:4, 2] = False
    _, features = encoded(available=available)
    torch.manual_seed(3)
    after = FeatureSwapping(1.0).adapt(features, modalities=NAMES)
    assert after.changed.tolist() == [False] * 4 + [True] * 12
    for before, now in zip(features.maps["sar"], after.maps["sar"], strict=True):
        assert torch.equal(before[:8], now[:8])
    for name in NAMES:
        assert all(torch.equal(a[:4], b[:4]) for a, b in zip(features.maps[name], after.maps[name], strict=True))
        assert all(bool((b <= a).all()) for a, b in zip(features.shares[name], after.shares[name], strict=True))


def test_only_cells_that_both_saw_move():
    valid = {name: torch.ones(16, 16, 16, dtype=torch.bool) for name in NAMES}
    valid["sar"][:, :8] = False
    _, features = encoded(valid=valid)
    draw = drawn(features, NAMES, probability=1.0)
    after = swapped(features, draw, NAMES)
    for before, now in zip(features.maps["sar"], after.maps["sar"], strict=True):
        half = before.shape[-2] // 2
        assert torch.equal(before[:, :, :half], now[:, :, :half])
        assert not torch.equal(before[:, :, half:], now[:, :, half:])


def test_as_many_as_asked_for_and_none_at_zero():
    _, features = encoded(batch=64)
    assert equal(FeatureSwapping(0.0).adapt(features, modalities=NAMES), features)
    torch.manual_seed(1)
    found = [FeatureSwapping(0.3).adapt(features, modalities=NAMES).changed.float().mean() for _ in range(30)]
    assert float(torch.stack(found).mean()) == pytest.approx(0.3, abs=0.04)
    with pytest.raises(ModelError, match=r"probability 1.5; wanted a share of 0 to 1"):
        FeatureSwapping(1.5)


def test_a_mean_is_blind_to_a_swap_until_one_of_the_two_is_hidden():
    network, features = encoded()
    available = torch.ones(16, 3, dtype=torch.bool)
    for hidden, blind in ((0.0, True), (1.0, False)):
        torch.manual_seed(5)
        after = FeatureSwapping(1.0, hidden=hidden).adapt(features, modalities=NAMES)
        pairs = zip(network.fuse(features, available), network.fuse(after, available), strict=True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs) is blind
    network, features = encoded(fusion="concat")
    after = FeatureSwapping(1.0, hidden=0.0).adapt(features, modalities=NAMES)
    pairs = zip(network.fuse(features, available), network.fuse(after, available), strict=True)
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in pairs)


def test_the_stream_decides_and_gradients_reach_every_encoder():
    network, features = encoded()
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        found.append(FeatureSwapping(0.8).adapt(features, modalities=NAMES))
    assert equal(*found)
    available = torch.ones(16, 3, dtype=torch.bool)
    network.decode(network.fuse(found[0], available), size=features.size).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.encoders.parameters())


def test_shares_are_measured_on_samples_that_did_not_swap():
    network, features = encoded()
    features = build_strategy(["response", "feature_swapping"]).adapt(features, modalities=NAMES)
    available = torch.ones(16, 3, dtype=torch.bool)
    step = Step(
        network=network, features=features, available=available, target=torch.randint(3, (16, 16, 16)), progress=0.5,
        logits=network.decode(network.fuse(features, available), size=features.size), criterion=SegmentationLoss(),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    ((_, rows),) = MuBounded(ShareTarget.of({"eo": 0.3}, NAMES, tolerance=0))._groups(step)
    assert 0 < len(rows) < 16
    assert not features.changed[rows].any()
