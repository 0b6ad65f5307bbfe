"""Exchanges: against explicit loops, without labels, and of whole images."""

import pytest
import torch
from fake_networks import MODALITIES, Multiplier, Reader, chunked, clues
from hypothesis import given
from hypothesis import strategies as st

from equipoise.models.errors import ModelError
from equipoise.models.exchanges import _pairs, drawn_shifts, exchanged, roll_derangement
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.scores import SCORES, brier_score
from equipoise.models.utilization import permutation_mu, permutation_reliance


@given(batch=st.integers(2, 200), shift=st.integers(-500, 500))
def test_derangements_have_no_fixed_point(batch, shift):
    if shift % batch == 0:
        with pytest.raises(ModelError, match="multiple"):
            roll_derangement(batch, shift)
        return
    index = roll_derangement(batch, shift)
    assert (index != torch.arange(batch)).all()
    assert index.sort().values.equal(torch.arange(batch))


@given(seed=st.integers(0, 1000), rolls=st.integers(1, 6), missing=st.floats(0, 0.9))
def test_exchanges_stay_among_the_holders_of_a_batch(seed, rolls, missing):
    batch = clues(12, seed=seed, missing=missing, size=1)
    generator = torch.Generator().manual_seed(seed)
    found = exchanged(Reader(1.0, 1.0, 1.0), chunked(batch, 5, 7), yardstick=_logits, rolls=rolls, generator=generator)
    assert (found.receiver != found.donor).all()
    assert (found.receiver < 5).equal(found.donor < 5)
    assert batch["available"][found.receiver, found.modality].all()
    assert batch["available"][found.donor, found.modality].all()
    for low, high in ((0, 5), (5, 12)):
        for m in range(3):
            holders = int(batch["available"][low:high, m].sum())
            here = (found.modality == m) & (found.receiver >= low) & (found.receiver < high)
            assert int(here.sum()) == holders * min(rolls, max(holders - 1, 0))
            # Different rolls, hence no pair twice.
            assert len(set(zip(found.receiver[here].tolist(), found.donor[here].tolist(), strict=True))) == here.sum()


def _logits(batch, inputs, logits):
    return lambda mixed: mixed.flatten(1)


@pytest.mark.parametrize("score", SCORES)
def test_all_rolls_are_the_mean_over_all_pairs(score):
    network, batch = Reader(1.0, 0.6, -0.2), clues(7, missing=0.3, noise=1.0, seed=3)
    found = permutation_reliance(network, [batch], score=score, rolls=6, bootstrap=2)
    for m, name in enumerate(MODALITIES):
        rises = []
        holders = batch["available"][:, m].nonzero().flatten().tolist()
        for receiver in holders:
            one = {key: data[[receiver]] for key, data in batch["image"].items()}
            plain = _score(network, one, batch, receiver, score)
            mine = [
                _score(network, one | {name: batch["image"][name][[donor]]}, batch, receiver, score) - plain
                for donor in holders
                if donor != receiver
            ]
            rises.append(sum(mine) / len(mine))
        assert found.reliance[m] == pytest.approx(sum(rises) / len(rises), abs=1e-6)


def _score(network, image, batch, sample, score):
    features = network.encode(image)
    logits = network.decode(network.fuse(features, batch["available"][[sample]]), size=features.size)
    return float(SCORES[score](logits, batch["mask"][[sample]]))


@pytest.mark.parametrize("score", SCORES)
def test_without_labels_equals_labels_that_are_the_prediction(score):
    network, batch = Reader(1.0, 0.6, -0.2), clues(16, noise=1.5)
    features = network.encode(batch["image"])
    mine = batch | {"mask": network.decode(network.fuse(features, batch["available"]), size=(4, 4)).argmax(dim=1)}
    labelled = permutation_reliance(network, [mine], score=score, bootstrap=20)
    bare = {"image": batch["image"]}
    free = permutation_reliance(network, [bare], score=score, against="own_class", bootstrap=20)
    assert free.reliance == pytest.approx(labelled.reliance)
    assert free.share_interval == labelled.share_interval
    assert (free.against, labelled.against) == ("own_class", "labels")
    certain = Reader(1000.0, 600.0, -200.0)
    classes, probabilities = (
        permutation_reliance(certain, [bare], score=score, against=against, bootstrap=20).reliance
        for against in ("own_class", "own_probability")
    )
    assert probabilities == pytest.approx(classes, rel=1e-2)


def test_own_probability_is_half_the_squared_distance_moved():
    network, batch = Reader(1.0, 0.5, 0.0), clues(2, noise=1.0)
    found = permutation_reliance(network, [batch], against="own_probability", rolls=1, bootstrap=2)
    features = network.encode(batch["image"])

    def probability(features):
        return network.decode(network.fuse(features, batch["available"]), size=(4, 4)).softmax(dim=1)

    for m, name in enumerate(MODALITIES):
        moved = probability(features.rolled(name, torch.tensor([1, 0]))) - probability(features)
        assert found.reliance[m] == pytest.approx(float(moved.square().sum(dim=1).mean() / 2), abs=1e-6)


def test_places_that_nothing_observed_do_not_count_without_labels():
    batch = clues(8, size=2)
    seen = torch.zeros(8, 2, 2, dtype=torch.bool)
    seen[:6, 0] = True
    batch["valid"] = dict.fromkeys(MODALITIES, seen)
    whole = permutation_reliance(Reader(1.0, 1.0, 1.0), [batch], against="own_class", rolls=7, bootstrap=2)
    assert whole.samples == 6
    labelled = batch | {"mask": batch["mask"].where(seen, 255)}
    # The evidence is right nearly everywhere, so that labels and predictions agree.
    same = permutation_reliance(Reader(1.0, 1.0, 1.0), [labelled], rolls=7, bootstrap=2)
    assert whole.reliance == pytest.approx(same.reliance)


def test_options_are_checked():
    for wrong, message in (
        ({"against": "truth"}, "'truth'.*own_class"),
        ({"level": "pixel"}, "'pixel'.*feature"),
        ({"bootstrap": 1}, "1 bootstrap"),
    ):
        with pytest.raises(ModelError, match=message):
            permutation_reliance(Reader(1.0, 0.0, 0.0), [clues(4)], **wrong)


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=MODALITIES, in_channels=(1, 1, 1), classes=2, depth=2, decoder_channels=(8, 4))
    return FusionUNet(spec)


def test_images_and_features_give_the_same_with_an_encoder_a_modality(unet):
    batch = clues(6, missing=0.3)
    batch["valid"] = {
        name: torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(m)) < 0.8 for m, name in enumerate(MODALITIES)
    }
    features, images = (
        permutation_reliance(unet, [batch], level=level, rolls=2, bootstrap=20) for level in ("feature", "input")
    )
    assert images.reliance == pytest.approx(features.reliance, abs=1e-6)
    assert (images.level, features.level) == ("input", "feature")


class EarlyReader(Reader):
    """Stacks all images before anything else, and keeps the stack under every name."""

    def encode(self, image, *, valid=None, available=None):
        features = super().encode(image, valid=valid, available=available)
        stack = sum(weight * image[name] for name, weight in self.weights.items())
        features.maps.update({name: [stack] for name in self.modalities})
        return features

    def joined(self, seen):
        return seen[0]


def test_only_images_tell_modalities_of_early_fusion_apart():
    network, batch = EarlyReader(2.0, 1.0, 0.0), clues(40)
    images = permutation_reliance(network, [batch], level="input", bootstrap=20)
    assert images.reliance == pytest.approx(permutation_reliance(Reader(2.0, 1.0, 0.0), [batch]).reliance)
    assert permutation_reliance(network, [batch], bootstrap=20).share == (1, 0, 0)


def test_frozen_parts_stay_frozen(unet):
    unet.train()
    unet.encoders[1].eval()
    permutation_reliance(unet, [clues(4)], bootstrap=2)
    assert [encoder.training for encoder in unet.encoders] == [True, False, True]
    assert not unet.encoders[1].backbone.training


def test_published_utilization_is_in_percent_of_cross_entropy():
    batches = chunked(clues(40, noise=1.0), 20, 20)
    found = permutation_mu(Reader(1.0, 0.5, -0.5), batches, bootstrap=50)
    same = permutation_reliance(Reader(1.0, 0.5, -0.5), batches, score="cross_entropy", rolls=1, bootstrap=50)
    assert found.metric == "permutation_mu"
    assert found.reliance == same.reliance
    assert found.reliance[2] < 0
    assert found.percent[2] == 0
    assert sum(found.percent) == pytest.approx(100)
    assert found.percent[0] == pytest.approx(100 * found.reliance[0] / (found.reliance[0] + found.reliance[1]))
    assert permutation_mu(Reader(0.0, 0.0, 0.0), batches, bootstrap=50).percent is None


def test_a_product_of_two_makes_both_indispensable():
    batch = clues(200, size=1)
    sign = torch.randint(0, 2, batch["mask"].shape, generator=torch.Generator().manual_seed(1))[:, None] * 2.0 - 1
    batch["image"] = {"eo": sign, "sar": sign * (2.0 * batch["mask"] - 1)[:, None], "ir": sign}
    found = permutation_reliance(Multiplier(1.0, 1.0, 1.0), [batch], bootstrap=50)
    assert found.reliance == pytest.approx((0.5, 0.5, 0.0), abs=0.06)


def test_closed_form_of_one_exchange():
    # Two samples, opposite classes: after the exchange of everything that counts, both are wrong for certain.
    mask = torch.tensor([[[0]], [[1]]])
    batch = {"image": dict.fromkeys(MODALITIES, (2.0 * mask - 1)[:, None]), "mask": mask}
    assert permutation_reliance(Reader(99.0, 0.0, 0.0), [batch], bootstrap=2).reliance == pytest.approx((1, 0, 0))
    assert brier_score(torch.tensor([[99.0, -99.0]]), torch.tensor([1])).item() == pytest.approx(1)


def test_modalities_that_the_same_samples_have_move_between_the_same_pairs():
    available = torch.tensor([[True, True, True]] * 6 + [[True, True, False]])
    pairs = list(_pairs(available, rolls=3, generator=torch.Generator().manual_seed(5)))
    by_column = [
        [(receiver.tolist(), donor.tolist()) for column, receiver, donor in pairs if column == c] for c in range(3)
    ]
    assert by_column[0] == by_column[1]
    assert len(by_column[2]) == 3
    assert all(6 not in receiver + donor for receiver, donor in by_column[2])


def test_shifts_are_different_and_none_where_there_is_no_partner():
    generator = torch.Generator().manual_seed(0)
    assert sorted(drawn_shifts(5, 9, generator=generator)) == [1, 2, 3, 4]
    assert [drawn_shifts(batch, 3, generator=generator) for batch in (0, 1)] == [[], []]
