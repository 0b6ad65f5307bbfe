"""The same map by what peers offer: torchgeo's grid sampler, TerraTorch's tiled inference, geoai's GeoTIFF prediction.

Each gets the network as it was trained, windows of the same size that advance by the same step, one at a time, in
float32. What is not installed is left out; Raster Vision was not tried.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from equipoise.datasets.stack import AlignedStack


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What a peer is given: the scene, the network, the windows, and all bands in one file."""

    stack: AlignedStack
    network: Any
    classes: int
    tile: int
    overlap: int
    halo: int
    stacked: Path


class OneInput(nn.Module):
    """The network for those that know one image: its bands, modality by modality."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of an image (batch, band of any modality, y, x)."""
        parts = torch.split(image, list(self.network.spec.in_channels), dim=1)
        logits: Tensor = self.network(dict(zip(self.network.modalities, parts, strict=True)))
        return logits


def torchgeo_loop(given: Pieces) -> NDArray[np.uint8]:
    """Map with torchgeo's data sets and grid sampler, and the loop that its user has to write; no blending, no files.

    It needs all of the map in memory, takes what is not valid for zero, and does not reach beyond the scene.
    """
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    names, stack = given.network.modalities, given.stack
    sets = [type(f"Files_{name}", (RasterDataset,), {"filename_glob": f"{name}.tif"})(stack.present[name].parent)
            for name in names]  # fmt: skip
    joined = sets[0]
    for item in sets[1:]:
        joined = joined & item
    sampler = GridGeoSampler(joined, size=given.tile, stride=given.tile - given.overlap)
    classes = np.zeros(stack.geobox.shape, dtype=np.uint8)
    inverse, network = ~stack.geobox.affine, OneInput(given.network)
    with torch.inference_mode():
        for batch in DataLoader(joined, batch_size=1, sampler=sampler, collate_fn=stack_samples):
            best = network(batch["image"].nan_to_num()).argmax(dim=1)[0].numpy().astype(np.uint8) + 1
            x, y = _corner(batch["bounds"])
            left, top = (round(value) for value in inverse * (x, y))
            target = classes[max(top, 0) : top + best.shape[0], max(left, 0) : left + best.shape[1]]
            target[...] = best[: target.shape[0], : target.shape[1]]
    return classes


def terratorch_tiles(given: Pieces) -> NDArray[np.uint8]:
    """Map with TerraTorch's tiled inference, which blends in memory; the scene is read whole, no file is written."""
    from terratorch.tasks.tiled_inference import tiled_inference

    with rasterio.open(given.stacked) as source:
        image = torch.from_numpy(source.read())[None].nan_to_num()
    with torch.inference_mode():
        logits = tiled_inference(OneInput(given.network), image, crop=given.tile, stride=given.tile - given.overlap,
                                 delta=given.halo, batch_size=1, padding="reflect")  # fmt: skip
    return logits[0].argmax(dim=0).numpy().astype(np.uint8) + 1


def geoai_geotiff(given: Pieces) -> NDArray[np.uint8]:
    """Map with geoai's predict_geotiff, which accumulates the scene in memory and writes a GeoTIFF of classes."""
    from geoai.inference import predict_geotiff

    with tempfile.TemporaryDirectory() as folder:
        written = predict_geotiff(
            OneInput(given.network), str(given.stacked), str(Path(folder) / "map.tif"), tile_size=given.tile,
            overlap=given.overlap, batch_size=1, num_classes=given.classes, output_dtype="uint8", output_nodata=0,
            blend_mode="cosine", preprocess_fn=np.nan_to_num, device="cpu", verbose=False,
            postprocess_fn=lambda sums: (sums.argmax(axis=0)[None] + 1).astype(np.uint8),
        )  # fmt: skip
        with rasterio.open(written) as source:
            return source.read(1)


def installed_peers() -> dict[str, Callable[[Pieces], NDArray[np.uint8]]]:
    """Return what can be imported here."""
    peers = {"torchgeo": (torchgeo_loop, "torchgeo.samplers"),
             "TerraTorch": (terratorch_tiles, "terratorch.tasks.tiled_inference"),
             "geoai": (geoai_geotiff, "geoai.utils")}  # fmt: skip
    found = {}
    for name, (peer, module) in peers.items():
        try:
            __import__(module)
        except Exception as error:  # whatever a foreign package raises while it is imported
            print(f"{name}: not installed ({type(error).__name__})")
            continue
        found[name] = peer
    return found


def _corner(given: Any) -> tuple[float, float]:
    """Return min x and max y from what torchgeo of this version calls bounds."""
    first = given[0]
    if hasattr(first, "minx"):
        return first.minx, first.maxy
    if isinstance(first, tuple):  # slices of x, y and time
        return first[0].start, first[1].stop
    values = torch.as_tensor(first).flatten().tolist()
    return values[0], values[4]
