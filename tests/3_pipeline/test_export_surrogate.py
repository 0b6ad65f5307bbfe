"""An exported network guesses what the network itself guesses, from every subset and at any size."""

import numpy as np
import pytest
import torch

from equipoise.models.coalitions import coalitions
from equipoise.models.export_form import ExportForm
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.pipeline.export_format import Exported, Inputs, write_graph

pytest.importorskip("onnxruntime")  # an extra: pip install equipoise[onnx]

BANDS = {"eo": 2, "sar": 1, "ir": 1}


def test_guesses_are_exported(tmp_path):
    torch.manual_seed(0)
    spec = NetworkSpec(
        modalities=tuple(BANDS), in_channels=tuple(BANDS.values()), classes=3, depth=2, decoder_channels=(8, 4),
        surrogate=True,
    )  # fmt: skip
    network = FusionUNet(spec).eval()
    form = ExportForm(
        network, mean={name: [0.0] * bands for name, bands in BANDS.items()},
        std={name: [1.0] * bands for name, bands in BANDS.items()},
        decibels={name: [False] * bands for name, bands in BANDS.items()},
    ).eval()  # fmt: skip
    path = tmp_path / "model.onnx"
    write_graph(form, path, format="onnx", record={})
    exported = Exported(path, format="onnx", threads=1)
    for shown in coalitions(3):
        image = {name: torch.randn(2, bands, 12, 20) for name, bands in BANDS.items()}
        valid = {name: torch.rand(2, 12, 20) > 0.2 for name in BANDS}
        available = shown.expand(2, 3).contiguous()
        with torch.no_grad():
            wanted = network(image, valid=valid, available=available).softmax(dim=1)
        found = exported(Inputs(image=list(image.values()), valid=list(valid.values()), available=available))
        np.testing.assert_allclose(np.asarray(found), wanted.numpy(), atol=1e-5)
