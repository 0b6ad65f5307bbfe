"""DateEncoding: closed forms, unknown dates add nothing, dates reach what they should and nothing else."""

import math

import pytest
import torch

from equipoise.datasets import acquisition_dates
from equipoise.models.balancing import build_strategy
from equipoise.models.baselines import build_network
from equipoise.models.checkpoint import ModelCard, load_model, save_model
from equipoise.models.dates import date_features, date_key, unknown_dates
from equipoise.models.errors import ModelError
from equipoise.models.evaluation import observed
from equipoise.models.fusion import FUSIONS
from equipoise.models.losses import SegmentationLoss
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.models.receptive_field import receptive_field
from equipoise.models.task import FusionTask

MODALITIES = ("may", "july", "sar")
SPEC = {"modalities": MODALITIES, "in_channels": (3, 3, 1), "classes": 3, "depth": 2, "decoder_channels": (8, 4)}
MAY, JULY = (1.0, 122.0, 1.0, -61.0), (1.0, 183.0, 1.0, 0.0)


def _network(**changes):
    torch.manual_seed(0)
    return build_network(NetworkSpec(**{**SPEC, "dates": True, **changes})).eval()


def _speaking(network):
    """Return the network after some training of its dates, so to say."""
    torch.manual_seed(1)
    for part in network.modules():
        if type(part).__name__ == "DateEncoding":
            for layer in part.speak:
                torch.nn.init.normal_(layer.weight, std=0.5)
    return network


def _image(batch=2, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(batch, bands, 16, 16, generator=generator)
        for name, bands in zip(MODALITIES, SPEC["in_channels"], strict=True)
    }


def _dates(**rows):
    known = {date_key(name): torch.tensor([row, row]) for name, row in rows.items()}
    return {**unknown_dates(MODALITIES, like=torch.zeros(2)), **known}


def test_both_sides_use_one_key():
    assert date_key("s2") == acquisition_dates.date_key("s2")


def test_features_of_known_days():
    quarter, half = 365.25 / 4, 365.25 / 2
    found = date_features(torch.tensor([[1.0, quarter, 0.0, 99.0], [1.0, half, 1.0, -365.25], [0.0, 50.0, 1.0, 5.0]]))
    expected = torch.tensor(
        [
            [1, 0, 0, -1, 0, 0, 0],  # a gap that is not known is 0 whatever stands there
            [0, 0, -1, 1, 1, -math.log(366.25) / math.log(366.25), -1],
            [0, 0, 0, 0, 0, 0, 0],
        ]
    )
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_new_network_says_the_same_with_and_without_dates(fusion, task):
    plain, dated, image = _network(dates=False, fusion=fusion, task=task), _network(fusion=fusion, task=task), _image()
    expected = plain(image)
    assert torch.equal(dated({**image, **_dates(may=MAY, july=JULY)}), expected)
    assert torch.equal(dated({**image, **_dates()}), expected)


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_unknown_dates_add_nothing_and_known_ones_do(fusion):
    plain, dated, image = _network(dates=False, fusion=fusion), _speaking(_network(fusion=fusion)), _image()
    assert torch.equal(dated({**image, **_dates()}), plain(image))
    assert not torch.allclose(dated({**image, **_dates(may=MAY)}), plain(image), atol=1e-4)


def test_a_date_moves_its_own_modality_alone():
    network, image = _speaking(_network()), _image()
    before, after = (network.encode({**image, **dates}) for dates in (_dates(), _dates(may=MAY)))
    assert all(
        torch.equal(a, b) for name in ("july", "sar") for a, b in zip(before.maps[name], after.maps[name], strict=True)
    )
    for level, (a, b) in enumerate(zip(before.maps["may"], after.maps["may"], strict=True)):
        difference = b - a
        assert difference.abs().max() > 1e-3, level
        # One vector for the whole image.
        torch.testing.assert_close(difference, difference[..., :1, :1].expand_as(difference), atol=1e-5, rtol=0)


def test_the_date_of_an_absent_image_changes_nothing():
    network, image = _speaking(_network()), _image()
    available = torch.tensor([[False, True, True], [True, True, True]])
    found = [
        network({**image, **dates}, available=available) for dates in (_dates(july=JULY), _dates(july=JULY, may=MAY))
    ]
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][1], found[1][1])


def test_samples_keep_their_own_dates():
    network, image = _speaking(_network()), {name: data[:1].expand(2, -1, -1, -1) for name, data in _image().items()}
    mixed = {**image, **_dates(july=JULY), date_key("may"): torch.tensor([MAY, (0.0, 0.0, 0.0, 0.0)])}
    found = network(mixed)
    torch.testing.assert_close(found[:1], network({**image, **_dates(july=JULY, may=MAY)})[:1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1:], network({**image, **_dates(july=JULY)})[1:], atol=1e-5, rtol=1e-5)


def test_an_exchanged_image_brings_its_date():
    network = _speaking(_network())
    batch = {"image": {**_image(), **_dates(july=JULY), date_key("may"): torch.tensor([MAY, JULY])}}
    inputs, order = observed(network, batch), torch.tensor([1, 0])
    moved = inputs.rolled("may", order)
    assert torch.equal(moved.image[date_key("may")], torch.tensor([JULY, MAY]))
    # Features that move after encoding have it in them already.
    early = network.encode(moved.image, available=moved.available)
    late = network.encode(inputs.image, available=inputs.available).rolled("may", order)
    for a, b in zip(early.maps["may"], late.maps["may"], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_gradients_reach_the_encoding_of_known_dates_alone():
    network, image = _speaking(_network()), _image()
    network({**image, **_dates(may=MAY)}).square().mean().backward()
    reached = [any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters()) for part in network.dates]
    assert reached == [True, False, False]


@pytest.mark.parametrize("kind", ["late", "i2m2"])
def test_competitors_read_dates_or_refuse_them(kind):
    network, image = _speaking(_network(kind=kind)), _image()
    assert not torch.equal(network({**image, **_dates(may=MAY)}), network({**image, **_dates()}))
    with pytest.raises(ModelError, match="false for early"):
        NetworkSpec(**SPEC, dates=True, kind="early")


def test_a_batch_without_dates_is_refused_not_guessed():
    with pytest.raises(ModelError, match="no dates of"):
        _network()(_image())


def test_models_of_dates_are_saved_and_old_descriptions_read(tmp_path):
    network, image = _speaking(_network()), {**_image(), **_dates(may=MAY)}
    card = ModelCard(
        network=network.spec.to_dict(), class_prior=(0.5, 0.25, 0.25),
        classes=tuple({"value": i, "name": str(i), "color": "#000000"} for i in range(3)),
        modalities=tuple({"name": name} for name in MODALITIES),
    )  # fmt: skip
    save_model(tmp_path, network, card)
    loaded, _ = load_model(tmp_path)
    assert isinstance(loaded, FusionUNet)
    assert loaded.spec.dates
    assert torch.equal(loaded(image), network(image))
    old = {key: value for key, value in _network(dates=False).spec.to_dict().items() if key != "dates"}
    assert not NetworkSpec.from_dict(old).dates


def test_the_receptive_field_is_that_without_dates():
    plain, dated = _network(dates=False), _network()
    noise = {name: data[:1] for name, data in _image().items()}
    found = [receptive_field(network, {n: v.clone() for n, v in noise.items()}) for network in (plain, dated)]
    assert found[0].radius == found[1].radius


@pytest.mark.parametrize(("gap", "dates"), [(False, True), (True, True), (False, False)])
def test_what_only_the_date_tells_is_learned(gap, dates):
    """Equal pixels mean one class early in the year, or before the day that is mapped, and the other one later."""
    torch.manual_seed(0)
    spec = NetworkSpec(
        modalities=("eo",), in_channels=(1,), classes=2, depth=2, decoder_channels=(8, 4), task="classification",
        dates=dates,
    )  # fmt: skip
    network, generator = FusionUNet(spec).train(), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)

    def sample(count):
        late = torch.rand(count, generator=generator) < 0.5
        days = torch.where(late, 200.0, 100.0) + 20 * torch.rand(count, generator=generator)
        rows = [torch.ones(count), torch.full((count,), 150.0) if gap else days, torch.full((count,), float(gap))]
        date = torch.stack([*rows, days - 160.0], dim=1)
        return {"eo": torch.randn(count, 1, 8, 8, generator=generator), date_key("eo"): date}, late.long()

    for _ in range(60):
        image, target = sample(32)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(image), target).backward()
        optimiser.step()
    image, target = sample(200)
    hits = (network.eval()(image).argmax(dim=1) == target).float().mean()
    assert (hits > 0.95) if dates else (hits < 0.65)


def _sharing(**changes):
    return _network(sensors=("s2", "s2", "s1"), **changes)


def test_dates_of_a_sensor_share_its_encoder():
    network = _sharing()
    first, second, third = network.modality_encoders()
    assert first is second
    assert first is not third
    assert len(network.encoders) == 2
    image = _image()
    image["july"] = image["may"]
    features = network.encode({**image, **_dates()})
    assert list(features.maps) == list(MODALITIES)
    assert all(torch.equal(a, b) for a, b in zip(features.maps["may"], features.maps["july"], strict=True))


def test_sensors_of_one_modality_share_nothing():
    plain, named, image = _network(), _network(sensors=("a", "b", "c")), {**_image(), **_dates()}
    assert torch.equal(plain(image), named(image))
    assert plain.state_dict().keys() == named.state_dict().keys()


def test_a_shared_encoder_says_of_each_date_what_it_says_of_it_alone():
    network, image = _sharing().eval(), {**_image(), **_dates()}
    available = torch.tensor([[True, False, True], [True, True, False]])
    features = network.encode(image, available=available)
    alone = network.encode(image, available=available & torch.tensor([False, True, False]))
    for a, b in zip(features.maps["july"], alone.maps["july"], strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert not a[0].any()  # absent


def test_dates_enter_one_batch_statistic_in_training():
    network, image = _sharing().train(), {**_image(), **_dates()}
    norm = next(part for part in network.encoders[0].modules() if isinstance(part, torch.nn.BatchNorm2d))
    network.encode(image)
    assert int(norm.num_batches_tracked) == 1


def test_shared_encoders_are_saved_once_and_loaded(tmp_path):
    network, image = _speaking(_sharing()), {**_image(), **_dates(may=MAY)}
    card = ModelCard(
        network=network.spec.to_dict(), class_prior=(0.5, 0.25, 0.25),
        classes=tuple({"value": i, "name": str(i), "color": "#000000"} for i in range(3)),
        modalities=tuple({"name": name} for name in MODALITIES),
    )  # fmt: skip
    save_model(tmp_path, network, card)
    loaded, _ = load_model(tmp_path)
    assert torch.equal(loaded(image), network(image))
    assert loaded.spec.single("july").sensors == ()


def test_a_shared_encoder_is_trained_once_a_step():
    task = FusionTask(
        _sharing(), loss=SegmentationLoss(), strategy=build_strategy(["joint"], modalities=MODALITIES), total_steps=4
    )
    optimiser = task.configure_optimizers()["optimizer"]
    parameters = [item for group in optimiser.param_groups for item in group["params"]]
    assert len(parameters) == len({id(item) for item in parameters}) == len(list(task.network.parameters()))
    with pytest.raises(ModelError, match="an encoder that modalities share for OgmGe"):
        FusionTask(
            _sharing(),
            loss=SegmentationLoss(),
            strategy=build_strategy(["ogm_ge"], modalities=MODALITIES),
            total_steps=4,
        )


@pytest.mark.parametrize("sensors", [("s2", "s2"), ("s2", "s1", "s2"), ("s2", "", "s1")])
def test_modalities_that_differ_share_no_encoder(sensors):
    with pytest.raises(ModelError, match="sensors"):
        NetworkSpec(**SPEC, sensors=sensors)
    with pytest.raises(ModelError, match="kind 'fusion'"):
        NetworkSpec(**SPEC, sensors=("s2", "s2", "s1"), kind="late")
