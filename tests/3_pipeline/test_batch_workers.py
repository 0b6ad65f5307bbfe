"""Workers of this machine: what they are told."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from batch_runs import wait_for, workers_of_process

from equipoise.pipeline.batch.cluster import ClusterOptions, connected, interrupts_held, worker_count


def children() -> list[psutil.Process]:
    """Return the worker processes of this one."""
    return workers_of_process(os.getpid())


# Workers that are started say on which port the dashboard would be: one of the system's choice is no news.
@pytest.mark.filterwarnings("ignore:Port")
def test_workers_are_not_profiled_and_have_one_thread_for_everything():
    """The profiler can deadlock with the garbage collector in Python 3.11 (CPython issue 106883)."""

    def told_by(dask_worker) -> dict:
        """What a worker knows; runs there."""
        import os
        import signal

        return {
            "profiled": "profile" in dask_worker.periodic_callbacks,
            "threads": [os.environ[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS", "GDAL")],
            "hears_interrupts": signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []),
            "memory": [os.environ[f"MALLOC_{name}_THRESHOLD_"] for name in ("TRIM", "MMAP")],
            "nthreads": dask_worker.state.nthreads,
            "resources": dict(dask_worker.state.total_resources),
        }

    with connected(ClusterOptions(workers=1, resources={"GPU": 1})) as client:
        (told,) = client.run(told_by).values()
        (address,) = client.nthreads()
        assert address.startswith("tcp://127.0.0.1:")
    assert told == {
        "profiled": False, "threads": ["1"] * 4, "hears_interrupts": False, "nthreads": 1,
        "memory": ["134217728", "33554432"], "resources": {"GPU": 1},
    }  # fmt: skip


def test_the_number_of_workers_is_that_of_the_cores_unless_said_otherwise():
    assert worker_count(ClusterOptions(workers=7)) == 7
    assert worker_count(ClusterOptions()) >= worker_count(ClusterOptions(threads=2)) >= 1
    assert worker_count(ClusterOptions(threads=10_000)) == 1


@pytest.mark.filterwarnings("ignore:Port")
def test_a_worker_that_is_slow_to_come_back_is_waited_for():
    """Dask's own patience with a worker that died is 15 s; then nobody starts it again."""
    with connected(ClusterOptions(workers=1)) as client:
        (first,) = children()
        first.kill()
        (second,) = wait_for(lambda: [child for child in children() if child != first], what="another worker")
        second.suspend()
        time.sleep(17)
        second.resume()
        assert wait_for(client.nthreads, what="the worker") != {}


def test_an_interrupt_waits_for_the_end_of_the_block():
    done = []

    def work() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]
    with interrupts_held():
        done.append("no interrupt")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(done) == 2


def test_other_threads_have_no_interrupts_to_hold():
    with ThreadPoolExecutor(1) as pool:

        def held() -> str:
            with interrupts_held():
                return "done"

        assert pool.submit(held).result() == "done"
