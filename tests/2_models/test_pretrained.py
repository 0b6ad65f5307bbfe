"""Weights of torchgeo: found by name, checked against bands and architecture, the same features, no download."""

import io
import pickle
import warnings
from urllib.error import URLError

import pytest
import torch

from equipoise.models import pretrained
from equipoise.models.encoders import build_encoder
from equipoise.models.errors import ModelError
from equipoise.models.network import FusionUNet, NetworkSpec

SAR, EO = "ResNet50_Weights.SENTINEL1_ALL_MOCO", "ResNet18_Weights.SENTINEL2_ALL_MOCO"
THERMAL = "ResNet18_Weights.LANDSAT_OLI_TIRS_TOA_MOCO"


@pytest.fixture(scope="module")
def torchgeo():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that torchgeo imports
        import torchgeo.models
    return torchgeo.models


@pytest.fixture
def offered(monkeypatch, torchgeo):
    """Gives a state dict in place of what would be downloaded, or raises an error in its place."""

    def offer(answer):
        def get_state_dict(self, **options):
            assert options == {"progress": False, "check_hash": True, "weights_only": True}
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(torchgeo.ResNet18_Weights, "get_state_dict", get_state_dict)
        monkeypatch.setattr(torchgeo.ResNet50_Weights, "get_state_dict", get_state_dict)

    return offer


def _fresh(torchgeo, builder, bands):
    """A network of torchgeo with weights and batch statistics that no initialisation gives."""
    torch.manual_seed(0)
    network = getattr(torchgeo, builder)(weights=None, in_chans=bands)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.data = 0.5 + torch.rand_like(buffer)
    return network.eval()


@pytest.mark.parametrize(
    ("builder", "bands", "name", "depth"),
    [("resnet50", 2, SAR, 5), ("resnet18", 13, EO, 5), ("resnet18", 11, THERMAL, 3)],
)
def test_features_are_those_of_torchgeo(torchgeo, offered, builder, bands, name, depth):
    oracle = _fresh(torchgeo, builder, bands)
    offered(oracle.state_dict())
    encoder = build_encoder(builder, in_channels=bands, depth=depth, weights=name).eval()
    image = torch.randn(1, bands, 64, 64)
    with torch.no_grad():
        expected = [oracle.act1(oracle.bn1(oracle.conv1(image)))]
        for stage in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
            expected.append(getattr(oracle, stage)(expected[-1]))
        found = encoder(image)[1:]
    del expected[1]  # the pooling is no stage of its own
    assert len(found) == depth
    for one, other in zip(found, expected, strict=False):
        torch.testing.assert_close(one, other)


def test_a_network_starts_each_modality_from_its_own_weights(torchgeo, offered):
    oracle = _fresh(torchgeo, "resnet18", 13)
    offered(oracle.state_dict())
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(13, 2), classes=2, depth=1, decoder_channels=(4,))
    network = FusionUNet(spec, weights={"eo": EO})
    assert torch.equal(network.encoders[0].backbone.conv1.weight, oracle.conv1.weight)
    with pytest.raises(ModelError, match=r"weights for \('lidar',\)"):
        FusionUNet(spec, weights={"lidar": EO})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ResNet18_Weights.SENTINEL2_ALL_MOCCO", EO),
        ("Resnet50_Weights.SENTINEL1_ALL_MOCO", SAR),
        ("ResNet18_Weights.meta", "ResNet18_Weights"),
        ("ResNet18_Weights.__class__", "ResNet18_Weights"),
    ],
)
def test_unknown_names_get_the_nearest(torchgeo, name, nearest):
    with pytest.raises(ModelError, match=rf"found weights '{name}'.*nearest is '{nearest}") as caught:
        pretrained.find_torchgeo_weights(name)
    assert "\n" not in str(caught.value)


def test_every_name_that_torchgeo_lists_is_found(torchgeo):
    for alias, member in torchgeo.ResNet50_Weights.__members__.items():
        assert pretrained.find_torchgeo_weights(f"ResNet50_Weights.{alias}") is member


@pytest.mark.parametrize(
    ("encoder", "bands", "name", "found"),
    [
        ("resnet18", 2, SAR, "encoder 'resnet18'.*'resnet50'"),
        ("resnet50", 3, SAR, r"3 bands.*wanted 2 \(VV, VH\)"),
        ("tu-resnet50", 2, SAR, "encoder 'tu-resnet50'"),
    ],
)
def test_what_does_not_fit_is_named_before_any_download(torchgeo, offered, encoder, bands, name, found):
    offered(AssertionError("nothing may be downloaded"))
    with pytest.raises(ModelError, match=found):
        build_encoder(encoder, in_channels=bands, depth=2, weights=name)


def test_tensors_that_do_not_fit_are_named(torchgeo, offered):
    state = _fresh(torchgeo, "resnet18", 13).state_dict()
    for damaged in (
        {key: value for key, value in state.items() if key != "layer1.0.conv1.weight"},
        {**state, "layer1.0.conv1.weight": torch.zeros(1)},
        {**state, "stranger": torch.zeros(1)},
    ):
        offered(damaged)
        with pytest.raises(ModelError, match=r"1 tensors.*(layer1\.0\.conv1|stranger)"):
            build_encoder("resnet18", in_channels=13, depth=2, weights=EO)


@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known\nand more"),
        TimeoutError("timed out"),
        RuntimeError('invalid hash value (expected "59bfdff9", got "0")'),
        pickle.UnpicklingError("Weights only load failed"),
    ],
)
def test_no_network_is_one_clear_line(offered, error):
    offered(error)
    with pytest.raises(ModelError, match=r"no way to download.*network connection.*leave `weights` out") as caught:
        build_encoder("resnet18", in_channels=13, depth=2, weights=EO)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_no_hub_is_one_clear_line(monkeypatch):
    import segmentation_models_pytorch as smp

    def refuse(*_, **__):
        raise FileNotFoundError("An error happened while trying to locate the file on the Hub.\nPlease check.")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", refuse)
    with pytest.raises(ModelError, match=r"no way to download weights 'imagenet' of resnet18") as caught:
        build_encoder("resnet18", in_channels=3, depth=2, weights="imagenet")
    assert "\n" not in str(caught.value)


def test_nothing_is_downloaded_unless_named(offered):
    offered(AssertionError("nothing may be downloaded"))
    build_encoder("resnet18", in_channels=13, depth=2)


def test_a_foreign_pickle_is_not_run(torchgeo, monkeypatch, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("ran",))

    stream = io.BytesIO()
    torch.save({"conv1.weight": Bomb()}, stream)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchgeo.ResNet18_Weights.SENTINEL2_ALL_MOCO
    cached = tmp_path / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[1]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(stream.getvalue())
    with pytest.raises(ModelError, match="no way to download"):
        build_encoder("resnet18", in_channels=13, depth=2, weights=EO)
