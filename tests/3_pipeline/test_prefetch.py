"""Prefetch and write-behind: order, bounds and errors are those of a plain loop."""

import contextlib
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.pipeline.prefetch import prefetch
from equipoise.pipeline.write_behind import WriteBehind


@settings(max_examples=20)
@given(count=st.integers(0, 12), threads=st.integers(1, 4), most=st.integers(1, 6))
def test_results_come_in_the_order_of_the_items(count, threads, most):
    def slow(item):
        time.sleep(0.001 * (item * 7 % 3))
        return item * item

    found = list(prefetch(slow, range(count), lane=lambda item: item, threads=threads, most=most))
    assert found == [item * item for item in range(count)]


def test_a_lane_stays_on_its_thread():
    found = list(prefetch(lambda _: threading.get_ident(), range(12), lane=lambda item: item % 5, threads=3, most=4))
    by_lane = {lane: {found[item] for item in range(12) if item % 5 % 3 == lane} for lane in range(3)}
    assert all(len(threads) == 1 for threads in by_lane.values())
    assert len(set().union(*by_lane.values())) == 3


def test_no_more_is_begun_than_may_wait():
    begun = []
    with contextlib.closing(prefetch(begun.append, range(100), lane=lambda _: 0, threads=1, most=3)) as results:
        next(results)
        time.sleep(0.02)
        assert len(begun) <= 3


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error_comes_as_it_was_and_in_its_turn(kind):
    error = kind("the third")

    def work(item):
        if item == 2:
            raise error
        return item

    found = []

    def collect():
        for result in prefetch(work, range(9), lane=lambda item: item, threads=2, most=5):
            found.append(result)

    with pytest.raises(kind) as caught:
        collect()
    assert caught.value is error
    assert found == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_what_waits_is_given_up_and_what_runs_is_waited_for():
    gate, done = threading.Event(), []

    def work(item):
        gate.wait(5)
        done.append(item)
        return item

    results = prefetch(work, range(9), lane=lambda _: 0, threads=1, most=3)
    timer = threading.Timer(0.05, gate.set)
    timer.start()
    assert next(results) == 0
    results.close()
    timer.join()
    assert len(done) < 9
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_calls_are_made_in_order_and_off_the_callers_thread():
    calls = []
    with WriteBehind(most=2) as behind:
        for number in range(20):
            behind(lambda item: calls.append((item, threading.get_ident())), number)
    assert [item for item, _ in calls] == list(range(20))
    assert {thread for _, thread in calls} != {threading.get_ident()}
    assert len({thread for _, thread in calls}) == 1


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("count", [3, 30])
def test_after_a_failed_call_none_is_made(kind, count):
    calls, error = [], kind("no space left")

    def work(item):
        if item == 2:
            raise error
        calls.append(item)

    def make_all():
        with WriteBehind(most=4) as behind:
            for number in range(count):
                behind(work, number)

    with pytest.raises(kind) as caught:
        make_all()
    assert caught.value is error
    assert calls == [0, 1]


def test_an_error_of_the_caller_gives_up_what_has_not_begun():
    calls, gate = [], threading.Event()
    timer = threading.Timer(0.05, gate.set)
    timer.start()

    def stop_early():
        with WriteBehind(most=9) as behind:
            for number in range(6):
                behind(lambda item: (gate.wait(5), calls.append(item)), number)
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        stop_early()
    timer.join()
    assert calls in ([], [0])
