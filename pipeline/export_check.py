"""Whether an exported model says what the model itself says: on random values, and on real scenes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datasets.stack import AlignedStack, StackReader, StackWindow
from .errors import PipelineError
from .export_format import Inputs
from .predict import Predictor, check_bands

#: Edges, rows and columns, of the random images; most are no multiple of an encoder's stride.
SIZES = ((64, 64), (37, 51), (1, 70))

#: Edge, px, and number of the windows of a scene that are compared.
WINDOW, WINDOWS = 256, 4


@dataclass(kw_only=True)
class Comparison:
    """How far two answers are from each other.

    Attributes
    ----------
    cases
        Images that were compared, each with one subset of the sensors.
    difference
        Largest difference of a probability.
    places, changed
        Pixels (or images, of classification), and those whose likeliest class is another.
    """

    cases: int = 0
    difference: float = 0.0
    places: int = 0
    changed: int = 0

    def add(self, found: Tensor, wanted: Tensor) -> None:
        """Take in probabilities (batch, class, ...); those that are no numbers are as far as can be."""
        gap = float((found - wanted).abs().nan_to_num(torch.inf).max())
        self.difference = max(self.difference, gap) if found.shape == wanted.shape else torch.inf
        best = found.argmax(dim=1) != wanted.argmax(dim=1)
        self.cases += len(found)
        self.places += best.numel()
        self.changed += int(best.sum())


def compare(
    predictor: Predictor, exported: Callable[[Inputs], Tensor], windows: Iterator[tuple[str, StackWindow]]
) -> Comparison:
    """Compare an exported model with the model as it was trained, from every subset of the sensors.

    Parameters
    ----------
    predictor
        The model.
    exported
        What answers in its place.
    windows
        Scene and pixels.
    """
    result = Comparison()
    subsets = torch.tensor(list(product([True, False], repeat=len(predictor.network.modalities))))
    for scene, window in windows:
        inputs = export_inputs(predictor, window)
        tensors = predictor.tensors(scene, [window])
        for subset in subsets:
            present = tensors["available"] & subset
            with torch.no_grad():
                logits = predictor.network(tensors["image"], valid=tensors["valid"], available=present)
            found = exported(Inputs(image=inputs.image, valid=inputs.valid, available=present))
            result.add(found, (logits / predictor.temperature).softmax(dim=1))
    return result


def random_windows(predictor: Predictor, *, seed: int = 0) -> Iterator[tuple[str, StackWindow]]:
    """Yield images of noise with the statistics of the training pixels; a tenth of the pixels is not valid."""
    rng = np.random.default_rng(seed)
    normaliser = predictor.normaliser
    for size in SIZES:
        image, valid = {}, {}
        for item in normaliser.modalities:
            statistics = normaliser.training[item.name]
            layers = []
            for band, mean, std in zip(item.bands, statistics.mean, statistics.std, strict=True):
                layer = rng.normal(mean, std, size)
                layers.append(10 ** (layer / 10) if band.is_backscatter else layer)
            valid[item.name] = rng.random(size) > 0.1
            image[item.name] = np.where(valid[item.name], np.stack(layers), np.nan).astype(np.float32)
        yield "random", StackWindow(image=image, valid=valid, labels=None)


def scene_windows(predictor: Predictor, stacks: list[AlignedStack]) -> Iterator[tuple[str, StackWindow]]:
    """Yield windows along the diagonal of each scene."""
    for stack in stacks:
        seen = stack.of_modalities(predictor.network.modalities)
        check_bands(seen, predictor)
        reader = StackReader(seen)
        rows, cols = (int(length) for length in seen.geobox.shape)
        for share in np.linspace(0, 1, WINDOWS):
            row, col = (int(share * max(0, length - WINDOW)) for length in (rows, cols))
            yield stack.name, reader.read(row, col, height=min(WINDOW, rows), width=min(WINDOW, cols))


def read_stacks(path: Path) -> list[AlignedStack]:
    """Read the aligned scenes of a run folder, of a folder of stacks, or of one stack.

    Raises
    ------
    PipelineError
        If there is none.
    """
    if path.is_file():
        return [AlignedStack.load(path)]
    found = [
        found for pattern in ("stack.json", "*/stack.json", "aligned/*/stack.json") for found in path.glob(pattern)
    ]
    if not found:
        raise PipelineError(
            f"{path}: found no aligned scene; wanted a stack.json, a folder of stacks or a run folder; run `equipoise "
            "coregister`, or correct --check"
        )
    return [AlignedStack.load(item) for item in sorted(found)]


def export_inputs(predictor: Predictor, window: StackWindow) -> Inputs:
    """Return what an exported model takes; a sensor that is missing is all NaN, which nothing may read."""
    images, valid = [], []
    for item in predictor.normaliser.modalities:
        mask = window.valid[item.name]
        image = window.image.get(item.name)
        if image is None:
            image = np.full((len(item.bands), *mask.shape), np.nan, dtype=np.float32)
        images.append(torch.from_numpy(np.ascontiguousarray(image))[None])
        valid.append(torch.from_numpy(np.ascontiguousarray(mask))[None])
    available = torch.tensor([[bool(mask.any()) for mask in valid]])
    return Inputs(image=images, valid=valid, available=available)
