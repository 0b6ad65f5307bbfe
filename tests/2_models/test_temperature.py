"""Temperature: the minimum is found, sure networks are cooled, and nothing but sureness changes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from equipoise.models.errors import ModelError
from equipoise.models.temperature import HIGHEST, LOWEST, fit_temperature


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
