"""Reading of possibly damaged inputs in a process of its own, so that a crash or a hang is a result like any other."""

import faulthandler
import hashlib
import multiprocessing
import resource
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_specimens import GRID, Specimen

from equipoise.datasets.errors import DatasetError
from equipoise.datasets.integrity import verify_product
from equipoise.datasets.labels import read_labels
from equipoise.datasets.opening import Handling, open_scene
from equipoise.datasets.patches import PatchIndex
from equipoise.datasets.quality import QualityScheme
from equipoise.datasets.registration_layer import RegistrationLayer
from equipoise.datasets.scene import Scene, check_scene
from equipoise.datasets.source import Source
from equipoise.datasets.stack import AlignedStack, StackReader
from equipoise.pipeline.config import load_config
from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.scenes import resolve_scenes

#: Errors that are an answer: one line that says what is wrong.
OURS = (DatasetError, PipelineError)

#: A scene that claims more values than this is read at its corners only, as the stages read windows only.
READ_LIMIT = 50_000_000

#: Address space of the child, bytes: an allocation beyond it is a MemoryError, which is a failure.
MEMORY = 8 * 2**30


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What came of reading a specimen.

    Attributes
    ----------
    refused
        What `verify_product` said, or None.
    error
        What the reader said, or None.
    digest
        Hash of everything that was read, grid and units included; "" where it refused.
    faults
        What no input may cause: other exceptions, arrays that contradict themselves.
    """

    refused: str | None = None
    error: str | None = None
    digest: str = ""
    faults: tuple[str, ...] = field(default=())


def read(specimen: Specimen) -> Reading:
    """Verify, then read even what was refused: a reader may be called without a verification."""
    reading = Reading()
    for name, act in (("refused", _verify), ("error", READERS[specimen.reader])):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # arithmetic on numbers that cannot be
                facts, faults = act(specimen)
            if name == "error":
                reading = replace(reading, digest=facts, faults=(*reading.faults, *faults))
        except OURS as error:
            text = str(error)
            reading = replace(reading, **{name: text})
            if "\n" in text or len(text) < 20:
                reading = replace(reading, faults=(*reading.faults, f"not one line: {text!r}"))
        except BaseException as error:
            where = traceback.format_exception(error)
            reading = replace(reading, faults=(*reading.faults, "".join(where[-8:])))
    return reading


class Child:
    """A process that reads; it is started again after a crash or a hang."""

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        self._process: Any = None
        self._pipe: Connection | None = None

    def read(self, specimen: Specimen) -> Reading:
        """Read in the child; a crash and a hang become faults."""
        if self._process is None:
            self._start()
        assert self._pipe is not None
        try:
            self._pipe.send(specimen)
            if self._pipe.poll(self.seconds):
                return self._pipe.recv()
            fault = f"no answer within {self.seconds:g} s"
        except (EOFError, OSError):
            self._process.join(5)
            fault = f"the process died with code {self._process.exitcode}"
        self.close()
        return Reading(faults=(fault,))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = self._pipe = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit GDAL's open files
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        assert self._pipe.poll(120)
        assert self._pipe.recv() == "ready"


def _serve(pipe: Connection) -> None:
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    pipe.send("ready")
    while True:
        try:
            specimen = pipe.recv()
        except EOFError:
            return
        pipe.send(read(specimen))


def _verify(specimen: Specimen) -> tuple[str, list[str]]:
    inputs: tuple[Path, ...] = ()
    if specimen.reader in ("scene", "chip", "labels"):
        inputs = _source(specimen).inputs
    elif specimen.reader == "stack":
        inputs = tuple(sorted(specimen.folder.glob("*.tif")))
    for path in inputs:
        verify_product(path)
    return "", []


def _source(specimen: Specimen) -> Source:
    bands, quality = specimen.more.get("bands"), specimen.more.get("quality")
    return Source(
        path=specimen.folder / specimen.entry if specimen.entry else None,
        bands={name: specimen.folder / file for name, file in bands.items()} if isinstance(bands, dict) else {},
        quality=specimen.folder / quality if isinstance(quality, str) else None,
    )


def _scene(specimen: Specimen) -> tuple[str, list[str]]:
    assert specimen.modality is not None
    scene = open_scene(
        _source(specimen), specimen.modality, georeferenced=specimen.reader == "scene",
        handling=Handling(clouds="keep", quality=QualityScheme.SCL),
    )  # fmt: skip
    check_scene(scene)
    digest = hashlib.sha256(repr((scene.modality, scene.geobox, scene.acquired)).encode())
    faults = []
    for roi in _parts(scene):
        values, codes = scene.read(roi), scene.read_quality(roi)
        faults.extend(_contradictions(scene, roi, values, codes))
        digest.update(values.tobytes() + codes.tobytes())
    return digest.hexdigest(), faults


def _parts(scene: Scene) -> list[tuple[slice, slice]]:
    height, width = scene.geobox.shape
    if height * width * len(scene.modality.bands) <= READ_LIMIT:
        return [(slice(0, height), slice(0, width))]
    return [
        (slice(top, top + 256), slice(left, left + 256))
        for top in (0, max(0, height - 256))
        for left in (0, max(0, width - 256))
    ]


def _contradictions(scene: Scene, roi: tuple[slice, slice], values: np.ndarray, codes: np.ndarray) -> list[str]:
    shape = tuple(scene.geobox[roi].shape)
    faults = []
    if values.shape != (len(scene.modality.bands), *shape) or codes.shape != shape:
        faults.append(f"shapes {values.shape}, {codes.shape} on a grid of {shape}")
    if values.dtype != np.float32 or codes.dtype != np.uint8:
        faults.append(f"types {values.dtype}, {codes.dtype}")
    if np.isinf(values).any():
        faults.append("infinite values are given as valid")
    if (np.isnan(values).any(axis=0) != np.isnan(values).all(axis=0)).any():
        faults.append("a pixel is valid in some bands only")
    if not set(np.unique(codes).tolist()) <= {0, 1, 2, 3, 255}:
        faults.append(f"quality codes {np.unique(codes).tolist()}")
    return faults


def _labels(specimen: Specimen) -> tuple[str, list[str]]:
    labels = read_labels(specimen.folder / specimen.entry, GRID, classes={0: 0, 1: 1, 2: 5})
    faults = []
    if labels.shape != tuple(GRID.shape) or labels.dtype != np.uint8:
        faults.append(f"labels are {labels.dtype} {labels.shape}")
    if not set(np.unique(labels).tolist()) <= {0, 1, 5, 255}:
        faults.append(f"labels hold {np.unique(labels).tolist()}")
    return hashlib.sha256(labels.tobytes()).hexdigest(), faults


def _stack(specimen: Specimen) -> tuple[str, list[str]]:
    stack = AlignedStack.load(specimen.folder / specimen.entry)
    facts = (stack.name, stack.geobox, stack.modalities, sorted(stack.present), sorted(stack.clouds), stack.label)
    digest = hashlib.sha256(repr((*facts, stack.missing, stack.confidence, stack.acquired, stack.group)).encode())
    reader, faults = StackReader(stack), []
    for name, path in sorted(stack.registration.items()):
        sure = RegistrationLayer.load(path).confidence_over(stack.geobox.zoom_out(30))
        if not ((sure >= 0) & (sure <= 1)).all():
            faults.append(f"the position of '{name}' is sure by {sure.min()} to {sure.max()}")
        digest.update(sure.tobytes())
    height, width = stack.geobox.shape
    for row, col in ((-10, -10), (height - 100, width - 120)):
        window = reader.read(row, col, height=110, width=130)
        for name, values in window.image.items():
            if values.shape[1:] != (110, 130) or not np.array_equal(
                window.valid[name], np.isfinite(values).all(axis=0)
            ):
                faults.append(f"'{name}' has {values.shape} and its mask differs")
            digest.update(values.tobytes())
        for codes in window.quality.values():
            digest.update(codes.tobytes())
    return digest.hexdigest(), faults


def _patches(specimen: Specimen) -> tuple[str, list[str]]:
    index = PatchIndex.load(specimen.folder / specimen.entry)
    counts = [(split, len(index.of_split(split))) for split in ("train", "validation", "test")]
    text = index.table.drop(columns="geometry").to_csv() + str(index.table.geometry.to_wkb().tolist()) + str(counts)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest(), []


def _configuration(specimen: Specimen) -> tuple[str, list[str]]:
    config = load_config(specimen.folder / specimen.entry)
    config.domain_modalities()
    text = config.model_dump_json() + repr(resolve_scenes(config))
    return hashlib.sha256(text.replace(str(specimen.folder.resolve()), "").encode()).hexdigest(), []


#: Kind of specimen -> what reads it: returns a digest and what contradicts itself.
READERS: dict[str, Callable[[Specimen], tuple[str, list[str]]]] = {
    "scene": _scene,
    "chip": _scene,
    "labels": _labels,
    "stack": _stack,
    "patches": _patches,
    "configuration": _configuration,
}
