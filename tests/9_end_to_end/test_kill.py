"""``kill -9`` while training and while mapping: the same command goes on, and ends with the same bytes."""

import json

import pytest


@pytest.fixture(scope="module")
def survivor(finished, tmp_path_factory, equipoise, forked):
    """A run that was killed twice and then let through; what the last command printed comes with it."""
    root = tmp_path_factory.mktemp("killed") / "run"
    command = ("run", finished.config, "-o", root)
    checkpoint, parts = root / "checkpoints" / "fusion" / "last.ckpt", root / "predictions" / ".embedded.parts"
    equipoise.killed_when(checkpoint.is_file, *command)
    trained = root / "model" / "model.json"
    assert not trained.exists(), "killed too late: training was over"
    first = checkpoint.stat().st_mtime_ns
    equipoise.killed_when(lambda: len(list(parts.glob("row-*.npz"))) >= 2, *command)
    assert checkpoint.stat().st_mtime_ns > first
    assert not (root / "predictions" / "embedded.classes.tif").exists(), "killed too late: the map was written"
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("row-*.npz")}
    assert "predict" not in json.loads((root / "manifest.json").read_text())["stages"]
    return root, kept, forked("-v", *command)


def test_the_command_goes_on_where_it_was_killed(survivor):
    _, kept, done = survivor
    assert done.returncode == 0, done.stderr
    assert f"going on at window row {len(kept)} of 12" in done.stderr
    for stage in ("coregister", "tile", "train", "evaluate"):
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{stage} "))
        assert "unchanged" in line


@pytest.mark.parametrize(
    "name",
    ["model/model.safetensors", "model/model.json", "metrics.json", "predictions/embedded.classes.tif",
     "predictions/embedded.confidence.tif", "predictions/embedded.reliance.tif", "predictions/embedded.trust.tif",
     "predictions/embedded.classes.tif.aux.xml", "aligned/embedded/sar.tif"],
)  # fmt: skip
def test_it_ends_with_the_bytes_of_a_run_that_was_not_killed(survivor, finished, name):
    root, _, _ = survivor
    assert (root / name).read_bytes() == (finished.root / name).read_bytes()


def test_the_history_is_that_of_a_run_that_was_not_killed(survivor, finished):
    found, whole = (
        json.loads((root / "manifest.json").read_text())["stages"]["train"]["figures"]
        for root in (survivor[0], finished.root)
    )
    assert found == whole


def test_nothing_of_the_interruptions_is_left(survivor):
    root, _, _ = survivor
    left = [path.name for path in root.rglob(".*") if path.name not in (".embedded.done", ".embedded.trust.json")]
    assert left == []
