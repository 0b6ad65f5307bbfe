"""The installed command: what it prints, what it refuses, and that a refusal leaves nothing half-written."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import typer
import yaml

from equipoise.pipeline.cli import app
from equipoise.pipeline.config import Config, load_config
from equipoise.pipeline.doctor import examine
from equipoise.pipeline.templates import template_config

HEAVY = ("torch", "rasterio", "numpy", "lightning", "xarray", "pydantic")


def test_help_imports_nothing_heavy():
    probe = (
        "import sys\n"
        "from equipoise.pipeline.cli import main\n"
        "sys.argv = ['equipoise', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_command(equipoise):
    done = equipoise("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("run", "coregister", "tile", "train", "evaluate", "predict", "report", "init", "config", "validate",
                    "doctor", "samples", "demo", "acquire", "inspect"):  # fmt: skip
        assert f" {command} " in done.stdout


def test_the_printed_configuration_is_a_configuration(equipoise):
    done = equipoise("config", "--print")
    assert (done.returncode, done.stderr) == (0, "")
    assert Config.model_validate(yaml.safe_load(done.stdout)) == template_config("landcover")


@pytest.mark.parametrize("template", ["flood", "landcover", "chips"])
def test_init_writes_a_configuration_to_start_from(forked, tmp_path, template):
    done = forked("init", "--template", template, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrote config.yaml" in done.stdout
    assert load_config(tmp_path / "config.yaml").classes == template_config(template).classes
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_init_replaces_nothing_unless_told(equipoise, tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    done = equipoise("init", cwd=tmp_path)
    assert done.returncode == 1
    assert "--force" in _line(done)
    assert (tmp_path / "config.yaml").read_text() == "mine"
    assert equipoise("init", "--force", cwd=tmp_path).returncode == 0
    assert "modalities:" in (tmp_path / "config.yaml").read_text()


def test_an_unknown_template_is_named(forked, tmp_path):
    done = forked("init", "--template", "sea", cwd=tmp_path)
    assert done.returncode == 1
    assert "'sea'" in _line(done)
    assert not list(tmp_path.iterdir())


def test_doctor_finds_nothing_wrong(equipoise, tmp_path):
    done = equipoise("doctor", EQUIPOISE_DATA=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "PROBLEM" not in done.stdout
    for word in ("torch", "GDAL", "GPU", "threads", str(tmp_path)):
        assert word in done.stdout


def test_doctor_names_a_data_folder_that_is_gone(monkeypatch, tmp_path):
    monkeypatch.setenv("EQUIPOISE_DATA", str(tmp_path / "gone"))
    assert dict(examine())["data folder"].startswith("PROBLEM")


def test_ctrl_c_is_said_in_one_line_with_its_own_code():
    probe = (
        "import sys\n"
        "from equipoise.pipeline import cli, config\n"
        "def interrupted(path):\n    raise KeyboardInterrupt\n"
        "config.load_config = interrupted\n"
        "sys.argv = ['equipoise', 'config', 'any.yaml']\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert done.stderr.strip() == "interrupted; the same command goes on where it stopped"


def _commands(group, *above):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, *above, name)
        else:
            yield pytest.param(command, id=" ".join((*above, name)))


@pytest.mark.parametrize("command", list(_commands(typer.main.get_command(app))))
def test_every_command_answers_as_json(command):
    assert "--json" in [option for item in command.params for option in item.opts]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["config"], "modalities"), (["doctor"], "GDAL"), (["samples"], "samples"), (["init"], "config"),
        (["validate", "CONFIG"], "problems"), (["inspect", "EO"], "files"), (["run", "CONFIG", "-o", "RUN"], "stages"),
    ],
)  # fmt: skip
def test_an_answer_is_one_json_object_on_standard_output(
    forked, embedded_scene, light_record, trained_run, tmp_path, monkeypatch, words, key
):
    named = {"CONFIG": trained_run.config, "EO": embedded_scene.paths["eo"], "RUN": tmp_path / "run"}
    if "RUN" in words:
        shutil.copytree(trained_run.root, tmp_path / "run")
    if words == ["init"]:
        words = ["init", tmp_path / "new.yaml"]
    done = forked(*[named.get(word, word) for word in words], "--json")
    assert done.returncode == 0, done.stderr
    assert key in json.loads(done.stdout)
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["run", "gone.yaml"], 1, "gone.yaml"), (["rum"], 2, "'run'"),
        (["run", "a.yaml", "--ouput", "x"], 2, "--output"),
        (["init", "--template", "lancover"], 1, "did you mean 'landcover'?"),
        (["demo", "--scene", "teramesh"], 1, "'terramesh'?"),
    ],
)  # fmt: skip
def test_a_failure_under_json_is_one_line_of_json_on_standard_error(forked, words, code, told):
    done = forked(*words, "--json")
    assert (done.returncode, done.stdout) == (code, "")
    assert told in json.loads(done.stderr)["error"]


def test_problems_of_a_configuration_are_a_list_under_json(forked, light_record, trained_run, tmp_path):
    bad = Bad(tmp_path / "bad", light_record(), trained_run)
    bad.rewritten("eo", crs=None)
    arguments, _ = bad.command()
    done = forked("validate", arguments[1], "--json")
    assert (done.returncode, done.stderr) == (1, "")
    (problem,) = json.loads(done.stdout)["problems"]
    assert "no CRS" in problem


def test_the_shell_completes_commands_and_templates(equipoise):
    def completed(words):
        variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        return equipoise(_EQUIPOISE_COMPLETE="complete_bash", **variables).stdout.split()

    assert completed("equipoise va") == ["validate"]
    assert completed("equipoise init --template f") == ["flood"]
    assert completed("equipoise demo --scene t") == ["terramesh"]
    assert completed("equipoise samples --o") == ["--open"]


def _line(done):
    """Return the one line on standard error; more, less, or a traceback is a failure."""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("equipoise: ")
    return lines[0]


class Bad:
    """Prepares bad inputs; each method returns the arguments of a command that must refuse them, and its words."""

    def __init__(self, folder, record, run):
        self.folder, self.record, self.run = folder, record, run
        folder.mkdir()
        self.files = self.record["scenes"][0]["files"]

    def command(self, *words, stage="run", output="out"):
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.record))
        return [stage, config, "-o", self.folder / output], words

    def rewritten(self, name, *, change=lambda values: values, **profile):
        path = self.folder / f"{name}.tif"
        with rasterio.open(self.files[name]) as source:
            values = change(source.read())
            kept = {"nodata": source.nodata, "crs": source.crs, "transform": source.transform} | profile
            shape = {"height": values.shape[1], "width": values.shape[2], "count": len(values)}
            with rasterio.open(path, "w", driver="GTiff", dtype=values.dtype, tiled=True, **shape, **kept) as writer:
                writer.write(values)
        self.files[name] = str(path)
        return path

    def unknown_key(self):
        self.record["train"]["epoch"] = 3
        return self.command("unknown key 'train.epoch'")

    def missing_file(self):
        self.files["sar"] = str(self.folder / "gone.tif")
        return self.command("gone.tif", "found no file")

    def missing_config(self):
        return ["run", self.folder / "gone.yaml", "-o", self.folder / "out"], ("gone.yaml", "equipoise init")

    def truncated_raster(self):
        path = self.rewritten("sar")
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        return self.command("sar.tif", "cannot be read")

    def truncated_header(self):
        path = self.rewritten("sar")
        path.write_bytes(path.read_bytes()[:100])
        return self.command("sar.tif", "does not open as a raster")

    def no_overlap(self):
        with rasterio.open(self.files["sar"]) as source:
            moved = rasterio.Affine.translation(100_000, 0) * source.transform
        self.rewritten("sar", transform=moved)
        return self.command("sar.tif (sar) outside the area of eo.tif (eo)")

    def no_crs(self):
        self.rewritten("sar", crs=None)
        return self.command("sar.tif", "no CRS", "assign one")

    def band_count(self):
        self.rewritten("eo", change=lambda values: values[:3])
        return self.command("eo.tif", "found 3 bands; wanted 4")

    def all_nodata(self):
        self.rewritten("eo", change=np.zeros_like)
        return self.command("eo.tif", "no valid pixel")

    def foreign_labels(self):
        with rasterio.open(self.record["scenes"][0]["labels"]) as source:
            profile, values = source.profile, source.read()
        values[0, :9, :9] = 77
        with rasterio.open(self.folder / "labels.tif", "w", **profile) as writer:
            writer.write(values)
        self.record["scenes"][0]["labels"] = str(self.folder / "labels.tif")
        return self.command("labels.tif", "[77]")

    def wrong_unit(self):
        self.record["modalities"]["sar"]["unit"] = "db"
        return self.command("sar.tif", "declared as db")

    def unwritable_output(self):
        (self.folder / "out").write_text("mine")
        return self.command("out: found a folder that cannot be written", "-o")

    def _copy(self):
        shutil.copytree(self.run.root, self.folder / "out")
        return self.folder / "out"

    def damaged_manifest(self):
        manifest = self._copy() / "manifest.json"
        manifest.write_text(manifest.read_text()[:500])
        return self.command("manifest.json", "damaged manifest")

    def damaged_model(self):
        """One bit is another; its size is the same."""
        weights = self._copy() / "model" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
        self.record["predict"]["reliance"] = "none"
        return self.command("model.safetensors", "train anew", stage="predict")

    def damaged_state(self):
        """As if training had been killed, and its state had then been hurt."""
        root = self._copy()
        record = json.loads((root / "manifest.json").read_text())
        for stage in ("train", "evaluate", "predict"):
            del record["stages"][stage]
        (root / "manifest.json").write_text(json.dumps(record))
        state = root / "checkpoints" / "fusion" / "last.ckpt"
        content = bytearray(state.read_bytes())
        content[len(content) // 2] ^= 1
        state.write_bytes(content)
        return self.command("last.ckpt", "damaged checkpoint", "--force", stage="train")


CASES = [name for name in vars(Bad) if not name.startswith("_") and name not in ("command", "rewritten")]


def _content(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line_and_leaves_nothing_half_written(forked, light_record, trained_run, tmp_path, name):
    bad = Bad(tmp_path / "bad", light_record(), trained_run)
    arguments, words = getattr(bad, name)()
    before = _content(bad.folder)
    done = forked(*arguments)
    after = _content(bad.folder)
    line = _line(done)
    assert done.returncode == 1
    assert "fault of Equipoise" not in line
    assert [word for word in words if word not in line] == []
    # What is new is the run's own record; rasters only of modalities that were good, each complete.
    new = {path for path in after if after[path] != before.get(path)} - {"out/manifest.json", "out/config.yaml"}
    assert [path for path in before if path not in after] == []
    rasters = {f"out/aligned/embedded/{modality}.tif" for modality in ("eo", "sar", "ir")}
    layers = {f"out/aligned/embedded/{modality}.registration.tif" for modality in ("sar", "ir")}
    assert new <= rasters | layers | {"out/aligned/embedded/quicklooks.npz"}
    for path in (path for path in new if path.endswith(".tif")):
        with rasterio.open(bad.folder / path) as source:
            source.read()


def test_validate_lists_every_problem(forked, light_record, trained_run, tmp_path):
    bad = Bad(tmp_path / "bad", light_record(), trained_run)
    bad.rewritten("eo", change=np.zeros_like)
    bad.rewritten("sar", crs=None)
    arguments, _ = bad.command()
    done = forked("validate", arguments[1])
    assert done.returncode == 1
    first, second, last = done.stderr.splitlines()
    assert "eo.tif" in first
    assert "no valid pixel" in first
    assert "sar.tif" in second
    assert "no CRS" in second
    assert "2 problem(s) in 1 scene(s)" in last
    assert done.stdout == ""
    assert not (bad.folder / "out").exists()


def test_validate_says_when_nothing_is_wrong(equipoise, trained_run):
    done = equipoise("validate", trained_run.config)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 scene(s), nothing wrong found" in done.stdout
