"""Auxiliary losses: what is added, from which passes, and who learns from it."""

import pytest
import torch
from torch.nn import functional as F

from equipoise.models.balancing.auxiliary import Auxiliary, deep_loss
from equipoise.models.balancing.strategy import Step
from equipoise.models.baselines import build_baseline
from equipoise.models.errors import ModelError
from equipoise.models.losses import IGNORE, SegmentationLoss
from equipoise.models.network import FusionUNet, NetworkSpec

MODALITIES, BANDS = ("eo", "sar"), (3, 1)
AVAILABLE = torch.tensor([[True, True], [True, False], [False, True]])


def _spec(**changes):
    values = {"modalities": MODALITIES, "in_channels": BANDS, "classes": 3, "depth": 2, "decoder_channels": (8, 4)}
    return NetworkSpec(**{**values, "deep_supervision": True, **changes})


def _step(network, *, available=AVAILABLE, criterion=F.cross_entropy, ignored=False):
    generator = torch.Generator().manual_seed(0)
    image = {
        name: torch.randn(3, bands, 9, 11, generator=generator) for name, bands in zip(MODALITIES, BANDS, strict=True)
    }
    shape = (3, 9, 11) if network.spec.task == "segmentation" else (3,)
    target = torch.randint(0, 3, shape, generator=generator)
    features = network.encode(image, available=available)
    return Step(
        network=network, features=features, available=available,
        logits=network.decode(network.fuse(features, available), size=features.size),
        target=torch.full_like(target, IGNORE) if ignored else target, criterion=criterion, generator=generator,
        progress=0.5,
    )  # fmt: skip


def _network(**changes):
    torch.manual_seed(0)
    return FusionUNet(_spec(**changes))


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_each_modality_answers_alone_for_the_samples_that_have_it(task):
    network = _network(task=task, deep_supervision=False).eval()
    step = _step(network)
    expected = 0.0
    for column, rows in ((0, [0, 1]), (1, [0, 2])):
        alone = torch.zeros(3, 2, dtype=torch.bool)
        alone[:, column] = True
        expected += F.cross_entropy(step.decode(alone)[rows], step.target[rows])
    torch.testing.assert_close(Auxiliary(deep=0.0).loss(step, torch.zeros(())), expected)


def test_each_coarser_scale_answers_through_its_own_head():
    network = _network().eval()
    step = _step(network)
    fused = network.fuse(step.features, step.available)
    answers = network.side_logits(fused, size=step.features.size)
    assert [tuple(logits.shape) for logits in answers] == [(3, 3, 9, 11)] * 2
    for logits, head, coarse in zip(answers, network.side_heads, fused[1:], strict=True):
        expected = F.interpolate(head(coarse), size=(12, 12), mode="bilinear", align_corners=False)[..., :9, :11]
        torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(deep_loss(step), sum(F.cross_entropy(logits, step.target) for logits in answers))


def test_weights_weigh():
    step = _step(_network().eval())
    plain, deep = torch.tensor(2.0), deep_loss(step)
    alone = Auxiliary(deep=0.0).loss(step, torch.zeros(()))
    for unimodal, side in ((0.0, 0.0), (1.0, 0.0), (0.0, 0.5), (0.3, 2.0)):
        found = Auxiliary(unimodal=unimodal, deep=side).loss(step, plain)
        torch.testing.assert_close(found, plain + unimodal * alone + side * deep)


def test_every_part_of_the_network_learns():
    network = _network().train()
    step = _step(network)
    Auxiliary().loss(step, F.cross_entropy(step.logits, step.target)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(head.weight.grad.any() for head in network.side_heads)


def test_only_the_main_pass_enters_the_batch_statistics():
    network = _network().train()
    step = _step(network)
    before = {name: buffer.clone() for name, buffer in network.named_buffers() if "running" in name}
    Auxiliary().loss(step, step.logits.sum())
    assert all(torch.equal(network.get_buffer(name), value) for name, value in before.items())


@pytest.mark.parametrize("available", [AVAILABLE & False, AVAILABLE & torch.tensor([True, False])])
def test_absent_modalities_have_nothing_to_answer(available):
    network = _network().train()
    loss = Auxiliary().loss(_step(network, available=available), torch.zeros(()))
    assert loss.isfinite()


def test_a_batch_without_labels_teaches_nothing():
    network = _network().train()
    loss = Auxiliary().loss(_step(network, criterion=SegmentationLoss(), ignored=True), torch.zeros(()))
    assert loss == 0


def test_without_side_heads_there_is_no_deep_loss():
    step = _step(_network(deep_supervision=False).eval())
    assert deep_loss(step) == 0
    assert step.network.side_logits([], size=(9, 11)) == []
    torch.testing.assert_close(Auxiliary(unimodal=0.0).loss(step, torch.tensor(2.0)), torch.tensor(2.0))


@pytest.mark.parametrize("name", ["early", "late", "i2m2"])
def test_competitors_can_be_trained_so(name):
    torch.manual_seed(0)
    network = build_baseline(name, _spec()).train()
    loss = Auxiliary().loss(_step(network), torch.zeros(()))
    loss.backward()
    assert loss > 0


def test_weights_are_checked():
    for values in ({"unimodal": -1.0}, {"deep": float("nan")}, {"deep": float("inf")}):
        with pytest.raises(ModelError, match="weight"):
            Auxiliary(**values)
