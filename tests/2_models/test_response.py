"""Response regularisation: what is replaced, what stays, and that it repeats itself."""

import pytest
import torch

from equipoise.models.balancing import build_strategy
from equipoise.models.balancing.mu_bounded import MuBounded, unchanged
from equipoise.models.balancing.response import Response
from equipoise.models.balancing.share_target import ShareTarget
from equipoise.models.balancing.strategy import Step
from equipoise.models.losses import SegmentationLoss
from equipoise.models.network import FusionUNet, NetworkSpec

SPEC = NetworkSpec(
    modalities=("eo", "sar", "ir"), in_channels=(3, 2, 1), classes=3, depth=2, decoder_channels=(8, 4), norm="layer"
)


def encoded(batch=16):
    torch.manual_seed(0)
    network = FusionUNet(SPEC)
    image = {name: torch.randn(batch, bands, 16, 16) for name, bands in zip(SPEC.modalities, (3, 2, 1), strict=True)}
    return network, network.encode(image)


def changed_samples(before, after, name):
    pairs = zip(before.maps[name], after.maps[name], strict=True)
    return torch.stack([(a != b).flatten(1).any(dim=1) for a, b in pairs]).any(dim=0)


def test_at_most_one_modality_of_a_sample_is_replaced_and_the_rest_stays():
    _, features = encoded()
    after = Response(1.0).adapt(features, modalities=SPEC.modalities)
    hit = torch.stack([changed_samples(features, after, name) for name in SPEC.modalities])
    assert (hit.sum(dim=0) <= 1).all()
    assert hit.any(dim=1).all()
    assert after.changed.all()
    assert not Response(0.0).adapt(features, modalities=SPEC.modalities).changed.any()


def test_about_as_many_samples_are_replaced_as_asked_for():
    _, features = encoded(batch=64)
    torch.manual_seed(1)
    shares = [Response(0.4).adapt(features, modalities=SPEC.modalities).changed.float().mean() for _ in range(30)]
    assert float(torch.stack(shares).mean()) == pytest.approx(0.4, abs=0.04)


def test_the_same_stream_gives_the_same_features_and_gradients_reach_the_encoders():
    network, features = encoded()
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        found.append(Response(0.8).adapt(features, modalities=SPEC.modalities))
    for name in SPEC.modalities:
        assert all(torch.equal(a, b) for a, b in zip(found[0].maps[name], found[1].maps[name], strict=True))
    available = torch.ones(16, 3, dtype=torch.bool)
    network.decode(network.fuse(found[0], available), size=features.size).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.encoders.parameters())


def test_a_single_sample_or_modality_is_left_alone():
    _, features = encoded(batch=1)
    assert Response(1.0).adapt(features, modalities=SPEC.modalities) is features
    _, features = encoded(batch=4)
    assert Response(1.0).adapt(features, modalities=("eo",)) is features


def test_shares_are_measured_on_samples_that_were_not_changed():
    network, features = encoded()
    features = Response(0.5).adapt(features, modalities=SPEC.modalities)
    available = torch.ones(16, 3, dtype=torch.bool)
    step = Step(
        network=network, features=features, available=available, target=torch.randint(3, (16, 16, 16)), progress=0.5,
        logits=network.decode(network.fuse(features, available), size=features.size), criterion=SegmentationLoss(),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert torch.equal(unchanged(step), ~features.changed)
    steering = MuBounded(ShareTarget.of({"eo": 0.3}, SPEC.modalities, tolerance=0))
    ((_, rows),) = steering._groups(step)
    assert not features.changed[rows].any()


def test_it_is_a_strategy_by_name():
    assert isinstance(build_strategy("response"), Response)
