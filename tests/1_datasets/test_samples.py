"""Samples by name: found where the data folder is, checked, downloaded only on demand."""

import hashlib
import os
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import rasterio

from equipoise.datasets import samples
from equipoise.datasets.errors import DatasetError
from equipoise.datasets.samples import DATA_VARIABLE, SAMPLES, SampleError, fetch, sample_names

INTERNAL = {"ombria", "los_angeles", "sen1floods11"}
CONTENT = b"a sample's bytes"

real = [
    pytest.mark.real,
    pytest.mark.skipif(not os.environ.get(DATA_VARIABLE), reason=f"{DATA_VARIABLE} is unset: no real data at hand"),
]


@pytest.fixture
def tiny(monkeypatch):
    """One made-up sample of one file, so that checks need no real data."""
    sample = replace(SAMPLES["landsat8"], name="tiny", root="open/tiny", source="http://127.0.0.1:9/")
    monkeypatch.setitem(SAMPLES, "tiny", sample)
    monkeypatch.setitem(samples._registry(), "tiny", [("a/b.bin", hashlib.sha256(CONTENT).hexdigest())])
    return sample


@pytest.fixture
def data(monkeypatch, tmp_path):
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def no_data(monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "b.bin").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}/"
        http.shutdown()
        thread.join()


def test_registry_lists_every_sample_with_checksums():
    assert set(samples._registry()) == set(SAMPLES)
    for name, sample in SAMPLES.items():
        assert sample.name == name
        assert sample.files
        assert all(len(file.sha256) == 64 for file in sample.files)
        assert len({file.path for file in sample.files}) == len(sample.files)
    assert len(SAMPLES["terramesh"].files) == 12


def test_internal_samples_keep_no_address():
    for name, sample in SAMPLES.items():
        assert sample.redistributable is (name not in INTERNAL)
        assert all((file.url is None) is (name in INTERNAL) for file in sample.files)


def test_internal_names_show_only_with_data(monkeypatch, no_data):
    assert set(sample_names()) == set(SAMPLES) - INTERNAL
    monkeypatch.setenv(DATA_VARIABLE, "anywhere")
    assert set(sample_names()) == set(SAMPLES)


def test_unknown_name_lists_the_known(no_data):
    with pytest.raises(SampleError, match=r"'nowhere'.*terramesh"):
        fetch("nowhere")
    assert issubclass(SampleError, DatasetError)


def test_internal_sample_needs_the_data_folder(no_data):
    with pytest.raises(SampleError, match=DATA_VARIABLE):
        fetch("ombria")


def test_data_folder_serves_without_copy(data, tiny):
    place = data / tiny.root / "a" / "b.bin"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert fetch("tiny", folder=data / "unused") == data / tiny.root
    assert not (data / "unused").exists()


def test_missing_and_altered_files_are_refused(data, tiny):
    with pytest.raises(SampleError, match=r"no file .*b\.bin.*unset"):
        fetch("tiny")
    place = data / tiny.root / "a" / "b.bin"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT + b"!")
    with pytest.raises(SampleError, match="other bytes"):
        fetch("tiny")


def test_download_lands_below_the_sample_root_and_is_reused(monkeypatch, no_data, tiny, server, tmp_path):
    monkeypatch.setitem(SAMPLES, "tiny", replace(tiny, source=server))
    folder = fetch("tiny", folder=tmp_path / "cache")
    assert folder == tmp_path / "cache" / tiny.root
    assert (folder / "a" / "b.bin").read_bytes() == CONTENT
    monkeypatch.setitem(SAMPLES, "tiny", tiny)
    assert fetch("tiny", folder=tmp_path / "cache") == folder


def test_download_with_other_bytes_is_refused(monkeypatch, no_data, tiny, server, tmp_path):
    monkeypatch.setitem(SAMPLES, "tiny", replace(tiny, source=server))
    monkeypatch.setitem(samples._registry(), "tiny", [("a/b.bin", "0" * 64)])
    with pytest.raises(SampleError, match="no usable download"):
        fetch("tiny", folder=tmp_path / "cache")


def test_no_network_says_what_to_do(no_data, tiny, tmp_path):
    with pytest.raises(SampleError, match=r"check the network.*EQUIPOISE_DATA"):
        fetch("tiny", folder=tmp_path)


@pytest.mark.parametrize("name", [pytest.param(name, marks=real) for name in SAMPLES])
def test_real_samples_are_complete(name):
    folder = fetch(name)
    assert all((folder / file.path).is_file() for file in SAMPLES[name].files)


@pytest.mark.parametrize("_", [pytest.param(None, marks=real)])
def test_los_angeles_scenes_share_a_grid(_):
    folder = fetch("los_angeles")
    with (
        rasterio.open(folder / "los_angeles_S2RGB.tif") as eo,
        rasterio.open(folder / "los_angeles_S1VH.tif") as sar,
    ):
        assert eo.shape == sar.shape == (2048, 2048)
        assert eo.transform == sar.transform
