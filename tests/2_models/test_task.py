"""FusionTask: learns, scores against an oracle, and resumes to the bit."""

import lightning as L
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score

from equipoise.models.balancing import build_strategy
from equipoise.models.baselines import single_modality_spec
from equipoise.models.errors import ModelError
from equipoise.models.losses import ClassificationLoss, SegmentationLoss
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.task import FusionTask, accuracy, mean_iou, warm_cosine

pytestmark = [
    # Tiny in-memory data need no loader processes.
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
]

MODALITIES = ("eo", "sar")
SPEC = NetworkSpec(modalities=MODALITIES, in_channels=(2, 1), classes=3, depth=2, decoder_channels=(8, 4))


class Patches(torch.utils.data.Dataset):
    """Invented patches: eo shows the class, sar shows noise and is sometimes missing."""

    def __init__(self, count=8, *, task="segmentation"):
        generator = torch.Generator().manual_seed(7)
        self.task = task
        self.mask = torch.randint(0, 3, (count, 1, 1), generator=generator).expand(-1, 8, 8).clone()
        self.eo = self.mask[:, None].float().expand(-1, 2, -1, -1) + 0.1 * torch.randn(
            count, 2, 8, 8, generator=generator
        )
        self.sar = torch.randn(count, 1, 8, 8, generator=generator)

    def __len__(self):
        return len(self.mask)

    def __getitem__(self, index):
        target = {"mask": self.mask[index]} if self.task == "segmentation" else {"label": self.mask[index, 0, 0]}
        return {
            "image": {"eo": self.eo[index], "sar": self.sar[index]},
            "valid": {name: torch.ones(8, 8, dtype=torch.bool) for name in MODALITIES},
            "available": torch.tensor([True, index % 3 > 0]),
            **target,
        }


def _loader(**options):
    return torch.utils.data.DataLoader(Patches(**options), batch_size=4)


def _task(spec=SPEC, **options):
    torch.manual_seed(0)
    loss = SegmentationLoss() if spec.task == "segmentation" else ClassificationLoss()
    options = {"total_steps": 6, "strategy": build_strategy("subset_sampling"), "loss": loss, **options}
    return FusionTask(FusionUNet(spec), **options)


def _trainer(folder, epochs, **options):
    return L.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **options},
    )


def test_resumed_equals_uninterrupted_to_the_bit(tmp_path):
    whole = _task()
    _trainer(tmp_path, 3).fit(whole, _loader(), _loader())

    first, path = _task(), tmp_path / "epoch.ckpt"
    trainer = _trainer(tmp_path, 1)
    trainer.fit(first, _loader(), _loader())
    trainer.save_checkpoint(path)
    torch.manual_seed(999)  # a new process does not share the old one's random stream
    resumed = _task()
    _trainer(tmp_path, 3).fit(resumed, _loader(), _loader(), ckpt_path=path)

    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())
    assert not all(torch.equal(value, expected[name]) for name, value in first.state_dict().items())


def test_steps_do_not_depend_on_or_disturb_the_global_stream():
    draws = []
    for start in (1, 2):
        task = _task()
        torch.manual_seed(start)
        state = torch.random.get_rng_state()
        with task._seeded(0) as generator:
            draws.append((torch.rand(3), torch.rand(3, generator=generator)))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    with _task(seed=1)._seeded(0) as other, _task()._seeded(1) as later:
        assert not torch.equal(torch.rand(3, generator=other), draws[0][1])
        assert not torch.equal(torch.rand(3, generator=later), draws[0][1])


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_training_learns_and_logs(tmp_path, kind):
    spec = NetworkSpec(**{**SPEC.to_dict(), "task": kind, "modalities": MODALITIES, "in_channels": (2, 1)})
    task = _task(spec, learning_rate=1e-2, total_steps=60)
    trainer = _trainer(tmp_path, 30, check_val_every_n_epoch=10)
    trainer.fit(task, _loader(task=kind), _loader(task=kind))
    logged = trainer.callback_metrics
    assert {"train_loss", "validation_loss", "validation_score"} <= set(logged)
    assert logged["validation_score"] > 0.9


def test_a_single_modality_network_reads_the_same_batches(tmp_path):
    task = _task(single_modality_spec(SPEC, "sar"), batch_modalities=MODALITIES)
    batch = next(iter(_loader()))
    assert task._present(batch).tolist() == [[False], [True], [True], [False]]
    _trainer(tmp_path, 1).fit(task, _loader(), _loader())
    with pytest.raises(ModelError, match="'sar'"):
        _task(batch_modalities=("eo",))


def test_absent_keys_mean_everything_is_there():
    batch = next(iter(_loader()))
    assert _task()._present({"image": batch["image"]}).all()


def test_scores_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    truth, guess = (torch.randint(0, 4, (200,), generator=generator) for _ in range(2))
    truth[truth == 2] = 0  # class 2 occurs in the guesses only
    counts = torch.from_numpy(confusion_matrix(truth, guess, labels=range(5)))
    expected = jaccard_score(truth, guess, labels=[0, 1, 3], average="macro")
    assert mean_iou(counts).item() == pytest.approx(expected)
    assert accuracy(counts).item() == pytest.approx((truth == guess).float().mean().item())


def test_ignored_pixels_are_not_counted():
    task = _task()
    target = torch.tensor([[0, 255, 2]])
    task.confusion.update(torch.tensor([[0, 1, 1]]), target)
    assert task.confusion.compute().sum() == 2


def test_schedule_warms_up_and_ends_at_zero():
    rates = [warm_cosine(step, total=100) for step in range(120)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[5] == 1
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[100:] == [0] * 20
    assert warm_cosine(0, total=1) == 1


def test_steps_are_counted():
    with pytest.raises(ModelError, match="0 total steps"):
        _task(total_steps=0)
