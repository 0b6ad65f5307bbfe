"""Where the pixels of a unit come from: files of a catalog, scenes of a configuration, or stacks that are aligned."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...datasets.ledger import Ledger
from ...datasets.source import Source, as_source
from ...datasets.stack import AlignedStack
from ..acquire_config import written_modality
from ..acquire_sensor import fetch_acquisition, write_acquisition
from ..config import Config, load_config
from ..coregister_scenes import align_scene
from ..errors import PipelineError
from ..scene_options import ModalityOptions
from ..scenes import SceneFiles, resolve_scenes
from .catalog_record import read_acquisition
from .job import Job
from .unit import Unit


class NothingToMapError(PipelineError):
    """No sensor has a valid pixel in a unit."""


@dataclass(kw_only=True)
class Opened:
    """What is known of a unit once its pixels are there.

    Attributes
    ----------
    stack
        Its sensors on one grid.
    sources
        Of the record: items, or files, that it is made of.
    """

    stack: AlignedStack
    sources: list[dict[str, Any]]


@dataclass(kw_only=True)
class Clock:
    """Seconds by part of the work."""

    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time within to a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = round(self.timings.get(name, 0.0) + time.perf_counter() - began, 4)


def open_unit(unit: Unit, job: Job, *, scratch: Path, clock: Clock) -> Opened:
    """Bring the sensors of a unit onto one grid.

    Raises
    ------
    NothingToMapError
        If no sensor has a valid pixel there.
    DatasetError, PipelineError
        If files cannot be fetched, read or aligned.
    """
    opened = _KINDS[unit.source["kind"]](unit, job, scratch, clock)
    if not opened.stack.present:
        raise NothingToMapError("; ".join(f"{name}: {why}" for name, why in opened.stack.missing.items()))
    return opened


def _of_stack(unit: Unit, job: Job, scratch: Path, clock: Clock) -> Opened:
    del job, scratch
    with clock.part("acquire"):
        stack = replace(AlignedStack.load(Path(unit.source["path"])), name=unit.name)
    sources = [{"id": name, "collection": None, "href": str(path)} for name, path in stack.present.items()]
    return Opened(stack=stack, sources=sources)


def _of_items(unit: Unit, job: Job, scratch: Path, clock: Clock) -> Opened:
    ledger = Ledger.open(job.out / "assets")
    files: dict[str, Source] = {}
    missing, sources, acquired = dict(unit.source["missing"]), [], {}
    with clock.part("acquire"):
        for sensor in job.sensors:
            record = unit.source["sensors"].get(sensor.name)
            if record is None:
                continue
            acquisition = read_acquisition(record)
            fetched = fetch_acquisition(acquisition, sensor, ledger=ledger)
            when = acquisition.acquired.isoformat(timespec="seconds")
            written = write_acquisition(
                fetched, sensor, unit.read, folder=scratch / "acquired", scratch=scratch / sensor.name, acquired=when
            )
            sources += [{"id": item["id"], "collection": item["collection"], "href": record["items"][number]["href"]}
                        for number, item in enumerate(fetched.record)]  # fmt: skip
            if written.valid == 0:
                missing[sensor.name] = "its files have no valid pixel here"
                continue
            files[sensor.name], acquired[sensor.name] = Source(path=written.raster, quality=written.quality), when
    modalities = {sensor.name: written_modality(sensor) for sensor in job.sensors}
    scene = SceneFiles(name=unit.name, files=files, missing=missing, acquired=acquired)
    return Opened(stack=_aligned(scene, modalities, unit, job, scratch, clock), sources=sources)


def _of_files(unit: Unit, job: Job, scratch: Path, clock: Clock) -> Opened:
    assert job.config is not None  # noqa: S101 (for the type checker)
    status = job.config.stat()
    config, scenes = _scenes(job.config, status.st_mtime_ns, job.model)
    scene = scenes[unit.source["scene"]]
    sources = [
        {"id": path.name, "collection": None, "href": str(path)}
        for source in scene.files.values() for path in as_source(source).inputs
    ]  # fmt: skip
    # Labels are not looked at: nothing is trained or measured here.
    plain = replace(scene, name=unit.name, labels=None, informative=None)
    return Opened(stack=_aligned(plain, config.modalities, unit, job, scratch, clock), sources=sources)


@lru_cache(maxsize=4)
def _scenes(config: Path, modified: int, model: Path) -> tuple[Config, dict[str, SceneFiles]]:
    del modified  # tells a file that was replaced
    loaded = load_config(config, model=model)
    return loaded, {scene.name: scene for scene in resolve_scenes(loaded)}


def _aligned(
    scene: SceneFiles, modalities: Mapping[str, ModalityOptions], unit: Unit, job: Job, scratch: Path, clock: Clock
) -> AlignedStack:
    if not scene.files:
        return AlignedStack(
            name=unit.name, geobox=unit.read, modalities=tuple(modalities), present={}, missing=scene.missing
        )
    with clock.part("coregister"):
        align_scene(
            scene, modalities, reference=job.reference, classes=(), options=job.coregister, folder=scratch / "aligned",
            part=unit.read, with_pictures=False,
        )  # fmt: skip
        return AlignedStack.load(scratch / "aligned" / "stack.json")


_KINDS = {"stack": _of_stack, "items": _of_items, "files": _of_files}
