"""Temperature: the minimum is found, sure networks are cooled, and nothing but sureness changes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from equipoise.models.errors import ModelError
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.temperature import HIGHEST, LOWEST, TemperedNetwork, fit_temperature


def _places(count=4000, *, factor=1.0, seed=0):
    """Logits whose softmax at temperature ``factor`` is the truth's distribution."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 4, generator=generator) * 2
    target = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return logits * factor, target


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_planted_overconfidence_is_measured(factor):
    logits, target = _places(20_000, factor=factor)
    assert fit_temperature(logits, target) == pytest.approx(factor, rel=0.04)


@given(seed=st.integers(0, 1000), factor=st.floats(0.3, 4))
def test_no_other_temperature_is_better(seed, factor):
    logits, target = _places(60, factor=factor, seed=seed)
    found = fit_temperature(logits, target)

    def loss(temperature):
        return float(F.cross_entropy(logits.double() / temperature, target))

    for other in (LOWEST, found * 0.9, found * 0.999, found * 1.001, found * 1.1, HIGHEST):
        if LOWEST <= other <= HIGHEST:
            assert loss(found) <= loss(other) + 1e-9


def test_places_without_a_label_do_not_count():
    logits, target = _places()
    wanted = fit_temperature(logits, target)
    more = torch.cat([logits, 100 * torch.randn(500, 4)]), torch.cat([target, torch.full((500,), 255)])
    assert fit_temperature(*more) == wanted
    assert fit_temperature(logits, torch.full_like(target, 255)) == 1.0


def test_the_search_ends_where_no_minimum_is():
    logits, _ = _places()
    assert fit_temperature(logits, logits.argmax(dim=1)) == pytest.approx(LOWEST, rel=1e-6)
    assert fit_temperature(logits, logits.argmin(dim=1)) == pytest.approx(HIGHEST, rel=1e-6)
    with pytest.raises(ModelError, match="not finite"):
        fit_temperature(logits.where(logits < 3, torch.nan), logits.argmax(dim=1))


def test_a_tempered_network_answers_the_same_and_less_surely():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(2, 1), classes=3, depth=1, decoder_channels=(4,))
    network = FusionUNet(spec).eval()
    tempered = TemperedNetwork(network, 2.0).eval()
    image = {"eo": torch.randn(2, 2, 16, 16), "sar": torch.randn(2, 1, 16, 16)}
    valid = {name: torch.ones(2, 16, 16, dtype=torch.bool) for name in image}
    available = torch.tensor([[True, True], [True, False]])
    features = tempered.encode(image, valid=valid, available=available)
    logits = tempered.decode(tempered.fuse(features, available), size=features.size)
    torch.testing.assert_close(logits, network(image, valid=valid, available=available) / 2)
    assert (tempered.modalities, tempered.spec) == (network.modalities, spec)
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ModelError, match="temperature"):
            TemperedNetwork(network, wrong)
