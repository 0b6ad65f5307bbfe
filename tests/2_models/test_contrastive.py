"""Contrastive pre-training: InfoNCE by hand, its schedule, its two parts, and what it reads."""

import math
from dataclasses import replace

import lightning as L
import pytest
import torch

from equipoise.models.balancing import build_strategy
from equipoise.models.balancing.contrastive import Contrastive, info_nce, scheduled
from equipoise.models.balancing.strategy import Step
from equipoise.models.errors import ModelError
from equipoise.models.losses import ClassificationLoss, SegmentationLoss
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.task import FusionTask

NAMES = ("eo", "sar", "ir")
SPEC = NetworkSpec(modalities=NAMES, in_channels=(3, 2, 1), classes=3, depth=2, decoder_channels=(8, 4))


def made(*, task="segmentation", available=None, noise=None, target=0):
    torch.manual_seed(0)
    network, strategy = FusionUNet(replace(SPEC, task=task)), Contrastive()
    strategy.attach(network)
    image = {name: torch.randn(6, bands, 16, 16) for name, bands in zip(NAMES, (3, 2, 1), strict=True)}
    if noise is not None:
        image["sar"][:3] = noise
    available = torch.ones(6, 3, dtype=torch.bool) if available is None else available
    features = network.encode(image, available=available)
    logits = network.decode(network.fuse(features, available), size=features.size)
    labels = torch.full((6, 16, 16) if task == "segmentation" else (6,), target)
    criterion = SegmentationLoss() if task == "segmentation" else ClassificationLoss()
    step = Step(
        network=network, features=features, available=available, logits=logits, target=labels, criterion=criterion,
        generator=torch.Generator().manual_seed(0), progress=0.1,
    )  # fmt: skip
    return strategy, step, criterion(logits, labels)


def test_info_nce_is_that_of_a_hand_computation():
    pair = torch.eye(2)
    assert float(info_nce(pair, pair, 1.0)) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(info_nce(pair, pair.flip(0), 1.0)) == pytest.approx(math.log(1 + math.e))
    assert float(info_nce(pair, pair, 0.5)) == pytest.approx(math.log(1 + math.exp(-2)))
    same = torch.tensor([[1.0, 0.0]]).expand(4, -1)
    assert float(info_nce(same, same, 0.1)) == pytest.approx(math.log(4))


def test_it_is_least_where_both_say_the_same():
    vectors = torch.eye(5)
    generator = torch.Generator().manual_seed(0)
    least = info_nce(vectors, vectors, 0.2)
    for _ in range(20):
        other = torch.nn.functional.normalize(vectors + 0.3 * torch.randn(5, 5, generator=generator), dim=1)
        assert info_nce(vectors, other, 0.2) > least


def test_the_temperature_falls_from_end_to_end():
    found = [scheduled(0.3 * part / 10, until=0.3, ends=(0.5, 0.07)) for part in range(11)]
    assert found[0] == pytest.approx(0.5)
    assert found[5] == pytest.approx(0.285)
    assert found[10] == pytest.approx(0.07)
    assert found == sorted(found, reverse=True)
    assert scheduled(0.9, until=0.3, ends=(0.5, 0.07)) == pytest.approx(0.07)
    with pytest.raises(ModelError, match="temperatures"):
        Contrastive(temperature=(0.5, 0.0))


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_the_first_part_reads_no_label_and_teaches_encoders_and_projections_alone(task):
    found = []
    for target in (0, 2):
        strategy, step, plain = made(task=task, target=target)
        strategy.begin_epoch(step.network, progress=0.0)
        assert strategy.observe({}) == 1.0
        loss = strategy.loss(step, plain)
        loss.backward()
        found.append(loss.detach())
        assert all(p.grad is not None for p in strategy.parameters())
        assert any(bool(p.grad.any()) for p in step.network.encoders.parameters() if p.grad is not None)
        assert all(p.grad is None for p in step.network.head.parameters())
    assert torch.equal(*found)


def test_the_second_part_is_plain_training_and_remembered():
    strategy, step, plain = made()
    strategy.begin_epoch(step.network, progress=0.3)
    assert strategy.loss(step, plain) is plain
    assert strategy.observe({}) == 0.0
    other = Contrastive()
    other.attach(step.network)
    other.load_state_dict(strategy.state_dict())
    assert bool(other.trained)


def test_what_is_absent_changes_nothing_and_without_pairs_nothing_is_learned():
    available = torch.ones(6, 3, dtype=torch.bool)
    available[:3, 1] = False
    found = []
    for noise in (0.0, 1e6):
        strategy, step, plain = made(available=available, noise=noise)
        found.append(strategy.loss(step, plain).detach())
    assert torch.equal(*found)
    alone = torch.zeros(6, 3, dtype=torch.bool)
    alone[:, 0] = True
    strategy, step, plain = made(available=alone)
    assert float(strategy.loss(step, plain).detach()) == 0


def test_it_brings_modalities_together():
    strategy, step, plain = made()
    optimizer = torch.optim.Adam(strategy.parameters(), lr=1e-2)
    step = replace(step, features=step.features.detached())
    losses = []
    for _ in range(60):
        step.generator.manual_seed(0)
        loss = strategy.loss(step, plain)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert isinstance(build_strategy("contrastive"), Contrastive)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*gradient layout contract.*")
def test_it_goes_on_after_a_kill_to_the_bit(tmp_path):
    generator = torch.Generator().manual_seed(2)
    image = {
        name: torch.randn(4, bands, 8, 8, generator=generator) for name, bands in zip(NAMES, (3, 2, 1), strict=True)
    }
    batches = [{"image": image, "mask": torch.randint(3, (4, 8, 8), generator=generator)}]

    def fit(epochs, path=None):
        torch.manual_seed(0 if path is None else 9)
        task = FusionTask(FusionUNet(SPEC), loss=SegmentationLoss(), strategy=Contrastive(0.5), total_steps=4)
        trainer = L.Trainer(
            max_epochs=epochs, default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1,
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(batches, batch_size=None)
        trainer.fit(task, loader, loader, ckpt_path=path)
        return task, trainer

    whole, _ = fit(4)
    _, stopped = fit(1)
    stopped.save_checkpoint(tmp_path / "one.ckpt")
    resumed, _ = fit(4, tmp_path / "one.ckpt")
    expected = whole.state_dict()
    assert bool(whole.strategy.trained)
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())
