"""Latent surrogate: guesses come from what is present alone, weigh less than it, and are learned."""

from dataclasses import replace

import pytest
import torch
from fake_steps import fitted, same_tensors, task_of

from equipoise.models.balancing import build_strategy
from equipoise.models.balancing.exchange import kept_statistics
from equipoise.models.balancing.latent_surrogate import LatentSurrogate, guess_distance
from equipoise.models.balancing.strategy import Step, Strategy
from equipoise.models.balancing.subset_sampling import SubsetSampling
from equipoise.models.baselines import BASELINES, single_modality_spec
from equipoise.models.checkpoint import ModelCard, load_model, save_model
from equipoise.models.coalitions import coalitions
from equipoise.models.errors import ModelError
from equipoise.models.export_form import ExportForm
from equipoise.models.features import Features
from equipoise.models.fusion import FUSIONS
from equipoise.models.fusion_projected import SharedPrivateFusion
from equipoise.models.inference_form import inference_form
from equipoise.models.losses import SegmentationLoss
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.surrogate import ShownScale, SurrogateFeatures
from equipoise.models.utilization import coalition_logits

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    # torch notes once that gradients of maps this small lie in memory in another order than the weights.
    pytest.mark.filterwarnings("ignore:.*gradient layout contract.*"),
]

NAMES = ("eo", "sar", "ir")
BANDS = dict(zip(NAMES, (2, 1, 1), strict=True))
SPEC = NetworkSpec(
    modalities=NAMES, in_channels=tuple(BANDS.values()), classes=3, depth=2, decoder_channels=(8, 4), surrogate=True
)
KINDS = [*({"fusion": name} for name in FUSIONS), {"norm": "layer"}, {"task": "classification"}]
SUBSETS = coalitions(3)


def _network(**changes):
    torch.manual_seed(0)
    network = FusionUNet(replace(SPEC, **changes)).train()
    with torch.no_grad():
        for name, parameter in network.named_parameters():  # some begin at 0
            if "encoders" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
        network(_image(8, edge=16))  # moves the running statistics
    return network.eval()


def _image(count, *, edge=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(count, bands, edge, edge, generator=generator) for name, bands in BANDS.items()}


def _valid(count, *, edge=8):
    generator = torch.Generator().manual_seed(9)
    return {name: torch.rand(count, edge // 2, edge // 2, generator=generator).gt(0.3).repeat_interleave(2, 1)
            .repeat_interleave(2, 2) for name in NAMES}  # fmt: skip


def _batch(count=4, *, seed=0, task="segmentation", edge=8):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 3, (count, 1, 1), generator=generator).expand(-1, edge, edge).contiguous()
    image = {name: mask[:, None] + 0.3 * values for name, values in _image(count, edge=edge, seed=seed + 1).items()}
    available = torch.ones(count, 3, dtype=torch.bool)
    available[0, 1] = False
    return {
        "image": image, "valid": {name: torch.ones_like(mask, dtype=torch.bool) for name in NAMES},
        "available": available, **({"mask": mask} if task == "segmentation" else {"label": mask[:, 0, 0]}),
    }  # fmt: skip


def _task(strategy, *, spec=SPEC, steps=8):
    return task_of(strategy, spec=spec, steps=steps)


def _fitted(folder, strategy, *, epochs=2, spec=SPEC, **options):
    batches = [_batch(seed=number, task=spec.task) for number in range(2)]
    return fitted(folder, strategy, batches, spec=spec, epochs=epochs, **options)


def _step(network, batch):
    features = network.encode(batch["image"], valid=batch["valid"], available=batch["available"])
    logits = network.decode(network.fuse(features, batch["available"]), size=features.size)
    return Step(
        network=network, features=features, available=batch["available"], logits=logits, target=batch["mask"],
        criterion=SegmentationLoss(), generator=torch.Generator().manual_seed(3), progress=0.5,
    )  # fmt: skip


# one scale


def _scale(*, modalities=3, seed=0):
    torch.manual_seed(seed)
    part = SurrogateFeatures(4, modalities=modalities)
    for predictor in part.predictors:
        torch.nn.init.normal_(predictor.confidence.weight)
    maps = [torch.randn(2, 4, 3, 3) for _ in range(modalities)]
    weights = [torch.rand(2, 1, 3, 3) * (torch.rand(2, 1, 3, 3) > 0.5) for _ in range(modalities)]
    for weight in weights:
        weight[0, 0, 0, 0] = 0  # a cell of which nothing is seen
    weights[0][0, 0, 1, 1] = 0.5  # and one of which one modality is
    weights[1][0, 0, 1, 1] = weights[-1][0, 0, 1, 1] = 0
    return part, maps, weights


def test_guesses_fill_what_is_absent_and_change_nothing_else():
    part, maps, weights = _scale()
    found = part(maps, weights)
    total = sum(weights)
    assert torch.equal(found.total, total)
    for column in range(3):
        there, nothing = weights[column] > 0, total == 0
        kept = there | nothing
        assert torch.equal(found.weights[column][kept], weights[column][kept])
        assert torch.equal(*(values.masked_select(kept) for values in (found.maps[column], maps[column])))
        guessed = ~kept
        assert bool(guessed.any())
        assert bool((found.weights[column][guessed] > 0).all())
    assert [float(weight[0, 0, 0, 0].detach()) for weight in found.weights] == [0, 0, 0]


def test_all_guesses_together_weigh_no_more_than_the_strongest_that_is_there():
    part, maps, weights = _scale()
    for predictor in part.predictors:
        torch.nn.init.constant_(predictor.confidence.bias, 100.0)  # as sure as can be
    found = part(maps, weights)
    guessed = sum(mine - given for mine, given in zip(found.weights, weights, strict=True))
    most = torch.stack(weights).amax(dim=0)
    assert bool((guessed <= most * (1 + 1e-6)).all())
    assert float(guessed[0, 0, 1, 1].detach()) == pytest.approx(0.5)


def test_a_guess_by_hand():
    """Two modalities, one cell; the hidden layer passes on the normalised mean."""
    part = SurrogateFeatures(4, modalities=2)
    with torch.no_grad():
        for predictor in part.predictors:
            for layer in (predictor.hidden[0], predictor.features):
                torch.nn.init.zeros_(layer.bias)
                layer.weight.copy_(torch.eye(*layer.weight.shape[:2])[..., None, None])
    seen = torch.tensor([1.0, -1.0, 1.0, -1.0])[None, :, None, None]
    weight = torch.full((1, 1, 1, 1), 0.6)
    found = part([seen, torch.full_like(seen, torch.nan)], [weight, torch.zeros_like(weight)])
    assert found.maps[1].flatten().tolist() == pytest.approx([1, 0, 1, 0], abs=1e-4)  # ReLU of what is normalised
    # Confidence begins at 1 / (1 + e^2) = .1192; one is absent, and the strongest weight is .6.
    assert float(found.weights[1].detach()) == pytest.approx(0.6 * 0.119203, abs=1e-6)
    assert torch.equal(found.maps[0], seen)


def test_what_nothing_is_missing_from_is_passed_on():
    part, maps, _ = _scale()
    weights = [torch.ones(2, 1, 3, 3) for _ in maps]
    found = part(maps, weights)
    assert all(mine is given for mine, given in zip([*found.maps, *found.weights], [*maps, *weights], strict=True))


# the network


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_a_subset_answers_from_itself_alone(changes):
    """Whatever the hidden modalities hold, the value of a coalition is the same to the last bit."""
    network, image, valid = _network(**changes), _image(2), _valid(2)
    everything = torch.ones(2, 3, dtype=torch.bool)
    with torch.no_grad():
        features = network.encode(image, valid=valid, available=everything)
        wanted = coalition_logits(network, features, available=everything)
        for subset, logits in zip(SUBSETS, wanted, strict=True):
            for strange in (torch.nan, torch.inf, 1e30):
                maps = {
                    name: values if subset[column] else [torch.full_like(value, strange) for value in values]
                    for column, (name, values) in enumerate(features.maps.items())
                }
                found = network.fuse(replace(features, maps=maps), everything & subset)
                assert torch.equal(network.decode(found, size=features.size), logits)
            # Nor does it matter whether they were hidden before or after the encoders.
            alone = network(
                {n: v if subset[c] else torch.full_like(v, torch.nan) for c, (n, v) in enumerate(image.items())},
                valid=valid, available=everything & subset,
            )  # fmt: skip
            torch.testing.assert_close(alone, logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_guesses_are_used_where_something_is_missing_and_only_there(changes):
    network, image = _network(**changes), _image(2)
    without = FusionUNet(replace(network.spec, surrogate=False))
    without.load_state_dict(
        {name: value for name, value in network.state_dict().items() if not name.startswith("surrogates")}
    )
    without.eval()
    with torch.no_grad():
        for subset in SUBSETS:
            shown = subset.expand(2, 3)
            alike = torch.equal(network(image, available=shown), without(image, available=shown))
            assert alike == (int(subset.sum()) in (0, 3)), subset


def test_where_nothing_is_seen_all_is_0():
    network, image = _network(), _image(1)
    valid = {name: torch.ones(1, 8, 8, dtype=torch.bool) for name in NAMES}
    for mask in valid.values():
        mask[:, :4] = False
    with torch.no_grad():
        features = network.encode(image, valid=valid, available=torch.ones(1, 3, dtype=torch.bool))
        for fused in network.fuse(features, torch.tensor([[True, False, False]])):
            assert not fused[..., : fused.shape[-2] // 2, :].any()
            assert fused[..., fused.shape[-2] // 2 :, :].any()


def test_a_network_begins_as_it_does_without():
    torch.manual_seed(0)
    plain = FusionUNet(replace(SPEC, surrogate=False)).state_dict()
    torch.manual_seed(0)
    assert same_tensors(plain, FusionUNet(SPEC).state_dict())
    assert not any("surrogate" in name for name in plain)


@pytest.mark.parametrize("changes", KINDS[:-1], ids=str)
def test_cores_and_the_inference_form_say_the_same(changes):
    network = _network(**changes)
    image, valid = _image(2, edge=48), _valid(2, edge=48)
    core = slice(12, 36)
    with torch.no_grad():
        features = network.encode(image, valid=valid, available=torch.ones(2, 3, dtype=torch.bool))
        form = inference_form(network)
        for shown in (torch.tensor([[True, False, True], [False, True, False]]), torch.ones(2, 3, dtype=torch.bool)):
            whole = network.decode(network.fuse(features, shown), size=features.size)
            for made in (network, form):
                found = made.core_answers(features, core, every=2)(shown)
                torch.testing.assert_close(found, whole[..., core, core][..., ::2, ::2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_one_graph_says_what_the_network_says_from_every_subset(changes):
    network = _network(**changes)
    plain = {
        "mean": {name: [0.0] * bands for name, bands in BANDS.items()},
        "std": {name: [1.0] * bands for name, bands in BANDS.items()},
        "decibels": {name: [False] * bands for name, bands in BANDS.items()},
    }
    form = ExportForm(network, **plain).eval()
    image, valid = _image(8), _valid(8)
    inputs = (tuple(image.values()), tuple(valid.values()), SUBSETS)
    program = torch.export.export(form, inputs, strict=False).module()
    with torch.no_grad():
        wanted = network(image, valid=valid, available=SUBSETS).softmax(dim=1)
        torch.testing.assert_close(form(*inputs), wanted, atol=1e-5, rtol=0)
        # What was there when the graph was made does not stay in it.
        for shown in (SUBSETS, torch.ones_like(SUBSETS), SUBSETS.flip(0)):
            wanted = network(image, valid=valid, available=shown).softmax(dim=1)
            torch.testing.assert_close(program(*inputs[:2], shown), wanted, atol=1e-5, rtol=0)


def test_a_model_folder_keeps_it(tmp_path):
    network, image = _network(), _image(2)
    card = ModelCard(
        network=network.spec.to_dict(),
        classes=tuple({"value": n, "name": f"c{n}", "color": "#000000"} for n in range(3)),
        modalities=tuple(
            {"name": name, "bands": [str(n) for n in range(bands)], "units": "db", "statistics": {}}
            for name, bands in BANDS.items()
        ),
        class_prior=(0.2, 0.3, 0.5), training={}, metrics={},
    )  # fmt: skip
    save_model(tmp_path / "model", network, card)
    loaded, _ = load_model(tmp_path / "model")
    shown = torch.tensor([[True, False, True], [False, True, False]])
    with torch.no_grad():
        assert torch.equal(loaded(image, available=shown), network(image, available=shown))


@pytest.mark.parametrize(
    "change",
    [
        {"surrogate": "yes"},
        {"kind": "late"},
        {"modalities": ("eo",), "in_channels": (2,)},
        {"decoder_channels": (8, 2)},
    ],
)
def test_descriptions_that_leave_nothing_to_guess_are_refused(change):
    with pytest.raises(ModelError, match="surrogate"):
        replace(SPEC, **change)


def test_single_networks_and_competitors_do_without():
    assert not single_modality_spec(SPEC, "sar").surrogate
    old = {name: value for name, value in SPEC.to_dict().items() if name != "surrogate"}
    assert not NetworkSpec.from_dict(old).surrogate
    for kind in BASELINES.values():
        competitor = kind(SPEC)
        assert not competitor.spec.surrogate
        assert not any("surrogates" in name for name in competitor.state_dict())


# the strategy


def test_the_distance_of_guesses_by_hand():
    """Two modalities, one of two samples has both: cells count by their valid share, invalid ones are not read."""
    real = torch.tensor([[1.0, 2.0, torch.nan]] * 2)[:, None, None]
    share = torch.tensor([[1.0, 0.5, 0.0]] * 2)[:, None, None]
    features = Features(
        maps={"eo": [torch.zeros_like(real)], "sar": [real]}, shares={"eo": [torch.ones_like(share)], "sar": [share]},
        size=(1, 3),
    )  # fmt: skip
    guess = torch.zeros_like(real, requires_grad=True)
    scale = ShownScale(
        maps=[features.maps["eo"][0], guess], weights=[torch.ones_like(share)] * 2, total=torch.ones_like(share)
    )
    hidden = torch.tensor([[False, True], [False, False]])
    found = guess_distance([scale], features, hidden=hidden, modalities=("eo", "sar"))
    assert float(found.detach()) == pytest.approx((1.0 * 1 + 0.5 * 4) / 1.5)
    found.backward()
    assert guess.grad.flatten().tolist() == pytest.approx([-2 / 1.5, -2 / 1.5, 0, 0, 0, 0])


def test_a_step_is_its_terms():
    network, batch = _network().train(), _batch(8)
    batch["available"][1:3, 1:] = False  # of one modality there is no smaller subset
    step = _step(network, batch)
    drawn = SubsetSampling().available(batch["available"], generator=torch.Generator().manual_seed(3))
    hidden = batch["available"] & ~drawn
    rows = hidden.any(dim=1).nonzero().flatten()
    assert 0 < len(rows) < 8
    task_loss = step.criterion(step.logits, step.target)
    with kept_statistics(network):
        scales = network.shown(step.features.of(rows), drawn[rows])
        partial = step.criterion(network.decode(network.join(scales), size=(8, 8)), step.target[rows])
    distance = guess_distance(scales, step.features.of(rows), hidden=hidden[rows], modalities=NAMES)
    wanted = 0.7 * (task_loss + 0.4 * partial) + 0.3 * distance
    found = LatentSurrogate(partial=0.4, likeness=0.3).loss(step, task_loss)
    torch.testing.assert_close(found, wanted)


def test_likeness_teaches_the_guess_and_not_what_is_guessed():
    network, batch = _network(), _batch()
    batch["available"][:] = True
    features = network.encode(batch["image"], valid=batch["valid"], available=batch["available"])
    leaves = {name: [value.detach().requires_grad_() for value in values] for name, values in features.maps.items()}
    hidden = torch.tensor([[False, True, True]]).expand(4, 3)
    scales = network.shown(replace(features, maps=leaves), ~hidden)
    guess_distance(scales, replace(features, maps=leaves), hidden=hidden, modalities=NAMES).backward()
    assert all(bool(value.grad.any()) for value in leaves["eo"])
    assert all(value.grad is None or not value.grad.any() for name in ("sar", "ir") for value in leaves[name])
    for part in network.surrogates:
        taught = [any(bool(p.grad is not None and p.grad.any()) for p in one.parameters()) for one in part.predictors]
        assert taught == [False, True, True]
        assert all(
            one.confidence.weight.grad is None or not one.confidence.weight.grad.any() for one in part.predictors
        )


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_without_weights_it_is_plain_training_to_the_last_bit(tmp_path, task):
    spec = replace(SPEC, task=task)
    plain, _ = _fitted(tmp_path, Strategy(), spec=spec)
    nothing, _ = _fitted(tmp_path, LatentSurrogate(partial=0, likeness=0, difference=0), spec=spec)
    other, _ = _fitted(tmp_path, LatentSurrogate(), spec=spec)
    assert same_tensors(plain.network.state_dict(), nothing.network.state_dict())
    assert not same_tensors(plain.network.state_dict(), other.network.state_dict())
    assert all(bool(value.isfinite().all()) for value in other.network.state_dict().values())


def test_what_is_absent_changes_nothing():
    found = []
    for strange in (0.0, torch.nan):
        batch = _batch()
        batch["valid"]["ir"][1] = False
        batch["image"]["sar"][0] = batch["image"]["ir"][1] = strange
        task = _task(LatentSurrogate())
        task.training_step(batch, 0).backward()
        found.append({name: item.grad for name, item in task.named_parameters() if item.grad is not None})
    assert any("surrogates" in name for name in found[0])
    assert same_tensors(*found)


def test_batch_normalisation_remembers_the_main_pass_alone():
    states = []
    for strategy in (Strategy(), LatentSurrogate()):
        task = _task(strategy)
        task.training_step(_batch(), 0)
        states.append({name: value for name, value in task.network.state_dict().items() if "running" in name})
    assert states[0]
    assert same_tensors(*states)


def test_resumed_equals_uninterrupted_to_the_bit(tmp_path):
    whole, _ = _fitted(tmp_path, LatentSurrogate(), epochs=3)
    _, trainer = _fitted(tmp_path, LatentSurrogate(), epochs=1)
    trainer.save_checkpoint(tmp_path / "epoch.ckpt")
    torch.manual_seed(999)
    resumed, _ = _fitted(tmp_path, LatentSurrogate(), epochs=3, ckpt_path=tmp_path / "epoch.ckpt")
    assert same_tensors(resumed.state_dict(), whole.state_dict())


@pytest.mark.parametrize("names", ["subset_sampling", "auxiliary", "response", "meta_missing", "mmpareto", "greedy"])
def test_it_goes_with_others(tmp_path, names):
    strategy = build_strategy([names, "latent_surrogate"], modalities=NAMES)
    task, _ = _fitted(tmp_path, strategy, spec=replace(SPEC, fusion="shared_private"))
    assert all(bool(value.isfinite().all()) for value in task.network.state_dict().values())


def test_a_network_that_cannot_guess_is_refused():
    with pytest.raises(ModelError, match=r"kind 'fusion' without surrogate; wanted .* surrogate: true"):
        _task(LatentSurrogate(), spec=replace(SPEC, surrogate=False))


@pytest.mark.parametrize(
    ("name", "value"), [("partial", -1.0), ("likeness", 1.5), ("likeness", float("nan")), ("difference", float("inf"))]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ModelError, match=name):
        LatentSurrogate(**{name: value})


def test_guesses_become_better_and_the_subsets_with_them():
    """All sensors show the class: what one says tells what another would say."""
    spec = replace(SPEC, decoder_channels=(16, 8), norm="layer")
    task, test = _task(LatentSurrogate(likeness=0.3), spec=spec, steps=80), _batch(32, seed=999)

    def distance():
        shown = torch.tensor([[True, False, False]]).expand(32, 3)
        with torch.no_grad():
            features = task.network.encode(test["image"])
            scales = task.network.shown(features, shown)
            variance = torch.stack([values[-1].var(dim=(0, 2, 3)).mean() for values in features.maps.values()]).mean()
        return float(guess_distance(scales, features, hidden=~shown, modalities=NAMES) / variance)

    before = distance()
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for number in range(80):
        loss = task.training_step(_batch(16, seed=number), number)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    task.network.eval()
    assert distance() < 0.7 * before
    for subset in SUBSETS[1:]:
        with torch.inference_mode():
            right = task.network(test["image"], available=subset.expand(32, 3)).argmax(dim=1) == test["mask"]
        assert float(right.float().mean()) > 0.9, subset


# shared and private factors


def test_overlap_by_hand():
    """One channel: 1 where the private projection repeats the shared one, 0 where they are uncorrelated."""
    fusion = SharedPrivateFusion(2, modalities=1)
    maps = [torch.tensor([[[1.0, -1.0, 1.0, -1.0]], [[1.0, 1.0, -1.0, -1.0]]])[None]]  # orthogonal channels
    weights = [torch.ones(1, 1, 1, 4)]
    with torch.no_grad():
        fusion.shared.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]])[..., None, None])
        for rows, wanted in (([[0, 1], [0, 2]], 0.0), ([[3, 0], [-5, 0]], 1.0), ([[1, 1], [0, 1]], 0.25)):
            fusion.private[0].weight.copy_(torch.tensor(rows, dtype=torch.float32)[..., None, None])
            assert float(fusion.overlap(maps, weights)) == pytest.approx(wanted, abs=1e-6)


def test_overlap_counts_cells_by_weight_and_only_what_is_present():
    torch.manual_seed(0)
    fusion = SharedPrivateFusion(3, modalities=2)
    first = torch.randn(2, 3, 4, 4)
    weight = (torch.rand(2, 1, 4, 4) > 0.4).float()
    nothing = torch.zeros_like(weight)
    strange = torch.where(weight > 0, first, torch.nan)
    wanted = fusion.overlap([first, first], [weight, nothing])
    assert torch.equal(fusion.overlap([strange, torch.full_like(first, torch.nan)], [weight, nothing]), wanted)
    assert 0 < float(wanted.detach()) < 1
    assert float(fusion.overlap([first, first], [nothing, nothing]).detach()) == 0


def test_the_difference_loss_parts_the_factors_and_touches_nothing_else():
    network, batch = _network(fusion="shared_private"), _batch()
    step = _step(network, batch)
    strategy = LatentSurrogate(partial=0, likeness=0, difference=1.0)
    strategy.loss(step, torch.zeros(())).backward()
    taught = {name.split(".")[0] + name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None}
    assert taught == {"fusion2"}
    optimizer = torch.optim.Adam(network.fusion[-1].parameters(), lr=0.02)
    values = []
    for _ in range(40):
        loss = strategy.loss(step, torch.zeros(()))
        values.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[-1] < 0.5 * values[0]
    # Any other fusion has no such factors.
    other = _step(_network(), batch)
    assert float(strategy.loss(other, torch.tensor(2.0))) == 2.0
