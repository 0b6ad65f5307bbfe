"""Downloads against a real server on loopback: resumed, verified, refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from fake_catalog import FileServer, file_server, multihash
from hypothesis import given
from hypothesis import strategies as st

from equipoise.datasets import download
from equipoise.datasets.download import fetch
from equipoise.datasets.ledger import DownloadError, Ledger

SIZE = 50_000


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download, "BACKOFF", 0.001)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.tif").write_bytes(np.random.default_rng(0).bytes(SIZE))
    with file_server(folder) as state:
        yield state


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path / "assets")


def _source(server: FileServer) -> Path:
    return server.folder / "a.tif"


def _target(ledger: Ledger) -> Path:
    return ledger.folder / "item" / "a.tif"


def _part(ledger: Ledger) -> Path:
    return _target(ledger).with_name("a.tif.part")


def test_a_file_arrives_once(server, ledger):
    entry = fetch(server.url + "a.tif?token=1", _target(ledger), ledger=ledger)
    assert _target(ledger).read_bytes() == _source(server).read_bytes()
    assert entry.sha256 == hashlib.sha256(_source(server).read_bytes()).hexdigest()
    assert (entry.size, entry.verified) == (SIZE, "size")
    # Another signature, another process: the ledger on disk knows the file.
    again = fetch(server.url + "a.tif?token=2", _target(ledger), ledger=Ledger.open(ledger.folder))
    assert again == entry
    assert server.requests["a.tif"] == 1
    assert sorted(path.name for path in _target(ledger).parent.iterdir()) == ["a.tif"]
    assert "token" not in (ledger.folder / "ledger.json").read_text()


def test_progress_counts_every_byte(server, ledger):
    seen = []
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger, report=seen.append)
    assert sum(seen) == SIZE


@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_connection_goes_on_without_sending_a_byte_twice(server, ledger, chunked):
    server.chunked = chunked
    server.break_after["a.tif"] = 20_000
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger, checksum=multihash(_source(server)))
    assert _target(ledger).read_bytes() == _source(server).read_bytes()
    assert (server.requests["a.tif"], server.sent["a.tif"]) == (2, SIZE)


@given(kept=st.integers(1, SIZE))
def test_any_prefix_is_completed_to_the_same_bytes(tmp_path_factory, kept):
    root = tmp_path_factory.mktemp("prefix")
    (root / "a.tif").write_bytes(content := np.random.default_rng(0).bytes(SIZE))
    ledger = Ledger.open(root / "assets")
    _part(ledger).parent.mkdir()
    _part(ledger).write_bytes(content[:kept])
    with file_server(root) as server:
        fetch(server.url + "a.tif", _target(ledger), ledger=ledger, checksum=multihash(root / "a.tif"))
        assert server.sent["a.tif"] == SIZE - kept
    assert _target(ledger).read_bytes() == content


@pytest.mark.parametrize("tags", [True, False])
def test_a_file_that_changed_meanwhile_is_not_patched_together(server, ledger, tags):
    server.tags = tags
    server.break_after["a.tif"] = 20_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "TRIES", 1)
        with pytest.raises(DownloadError, match="the same command goes on after 20000 bytes"):
            fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    _source(server).write_bytes(b"another version" * 4000)
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    assert _target(ledger).read_bytes() == b"another version" * 4000


def test_a_part_that_was_complete_when_the_process_died_costs_no_bytes(server, ledger):
    _part(ledger).parent.mkdir()
    _part(ledger).write_bytes(_source(server).read_bytes())
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger, checksum=multihash(_source(server)))
    assert (server.requests["a.tif"], server.sent["a.tif"]) == (1, 0)


def test_a_part_longer_than_the_file_is_thrown_away(server, ledger):
    _part(ledger).parent.mkdir()
    _part(ledger).write_bytes(b"x" * (SIZE + 7))
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger, checksum=multihash(_source(server)))
    assert _target(ledger).read_bytes() == _source(server).read_bytes()


def test_a_truncated_file_is_refused_and_nothing_is_kept(server, ledger):
    checksum = multihash(_source(server))
    _source(server).write_bytes(_source(server).read_bytes()[: SIZE // 2])
    with pytest.raises(DownloadError, match=rf"a\.tif: found {SIZE // 2} bytes; wanted {SIZE} bytes") as caught:
        fetch(server.url + "a.tif", _target(ledger), ledger=ledger, size=SIZE, checksum=checksum)
    assert "\n" not in str(caught.value)
    found = hashlib.sha256(_source(server).read_bytes()).hexdigest()
    with pytest.raises(DownloadError, match=f"found sha256 {found} of {SIZE // 2} bytes; wanted {checksum[4:]}"):
        fetch(server.url + "a.tif", _target(ledger), ledger=ledger, checksum=checksum)
    assert list(_target(ledger).parent.iterdir()) == []
    assert not ledger.entries


def test_more_bytes_than_declared_are_refused(server, ledger):
    with pytest.raises(DownloadError, match="wanted 100 bytes"):
        fetch(server.url + "a.tif", _target(ledger), ledger=ledger, size=100)
    assert not _part(ledger).exists()


def test_a_busy_server_is_asked_again(server, ledger):
    server.failures["a.tif"] = [503, 429, 500]
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    assert server.requests["a.tif"] == 4


@pytest.mark.parametrize(("code", "words"), [(403, "signed addresses"), (401, "logins"), (404, "check the catalog")])
def test_what_another_try_does_not_change_is_said_at_once(server, ledger, code, words):
    server.failures["a.tif"] = [code]
    with pytest.raises(DownloadError, match=f"found answer {code}.*{words}"):
        fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    assert server.requests["a.tif"] == 1


def test_a_server_that_is_not_there_is_one_line(ledger, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    with pytest.raises(DownloadError, match="found no way to fetch it in 2 tries"):
        fetch("http://127.0.0.1:9/a.tif", _target(ledger), ledger=ledger)


def test_a_server_that_stalls_is_given_up_in_one_line(server, ledger, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr(download, "TIMEOUT", (1.0, 0.1))
    server.pause = 2.0
    with pytest.raises(DownloadError, match=r"no way to fetch it in 2 tries \(.*timed out.*\); wanted") as caught:
        fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    assert "\n" not in str(caught.value)
    assert server.requests["a.tif"] == 2


def test_a_server_that_drips_is_given_up_and_what_came_is_kept(server, ledger, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr(download, "PATIENCE", 0.2)
    server.pause, server.block = 0.02, 1  # never silent for long: no timeout ends it
    with pytest.raises(DownloadError, match=r"2 tries \(only \d+ bytes came in .* s\); wanted the whole file"):
        fetch(server.url + "a.tif", _target(ledger), ledger=ledger, checksum=multihash(_source(server)))
    assert 0 < _part(ledger).stat().st_size < SIZE
    server.pause, server.block = 0.0, 4096
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger, checksum=multihash(_source(server)))
    assert _target(ledger).read_bytes() == _source(server).read_bytes()


def test_a_file_altered_on_disk_is_refused(server, ledger):
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    _target(ledger).write_bytes(b"x" * SIZE)
    with pytest.raises(DownloadError, match="found a file altered since it was fetched"):
        fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    _target(ledger).unlink()
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    assert server.requests["a.tif"] == 2


def test_a_file_that_was_only_touched_is_not_fetched_again(server, ledger):
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    _target(ledger).touch()
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger)
    assert server.requests["a.tif"] == 1


def test_a_new_version_under_the_old_address_is_fetched(server, ledger):
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger, checksum=multihash(_source(server)))
    _source(server).write_bytes(b"new" * 1000)
    fetch(server.url + "a.tif", _target(ledger), ledger=ledger, checksum=multihash(_source(server)))
    assert _target(ledger).read_bytes() == b"new" * 1000


def test_a_damaged_ledger_is_refused(ledger):
    (ledger.folder / "ledger.json").write_text(json.dumps({"a": {"href": "x"}}))
    with pytest.raises(DownloadError, match="found a damaged ledger"):
        Ledger.open(ledger.folder)
