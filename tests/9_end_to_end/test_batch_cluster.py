"""`equipoise batch` with workers that were started elsewhere: the same maps; broken files, full disks."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from batch_runs import Run, changed_catalog, cluster, ended, said, started, wait_for
from fake_catalog import file_server

#: Items whose files are broken or away, and the units that need them: those of zone 32 and those at the border.
ITEM, NEEDED_BY = "S1_32", {"utm32n_e0564_n4156", "utm32n_e0565_n4156", "utm32n_e0565_n4157", "utm33n_e0215_n4156",
                            "utm33n_e0215_n4157"}  # fmt: skip
OTHERS = {"utm33n_e0216_n4156", "utm33n_e0216_n4157"}


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """Two workers and a scheduler, each a process of its own."""
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def forsaken(batch_run, tmp_path_factory):
    """Runs without a scheduler, each with its process: they wait a minute, during which the other tests go on."""
    alone, left = batch_run.of("alone"), batch_run.of("left")
    with (
        cluster(tmp_path_factory.mktemp("forsaken"), count=1) as made,
        started(left, "--scheduler", made.address, "--mosaic", "none") as second,
    ):
        wait_for(lambda: left.published() and left.begun(), second, what="a unit in hand")
        made.end(scheduler_first=True)
        with started(alone, "--scheduler", made.address) as first:
            yield {"left": (left, second), "alone": (alone, first)}


@pytest.fixture(scope="module")
def remote(batch_run, batch_done, workers) -> tuple[Run, subprocess.CompletedProcess]:
    """The reference run's work, done by these workers."""
    run = batch_run.of("remote")
    return run, run("--scheduler", workers.address, "--log-json")


def test_a_cluster_makes_the_same_maps(batch_run, remote, workers):
    run, done = remote
    assert done.returncode == 0, done.stderr
    assert run.hashes() == batch_run.hashes()
    run.check_whole()
    assert workers.is_alive, "a cluster that was there before goes on after"
    seen = {json.loads(row["record"])["worker"] for row in run.ledger().values()}
    assert {int(name.rpartition(":")[2]) for name in seen} <= {process.pid for process in workers.workers}


def test_the_log_is_json_and_tells_every_unit_once(remote):
    run, done = remote
    events = [json.loads(line) for line in done.stdout.splitlines()]
    final = [event for event in events if event["event"] in ("done", "empty", "failed")]
    assert sorted(event["unit"] for event in final) == sorted(run.ledger())
    for event in final:
        record = json.loads(run.ledger()[event["unit"]]["record"])
        assert event["event"] == "done"
        assert event["timings"] == record["timings"]
        assert set(event["timings"]) == {"acquire", "coregister", "predict", "write"}
        assert 0 < sum(event["timings"].values()) <= event["seconds"] == record["seconds"]
        assert event["worker"] == record["worker"]
        assert event["mapped_km2"] == pytest.approx(1e-4 * sum(record["figures"]["class_pixels"].values()))


def test_lines_for_people_go_to_standard_error(remote):
    run, done = remote
    assert "workers     2; dashboard http://127.0.0.1:" in done.stderr
    assert "units       7 done; 7 now, in " in done.stderr
    assert f"report      {run.out / 'report.html'}" in done.stderr


def test_what_a_lost_ledger_forgot_is_found_and_what_was_altered_is_done_again(batch_run, remote, workers, forked):
    run = batch_run.of("altered")
    shutil.copytree(remote[0].out, run.out)
    (run.out / "ledger.gpkg").unlink()
    altered = run.out / "units/utm33n_e0216_n4156/utm33n_e0216_n4156.confidence.tif"
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    assert "7 done; 0 now" in run("--scheduler", workers.address, command=forked).stdout, "sizes alone are looked at"
    again = run("--scheduler", workers.address, "--verify", command=forked)
    assert again.returncode == 0, again.stderr
    assert "7 done; 1 now" in again.stdout
    assert said(again) == ["unit utm33n_e0216_n4156: its files are not those that were written; doing it again"]
    assert run.hashes() == batch_run.hashes()
    run.check_whole()


@pytest.mark.parametrize("is_declared", [False, True], ids=["undeclared", "declared"])
def test_units_of_a_truncated_file_are_set_aside_until_it_is_mended(
    batch_run, batch_done, workers, forked, is_declared
):
    whole, name = batch_run.catalog / f"{ITEM}.vv.tif", "declared" if is_declared else "undeclared"
    broken = batch_run.inputs / f"catalog_{name}" / whole.name

    def change(item: str, assets: dict) -> None:
        if item == ITEM and not is_declared:
            del assets["vv"]["file:size"], assets["vv"]["file:checksum"]

    run = batch_run.of(name, catalog=changed_catalog(batch_run, f"catalog_{name}", change))
    broken.unlink()
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    command = ("--scheduler", workers.address, "--attempts", "2", "--mosaic", "none")
    done = run(*command, command=forked)
    assert done.returncode == 1
    (line,) = said(done)
    assert line.startswith("equipoise: 5 unit(s) set aside; ")
    rows = run.ledger()
    for unit in NEEDED_BY:
        assert (rows[unit]["state"], rows[unit]["attempts"], rows[unit]["losses"]) == ("failed", 2, 0)
        assert str(broken) in rows[unit]["error"]
    assert {rows[unit]["state"] for unit in OTHERS} == {"done"}
    run.check_whole()
    broken.write_bytes(whole.read_bytes())
    mended = run(*command, "--retry-failed", command=forked)
    assert mended.returncode == 0, mended.stderr
    assert run.hashes(items=False) == batch_run.hashes(items=False)
    run.check_whole()


def test_files_on_the_network_are_fetched_once_and_what_is_away_is_told(batch_run, batch_done, workers, forked):
    with file_server(batch_run.catalog) as server:

        def change(item: str, assets: dict) -> None:
            for asset in assets.values():
                asset["href"] = server.url + Path(asset["href"]).name

        run = batch_run.of("network", catalog=changed_catalog(batch_run, "catalog_network", change))
        server.failures = {f"{ITEM}.vv.tif": [404] * 1000, "S2_33.red.tif": [503, 503]}
        command = ("--scheduler", workers.address, "--attempts", "2", "--mosaic", "none", "--allow-network")
        done = run(*command, command=forked)
        assert done.returncode == 1
        assert [line.partition(";")[0] for line in said(done)] == ["equipoise: 5 unit(s) set aside"]
        rows = run.ledger()
        assert {unit for unit, row in rows.items() if row["state"] == "failed"} == NEEDED_BY
        for unit in NEEDED_BY:
            assert f"{server.url}{ITEM}.vv.tif: found answer 404" in rows[unit]["error"]
        assert {rows[unit]["state"] for unit in OTHERS} == {"done"}
        assert server.requests.pop("S2_33.red.tif") == 3, "twice busy, then there"
        assert server.requests.pop(f"{ITEM}.vv.tif") == 2 * len(NEEDED_BY), "each attempt of a unit asks once"
        assert set(server.requests.values()) == {1}, server.requests
        run.check_whole()
        server.failures.clear()
        mended = run(*command, "--retry-failed", command=forked)
        assert mended.returncode == 0, mended.stderr
        assert server.requests.pop(f"{ITEM}.vv.tif") == 1
        assert server.requests.pop(f"{ITEM}.vh.tif") == 1
        assert set(server.requests.values()) == {1}, server.requests
    assert run.hashes(items=False) == batch_run.hashes(items=False)
    run.check_whole()


def test_a_client_that_is_killed_leaves_a_cluster_that_takes_the_same_command(batch_run, batch_done, workers, forked):
    run = batch_run.of("client_killed")
    command = ("--scheduler", workers.address, "--mosaic", "none")
    with started(run, *command) as process:
        wait_for(lambda: run.published() and run.begun(), process, what="a unit in hand")
        process.kill()
        process.wait()
    assert workers.is_alive
    done = run(*command, command=forked)
    assert done.returncode == 0, done.stderr
    assert run.hashes() == batch_run.hashes()
    assert {(row["attempts"], row["losses"]) for row in run.ledger().values()} == {(0, 0)}
    run.check_whole()


@pytest.fixture
def small_disk(batch_run):
    """A file system of its own, whose size can be changed: folder, and what changes it."""
    folder = batch_run.inputs / "full"
    folder.mkdir()

    def mount(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], check=False, capture_output=True
        )

    if shutil.which("mount") is None or mount("size=64m").returncode:
        pytest.skip("needs the right to mount a small file system (root)")
    yield folder, lambda size: mount("remount", f"size={size}").check_returncode()
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill_up(folder, resize) -> None:
    """Leave 16 kB of room; what was written since the room was measured makes another try necessary."""
    for _ in range(100):
        try:
            resize(f"{(shutil.disk_usage(folder).used >> 10) + 16}k")
        except subprocess.CalledProcessError:
            continue
        return
    pytest.fail("the disk could not be made smaller")


def test_a_full_disk_ends_the_run_and_is_no_fault_of_a_unit(batch_run, batch_done, workers, forked, small_disk):
    folder, resize = small_disk
    run = batch_run.of("full")
    command = ("--scheduler", workers.address, "--mosaic", "none")
    with started(run, *command) as process:
        wait_for(lambda: "done" in run.states().values() and run.begun(), process, what="a unit in hand")
        _fill_up(folder, resize)
        done = ended(process)
    assert done.returncode == 1
    (line,) = said(done)
    assert "no space left on the disk" in line
    rows = run.ledger()
    assert set(run.states().values()) == {"done", "pending"}
    assert {(row["attempts"], row["losses"]) for row in rows.values()} == {(0, 0)}
    # A worker that was started elsewhere ends what it has in hand, if there is room for it, and leaves nothing else.
    wait_for(lambda: not (run.out / ".work").exists(), what="the end of the workers' units")
    assert {name for name, row in rows.items() if row["state"] == "done"} <= set(run.published())
    assert run.leftovers() == []
    resize("64m")
    again = run(*command, command=forked)
    assert again.returncode == 0, again.stderr
    assert run.hashes() == batch_run.hashes()
    run.check_whole()


def test_a_scheduler_that_went_away_and_came_back(batch_run, batch_done, tmp_path):
    run = batch_run.of("restarted")
    with (
        cluster(tmp_path / "restarted") as made,
        started(run, "--scheduler", made.address, "--mosaic", "none") as process,
    ):
        wait_for(lambda: run.published() and run.begun(), process, what="a unit in hand")
        made.end(scheduler_first=True)
        made.begin()
        done = ended(process)
    assert done.returncode == 0, done.stderr
    assert "7 done; 7 now" in done.stdout
    assert said(done) == []
    assert run.hashes() == batch_run.hashes()
    assert {(row["attempts"], row["losses"]) for row in run.ledger().values()} == {(0, 0)}
    run.check_whole()


def test_a_scheduler_that_stays_away_ends_the_run_with_one_line(forsaken):
    run, process = forsaken["left"]
    done = ended(process)
    assert done.returncode == 1
    (line,) = said(done)
    # Whichever is noticed first.
    assert "a scheduler that went away and did not come back" in line or "no worker for 60 s" in line
    assert set(run.states().values()) <= {"pending", "done"}
    assert {(row["attempts"], row["losses"]) for row in run.ledger().values()} == {(0, 0)}
    assert run.leftovers() == []


def test_no_scheduler_is_one_line(forsaken):
    run, process = forsaken["alone"]
    done = ended(process)
    assert done.returncode == 1
    (line,) = said(done)
    assert line.startswith("equipoise: tcp://127.0.0.1:")
    assert "found no scheduler that answers" in line
    assert set(run.states().values()) == {"pending"}
    assert run.leftovers() == []
