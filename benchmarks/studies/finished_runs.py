"""Finished runs of a study: kept on disk, so that a study that was stopped goes on, and made on all cores at once.

A study puts ``benchmarks/studies`` on the path and writes ``from finished_runs import finish``.
"""

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Found = Mapping[str, Any]
Work = Callable[[], Found]


def mark_of(sources: Iterable[Path], *settings: object) -> str:
    """Return what tells runs of other sources or other settings apart: 8 hex digits."""
    code = b"".join(path.read_bytes() for path in sources)
    return hashlib.sha256(code + "".join(map(repr, settings)).encode()).hexdigest()[:8]


def kept(name: str, work: Work, *, folder: Path, mark: str) -> Found:
    """Do a run unless it is done, and return what it found, with the ``torch`` that found it."""
    path = folder / f"{name}.{mark}.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        text = json.dumps({**work(), "torch": torch.__version__})
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
        print(f"  {name}: {time.perf_counter() - began:.0f} s", flush=True)
    found: Found = json.loads(path.read_text(encoding="utf-8"))
    return found


def finish(works: Mapping[str, Work], *, folder: Path, mark: str) -> dict[str, Found]:
    """Do all runs that are not done, one a core at a time, and return what every run found, in order.

    Each process takes the next run when it has done one; it is forked, since a run is a closure over data in memory,
    and runs with one thread, so that figures do not depend on the machine's cores.

    Raises
    ------
    SystemExit
        A run failed; its traceback is above, and the others are kept.
    """
    todo = [name for name in works if not (folder / f"{name}.{mark}.json").is_file()]
    count = min(len(todo), os.cpu_count() or 1)
    if count > 1:
        fork = multiprocessing.get_context("fork")
        turn = fork.Value("i", 0)
        processes = [fork.Process(target=_each, args=(works, todo, turn, folder, mark)) for _ in range(count)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise SystemExit("a run failed (see above); mend it and start the study again: it goes on from there")
    return {name: kept(name, work, folder=folder, mark=mark) for name, work in works.items()}


def torch_of(runs: Iterable[Found]) -> str:
    """Name the versions of torch that runs were made with."""
    return ", ".join(sorted({run["torch"] for run in runs}))


def _each(works: Mapping[str, Work], names: Sequence[str], turn: Any, folder: Path, mark: str) -> None:
    while True:
        with turn.get_lock():
            number, turn.value = turn.value, turn.value + 1
        if number >= len(names):
            return
        kept(names[number], works[names[number]], folder=folder, mark=mark)
