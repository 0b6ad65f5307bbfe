"""Cluster: Dask workers of this machine, or those of a scheduler that runs already."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from ..errors import PipelineError

if TYPE_CHECKING:
    from distributed import Client

#: Gives the client of a cluster, which is started when it is first asked for.
Workers = Callable[[], "Client"]

#: Memory that a worker of this machine is given at least, bytes: fewer workers are started where there is less.
LEAST_MEMORY = 2_500_000_000

#: Time without a sign of life after which a worker of this machine is taken for dead; importing can take half of it
#: where others want the processor.
HUNG = "2 minutes"

#: What Dask is told. Whoever is not told of a dead worker cannot count: a unit that kills workers is to be set aside.
#: Nor does a worker that hangs keep its unit for the five minutes to ten that are Dask's own. And nothing is profiled:
#: ``sys._current_frames``, which that takes many times a second, can deadlock with the garbage collector in Python 3.11
#: (CPython issue 106883): the worker stands still for good. Workers give memory back to the system by the C library's
#: own measure, not by Dask's, with which every tensor is paid for anew: a unit took half as much processor time again.
#: A worker that died has as long to come back as one that hangs: after Dask's own 15 seconds it would be given up for
#: good, and on a machine that does much else a process can take that long to start.
CONFIG = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-ttl": HUNG,
    "distributed.deploy.lost-worker-timeout": HUNG,
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 128 * 2**20,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 32 * 2**20,
}

#: Times that workers of this machine are started before it is given up.
STARTS = 3

#: Seconds for which a scheduler is waited for, when a run begins and when it is lost.
PATIENCE = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Who does the work.

    Attributes
    ----------
    scheduler
        Address of a scheduler (``tcp://host:8786``); None: workers of this machine.
    workers
        Worker processes of this machine; None: as many as cores and memory allow.
    threads
        Threads that a unit's network may use.
    resources
        Resource tags of the workers that are wanted, such as ``{"GPU": 1}``.
    """

    scheduler: str | None = None
    workers: int | None = None
    threads: int = 1
    resources: Mapping[str, float] | None = None


@contextlib.contextmanager
def connected(options: ClusterOptions) -> Iterator["Client"]:
    """Start workers, or attach to a scheduler; workers that were started here end with the block.

    Raises
    ------
    PipelineError
        If the scheduler cannot be reached.
    """
    import dask.config
    from distributed import Client

    # What it says of lost workers and schedulers comes before our one line; its client has a level of its own.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(
            logging.INFO if logging.getLogger().isEnabledFor(logging.INFO) else logging.CRITICAL
        )
    with dask.config.set(CONFIG):
        if options.scheduler is None:
            with _local(options) as cluster, Client(cluster, set_as_default=False) as client:
                yield client
            return
        try:
            client = Client(options.scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise PipelineError(
                f"{options.scheduler}: found no scheduler that answers ({' '.join(str(error).split())[:120]}); wanted "
                "the address that `dask scheduler` printed; start it, or leave --scheduler out"
            ) from error
        with client:
            yield client


def worker_count(options: ClusterOptions) -> int:
    """Return how many worker processes this machine is given."""
    if options.workers is not None:
        return options.workers
    from dask.system import CPU_COUNT  # both know the limits of containers
    from distributed.system import MEMORY_LIMIT

    return max(1, min(CPU_COUNT // options.threads, int(MEMORY_LIMIT // LEAST_MEMORY)))


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let threads that begin within, and processes that these start, not hear Ctrl-C: who started them ends them."""
    resource_tracker.ensure_running()  # the first child of multiprocessing, which lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block: what Dask has made by half complains when it is thrown away."""
    if threading.current_thread() is not threading.main_thread():  # only the main one hears it
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            signal.raise_signal(signal.SIGINT)


def _local(options: ClusterOptions) -> Any:
    environment = {
        name: str(options.threads)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GDAL_NUM_THREADS")
    }
    # A terminal sends Ctrl-C to workers, too, which would each end with a traceback.
    with _deaf_to_interrupts():
        return _started(
            n_workers=worker_count(options), threads_per_worker=1, processes=True, host="127.0.0.1",
            dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL, resources=dict(options.resources or {}),
            env={**environment, "OMP_WAIT_POLICY": "PASSIVE", "GDAL_CACHEMAX": "256"},
        )  # fmt: skip


def _started(**arguments: Any) -> Any:
    """Start the workers; one that dies while they start is no reason to give up at once."""
    from distributed import LocalCluster

    failed: Exception | None = None
    for _ in range(STARTS):
        try:
            return LocalCluster(**arguments)
        except (RuntimeError, TimeoutError, OSError) as error:
            log.info("workers did not start: %s", error)
            failed = error
    raise PipelineError(
        f"found workers that do not start ({' '.join(str(failed).split())[:120]}); wanted {arguments['n_workers']} "
        "processes on this machine; check its memory, or give fewer --workers"
    ) from failed
