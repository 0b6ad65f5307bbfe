"""The simulation of a batch run on many workers, held against closed forms and bounds that it does not know of."""

import heapq
import importlib
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def benchmark_module(name: str) -> ModuleType:
    """Import a module that lies beside the benchmarks, which are scripts and no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return importlib.import_module(name)


events = benchmark_module("cluster_events")
model = benchmark_module("cluster_model")
known = benchmark_module("cluster_calibration")
script = benchmark_module("cluster_simulation")
words = benchmark_module("cluster_words")
hire = benchmark_module("cluster_costs")


def units(seconds, *, files=None, **given):
    seconds = np.asarray(seconds, float)
    files = np.zeros((0, len(seconds)), int) if files is None else np.asarray(files)
    return model.Units(compute=seconds, files=files, **given)


def equal(count: int, seconds: float, **given):
    return units(np.full(count, seconds), **given)


def greedy(seconds, workers: int) -> float:
    """Return when the last unit is done if each goes, in order, to the worker that is free first."""
    free = [0.0] * workers
    for item in seconds:
        heapq.heappush(free, heapq.heappop(free) + item)
    return max(free)


# Links


@pytest.mark.parametrize(
    ("link", "sent", "arrivals"),
    [
        # Alone on a link of 10 B/s; two that share it; the larger has it for itself once the smaller has arrived.
        ({"total": 10.0}, [(0, 50)], [5.0]),
        ({"total": 10.0}, [(0, 50), (0, 50)], [10.0, 10.0]),
        ({"total": 10.0}, [(0, 100), (0, 20)], [12.0, 4.0]),
        # The second begins at 4 s, when 60 B of the first are left: 5 B/s each until 16 s, when both are done.
        ({"total": 10.0}, [(0, 100), (4, 60)], [16.0, 16.0]),
        # No connection gets more than 4 B/s, though there are 10.
        ({"total": 10.0, "each": 4.0}, [(0, 40), (0, 40)], [10.0, 10.0]),
        ({"total": 10.0, "each": 4.0, "latency": 1.5}, [(0, 40)], [11.5]),
        ({}, [(3, 1e12)], [3.0]),
    ],
)
def test_transfers_share_a_link(link, sent, arrivals):
    clock = events.Clock()
    pipe = events.Pipe(clock, events.Link(**link))
    found = {}
    for number, (begin, count) in enumerate(sent):
        clock.at(begin, lambda number=number, count=count: pipe.send(
            count, lambda: found.__setitem__(number, clock.now)))  # fmt: skip
    clock.run(until=lambda: len(found) == len(sent))
    assert [found[number] for number in range(len(sent))] == pytest.approx(arrivals)
    assert pipe.moved == pytest.approx(sum(count for _, count in sent))


def test_a_cancelled_transfer_leaves_its_share_to_the_others():
    clock = events.Clock()
    pipe = events.Pipe(clock, events.Link(total=10.0))
    arrived = []
    pipe.send(100, lambda: arrived.append(clock.now))
    other = pipe.send(100, lambda: pytest.fail("this one was cancelled"))
    clock.at(4, lambda: pipe.cancel(other))
    clock.run(until=lambda: bool(arrived))
    assert arrived == pytest.approx([4 + (100 - 4 * 5) / 10])
    assert pipe.moved == pytest.approx(120)


def test_a_model_that_stalls_is_an_error():
    with pytest.raises(RuntimeError, match="stalled"):
        events.Clock().run(until=lambda: False)


# Runs without losses


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (7, 1), (100, 7), (64, 64), (10, 40), (1000, 100)])
def test_equal_units_take_their_rounds(count, workers):
    outcome = model.simulate(equal(count, 12.5), model.Cluster(workers=workers, start_s=30))
    assert outcome.makespan == pytest.approx(30 + math.ceil(count / workers) * 12.5)
    assert outcome.done == count
    assert outcome.aside == outcome.losses == 0
    assert outcome.share("compute") == pytest.approx(count * 12.5 / (workers * outcome.makespan))


def test_one_worker_does_one_thing_after_the_other():
    """The desks work while the worker does, but for the first submission and the last result."""
    cluster = model.Cluster(
        workers=1, start_s=5, submit_s=0.2, result_s=0.3, scheduler_s=0.1,
        disk=events.Link(each=10.0, latency=0.5), store=events.Link(each=5.0, latency=1.0),
    )  # fmt: skip
    seconds = [3.0, 4.0, 8.0]
    outcome = model.simulate(units(seconds, files=[[0, 0, 1]], file_bytes=20, read_bytes=5, written_bytes=10), cluster)
    unit = (0.5 + 0.5) + (0.5 + 1.0)  # reading and writing
    fetch = (1.0 + 4.0) + (0.5 + 2.0)  # of each of the two files, out of the store and onto the disk
    assert outcome.makespan == pytest.approx(5 + sum(seconds) + 3 * unit + 2 * fetch + 0.3)
    assert outcome.fetched_bytes == 40
    assert outcome.seconds["fetch"] == pytest.approx(2 * fetch)
    assert outcome.client == pytest.approx(3 * 0.5 / outcome.makespan)


def test_the_store_bounds_a_run():
    """Every unit has a file of its own; workers are many, and all that they do is fetch."""
    count, size, speed = 400, 1e6, 2e6
    outcome = model.simulate(
        units(np.zeros(count), files=[np.arange(count)], file_bytes=size),
        model.Cluster(workers=50, store=events.Link(total=speed)),
    )
    assert outcome.makespan == pytest.approx(count * size / speed)
    assert outcome.store == pytest.approx(1)


def test_the_disk_bounds_a_run():
    count, read, written, speed = 500, 3e5, 1e5, 1e6
    outcome = model.simulate(
        units(np.zeros(count), read_bytes=read, written_bytes=written),
        model.Cluster(workers=40, disk=events.Link(total=speed)),
    )
    assert outcome.makespan == pytest.approx(count * (read + written) / speed)
    assert outcome.disk == pytest.approx(1)


def test_the_client_bounds_a_run():
    """Each unit takes the loop c seconds; the workers could do it in a tenth of the time."""
    count, submit, result = 3000, 0.004, 0.006
    outcome = model.simulate(equal(count, 0.1), model.Cluster(workers=100, submit_s=submit, result_s=result))
    bound = count * (submit + result)
    assert bound <= outcome.makespan <= bound + 0.1 + submit + result
    assert outcome.client > 0.99
    assert script.limit(outcome) == "client's loop"


def test_the_scheduler_bounds_a_run():
    outcome = model.simulate(equal(2000, 0.1), model.Cluster(workers=100, scheduler_s=0.02))
    assert outcome.makespan == pytest.approx(2000 * 0.02 + 0.1)


@given(
    seconds=st.lists(st.floats(0.1, 50), min_size=1, max_size=60),
    workers=st.integers(1, 20),
)
def test_units_of_any_length_are_scheduled_greedily(seconds, workers):
    outcome = model.simulate(units(seconds), model.Cluster(workers=workers))
    assert outcome.makespan == pytest.approx(greedy(seconds, workers))
    # Graham's bound, which the greedy order has to keep.
    assert outcome.makespan <= sum(seconds) / workers + max(seconds) + 1e-9


def test_a_file_is_fetched_once_and_the_others_wait():
    """Eight workers want one file at once: one fetches 10 s long, seven wait as long."""
    outcome = model.simulate(
        units(np.full(16, 20.0), files=[np.zeros(16, int)], file_bytes=100),
        model.Cluster(workers=8, store=events.Link(total=100.0, each=10.0)),
    )
    assert outcome.fetched_bytes == 100
    assert outcome.makespan == pytest.approx(10 + 2 * 20)
    assert (outcome.seconds["fetch"], outcome.seconds["wait"]) == pytest.approx((10, 70))


# Losses


@pytest.mark.parametrize(("life", "restart"), [(40.0, 0.0), (15.0, 0.0), (25.0, 6.0)])
def test_lost_time_is_what_an_exponential_life_makes_of_it(life, restart):
    """One worker, work that begins anew: a unit takes (1 / rate + restart) (e^(rate t) - 1) on average."""
    seconds, count, runs = 10.0, 150, 30
    cluster = model.Cluster(workers=1, life_s=life, restart_s=restart, attempts=10**9)
    times = [model.simulate(equal(count, seconds), cluster, seed=seed).makespan / count for seed in range(runs)]
    expected = (life + restart) * (math.exp(seconds / life) - 1)
    error = np.std(times, ddof=1) / math.sqrt(runs)
    assert abs(np.mean(times) - expected) < 4 * error
    assert error < 0.1 * expected


def test_the_share_of_lost_work_is_that_of_the_page():
    """Many workers lose as much for each second of work as the closed form of the script says."""
    unit, life = known.assumed(), 120.0
    seconds = known.drawn_seconds(unit, 4000, seed=0)
    outcome = model.simulate(units(seconds), model.Cluster(workers=40, life_s=life, attempts=10**9))
    assert outcome.seconds["lost"] / outcome.seconds["compute"] == pytest.approx(script.redone(unit, life), rel=0.15)


def test_units_are_set_aside_after_so_many_losses():
    """No worker lives long enough for the second unit; the others are done all the same."""
    seconds = [1.0, 1e7, 1.0, 1.0]
    cluster = model.Cluster(workers=2, life_s=200.0, restart_s=1.0, attempts=3)
    outcome = model.simulate(units(seconds), cluster, seed=1)
    assert (outcome.done, outcome.aside) == (3, 1)
    assert outcome.losses == 3
    assert outcome.seconds["compute"] == pytest.approx(3)


def test_half_of_the_workers_die_at_once():
    """Four workers, ten rounds; at 55 s two die for good in the sixth, and leave 20 + 2 of 40 units to the others."""
    cluster = model.Cluster(workers=4, mass_loss_at=55, mass_loss_share=0.5, restart_s=math.inf)
    outcome = model.simulate(equal(40, 10.0), cluster)
    assert outcome.losses == 2
    # Done by 60 s: 22. The two that are left do the other 18 in nine rounds.
    assert outcome.makespan == pytest.approx(60 + 9 * 10)
    assert outcome.seconds["lost"] == pytest.approx(2 * 5)


def test_a_file_whose_fetcher_dies_is_begun_anew_by_one_that_waits():
    cluster = model.Cluster(workers=2, mass_loss_at=6, mass_loss_share=0.5, restart_s=math.inf,
                            store=events.Link(total=10.0))  # fmt: skip
    outcome = model.simulate(units([5.0, 5.0], files=[[0, 0]], file_bytes=100), cluster)
    assert outcome.makespan == pytest.approx(6 + 10 + 5 + 5)
    assert outcome.fetched_bytes == pytest.approx(60 + 100)
    assert outcome.done == 2


@given(seed=st.integers(0, 1000), workers=st.integers(1, 30), life=st.sampled_from([30.0, 300.0, math.inf]))
def test_every_run_accounts_for_all_time_and_keeps_the_bounds(seed, workers, life):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 80))
    work = units(rng.lognormal(2, 0.5, count), files=rng.integers(0, 9, (2, count)), file_bytes=1e6, read_bytes=1e5,
                 written_bytes=1e4)  # fmt: skip
    cluster = model.Cluster(
        workers=workers, life_s=life, restart_s=4, detect_s=1, submit_s=0.02, result_s=0.03, scheduler_s=0.01,
        start_s=2,
        store=events.Link(total=2e6, each=5e5, latency=0.1), disk=events.Link(total=1e6, latency=0.01),
    )  # fmt: skip
    outcome = model.simulate(work, cluster, seed=seed)
    assert outcome.done + outcome.aside == count
    assert sum(outcome.seconds.values()) == pytest.approx(workers * outcome.makespan)
    assert min(outcome.seconds.values()) > -1e-6
    assert max(outcome.store, outcome.disk, outcome.client, outcome.scheduler) <= 1 + 1e-9
    assert outcome.makespan >= (outcome.done * (0.02 + 0.03))
    if life == math.inf:
        assert outcome.seconds["compute"] == pytest.approx(work.compute.sum())
        assert outcome.fetched_bytes == pytest.approx(1e6 * sum(len(np.unique(kind)) for kind in work.files))
    assert model.simulate(work, cluster, seed=seed) == outcome  # the same seed, the same result


def test_other_seeds_lose_other_workers():
    cluster = model.Cluster(workers=3, life_s=50, attempts=10**9)
    assert len({model.simulate(equal(50, 10.0), cluster, seed=seed).makespan for seed in range(5)}) == 5


# What units cost


def measured_record(**changes):
    rng = np.random.default_rng(3)
    compute, acquire = 20 * np.exp(0.3 * rng.standard_normal(500)), rng.uniform(1, 2, 500)
    return {
        "unit_seconds": list(compute + acquire), "client_seconds_per_unit": 0.007, "km2_per_unit": 100.0,
        "parts": {"acquire": list(acquire), "coregister": [1.0] * 500, "predict": [12.0] * 500, "trust": [1.0] * 500,
                  "write": [1.0] * 500},
        "bytes_in_per_unit": 1e7, "bytes_out_per_unit": 2e6, "worker_start_s": 8.0, **changes,
    }  # fmt: skip


def test_measured_units_take_the_place_of_assumed_ones(tmp_path):
    path = tmp_path / "batch.json"
    assert known.calibration(path) == known.assumed()
    path.write_text(json.dumps({"calibration": measured_record()}), encoding="utf-8")
    unit = known.calibration(path)
    assert unit.measured
    assert unit.compute_s == pytest.approx(20, rel=0.05)
    assert unit.sigma == pytest.approx(0.3, rel=0.1)
    assert (unit.predict_s, unit.client_s, unit.km2, unit.start_s) == (12.0, 0.007, 100.0, 8.0)
    assert unit.edge_px == pytest.approx(1000)
    # What is drawn has the spread that was measured, and the stragglers that are assumed.
    drawn = known.drawn_seconds(unit, 20_000, seed=1, stragglers=0.05, times=50.0)
    assert np.median(drawn) == pytest.approx(unit.compute_s, rel=0.05)
    assert (drawn > 10 * unit.compute_s).mean() == pytest.approx(0.05, abs=0.006)


def test_parts_of_another_number_than_units_are_refused():
    with pytest.raises(ValueError, match="one value a unit"):
        known.fitted(measured_record(unit_seconds=[1.0, 2.0]))


def test_units_of_another_size_move_bytes_by_area_and_compute_a_margin_too():
    unit = known.assumed()
    same, large = unit.at_edge(unit.edge_px), unit.at_edge(2 * unit.edge_px)
    assert same.compute_s == pytest.approx(unit.compute_s)
    assert (large.km2, large.bytes_in, large.bytes_out) == pytest.approx(
        (4 * unit.km2, 4 * unit.bytes_in, 4 * unit.bytes_out)
    )
    assert 3 < large.compute_s / unit.compute_s < 4


@pytest.mark.parametrize("order", ["row by row", "file by file", "scattered"])
def test_a_region_is_covered_and_shares_its_files(order):
    unit = known.assumed()
    made = known.region_units(unit, 1e6, order=order)
    count = len(made.compute)
    assert count * unit.km2 == pytest.approx(1e6, rel=0.05)
    for kind in made.files:
        assert 15 < count / len(np.unique(kind)) <= (math.ceil(known.TILE_KM / math.sqrt(unit.km2))) ** 2
    # Whatever the order, the same units: as often each pair of files.
    plain = known.region_units(unit, 1e6)
    assert sorted(map(tuple, made.files.T)) == sorted(map(tuple, plain.files.T))
    changes = (np.diff(made.files[0]) != 0).mean()
    assert {"file by file": 0 < changes < 0.06, "row by row": 0.06 < changes < 0.4, "scattered": changes > 0.9}[order]


def test_a_gpu_helps_the_network_alone():
    unit = known.assumed()
    plain = hire.Machine(name="plain", usd_h=1, workers=4, core=0.5)
    fast = hire.Machine(name="fast", usd_h=1, workers=4, core=0.5, gpu=1e9)
    slow = hire.Machine(name="slow", usd_h=1, workers=4, core=0.5, gpu=2.0)
    assert plain.seconds(unit) == pytest.approx(2 * unit.compute_s)
    assert fast.seconds(unit) == pytest.approx(2 * (unit.compute_s - unit.predict_s))
    assert slow.seconds(unit) == pytest.approx(4 * unit.predict_s / 2)  # four workers wait for each other at the GPU


# The script


@pytest.fixture(scope="module")
def small_record():
    size = script.Size(areas=(3e4, 6e4), workers=(1, 4, 8), several=(2, 4), seeds=1, machines=2)
    return json.loads(json.dumps(script.simulated(size), allow_nan=False))


def test_more_workers_are_never_slower_and_never_more_efficient(small_record):
    for km2 in {row["km2"] for row in small_record["scaling"]}:
        rows = [row for row in small_record["scaling"] if row["km2"] == km2]
        times, shares = ([row[key] for row in rows] for key in ("makespan_s", "efficiency"))
        assert times == sorted(times, reverse=True)
        assert shares == sorted(shares, reverse=True)


def test_costs_are_prices_by_time(small_record):
    row = next(row for row in small_record["costs"] if not row["spot"])
    assert row["usd_machines"] * 3e4 / 1e6 == pytest.approx(2 * row["usd_h"] * row["hours"])
    by_name = {(row["machine"], row["spot"]): row["usd_machines"] for row in small_record["costs"]}
    assert all(by_name[name, True] < by_name[name, False] for name, _ in by_name)


def test_the_page_has_the_figures_of_the_record_and_no_others(small_record, tmp_path):
    page = tmp_path / "scaling.md"
    page.write_text(words.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    words.write_page(small_record, page)
    once = page.read_text(encoding="utf-8")
    assert f"| 8 | {words.duration(small_record['scaling'][2]['makespan_s'])} |" in once
    words.write_page(small_record, page)
    assert page.read_text(encoding="utf-8") == once
    page.write_text(once.replace("<!-- end of costs -->", ""), encoding="utf-8")
    with pytest.raises(ValueError, match="'costs'"):
        words.write_page(small_record, page)


def test_the_page_is_that_of_the_committed_record(tmp_path):
    page = tmp_path / "scaling.md"
    committed = words.PAGE.read_text(encoding="utf-8")
    page.write_text(committed, encoding="utf-8")
    words.write_page(json.loads(script.RESULT.read_text(encoding="utf-8")), page)
    assert page.read_text(encoding="utf-8") == committed


def test_pictures_are_drawn(small_record, tmp_path):
    script.write_figures(small_record, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"cluster-scaling.png", "cluster-time.png", "cluster-sensitivity.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


def test_durations_are_words():
    assert [words.duration(item) for item in (45, 720, 12_240, 200_000)] == ["45 s", "12 min", "3.4 h", "2.3 d"]
