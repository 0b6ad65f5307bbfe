"""Workers of this machine: what they are told."""

import pytest

from equipoise.pipeline.batch.cluster import ClusterOptions, connected, worker_count


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
