"""What a worker does of a unit: open, align, map, verify; and publish all of it at once, or nothing."""

import errno
import json
import os
import resource
import shutil
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...datasets.ledger import digest
from ..allocator import few_arenas
from ..errors import PipelineError
from ..model_folder import load_predictor
from ..predict import Predictor, check_bands
from ..progress import unwatched
from ..run_folder import write_text
from ..scene_maps import write_scene_maps
from .item_place import unit_place
from .job import Job
from .unit import Unit
from .unit_sources import Clock, NothingToMapError, Opened, open_unit

#: Record of a finished unit, in its folder.
RECORD = "unit.json"

#: Bytes that are free on a disk which is not full.
LEAST_ROOM = 1 << 20


def map_unit(text: str, job: Job) -> dict[str, Any]:
    """Map a unit, unless it is there; what another worker has published meanwhile is kept.

    All is written into a folder of this call's own under ``.work``, which becomes ``units/<name>`` by one renaming: a
    unit is complete or not there, however many workers try, wherever they are killed.

    Parameters
    ----------
    text
        The unit, as JSON.
    job
        What all units share.

    Returns
    -------
    The unit's record, as in its ``unit.json``: state, files with sizes and SHA-256, timings, figures, sources.

    Raises
    ------
    DatasetError, PipelineError, ModelError, OSError
        If it cannot be mapped; nothing is then left of it.
    """
    unit = Unit.from_json(text)
    known = finished_unit(job.units / unit.name, unit.fingerprint)
    if known is not None:
        return known
    prepare_threads(job.threads)
    scratch = job.scratch / f"{unit.name}.{uuid.uuid4().hex[:12]}"
    began, started = time.perf_counter(), _now()
    clock = Clock()
    try:
        _make(scratch)
        with unwatched():
            record = _mapped(unit, job, scratch, clock)
        record |= {
            "unit": unit.name, "fingerprint": unit.fingerprint, "timings": clock.timings, "started": started,
            "finished": _now(), "seconds": round(time.perf_counter() - began, 4), "host": socket.gethostname(),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "threads": job.threads,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
        }  # fmt: skip
        if record["state"] == "done":
            write_text(scratch / "maps" / RECORD, json.dumps(record, indent=1))
            _publish(scratch / "maps", job.units / unit.name, unit.fingerprint)
        return record
    except Exception as error:
        # Asked while all that was written is there: where a raster cannot be written, the error does not say why.
        if shutil.disk_usage(job.out).free < LEAST_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.out)) from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        with suppress(OSError):  # others are in it; where none is, the command may have ended before its workers
            job.scratch.rmdir()


def finished_unit(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the record of a unit that is complete under a fingerprint: every file is there, with its size."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["fingerprint"] != fingerprint:
            return None
        same = all((folder / name).stat().st_size == size for name, (size, _) in record["files"].items())
        return record if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not finished: a damaged record is no record


def unchanged(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the files of a unit hold the bytes that were written."""
    try:
        return all(digest(folder / name, "sha256") == sha256 for name, (_, sha256) in record["files"].items())
    except OSError:
        return False


def prepare_threads(threads: int) -> None:
    """Give this process its part of the machine; only the first call costs anything."""
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    os.environ.setdefault("GDAL_CACHEMAX", "256")
    os.environ["GDAL_NUM_THREADS"] = str(threads)
    few_arenas()


def _mapped(unit: Unit, job: Job, scratch: Path, clock: Clock) -> dict[str, Any]:
    folder = scratch / "maps"
    folder.mkdir()
    record: dict[str, Any] = {"state": "empty", "reason": None, "files": {}, "sources": [], "acquired": {},
                              "figures": {}}  # fmt: skip
    try:
        opened = open_unit(unit, job, scratch=scratch, clock=clock)
    except NothingToMapError as reason:
        return record | {"reason": str(reason)}
    mapper, predictor = loaded(job.model, job.digest, job.predict.device)
    with clock.part("predict"):
        figures = _write_maps(unit, job, opened, mapper, predictor, folder)
    record |= {"sources": opened.sources, "acquired": dict(opened.stack.acquired)}
    if not any(figures["class_pixels"].values()):
        return record | {"reason": "no sensor has a valid pixel in the area"}
    for leftover in folder.glob(".*"):  # marks by which a map of a whole scene resumes
        leftover.unlink()
    with clock.part("write"):
        files = {path.name: [path.stat().st_size, digest(path, "sha256")] for path in sorted(folder.iterdir())}
    pixel = abs(unit.geobox.affine.determinant)
    mapped = sum(figures["class_pixels"].values()) * pixel / 1e6
    return record | {"state": "done", "files": files, "figures": figures, "mapped_km2": round(mapped, 6)}


def _write_maps(
    unit: Unit, job: Job, opened: Opened, mapper: Predictor, predictor: Predictor, folder: Path
) -> dict[str, Any]:
    check_bands(opened.stack, predictor)
    stack = opened.stack.of_modalities(predictor.network.modalities)
    _, figures = write_scene_maps(
        stack, mapper, predictor, area=unit.area(stack.geobox), options=job.predict, folder=folder,
        resume=unit.fingerprint, model=job.model,
        place=unit_place(
            unit.name, out=job.out, collection=job.collection, digest=job.digest, sources=opened.sources
        ),
    )  # fmt: skip
    return {"confidence": figures.pop("mean_confidence"), **figures}


@lru_cache(maxsize=2)
def loaded(folder: Path, wanted: str, device: str) -> tuple[Predictor, Predictor]:
    """Return a model, in the form for prediction and as it was trained; once a process.

    Raises
    ------
    PipelineError
        If the folder holds another model than the run was begun with.
    """
    from ...models.inference_form import inference_form

    predictor = load_predictor(folder, device=device)
    if predictor.digest != wanted:
        raise PipelineError(
            f"{folder}: found model {predictor.digest}; wanted {wanted}, which the run was begun with; give every "
            "worker the same model folder"
        )
    return replace(predictor, network=inference_form(predictor.network)), predictor


def _make(scratch: Path) -> None:
    """Make a folder, whose parent another worker may be removing because it was the last one in it."""
    for _ in range(20):
        with suppress(FileNotFoundError):
            scratch.mkdir(parents=True)
            return
    scratch.mkdir(parents=True)


def _publish(folder: Path, final: Path, fingerprint: str) -> None:
    """Give a complete folder its name; a unit of another fingerprint makes room, one of the same is kept."""
    final.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(3):
        with suppress(OSError):
            folder.rename(final)
            return
        if finished_unit(final, fingerprint) is not None:
            return
        with suppress(OSError):  # another worker may have moved it already
            final.rename(folder.parent / f"replaced-{uuid.uuid4().hex[:12]}")
    folder.rename(final)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
