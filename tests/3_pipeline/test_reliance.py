"""Reliance laws: the contributions are Shapley values, and planted truth comes back."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.pipeline.reliance import INDETERMINATE_BELOW, contributions, tile_shares, tile_sums

NAMES = ("eo", "sar", "ir")
SIZE = (12, 10)


def _batch(names, bands, *, batch=3, seed=0):
    make = torch.Generator().manual_seed(seed)
    image = {name: torch.randn(batch, bands, *SIZE, generator=make) for name in names}
    valid = {name: torch.rand(batch, *SIZE, generator=make) > 0.1 for name in names}
    return image, valid


def _phi(network, image, valid, available, *, prior, method="shapley"):
    features = network.encode(image, valid=valid, available=available)
    full = network.decode(network.fuse(features, available), size=features.size)
    return contributions(network, features, available, full=full, prior=prior, method=method), full


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=NAMES, in_channels=(2, 2, 2), classes=3, depth=1, decoder_channels=(6,))
    return FusionUNet(spec).eval()


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), data=st.data())
def test_contributions_sum_to_all_minus_none(network, seed, data):
    image, valid = _batch(NAMES, 2, seed=seed)
    # Samples of one batch may lack different modalities.
    available = torch.tensor(data.draw(st.lists(st.lists(st.booleans(), min_size=3, max_size=3).filter(any),
                                                min_size=3, max_size=3)))  # fmt: skip
    prior = torch.softmax(torch.randn(3, generator=torch.Generator().manual_seed(seed)), dim=0)
    phi, full = _phi(network, image, valid, available, prior=prior)
    predicted = full.argmax(dim=1)
    gain = full.softmax(dim=1).amax(dim=1) - prior[predicted]
    assert phi.shape == (3, 3, *SIZE)
    torch.testing.assert_close(phi.sum(dim=1), gain, atol=1e-5, rtol=0)
    assert (phi[~available] == 0).all()


def test_synergy_is_what_all_tell_beyond_what_each_tells_alone(network):
    image, valid = _batch(NAMES, 2)
    available = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    prior = torch.tensor([0.5, 0.3, 0.2])
    features = network.encode(image, valid=valid, available=available)
    full = network.decode(network.fuse(features, available), size=features.size)
    found = contributions(network, features, available, full=full, prior=prior, synergy=True)
    torch.testing.assert_close(
        found[:, :3], contributions(network, features, available, full=full, prior=prior), atol=1e-6, rtol=0
    )
    predicted = full.argmax(dim=1, keepdim=True)
    none = prior[predicted[:, 0]]
    expected = full.softmax(dim=1).gather(1, predicted)[:, 0] - none
    for row, column in available.nonzero().tolist():
        alone = torch.zeros_like(available)
        alone[:, column] = available[:, column]
        answer = network.decode(network.fuse(features, alone), size=features.size).softmax(dim=1)
        expected[row] -= (answer.gather(1, predicted)[:, 0] - none)[row]
    torch.testing.assert_close(found[:, 3], expected, atol=1e-5, rtol=0)
    # Where there is one sensor, nothing is told together.
    assert found[2, 3].abs().max() < 1e-5


def test_an_absent_modality_has_exactly_nothing(network):
    image, valid = _batch(NAMES, 2)
    prior = torch.full((3,), 1 / 3)
    for absent in range(3):
        available = torch.ones(3, 3, dtype=torch.bool)
        available[:, absent] = False
        phi, _ = _phi(network, image, valid, available, prior=prior)
        assert (phi[:, absent] == 0).all()
        assert (phi[:, [m for m in range(3) if m != absent]].abs().amax(dim=(0, 2, 3)) > 0).all()
    nothing, _ = _phi(network, image, valid, torch.zeros(3, 3, dtype=torch.bool), prior=prior)
    assert (nothing == 0).all()


def test_a_modality_without_evidence_has_no_share(pixel_network):
    image, valid = _batch(NAMES, 3)
    image["ir"] = torch.zeros_like(image["ir"])
    available = torch.ones(3, 3, dtype=torch.bool)
    phi, _ = _phi(pixel_network(NAMES), image, valid, available, prior=torch.full((3,), 1 / 3))
    assert phi[:, 2].abs().max() < 1e-6
    assert phi[:, :2].abs().mean() > 0.05


def test_identical_twins_share_equally(pixel_network):
    image, valid = _batch(NAMES, 3)
    image["ir"], valid["ir"] = image["eo"], valid["eo"]
    available = torch.ones(3, 3, dtype=torch.bool)
    phi, _ = _phi(pixel_network(NAMES), image, valid, available, prior=torch.full((3,), 1 / 3))
    torch.testing.assert_close(phi[:, 0], phi[:, 2], atol=1e-6, rtol=0)
    assert phi[:, 0].abs().mean() > 0.05


def _alone(image, *, prior):
    """Probability of each class from some of the images, as softmax of their sum says."""

    def chance(*names):
        return sum(image[name] for name in names).softmax(dim=1) if names else prior.view(1, -1, 1, 1)

    return chance


def test_leave_one_out_is_what_is_lost(pixel_network):
    image, _ = _batch(NAMES, 3)
    valid = {name: torch.ones(3, *SIZE, dtype=torch.bool) for name in NAMES}
    prior = torch.tensor([0.5, 0.3, 0.2])
    phi, full = _phi(
        pixel_network(NAMES), image, valid, torch.ones(3, 3, dtype=torch.bool), prior=prior, method="leave_one_out"
    )
    chance, best = _alone(image, prior=prior), full.argmax(dim=1, keepdim=True)
    for column, name in enumerate(NAMES):
        lost = chance(*NAMES) - chance(*(other for other in NAMES if other != name))
        torch.testing.assert_close(phi[:, column], lost.gather(1, best)[:, 0], atol=1e-6, rtol=0)


def test_leave_one_out_keeps_the_laws_that_it_can(pixel_network):
    """A sensor without evidence and an absent one have nothing; twins share equally; a lone one has all."""
    image, valid = _batch(NAMES, 3)
    image["ir"], valid["ir"] = image["eo"], valid["eo"]
    image["sar"] = torch.zeros_like(image["sar"])
    prior = torch.full((3,), 1 / 3)
    network = pixel_network(NAMES)
    phi, _ = _phi(network, image, valid, torch.ones(3, 3, dtype=torch.bool), prior=prior, method="leave_one_out")
    assert phi[:, 1].abs().max() < 1e-6
    torch.testing.assert_close(phi[:, 0], phi[:, 2], atol=1e-6, rtol=0)
    lone = torch.tensor([[True, False, False]] * 3)
    phi, full = _phi(network, image, valid, lone, prior=prior, method="leave_one_out")
    assert (phi[:, 1:] == 0).all()
    torch.testing.assert_close(phi[:, 0], full.softmax(dim=1).amax(dim=1) - 1 / 3, atol=1e-6, rtol=0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_the_modalities_only_orders_the_shares(pixel_network, order):
    image, valid = _batch(NAMES, 3)
    available = torch.tensor([[True, True, True], [True, False, True], [False, True, True]])
    prior = torch.tensor([0.5, 0.3, 0.2])
    phi, _ = _phi(pixel_network(NAMES), image, valid, available, prior=prior)
    turned, _ = _phi(
        pixel_network(tuple(NAMES[m] for m in order)), image, valid, available[:, list(order)], prior=prior
    )  # fmt: skip
    torch.testing.assert_close(turned, phi[:, list(order)], atol=1e-6, rtol=0)


def test_planted_truth_comes_back(pixel_network):
    """The left half is told by radar alone, the right half by optics alone."""
    truth = torch.randint(0, 2, (1, 32, 32), generator=torch.Generator().manual_seed(0))
    evidence = 6.0 * (torch.nn.functional.one_hot(truth, 2).permute(0, 3, 1, 2).float() - 0.5)
    left = (torch.arange(32) < 16).float()
    faint = 0.1 * torch.randn(2, 1, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    image = {"eo": evidence * (1 - left) + faint[0], "sar": evidence * left + faint[1]}
    valid = {name: torch.ones(1, 32, 32, dtype=torch.bool) for name in image}
    available = torch.ones(1, 2, dtype=torch.bool)
    phi, _ = _phi(pixel_network(("eo", "sar")), image, valid, available, prior=torch.tensor([0.5, 0.5]))
    shares = tile_shares(*tile_sums(phi[0].numpy(), np.ones((32, 32), bool), tile=8))
    assert shares[1, :, :2].min() > 0.8
    assert shares[0, :, 2:].min() > 0.8


@given(
    tile=st.integers(1, 5), rows=st.integers(1, 4), cols=st.integers(1, 4), members=st.integers(1, 4),
    seed=st.integers(0, 1000), scale=st.sampled_from([1e-6, 0.01, 1.0]),
)  # fmt: skip
def test_shares_sum_to_one_where_defined_and_nowhere_else(tile, rows, cols, members, seed, scale):
    rng = np.random.default_rng(seed)
    phi = (scale * rng.standard_normal((members, rows * tile, cols * tile))).astype(np.float32)
    valid = rng.random(phi.shape[1:]) > rng.random()
    sums, counts = tile_sums(phi, valid, tile=tile)
    shares = tile_shares(sums, counts)
    assert shares.shape == (members, rows, cols)
    assert shares.dtype == np.float32
    for row, col in itertools.product(range(rows), range(cols)):
        at = slice(row * tile, (row + 1) * tile), slice(col * tile, (col + 1) * tile)
        seen = np.abs(phi[:, *at][:, valid[at]])
        assert counts[row, col] == seen.shape[1]
        strength = float(seen.mean(axis=1).sum()) if seen.size else 0.0
        if abs(strength - INDETERMINATE_BELOW) < 1e-6:
            continue  # the two sides of the bound round differently
        if strength > INDETERMINATE_BELOW:
            np.testing.assert_allclose(shares[:, row, col], seen.mean(axis=1) / strength, atol=1e-5)
            assert shares[:, row, col].sum() == pytest.approx(1, abs=1e-5)
        else:
            assert np.isnan(shares[:, row, col]).all()


def test_invalid_pixels_do_not_count_even_where_they_are_not_numbers():
    phi = np.array([[[0.4, np.nan], [0.2, np.inf]], [[0.1, np.nan], [0.2, 9.0]]], np.float32)
    valid = np.array([[True, False], [True, False]])
    sums, counts = tile_sums(phi, valid, tile=2)
    assert counts.tolist() == [[2]]
    np.testing.assert_allclose(tile_shares(sums, counts)[:, 0, 0], [2 / 3, 1 / 3], atol=1e-6)
