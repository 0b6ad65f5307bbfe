"""Run folder: a stage is done again when something that it depends on has changed, and only then."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.pipeline import run_folder
from equipoise.pipeline.errors import RunFolderError
from equipoise.pipeline.run_folder import RunFolder, fingerprint, write_text


@pytest.fixture
def stage(tmp_path):
    """Runs a stage that writes ``out/a.txt``; each call opens the folder anew, as each command does."""

    class Stage:
        calls = 0

        def __call__(self, mark="one", *, name="tile", force=False):
            def action():
                self.calls += 1
                (tmp_path / "out").mkdir(exist_ok=True)
                (tmp_path / "out" / "a.txt").write_text(mark)
                return [tmp_path / "out" / "a.txt"], {"call": self.calls}

            return RunFolder.open(tmp_path).run(name, fingerprint(mark=mark), action, force=force)

    return Stage()


def test_a_stage_is_done_once(stage):
    first, done = stage()
    again, done_again = stage()
    assert (done, done_again, stage.calls) == (True, False, 1)
    assert again == first
    assert first.outputs == {"out/a.txt": 3}
    assert first.figures == {"call": 1}


def test_force_does_it_again(stage):
    stage()
    record, done = stage(force=True)
    assert (done, stage.calls, record.figures) == (True, 2, {"call": 2})


def test_a_changed_fingerprint_does_it_again(stage):
    stage()
    assert stage("other")[1]
    assert not stage("other")[1]


@pytest.mark.parametrize("harm", ["removed", "cut", "a folder"])
def test_changed_outputs_do_it_again(stage, tmp_path, harm):
    stage()
    path = tmp_path / "out" / "a.txt"
    path.unlink()
    if harm == "cut":
        path.write_text("on")
    elif harm == "a folder":
        path.mkdir()
        (path / "x").touch()
        with pytest.raises(OSError, match="directory"):
            stage()
        return
    assert stage()[1]
    assert path.read_text() == "one"


def test_a_stage_that_fails_is_not_finished_and_takes_no_other_with_it(stage, tmp_path):
    stage(name="coregister")
    stage(name="tile")

    def broken():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        RunFolder.open(tmp_path).run("tile", "new", broken, force=False)
    assert list(RunFolder.open(tmp_path).stages) == ["coregister"]
    assert stage(name="tile")[1]


def test_the_manifest_says_what_was_done_with_what(stage, tmp_path):
    stage()
    record = json.loads((tmp_path / "manifest.json").read_text())
    assert set(record) >= {"equipoise", "seed", "python", "versions", "inputs", "stages"}
    assert record["versions"]["torch"][0].isdigit()
    assert record["stages"]["tile"]["outputs"] == {"out/a.txt": 3}
    assert record["stages"]["tile"]["seconds"] >= 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


DAMAGED = ("", "{", "[]", "null", "{}", "\x00", '{"stages": {"tile": {}}, "inputs": {}}',
           '{"stages": {}, "inputs": {"a": [1]}}', '{"stages": [], "inputs": {}}')  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_manifest_is_one_clear_line(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunFolderError, match="damaged manifest") as caught:
        RunFolder.open(tmp_path)
    assert "\n" not in str(caught.value)
    assert "manifest.json" in str(caught.value)
    assert (tmp_path / "manifest.json").read_text() == text


def test_a_manifest_of_other_bytes_is_one_clear_line(tmp_path):
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(RunFolderError, match="damaged manifest"):
        RunFolder.open(tmp_path)


def test_a_file_in_the_folders_place_is_refused_and_kept(tmp_path):
    (tmp_path / "run").write_text("mine")
    for place in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(RunFolderError, match=r"cannot be written.*-o"):
            RunFolder.open(place)
    assert (tmp_path / "run").read_text() == "mine"


def test_a_folder_without_permission_is_refused(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere (root): permissions stop nobody here")
    try:
        with pytest.raises(RunFolderError, match="cannot be written"):
            RunFolder.open(folder)
    finally:
        folder.chmod(0o700)


def test_unchanged_files_are_hashed_once(tmp_path, monkeypatch):
    path = tmp_path / "input.tif"
    path.write_bytes(b"content")
    read = []
    digest = run_folder.hashlib.file_digest
    monkeypatch.setattr(run_folder.hashlib, "file_digest", lambda *a: read.append(1) or digest(*a))
    folder = RunFolder.open(tmp_path / "run")
    first = folder.hash_inputs([path, path])
    folder.save()
    assert RunFolder.open(tmp_path / "run").hash_inputs([path]) == first
    assert len(read) == 1
    os.utime(path, ns=(1, 1))
    assert folder.hash_inputs([path]) == first
    assert len(read) == 2
    path.write_bytes(b"CONTENT")
    assert folder.hash_inputs([path]) != first


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8,
)  # fmt: skip


@given(value=st.dictionaries(st.text(), JSON, max_size=4))
def test_equal_values_have_equal_fingerprints_whatever_their_order(value):
    turned = dict(reversed(value.items()))
    assert fingerprint(value=value) == fingerprint(value=turned)


@given(first=JSON, second=JSON)
def test_different_values_have_different_fingerprints(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint(value=first) == fingerprint(value=second)) == same


def test_text_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(RunFolderError, match=r"not of a run.*-o"):
        RunFolder.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
