"""`equipoise batch` with workers of this machine: undisturbed, and killed in every way; the maps are the same."""

import hashlib
import json
import math
import os
import signal
import sqlite3
import time
from urllib.request import urlopen

import geopandas
import numpy as np
import psutil
import pystac
import pytest
import rasterio
from batch_runs import dies_elsewhere, ended, hold_when, kill, said, served, started, wait_for, workers_of
from pystac.validation import JsonSchemaSTACValidator
from pystac_client import Client
from pystac_client.stac_api_io import StacApiIO
from rasterio.windows import from_bounds

from equipoise.pipeline.batch.after_work import FEW, _shared
from equipoise.pipeline.batch.cluster import ClusterOptions, connected

#: Seconds after which nothing of a dead client is left.
SOON = 20


def test_every_unit_is_done_and_told(batch_run, batch_done):
    assert batch_done.returncode == 0, batch_done.stderr
    ledger = batch_run.ledger()
    assert len(ledger) == 7
    assert {(row["state"], row["attempts"], row["losses"]) for row in ledger.values()} == {("done", 0, 0)}
    batch_run.check_whole()


def test_the_last_lines_say_what_is_where(batch_run, batch_done):
    lines = dict(line.split(maxsplit=1) for line in batch_done.stdout.splitlines() if not line.startswith(" "))
    assert lines["units"].startswith("7 done; 7 now, in ")
    for kind, name in (("ledger", "ledger.gpkg"), ("maps", "units"), ("table", "regions.parquet"),
                       ("collection", "collection.json"), ("report", "report.html")):  # fmt: skip
        assert lines[kind] == str(batch_run.out / name)
        assert (batch_run.out / name).exists()
    assert os.path.isfile(lines["mosaics"].split(" and ")[0])  # noqa: PTH113 (what was printed, as it was printed)
    assert said(batch_done) == []


def test_a_second_run_does_nothing(batch_run, batch_done, forked):
    def inodes() -> dict[str, tuple[int, int]]:
        files = [path for path in batch_run.out.rglob("*") if path.suffix in (".tif", ".vrt", ".qml")]
        units = [path for path in (batch_run.out / "units").rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in (*files, *units)}

    before = inodes()
    again = batch_run(command=forked)
    assert again.returncode == 0, again.stderr
    assert "units       7 done; 0 now, in 0.0 s" in again.stdout
    assert "workers" not in again.stdout, "nobody is needed where there is nothing to do"
    assert inodes() == before
    batch_run.check_whole()


def test_scripts_are_answered_in_json(batch_run, batch_done, forked):
    done = json.loads(batch_run("--json", command=forked).stdout)
    assert (done["counts"], done["folder"]) == ({"done": 7}, str(batch_run.out))
    assert json.loads(batch_run("--dry-run", "--json", command=forked).stdout)["estimate"]["units"] == 7


def test_the_estimate_of_a_finished_run_is_nothing(batch_run, batch_done, forked):
    before = {path: path.stat().st_mtime_ns for path in batch_run.out.rglob("*")}
    told = batch_run("--dry-run", command=forked)
    assert told.returncode == 0, told.stderr
    assert "units       7: 7 done, 0 with nothing to map, 0 to do" in told.stdout
    assert "to map      0 px" in told.stdout
    assert {path: path.stat().st_mtime_ns for path in batch_run.out.rglob("*")} == before


# A static catalog has no search, and says nothing of conformance: the client says so, and walks it.
@pytest.mark.filterwarnings("ignore::pystac_client.warnings.PystacClientWarning")
def test_the_collection_is_valid_and_opens_over_http(batch_run, batch_done):
    validator, units = JsonSchemaSTACValidator(), sorted(batch_run.ledger())
    records = [batch_run.out / "catalog.json", batch_run.out / "collection.json",
               *(batch_run.out / "units" / name / f"{name}.json" for name in units)]  # fmt: skip
    for path in records:
        record = json.loads(path.read_text())
        validator.validate_core(record, pystac.STACObjectType(record["type"]), "1.1.0")
    reader = StacApiIO()
    with served(batch_run.inputs) as address:
        client = Client.open(f"{address}reference/out/catalog.json", stac_io=reader)
        items = {item.id: item for item in client.get_items(recursive=True)}
        assert sorted(items) == units
        for item in items.values():
            assert item.collection_id == "out"
            sources = [link.absolute_href for link in item.get_links("derived_from")]
            assert any(href.startswith(f"{address}catalog/S2_") for href in sources)
            for asset in item.assets.values():
                with urlopen(asset.get_absolute_href()) as answer:  # noqa: S310 (of the server above)
                    content = answer.read()
                assert asset.extra_fields["file:size"] == len(content)
                assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    reader.session.close()


def test_mosaics_are_the_units_inside_their_regions(batch_run, batch_done):
    mosaics = sorted((batch_run.out / "regions").glob("*.tif"))
    assert {path.name.split(".")[2] for path in mosaics} == {"classes", "confidence", "reliance", "trust", "quality"}
    for path in mosaics:
        with rasterio.open(path) as cut, rasterio.open(path.with_suffix(".vrt")) as whole:
            window = from_bounds(*cut.bounds, transform=whole.transform).round()
            shown = cut.read(masked=True)
            pieces = whole.read(window=window, masked=True, boundless=True)
            assert shown.shape == pieces.shape
            inside = ~np.ma.getmaskarray(shown)
            assert inside.any()
            np.testing.assert_array_equal(shown.data[inside], pieces.data[inside])


def test_the_table_of_regions_sums_up_to_the_pixels(batch_run, batch_done):
    table = geopandas.read_parquet(batch_run.out / "regions.parquet")
    pixels = sum(row["pixels"] for row in batch_run.ledger().values())
    pixel_km2 = 1e-4  # 10 m x 10 m
    # Regions that touch share no pixel; a pixel on the border of a region is in it where its centre is.
    assert math.isclose(table["mapped_km2"].sum(), pixels * pixel_km2, rel_tol=1e-9)
    classes = table[[name for name in table.columns if name.startswith("class_")]].sum(axis=1)
    np.testing.assert_allclose(classes, table["mapped_km2"])
    np.testing.assert_allclose(table["mapped_km2"], table["polygon_km2"], rtol=0.01)


def test_workers_killed_again_and_again(batch_run, batch_done):
    run = batch_run.of("killed_workers")
    with started(run, "--workers", "2", "--attempts", "6", "--mosaic", "none") as process:
        wait_for(run.begun, process, what="a unit in hand")
        # As QGIS does where it shows the layer: open from now until after the end.
        shown = sqlite3.connect(run.out / "ledger.gpkg")
        assert shown.execute("SELECT count(*) FROM units").fetchone() == (7,)
        kill(*workers_of(process))
        for done, which in ((1, 0), (3, -1)):
            wait_for(lambda done=done: len(run.published()) >= done and run.begun(), process, what="a unit in hand")
            kill(workers_of(process)[which])
        ended_run = ended(process)
    shown.close()
    assert ended_run.returncode == 0, ended_run.stderr
    assert said(ended_run) == []
    assert run.hashes() == batch_run.hashes()
    rows = run.ledger().values()
    assert {row["state"] for row in rows} == {"done"}
    assert 1 <= sum(row["losses"] for row in rows) <= 4
    assert sum(row["attempts"] for row in rows) == 0
    run.check_whole()


@pytest.fixture(scope="module")
def stopped_twice(batch_run, batch_done):
    """A run that Ctrl-C ended, whose client was then killed, and that was let through; with what was seen of it."""
    run, seen = batch_run.of("stopped"), {}
    with started(run, "--workers", "2") as process:
        hold_when(
            lambda: {"done", "pending"} <= set(run.states().values()) and run.begun(), process, what="a unit in hand"
        )
        workers = workers_of(process)
        os.killpg(process.pid, signal.SIGINT)
        os.killpg(process.pid, signal.SIGCONT)
        seen["interrupted"] = ended(process)
    seen["left"], seen["states"] = run.leftovers(), run.states()
    seen["orphans of the first"] = psutil.wait_procs(workers, timeout=SOON)[1]
    first = {name: (run.out / "units" / name).stat().st_mtime_ns for name in run.published()}
    with started(run, "--workers", "2") as process:
        hold_when(lambda: len(run.published()) > len(first) and run.begun(), process, what="a unit in hand")
        workers = workers_of(process)
        process.kill()
        os.killpg(process.pid, signal.SIGCONT)
        process.wait()
        since = time.monotonic()
        seen["orphans of the second"] = psutil.wait_procs(workers, timeout=SOON)[1]
        seen["gone after"] = time.monotonic() - since
    kept = {name: (run.out / "units" / name).stat().st_mtime_ns for name in run.published()}
    seen["states of the killed"] = run.states()
    with started(run, "--workers", "2") as process:
        seen["whole"] = ended(process)
    seen["kept"] = {**first, **kept}
    return run, seen


def test_ctrl_c_ends_with_one_line(stopped_twice):
    _, seen = stopped_twice
    assert seen["interrupted"].returncode == 130
    assert said(seen["interrupted"]) == ["interrupted; the same command goes on where it stopped"]


def test_ctrl_c_leaves_nothing_half_done(stopped_twice):
    _, seen = stopped_twice
    assert seen["left"] == []
    assert "running" not in seen["states"].values()
    assert "pending" in seen["states"].values()
    assert "done" in seen["states"].values()
    assert seen["orphans of the first"] == []


def test_workers_of_a_killed_client_go(stopped_twice):
    _, seen = stopped_twice
    assert seen["orphans of the second"] == []
    assert "running" in seen["states of the killed"].values(), "killed too late: no unit was in hand"


def test_the_command_goes_on_where_it_was_stopped(stopped_twice, batch_run):
    run, seen = stopped_twice
    assert seen["whole"].returncode == 0, seen["whole"].stderr
    assert f"units       7 done; {7 - len(seen['kept'])} now" in seen["whole"].stdout
    assert {name: (run.out / "units" / name).stat().st_mtime_ns for name in seen["kept"]} == seen["kept"]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(stopped_twice, batch_run):
    run, _ = stopped_twice
    assert run.hashes() == batch_run.hashes()
    assert {(row["attempts"], row["losses"]) for row in run.ledger().values()} == {(0, 0)}
    run.check_whole()


def test_a_unit_that_kills_its_workers_is_set_aside(batch_run, batch_done):
    """Whoever takes the unit dies: it is taken once in its turn, and again after all others."""
    run, victim = batch_run.of("poison"), "utm32n_e0565_n4156"
    with started(run, "--workers", "1", "--attempts", "2", "--mosaic", "none") as process:
        for _ in range(2):
            wait_for(lambda: run.begun(victim), process, what="the unit in hand")
            kill(*workers_of(process))
            wait_for(lambda: not run.begun(victim), what="that the loss was noticed")
        last = ended(process)
    assert last.returncode == 1
    (line,) = said(last)
    assert line.startswith("equipoise: 1 unit(s) set aside; ")
    rows = run.ledger()
    assert rows[victim]["state"] == "failed"
    assert (rows[victim]["losses"], rows[victim]["attempts"]) == (2, 0)
    assert "died while it had this unit" in rows[victim]["error"]
    others = [row for name, row in rows.items() if name != victim]
    assert {(row["state"], row["losses"]) for row in others} == {("done", 0)}
    assert run.hashes() == {name: value for name, value in batch_run.hashes().items() if victim not in name}
    run.check_whole()
    assert victim in (run.out / "report.html").read_text()


def test_mosaics_and_counts_are_made_though_workers_die():
    """What follows the units is small: what is lost with a worker is done by the command itself."""
    jobs = [(os.getpid(), number) for number in range(FEW + 1)]
    with connected(ClusterOptions(workers=1)) as client:
        assert list(_shared(dies_elsewhere, jobs, "test", workers=lambda: client)) == list(range(FEW + 1))
