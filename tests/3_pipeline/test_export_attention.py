"""Attention over a window as a graph with open sizes: ONNX gives the same answer, in blocks or not."""

import pytest
import torch

from equipoise.models.export_form import ExportForm
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.export_format import Exported, Inputs, write_graph

pytest.importorskip("onnxruntime")  # an extra: pip install equipoise[onnx]

SPEC = NetworkSpec(
    modalities=("eo", "sar"), in_channels=(2, 1), classes=3, depth=2, decoder_channels=(8, 4), fusion="attention"
)


def _form(network):
    return ExportForm(
        network, mean={"eo": [0.0] * 2, "sar": [0.0]}, std={"eo": [1.0] * 2, "sar": [1.0]},
        decibels={"eo": [False] * 2, "sar": [False]},
    ).eval()  # fmt: skip


@pytest.fixture
def network():
    torch.manual_seed(0)
    built = FusionUNet(SPEC).eval()
    with torch.no_grad():
        for parameter in built.parameters():  # some begin at 0
            parameter.add_(0.05 * torch.randn_like(parameter))
    built.fusion[-1].edge = 6  # blocks from 28 px on, so that the test need not take windows of 180 px
    return built


def test_onnx_says_the_same_in_windows_of_any_size(network, tmp_path):
    write_graph(_form(network), tmp_path / "model.onnx", format="onnx", record={})
    exported = Exported(tmp_path / "model.onnx", format="onnx", threads=1)
    for rows, columns in ((24, 24), (9, 44), (90, 130)):
        image = [torch.randn(4, bands, rows, columns) for bands in SPEC.in_channels]
        valid = [torch.rand(4, rows, columns) > 0.2 for _ in SPEC.in_channels]
        available = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
        found = exported(Inputs(image=image, valid=valid, available=available))
        with torch.no_grad():
            wanted = network(
                dict(zip(SPEC.modalities, image, strict=True)), available=available,
                valid=dict(zip(SPEC.modalities, valid, strict=True)),
            ).softmax(dim=1)  # fmt: skip
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_program_of_torch_is_refused(network, tmp_path):
    with pytest.raises(PipelineError, match=r"cannot trace with open sizes.*try the other of onnx and torch"):
        write_graph(_form(network), tmp_path / "model.pt2", format="torch", record={})
