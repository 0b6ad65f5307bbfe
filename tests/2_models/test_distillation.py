"""Cross-modal distillation: closed forms, masks, a teacher that stays as it is, students that learn without labels."""

from dataclasses import replace

import lightning as L
import pytest
import torch
from torch.nn import functional as F

from equipoise.models.balancing.distillation import CrossModalDistillation, feature_distance
from equipoise.models.baselines import single_modality_spec
from equipoise.models.errors import ModelError
from equipoise.models.features import Features
from equipoise.models.losses import IGNORE, ClassificationLoss, SegmentationLoss
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.task import FusionTask
from equipoise.models.transfer import begin_with, take_decision_layers, take_encoder

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    # torch notes once that gradients of maps this small lie in memory in another order than the weights.
    pytest.mark.filterwarnings("ignore:.*gradient layout contract.*"),
]

NAMES = ("eo", "sar")
SPEC = NetworkSpec(
    modalities=NAMES, in_channels=(2, 1), classes=3, depth=3, decoder_channels=(16, 8, 8), norm="layer"
)  # fmt: skip


def _single(name, *, seed=0, spec=SPEC):
    torch.manual_seed(seed)
    return FusionUNet(single_modality_spec(spec, name))


def _batch(count=4, *, seed=0, labelled=False, edge=16):
    """Both modalities show the class of each half of a patch; no label unless asked for."""
    generator = torch.Generator().manual_seed(seed)
    halves = torch.randint(0, 3, (count, 2), generator=generator)
    mask = halves.repeat_interleave(edge // 2, dim=1)[:, None].expand(-1, edge, -1).contiguous()
    noise = 0.1 * torch.randn(count, 3, edge, edge, generator=generator)
    image = {"eo": mask[:, None] + noise[:, :2], "sar": 2.0 - mask[:, None] + noise[:, 2:]}
    return {
        "image": image, "mask": mask if labelled else torch.full_like(mask, IGNORE),
        "valid": {name: torch.ones(count, edge, edge, dtype=torch.bool) for name in NAMES},
        "available": torch.ones(count, 2, dtype=torch.bool),
    }  # fmt: skip


def _task(network, strategy, *, steps=60, loss=None):
    return FusionTask(
        network, loss=loss or SegmentationLoss(), strategy=strategy, total_steps=steps, batch_modalities=NAMES,
        learning_rate=3e-3,
    )  # fmt: skip


def _loss(student, teacher, batch, **settings):
    """The distillation's loss of one step."""
    task = _task(student, CrossModalDistillation(teacher, batch_modalities=NAMES, **settings))
    task.log = lambda *_, **__: None
    return task.training_step(batch, 0)


def _features(name, maps, shares):
    return Features(maps={name: maps}, shares={name: shares}, size=(2, 2))


def test_feature_distance_by_hand():
    ours = _features("sar", [torch.tensor([[[[1.0, 2.0]]]])], [torch.ones(1, 1, 1, 2)])
    theirs = _features("eo", [torch.tensor([[[[3.0, 1.0]]]])], [torch.tensor([[[[1.0, 0.5]]]])])
    confidence = torch.tensor([[[[1.0, 0.5]]]])
    found = feature_distance(ours, theirs, student="sar", teacher="eo", confidence=confidence, strides=[8])
    # Weights 1 and .25: (1 * 4 + .25 * 1) / (1 * 9 + .25 * 1).
    assert found == pytest.approx(4.25 / 9.25)


def test_only_scales_of_stride_8_and_more_count_or_else_the_coarsest():
    maps = [torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)]
    shares = [torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)]
    ours, theirs = _features("sar", [maps[0] * 5, maps[1]], shares), _features("eo", maps, shares)
    options = {"student": "sar", "teacher": "eo", "confidence": torch.ones(1, 1, 4, 4)}
    assert feature_distance(ours, theirs, strides=[4, 8], **options) == 0
    assert feature_distance(ours, theirs, strides=[1, 2], **options) == 0
    assert feature_distance(ours, theirs, strides=[8, 16], **options) == pytest.approx(16 / 2)


def test_soft_labels_are_a_divergence_at_the_temperature():
    teacher, student, batch = _single("eo"), _single("sar", seed=1).eval(), _batch()
    with torch.no_grad():
        wanted, said = (teacher.eval()(batch["image"]), student(batch["image"]))
        each = F.kl_div((said / 4).log_softmax(1), (wanted / 4).softmax(1), reduction="none").sum(1)
        confidence = wanted.softmax(1).amax(1)
        expected = 16 * (each * confidence).sum() / confidence.sum()
    assert float(_loss(student, teacher, batch, features=0).detach()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"features": 0}])
def test_what_either_does_not_see_changes_nothing(settings):
    batch = _batch()
    batch["valid"]["eo"][0, :, :8] = False
    batch["valid"]["sar"][1] = False
    batch["available"][2, 0] = False
    first = _loss(_single("sar", seed=1).eval(), _single("eo"), batch, **settings)
    batch["image"]["eo"][0, :, :, :8] = torch.nan
    batch["image"]["sar"][1] = torch.nan
    batch["image"]["eo"][2] = torch.nan
    second = _loss(_single("sar", seed=1).eval(), _single("eo"), batch, **settings)
    assert torch.isfinite(first)
    assert torch.equal(first, second)


def test_labels_add_the_loss_of_the_task_by_their_weight():
    batch, bare = _batch(labelled=True), _batch()
    found = {
        weight: float(_loss(_single("sar", seed=1).eval(), _single("eo"), batch, labels=weight).detach())
        for weight in (0.0, 1.0, 2.0)
    }
    student = _single("sar", seed=1).eval()
    with torch.no_grad():
        own = float(SegmentationLoss()(student(batch["image"]), batch["mask"]))
    assert found[1.0] - found[0.0] == pytest.approx(own, rel=1e-4)
    assert found[2.0] - found[0.0] == pytest.approx(2 * own, rel=1e-4)
    # Without a label anywhere, labels add nothing.
    unlabelled = [_loss(_single("sar", seed=1).eval(), _single("eo"), bare, labels=weight) for weight in (0.0, 1.0)]
    assert torch.equal(*unlabelled)
    with pytest.raises(ModelError, match="label weight -1"):
        CrossModalDistillation(_single("eo"), batch_modalities=NAMES, labels=-1)


def test_samples_count_by_the_less_sure_of_both_positions():
    """Two samples of which one is placed nowhere teach what the other teaches alone."""
    batch = _batch(2)
    one = {key: ({name: item[:1] for name, item in value.items()} if isinstance(value, dict) else value[:1])
           for key, value in batch.items()}  # fmt: skip
    for sure in ([[1.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]], [[0.5, 1.0], [1.0, 0.0]]):
        batch["registration"] = torch.tensor(sure)
        both = _loss(_single("sar", seed=1).eval(), _single("eo"), batch)
        alone = _loss(_single("sar", seed=1).eval(), _single("eo"), one)
        assert float(both.detach()) == pytest.approx(float(alone.detach()), rel=1e-4)


def test_labels_are_not_read_and_no_teacher_at_all_teaches_nothing():
    with_labels, without = _batch(labelled=True), _batch()
    losses = [_loss(_single("sar", seed=1).eval(), _single("eo"), batch) for batch in (with_labels, without)]
    assert torch.equal(*losses)
    without["available"][:, 0] = False
    assert _loss(_single("sar", seed=1), _single("eo"), without) == 0


def test_the_teacher_is_neither_trained_nor_saved(tmp_path):
    teacher, student = _single("eo"), _single("sar", seed=1)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    task = _task(student, CrossModalDistillation(teacher, batch_modalities=NAMES), steps=4)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader([_batch(seed=n) for n in range(4)], batch_size=None)
    trainer.fit(task, loader, loader)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    trained = {id(item) for group in task.configure_optimizers()["optimizer"].param_groups for item in group["params"]}
    assert trained == {id(item) for item in student.parameters()}
    assert not any(key.startswith("strategy") for key in task.state_dict())


def test_a_student_learns_the_classes_without_a_label():
    teacher = _single("eo")
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    for number in range(60):
        batch = _batch(8, seed=number, labelled=True)
        loss = SegmentationLoss()(teacher(batch["image"]), batch["mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    student = _single("sar", seed=1)
    take_decision_layers(student, teacher)
    task = _task(student, CrossModalDistillation(teacher, batch_modalities=NAMES))
    task.log = lambda *_, **__: None
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    for number in range(60):
        loss = task.training_step(_batch(8, seed=100 + number), number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = _batch(16, seed=999, labelled=True)
    with torch.inference_mode():
        right = (student.eval()(test["image"]).argmax(dim=1) == test["mask"]).float().mean()
    assert right > 0.9


def test_classification_distils_too():
    spec = replace(SPEC, task="classification")
    batch = _batch()
    batch["label"] = torch.full((4,), IGNORE)
    batch["valid"]["eo"][0] = False
    strategy = CrossModalDistillation(_single("eo", spec=spec), batch_modalities=NAMES)
    task = _task(_single("sar", seed=1, spec=spec), strategy, loss=ClassificationLoss())
    task.log = lambda *_, **__: None
    loss = task.training_step(batch, 0)
    loss.backward()
    assert loss > 0
    assert any(item.grad is not None and item.grad.abs().sum() > 0 for item in task.network.parameters())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: CrossModalDistillation(FusionUNet(SPEC), batch_modalities=NAMES), "one modality"),
        (lambda: CrossModalDistillation(_single("eo"), batch_modalities=("sar",)), "one modality"),
        (lambda: CrossModalDistillation(_single("eo"), batch_modalities=NAMES, temperature=0), "temperature"),
        (lambda: CrossModalDistillation(_single("eo"), batch_modalities=NAMES, features=-1), "feature weight"),
        (lambda: _task(FusionUNet(SPEC), CrossModalDistillation(_single("eo"), batch_modalities=NAMES)), "a student"),
        (
            lambda: _task(
                _single("sar", spec=replace(SPEC, classes=4)),
                CrossModalDistillation(_single("eo"), batch_modalities=NAMES),
            ),
            "classes",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, told):
    with pytest.raises(ModelError, match=told):
        make()


def test_a_fusion_network_begins_with_its_students():
    singles = {"eo": _single("eo", seed=3), "sar": _single("sar", seed=4)}
    network = FusionUNet(SPEC).eval()
    begin_with(network, singles, decision="eo")
    batch = _batch()
    for column, (_name, single) in enumerate(singles.items()):
        alone = torch.zeros(4, 2, dtype=torch.bool)
        alone[:, column] = True
        take_decision_layers(single, singles["eo"])
        with torch.inference_mode():
            torch.testing.assert_close(network(batch["image"], available=alone), single.eval()(batch["image"]))


def test_dates_go_with_their_sensor_and_guesses_of_missing_ones_stay():
    spec = replace(SPEC, dates=True, surrogate=True)
    torch.manual_seed(1)
    network = FusionUNet(spec)
    before = {key: value.clone() for key, value in network.state_dict().items() if key.startswith("surrogates.")}
    singles = {"eo": _single("eo", seed=3, spec=spec), "sar": _single("sar", seed=4, spec=spec)}
    begin_with(network, singles, decision="eo")
    assert before
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    for column, single in enumerate(singles.values()):
        for key, value in single.dates[0].state_dict().items():
            assert torch.equal(network.dates[column].state_dict()[key], value)
    own = {key: value.clone() for key, value in singles["sar"].dates.state_dict().items()}
    take_decision_layers(singles["sar"], singles["eo"])
    assert all(torch.equal(singles["sar"].dates.state_dict()[key], value) for key, value in own.items())
    with pytest.raises(ModelError, match="reads dates"):
        take_encoder(FusionUNet(SPEC), "eo", singles["eo"])


def test_a_teacher_of_other_statistics_sees_what_it_was_trained_on():
    batch, other = _batch(), _batch()
    other["image"]["eo"] = (batch["image"]["eo"] - torch.tensor([1.0, -2.0])[:, None, None]) / 4
    door = (torch.tensor([4.0, 4.0]), torch.tensor([1.0, -2.0]))
    for item in (batch, other):
        item["valid"]["eo"][0, :3] = False
    usual = _loss(_single("sar", seed=1).eval(), _single("eo"), batch)
    told = _loss(_single("sar", seed=1).eval(), _single("eo"), other, door=door)
    untold = _loss(_single("sar", seed=1).eval(), _single("eo"), other)
    assert float(told.detach()) == pytest.approx(float(usual.detach()), rel=1e-4)
    assert float(untold.detach()) != pytest.approx(float(usual.detach()), rel=1e-2)


def test_layers_that_differ_are_refused():
    wide = replace(SPEC, decoder_channels=(16, 8, 4))
    with pytest.raises(ModelError, match="layers"):
        take_decision_layers(FusionUNet(SPEC), _single("eo", spec=wide))
    with pytest.raises(ModelError, match="encoder of 'eo' that differs"):
        take_encoder(FusionUNet(SPEC), "eo", _single("eo", spec=replace(SPEC, in_channels=(3, 1))))
    with pytest.raises(ModelError, match="'eo' alone"):
        take_encoder(FusionUNet(SPEC), "eo", _single("sar"))
