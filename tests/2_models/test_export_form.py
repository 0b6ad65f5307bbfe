"""ExportForm: what the network says, for every kind of network, in a graph that does not depend on what is there."""

import itertools

import pytest
import torch

from equipoise.models.baselines import BASELINES, build_network
from equipoise.models.errors import ModelError
from equipoise.models.export_form import ExportForm
from equipoise.models.fusion import FUSIONS
from equipoise.models.network import NetworkSpec

BANDS = {"eo": 3, "sar": 2}
SUBSETS = torch.tensor(list(itertools.product([True, False], repeat=len(BANDS))))
KINDS = [{"fusion": name} for name in FUSIONS] + [{"kind": name} for name in BASELINES]


def _network(**changes):
    values = {"modalities": tuple(BANDS), "in_channels": tuple(BANDS.values()), "classes": 4, "depth": 2}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(NetworkSpec(**values | {"decoder_channels": (8, 4)} | changes))
        for parameter in network.parameters():  # some begin at 0
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network.eval()


def _form(network, **changes):
    plain = {
        "mean": {name: [0.0] * bands for name, bands in BANDS.items()},
        "std": {name: [1.0] * bands for name, bands in BANDS.items()},
        "decibels": {name: [False] * bands for name, bands in BANDS.items()},
    }
    return ExportForm(network, **plain | changes).eval()


def _batch(rows, columns):
    generator = torch.Generator().manual_seed(0)
    count = len(SUBSETS)
    image = {name: torch.randn(count, bands, rows, columns, generator=generator) for name, bands in BANDS.items()}
    valid = {name: torch.rand(count, rows, columns, generator=generator) > 0.2 for name in BANDS}
    return image, valid


@pytest.mark.parametrize("changes", [*KINDS, {"norm": "layer"}], ids=str)
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_it_says_what_the_network_says_from_every_subset_at_any_size(changes, task):
    network = _network(task=task, **changes)
    form = _form(network, temperature=0.5)
    for size in ((16, 16), (9, 21), (1, 3)):
        image, valid = _batch(*size)
        with torch.no_grad():
            wanted = (network(image, valid=valid, available=SUBSETS) / 0.5).softmax(dim=1)
            found = form(list(image.values()), list(valid.values()), SUBSETS)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_values_that_are_no_numbers_are_not_valid():
    form, (image, valid) = _form(_network()), _batch(8, 8)
    blank = {name: torch.where(valid[name][:, None], values, torch.nan) for name, values in image.items()}
    everywhere = [torch.ones_like(mask) for mask in valid.values()]
    with torch.no_grad():
        wanted = form(list(image.values()), list(valid.values()), SUBSETS)
        assert torch.equal(form(list(blank.values()), everywhere, SUBSETS), wanted)


def test_backscatter_is_given_in_linear_power_and_normalised_in_decibels():
    network = _network()
    form = _form(
        network, mean={"eo": [0.0] * 3, "sar": [-12.0, 0.0]}, std={"eo": [1.0] * 3, "sar": [4.0, 1.0]},
        decibels={"eo": [False] * 3, "sar": [True, False]},
    )  # fmt: skip
    image, valid = _batch(8, 8)
    power = image["sar"].clone()
    power[:, 0] = 10 ** ((4 * power[:, 0] - 12) / 10)
    with torch.no_grad():
        wanted = network(image, valid=valid, available=SUBSETS).softmax(dim=1)
        found = form([image["eo"], power], list(valid.values()), SUBSETS)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_the_network_stays_as_it_is():
    network = _network()
    _form(network)
    assert "_encode_one" not in vars(network)


def test_a_modality_needs_statistics():
    with pytest.raises(ModelError, match="statistics"):
        _form(_network(), mean={"eo": [0.0] * 3})
