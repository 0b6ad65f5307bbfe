"""Core answers: the middle of a window, decoded alone, is what the whole window says there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.models.baselines import LateFusion
from equipoise.models.core_answers import CoreRegions
from equipoise.models.fusion import FUSIONS
from equipoise.models.inference_form import inference_form
from equipoise.models.network import FusionUNet, NetworkSpec

NAMES = ("eo", "sar", "ir")


def _network(**changes):
    torch.manual_seed(0)
    spec = NetworkSpec(
        **{"modalities": NAMES, "in_channels": (2, 1, 1), "classes": 3, "depth": 3, "decoder_channels": (16, 8, 4),
           **changes}
    )  # fmt: skip
    kind = LateFusion if changes.get("kind") == "late" else FusionUNet
    network = kind(spec).train()
    with torch.no_grad():  # statistics of its own, so that normalisation does something
        for _ in range(3):
            network({name: 1 + 2 * torch.randn(4, bands, 32, 32) for name, bands in zip(NAMES, (2, 1, 1), strict=True)})
    return network.eval()


@pytest.fixture(scope="module")
def networks():
    return {depth: _network(depth=depth, decoder_channels=(16, 8, 6, 4)[:depth]) for depth in (1, 2, 3, 4)}


def _encoded(network, *, rows, columns, batch=2, holes=0.1):
    make = torch.Generator().manual_seed(rows * 100 + columns)
    image = {n: torch.randn(batch, b, rows, columns, generator=make) for n, b in zip(NAMES, (2, 1, 1), strict=True)}
    valid = {name: torch.rand(batch, rows, columns, generator=make) >= holes for name in NAMES}
    return network.encode(image, valid=valid, available=torch.ones(batch, 3, dtype=torch.bool))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_core_is_decoded_as_in_the_whole_window(networks, data):
    network = networks[data.draw(st.integers(1, 4))]
    rows, columns = (data.draw(st.integers(20, 90)) for _ in range(2))
    start = data.draw(st.integers(0, 15))
    core = slice(start, data.draw(st.integers(start + 1, min(rows, columns))))
    every = data.draw(st.integers(1, 3))
    available = torch.tensor(data.draw(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2,
                                                max_size=2)))  # fmt: skip
    with torch.no_grad():
        features = _encoded(network, rows=rows, columns=columns)
        whole = network.decode(network.fuse(features, available), size=features.size)
        found = network.core_answers(features, core, every=every)(available)
    torch.testing.assert_close(found, whole[..., core, core][..., ::every, ::every], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", [*({"fusion": name} for name in FUSIONS), {"norm": "layer"}, {"kind": "late"}])
def test_every_network_has_core_answers(changes):
    network = _network(**changes)
    available = torch.tensor([[True, False, True], [False, True, False]])
    with torch.no_grad():
        features = _encoded(network, rows=64, columns=64)
        whole = network.decode(network.fuse(features, available), size=features.size)
        for core in (slice(8, 56), None):
            wanted = whole if core is None else whole[..., core, core]
            found = network.core_answers(features, core)(available)
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_core_of_a_window_of_256_px_needs_two_thirds_of_it():
    regions = CoreRegions.of(slice(32, 224), sizes=[(256 >> scale, 256 >> scale) for scale in range(5)])
    edges = [rows.stop - rows.start for rows, _ in regions.inputs]
    assert edges == [32, 56, 104, 200]
    assert sum(edge**2 for edge in edges) < 0.67 * sum((256 >> scale) ** 2 for scale in range(4))


@pytest.mark.parametrize("changes", [{}, {"norm": "layer"}, {"kind": "late"}, {"fusion": "gated"}])
def test_the_inference_form_says_the_same(changes):
    network = _network(**changes)
    image = {name: torch.randn(2, bands, 45, 70) for name, bands in zip(NAMES, (2, 1, 1), strict=True)}
    available = torch.tensor([[True, False, True], [True, True, False]])
    with torch.no_grad():
        before = network(image, available=available)
        form = inference_form(inference_form(network))
        after = form(image, available=available)
        features = form.encode(image, available=available)
        core = form.core_answers(features, slice(8, 40))(available)
        again = network(image, available=available)
    assert before.std() > 1e-2
    assert torch.equal(again, before)  # the network itself is as it was
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(core, before[..., 8:40, 8:40], atol=1e-4, rtol=1e-4)
