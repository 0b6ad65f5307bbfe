"""The questions of `equipoise init` in a real terminal: wrong and empty answers, Ctrl-C, and the end of the input."""

import numpy as np
import pytest
import rasterio
from terminal import CTRL_C, END, terminal

from equipoise.datasets.chips import write_chips
from equipoise.pipeline.config import load_config
from equipoise.pipeline.templates import template_config
from equipoise.pipeline.validate import Validation, validate_inputs


def _written(folder):
    return sorted(path.name for path in folder.glob("*.yaml"))


def test_right_answers_become_a_configuration_that_validates(own_files):
    with terminal("init", cwd=own_files) as user:
        user.answer("Optical file", "eo.tif")
        user.answer("Radar file", "'sar.tif'")  # as files that are dragged into a terminal
        user.answer("Thermal file", "")
        user.answer("Labels", "labels.tif")
        assert "'eo' tells no unit: values" in user.answer("Unit of eo [reflectance]", "")
        user.answer("Scale of eo, from values to reflectance [", "")
        code, said = user.end()
    assert (code, _written(own_files)) == (0, ["config.yaml"])
    assert "equipoise run config.yaml" in said
    config = load_config(own_files / "config.yaml")
    assert list(config.modalities) == ["eo", "sar"]
    assert config.modalities["eo"].unit == "reflectance"
    assert validate_inputs(config) == Validation(scenes=1)


def test_wrong_answers_are_said_at_once_and_asked_for_again(own_files):
    with terminal("init", cwd=own_files) as user:
        user.answer("Optical file", "oe.tif")
        assert "oe.tif: found no file" in user.answer("Optical file", "labels.txt")
        assert "labels.txt: found no file" in user.answer("Optical file", "eo.tif")
        user.answer("Radar file", "*_*.tif")
        assert "once" in user.answer("Radar file", "s*r.tif")
        assert "wanted it in all, or in none" in user.answer("Radar file", "")
        user.answer("Thermal file", "ir.tif")
        user.answer("Labels", "lables.tif")
        assert "did you mean 'labels.tif'" in user.answer("Labels", "eo.tif")
        assert "name other labels" in user.answer("Labels", "labels.tif")
        user.answer("Unit of eo", "reflectence")
        assert "did you mean 'reflectance'?" in user.answer("Unit of eo", "reflectance")
        user.answer("Scale of eo", "0.0001")
        user.answer("Unit of ir", "kelvin")
        user.answer("Scale of ir", "")
        code, _ = user.end()
    assert code == 0
    units = {key: str(item.unit) for key, item in load_config(own_files / "config.yaml").modalities.items()}
    assert units == {"eo": "reflectance", "ir": "kelvin"}


def test_a_scale_and_names_are_asked_for_where_nothing_tells_them(tmp_path):
    rng = np.random.default_rng(0)
    for name, values in (("a", rng.integers(300, 4000, (64, 64))), ("c", rng.integers(1, 3, (64, 64)))):
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", width=64, height=64, count=1, dtype="uint16",
                           crs="EPSG:32632", transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as writer:  # fmt: skip
            writer.write(values.astype("uint16"), 1)
    with terminal("init", cwd=tmp_path) as user:
        user.answer("Optical file", "a.tif")
        user.answer("Radar file", "")
        user.answer("Thermal file", "")
        user.answer("Labels", "c.tif")
        user.answer("Unit of eo [reflectance]", "")
        user.answer("Scale of eo, from values to reflectance [0.0001]", "small")
        assert "found scale small; wanted a number" in user.answer("Scale of eo", "")
        user.answer("Names of classes 1, 2", "dry,wet,wetter")
        assert "wanted at most 2" in user.answer("Names of classes 1, 2", "dry,wet")
        assert user.end()[0] == 0
    config = load_config(tmp_path / "config.yaml")
    assert (config.modalities["eo"].scale, [item.name for item in config.classes]) == (0.0001, ["dry", "wet"])


def test_no_file_at_all_becomes_a_template(tmp_path):
    with terminal("init", "--task", "classification", cwd=tmp_path) as user:
        for question in ("Optical file", "Radar file", "Thermal file"):
            user.answer(question, "")
        code, said = user.end()
    assert code == 0
    assert "the template chips" in said
    assert load_config(tmp_path / "config.yaml").classes == template_config("chips").classes


def test_no_labels_lead_to_a_model_and_back(own_files, trained_run):
    with terminal("init", "--unit", "eo=reflectance", "--eo", "eo.tif", cwd=own_files) as user:
        user.answer("Labels", "")
        user.answer("Model folder", "nowhere")
        user.answer("Model folder", trained_run.root)
        assert f"--model {trained_run.root / 'model'}" in user.answer("Model folder", "").replace("\r\n", "")
        user.answer("Labels", "")
        user.answer("Model folder", trained_run.root / "model")
        code, said = user.end()
    assert code == 0, said
    assert load_config(own_files / "config.yaml").predict.model == trained_run.root / "model"


def test_a_table_of_chips_wants_patterns(tmp_path):
    write_chips(tmp_path / "chips", count=6, size=16)
    with terminal("init", "--eo", "chips/eo/chip_0000.tif", cwd=tmp_path) as user:
        user.answer("Labels", "chips/labels.csv")
        assert "wanted {id} or *" in user.answer("Labels", "").replace("\r\n", "")
        user.wait_at("Model folder")
        user.type(CTRL_C)
        assert user.end()[0] == 130


@pytest.mark.parametrize(("key", "code", "words"), [(CTRL_C, 130, "interrupted"), (END, 1, "the end of the input")])
@pytest.mark.parametrize("answered", [0, 1])
def test_who_stops_at_a_question_finds_nothing_written(own_files, key, code, words, answered):
    with terminal("init", cwd=own_files) as user:
        for _ in range(answered):
            user.answer("Optical file", "eo.tif")
        user.wait_at("Radar file" if answered else "Optical file")
        user.type(key)
        found, said = user.end()
    told = [line for line in said.splitlines() if line.strip("^C ")]
    assert (found, len(told), _written(own_files)) == (code, 1, [])
    assert words in told[0]
    assert "nothing was written" in told[0]


@pytest.mark.parametrize("flag", ["--no-input", "--json"])
def test_nothing_is_asked_where_nobody_wants_it(tmp_path, flag):
    with terminal("init", flag, cwd=tmp_path) as user:
        code, said = user.end()
    assert (code, _written(tmp_path)) == (0, ["config.yaml"])
    assert "file (empty" not in said


def test_a_file_that_exists_is_said_before_anything_is_asked(tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    with terminal("init", cwd=tmp_path) as user:
        code, said = user.end()
    assert code == 1
    assert "--force" in said
    assert "Optical" not in said
