"""Coalition information: axioms through a network, closed forms, chunks, intervals."""

import json
import math

import pytest
import torch
from fake_networks import MODALITIES, Multiplier, Reader, chunked, clues
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.models.coalitions import coalitions, shapley_values
from equipoise.models.errors import ModelError
from equipoise.models.information import coalition_information, measured_coalitions
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.scores import SCORES
from equipoise.models.utilization import coalition_scores


@pytest.mark.parametrize("score", SCORES)
def test_values_are_those_of_explicit_loops(score):
    network, batch = Reader(1.0, 0.6, -0.2), clues(9, missing=0.3, noise=1.0)
    batch["mask"][0, :2] = 255
    batch["mask"][1] = 255
    found = coalition_information(network, [batch], score=score, prior=(0.3, 0.7), bootstrap=20)
    logits = coalition_scores(network, batch)
    prior = torch.tensor([0.3, 0.7]).log()[None, :, None, None].expand(9, 2, 4, 4)
    nothing = SCORES[score](prior, batch["mask"])
    hits = torch.zeros(8)
    values = torch.zeros(8, 9)
    for position, subset in enumerate(coalitions(3)):
        for sample in range(9):
            sees = (batch["available"][sample] & subset).any()
            seen = (logits[position] if sees else prior)[[sample]]
            values[position, sample] = nothing[sample] - SCORES[score](seen, batch["mask"][[sample]])
            hits[position] += (seen.argmax(dim=1) == batch["mask"][[sample]]).sum()
    labelled = (batch["mask"] != 255).sum()
    kept = [0, *range(2, 9)]
    assert found.value == pytest.approx(values[:, kept].mean(dim=1).tolist(), abs=1e-6)
    assert found.information == pytest.approx(shapley_values(values[:, kept].mean(dim=1), members=3).tolist(), abs=1e-6)
    assert found.accuracy == pytest.approx((hits / labelled).tolist())
    assert found.baseline == pytest.approx(float(nothing[kept].mean()))
    assert found.samples == 8
    assert list(found.present) == batch["available"][kept].sum(dim=0).tolist()


@given(weights=st.tuples(*[st.floats(-3, 3)] * 3), seed=st.integers(0, 1000), missing=st.floats(0, 0.9))
@settings(max_examples=20)
def test_information_adds_up_to_what_everything_tells(weights, seed, missing):
    found = coalition_information(Reader(*weights), [clues(6, seed=seed, missing=missing)], bootstrap=10)
    assert sum(found.information) == pytest.approx(found.value[-1], abs=1e-9)
    assert found.value[0] == 0
    if not found.indeterminate:
        assert sum(found.share) == pytest.approx(1)


def test_subsets_without_the_modality_that_changed_are_taken_over():
    network, batch = Reader(1.0, 0.6, -0.2), clues(9, missing=0.3, noise=1.0)
    worse = {**batch, "image": {**batch["image"], "sar": -batch["image"]["sar"]}}
    tried = []
    part = measured_coalitions(network, [worse], only=1, watch=lambda position, *_: tried.append(position))
    assert tried == [0b010, 0b011, 0b110, 0b111]
    found = part.completed(measured_coalitions(network, [batch]), changed=1)
    whole = measured_coalitions(network, [worse])
    for name in ("score", "hits", "labels", "present"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), equal_nan=True)


def test_what_is_never_read_tells_nothing():
    found = coalition_information(Reader(1.0, 0.0, 0.5), [clues(20, noise=1.0)], prior=(0.5, 0.5), bootstrap=50)
    # A network that gives every class a half on an unread modality is as good as the prior.
    assert found.information[1] == pytest.approx(0, abs=1e-12)
    assert found.share[1] == pytest.approx(0, abs=1e-12)
    assert found.present == (20, 20, 20)


def test_twins_share_equally():
    batch = clues(20, noise=1.0)
    batch["image"]["sar"] = batch["image"]["eo"]
    found = coalition_information(Reader(1.0, 1.0, 0.3), [batch], bootstrap=50)
    assert found.information[0] == pytest.approx(found.information[1])
    assert found.share_interval[0] == pytest.approx(found.share_interval[1])


def test_certain_evidence_is_worth_the_entropy_of_the_prior():
    batch = clues(40, size=8)
    batch["mask"][:, 0] = 1
    batch["image"]["sar"] = (2.0 * batch["mask"] - 1)[:, None]
    found = coalition_information(Reader(0.0, 99.0, 0.0), [batch], score="cross_entropy", bootstrap=50)
    entropy = -sum(p * math.log(p) for p in found.prior)
    assert found.baseline == pytest.approx(entropy)
    assert found.value[0b010] == pytest.approx(entropy, abs=1e-3)
    assert found.accuracy[0b010] == 1
    assert found.accuracy[0] == pytest.approx(max(found.prior))
    ones = float((batch["mask"] == 1).double().mean())
    assert found.prior == pytest.approx((1 - ones, ones))


def test_synergy_is_split_and_flagged():
    batch = clues(100, size=2)
    sign = torch.randint(0, 2, batch["mask"].shape, generator=torch.Generator().manual_seed(1))[:, None] * 2.0 - 1
    batch["image"] = {"eo": sign, "sar": sign * (2.0 * batch["mask"] - 1)[:, None], "ir": sign}
    found = coalition_information(Multiplier(1.0, 1.0, 1.0), [batch], prior=(0.5, 0.5), bootstrap=100)
    assert found.share == pytest.approx((0.5, 0.5, 0.0), abs=1e-6)
    assert found.synergy == pytest.approx(found.value[-1])
    assert found.counted_twice
    plain = coalition_information(Reader(1.0, 1.0, 1.0), [clues(40)], bootstrap=50)
    assert plain.synergy < 0
    assert not plain.counted_twice


@pytest.mark.parametrize("sizes", [(24,), (1,) * 24, (5, 19), (23, 1), (8, 8, 8)])
def test_chunks_change_nothing(sizes):
    batch = clues(24, missing=0.4, noise=1.0)
    batch["mask"][3] = 255
    network = Reader(1.0, 0.6, -0.2)
    whole = coalition_information(network, [batch], bootstrap=30).to_dict()
    parts = coalition_information(network, iter(chunked(batch, *sizes)), bootstrap=30).to_dict()
    for name, value in whole.items():
        if name in ("accuracy", "accuracy_interval", "prior", "samples", "present"):
            assert parts[name] == value  # counts
        elif isinstance(value, float | list) and name != "modalities":
            # The last bit of a softmax depends on how its vector is cut.
            torch.testing.assert_close(torch.tensor(parts[name]), torch.tensor(value), atol=1e-6, rtol=0)


@given(order=st.permutations(range(3)))
@settings(max_examples=6)
def test_permuting_the_modalities_permutes_the_result(order):
    batch, weights = clues(10, missing=0.3, noise=1.0), (1.0, 0.6, -0.2)
    plain = coalition_information(Reader(*weights), [batch], bootstrap=20)
    names = tuple(MODALITIES[m] for m in order)
    turned = batch | {"available": batch["available"][:, order]}
    found = coalition_information(Reader(*(weights[m] for m in order), modalities=names), [turned], bootstrap=20)
    assert found.modalities == names
    assert found.information == pytest.approx([plain.information[m] for m in order])
    assert found.share == pytest.approx([plain.share[m] for m in order])
    for position, m in enumerate(order):
        assert found.information_interval[position] == pytest.approx(plain.information_interval[m])


def test_a_sample_without_anything_is_worth_the_prior():
    batch = clues(10)
    batch["available"][:] = True
    batch["available"][4:] = False
    found = coalition_information(Reader(99.0, 99.0, 99.0), [batch], prior=(0.5, 0.5), bootstrap=20)
    # Half the Brier score of a coin is 1/4; four of ten samples gain all of it.
    assert found.value[-1] == pytest.approx(0.4 * 0.25, abs=1e-4)
    # Nothing usable is as good as absent.
    batch["available"][:] = True
    batch["valid"] = {name: (torch.arange(10) < 4)[:, None, None].expand(10, 4, 4) for name in MODALITIES}
    same = coalition_information(Reader(99.0, 99.0, 99.0), [batch], prior=(0.5, 0.5), bootstrap=20)
    assert same.information == pytest.approx(found.information)
    assert same.present == (4, 4, 4)


def test_nothing_learned_is_indeterminate():
    found = coalition_information(Reader(0.0, 0.0, 0.0), [clues(20)], prior=(0.5, 0.5), bootstrap=50)
    assert found.indeterminate
    assert found.share is None
    assert found.share_interval is None
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["share"] is None


def test_intervals_cover_the_truth():
    network, prior = Reader(0.6, 0.4, 0.2), (0.5, 0.5)
    truth = coalition_information(network, [clues(40_000, noise=1.0, size=2)], prior=prior, bootstrap=2)
    covered = []
    for seed in range(1, 31):
        batch = clues(60, noise=1.0, size=2, seed=seed)
        found = coalition_information(network, [batch], prior=prior, bootstrap=200, seed=seed)
        covered += [
            low < value < high
            for pairs, values in (
                (found.information_interval, truth.information),
                (found.share_interval, truth.share),
                (found.accuracy_interval[1:], truth.accuracy[1:]),
            )
            for (low, high), value in zip(pairs, values, strict=True)
        ]
    # 390 intervals; those of one data set depend on each other, hence the room around 95 %.
    assert 0.89 <= sum(covered) / len(covered) <= 0.99


def test_the_real_network_adds_up_in_any_chunks():
    torch.manual_seed(0)
    spec = NetworkSpec(modalities=MODALITIES, in_channels=(1, 1, 1), classes=2, depth=2, decoder_channels=(8, 4))
    network, batch = FusionUNet(spec).train(), clues(6, missing=0.3)
    whole = coalition_information(network, [batch], bootstrap=20)
    assert network.training
    assert sum(whole.information) == pytest.approx(whole.value[-1])
    # A convolution over another batch size may round otherwise.
    parts = coalition_information(network, chunked(batch, 1, 3, 2), bootstrap=20)
    assert parts.information == pytest.approx(whole.information, abs=1e-5)


def test_patches_with_one_label_are_measured_too():
    spec = NetworkSpec(
        modalities=MODALITIES, in_channels=(1, 1, 1), classes=2, task="classification", depth=2, decoder_channels=(8, 4)
    )
    batch = clues(6)
    batch["label"] = batch.pop("mask")[:, 0, 0]
    assert coalition_information(FusionUNet(spec), [batch], bootstrap=20).samples == 6


def test_what_cannot_be_measured_is_refused():
    network, batch = Reader(1.0, 0.0, 0.0), clues(4)
    many = tuple(f"m{n}" for n in range(9))
    cases = [
        (Reader(*range(9), modalities=many), [clues(4, modalities=many)], {}, "9 modalities.*at most 8"),
        (network, [], {}, "no batch"),
        (network, [batch | {"mask": torch.full_like(batch["mask"], 255)}], {}, "0 labelled"),
        (network, [clues(1)], {}, "1 labelled"),
        (network, [batch], {"prior": (0.2, 0.3, 0.5)}, "3 classes"),
        (network, [batch], {"prior": (0.2, 0.3)}, "sum 0.5"),
        (network, [batch], {"prior": (-0.5, 1.5)}, "probabilities"),
        (network, [batch], {"prior": (0.0, 1.0), "score": "cross_entropy"}, r"prior 0.*\[0\]"),
        (network, [batch], {"score": "accuracy"}, "'accuracy'"),
        (network, [batch], {"bootstrap": 1}, "1 bootstrap"),
    ]
    for model, batches, options, message in cases:
        with pytest.raises(ModelError, match=message):
            coalition_information(model, batches, **options)
    assert coalition_information(network, [batch], prior=(0.0, 1.0)).prior == (0, 1)
