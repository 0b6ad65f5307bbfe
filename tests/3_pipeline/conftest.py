"""Fixtures of the pipeline's tests: small stacks, networks whose answers are known, and one trained run for all."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from affine import Affine
from made_once import made_once
from odc.geo.geobox import GeoBox
from torch import Tensor, nn

from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.normalise import Normaliser
from equipoise.datasets.raster import cog_writer
from equipoise.datasets.stack import AlignedStack
from equipoise.datasets.statistics import BandStatistics
from equipoise.models.features import Features
from equipoise.pipeline.config import load_config
from equipoise.pipeline.predict import Predictor
from equipoise.pipeline.run_folder import RunFolder
from equipoise.pipeline.scene_options import ClassOptions
from equipoise.pipeline.stages import Run
from equipoise.pipeline.templates import template_record

COMMAND = Path(sys.executable).with_name("equipoise")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are taken in one order only with a fixed number of threads: bits are compared here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def equipoise() -> Callable[..., subprocess.CompletedProcess]:
    """Call the installed command as a user does."""

    def call(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip

    return call


@pytest.fixture(scope="session")
def light_record(embedded_scene) -> Callable[..., dict]:
    """Plain values of a configuration that runs in seconds; keyword arguments replace options of a stage."""

    def make(**changes: Mapping) -> dict:
        record = template_record("demo")
        scene = record["scenes"][0]
        scene["files"] = {name: str(path) for name, path in embedded_scene.paths.items()}
        scene |= {"labels": str(embedded_scene.labels), "informative": str(embedded_scene.informative)}
        record["tile"] = {"patch_size": 64, "block_size": 96, "buffer": 8}
        record["train"] = {
            "depth": 2, "decoder_channels": [16, 8], "epochs": 3, "batch_size": 6, "learning_rate": 0.002,
            "device": "cpu",
        }  # fmt: skip
        record["evaluate"] = {"single_modality": False, "rolls": 1, "bootstrap": 100, "robustness_patches": 6}
        record["predict"] = {"tile": 128, "overlap": 32, "reliance_tile": 16, "device": "cpu"}
        for stage, options in changes.items():
            record[stage] = {**record.get(stage, {}), **options} if isinstance(options, Mapping) else options
        return record

    return make


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A run that every stage but the report has passed; read it, copy it, do not write into it."""

    config: Path
    run: Run

    @property
    def root(self) -> Path:
        return self.run.folder.root


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, light_record) -> TrainedRun:
    """The light configuration on the embedded scene, trained, measured and mapped once, and a copy for each worker."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(made_once(tmp_path_factory, "trained", partial(_train, light_record())), folder, dirs_exist_ok=True)
    config = load_config(folder / "light.yaml")
    run = Run(config=config, folder=RunFolder.open(folder / "run", seed=config.seed))
    return TrainedRun(config=folder / "light.yaml", run=run)


def _train(record: dict, folder: Path) -> Path:
    path = folder / "light.yaml"
    path.write_text(yaml.safe_dump(record, sort_keys=False))
    config = load_config(path)
    run = Run(config=config, folder=RunFolder.open(folder / "run", seed=config.seed))
    for stage in ("coregister", "tile", "train", "evaluate", "predict"):
        run.do(stage)
    return folder


class PixelNetwork(nn.Module):
    """Evidence of each pixel alone: the logits are the sum of the present modalities' bands, one band a class."""

    def __init__(self, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self.modalities = modalities
        self.gain = nn.Parameter(torch.ones(()))

    def encode(self, image: Mapping[str, Tensor], *, valid: Mapping[str, Tensor], available: Tensor) -> Features:
        shares = {
            name: [(valid[name] & available[:, column, None, None])[:, None].float()]
            for column, name in enumerate(self.modalities)
        }
        return Features(
            maps={name: [image[name]] for name in self.modalities}, shares=shares,
            size=tuple(next(iter(image.values())).shape[-2:]),
        )  # fmt: skip

    def fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        terms = [
            features.maps[name][0] * features.shares[name][0] * available[:, column, None, None, None]
            for column, name in enumerate(self.modalities)
        ]
        return [self.gain * torch.stack(terms).sum(dim=0)]

    def decode(self, fused: list[Tensor], *, size: tuple[int, int]) -> Tensor:
        return fused[0][..., : size[0], : size[1]]

    def core_answers(self, features: Features, core: slice | None, *, every: int = 1) -> Callable[[Tensor], Tensor]:
        part = slice(None) if core is None else core
        return lambda available: self.decode(self.fuse(features, available), size=features.size)[..., part, part][
            ..., ::every, ::every
        ]


@pytest.fixture(scope="session")
def pixel_network() -> type[PixelNetwork]:
    return PixelNetwork


@pytest.fixture(scope="session")
def make_predictor() -> Callable[..., Predictor]:
    """Join a network to inputs that pass unchanged (mean 0, deviation 1) and to classes 10, 20, ..."""

    def make(network: nn.Module, *, bands: Mapping[str, int], classes: int, approximate: bool = False) -> Predictor:
        modalities = tuple(
            Modality(
                name=name,
                bands=tuple(Band(name=f"{name}{number}", unit=Unit.DIGITAL_NUMBER) for number in range(count)),
            )
            for name, count in bands.items()
        )
        statistics = {
            name: BandStatistics(mean=(0.0,) * count, std=(1.0,) * count, count=1) for name, count in bands.items()
        }
        return Predictor(
            network=network.eval(), normaliser=Normaliser(modalities=modalities, training=statistics),
            classes=[
                ClassOptions(value=10 * (number + 1), name=f"class <{number}>", color=f"#{number + 1:02x}8040")
                for number in range(classes)
            ],
            prior=torch.full((classes,), 1 / classes), digest="0123456789abcdef", approximate=approximate,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def write_stack() -> Callable[..., AlignedStack]:
    """Write arrays (band, y, x) as an aligned stack in a real UTM zone; names in ``missing`` have no file."""

    def write(
        folder: Path, images: Mapping[str, np.ndarray], *, name: str = "place", missing: tuple[str, ...] = ()
    ) -> AlignedStack:
        shape = next(iter(images.values())).shape[1:]
        grid = GeoBox(shape, Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), "EPSG:32633")
        for modality, image in images.items():
            with cog_writer(
                folder / f"{modality}.tif", grid, count=len(image), dtype="float32", nodata=float("nan"),
                overview_resampling="average", descriptions=[f"{modality}{band}" for band in range(len(image))],
                tags={"unit": ",".join(["digital_number"] * len(image))},
            ) as writer:  # fmt: skip
                writer.write(image.astype(np.float32))
        return AlignedStack(
            name=name, geobox=grid, modalities=(*images, *missing),
            present={modality: folder / f"{modality}.tif" for modality in images},
            missing=dict.fromkeys(missing, "no file for this scene"),
        )  # fmt: skip

    return write


@pytest.fixture
def own_files(embedded_scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder at work, with the embedded scene's files as a user's own: ``eo.tif``, ..., ``labels.tif``."""
    for name, path in embedded_scene.paths.items():
        shutil.copy(path, tmp_path / f"{name}.tif")
    shutil.copy(embedded_scene.labels, tmp_path / "labels.tif")
    monkeypatch.chdir(tmp_path)
    return tmp_path
