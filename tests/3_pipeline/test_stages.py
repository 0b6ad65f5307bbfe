"""Stages: each waits for the one before, is done once, and is done again when what it depends on changes."""

import json
import shutil

import pytest
import yaml

from equipoise.datasets.errors import DatasetError
from equipoise.models.checkpoint import model_digest
from equipoise.pipeline.config import load_config
from equipoise.pipeline.errors import ConfigError, PipelineError, RunFolderError
from equipoise.pipeline.run_folder import RunFolder
from equipoise.pipeline.stages import ALL_STAGES, Run
from equipoise.pipeline.validate import Validation, validate_inputs

DONE = ("coregister", "tile", "train", "evaluate", "predict")


@pytest.fixture
def bind(trained_run, light_record, tmp_path):
    """Binds the trained run, or a copy of it, to its configuration with some options changed."""

    def make(*, copy=False, record=None, **changes):
        root = trained_run.root
        if copy:
            root = tmp_path / "copy"
            shutil.copytree(trained_run.root, root)
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump(light_record(**changes) if record is None else record))
        return Run(config=load_config(path), folder=RunFolder.open(root))

    return make


def _unchanged(run):
    return [stage for stage in DONE if run.folder.finished(stage, run.fingerprint(stage)) is not None]


def test_nothing_is_done_twice(bind):
    run = bind()
    for stage in DONE:
        record, now = run.do(stage)
        assert not now
        assert record.finished


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"name": "another"}, 3),
        ({"report": {"title": "another"}}, 5),
        ({"predict": {"reliance": "none"}}, 4),
        ({"predict": {"precision": "bf16"}}, 4),
        ({"predict": {"readers": 5}}, 5),
        ({"evaluate": {"single_modality": True}}, 3),
        ({"evaluate": {"rolls": 2}}, 2),
        ({"train": {"epochs": 4}}, 2),
        ({"train": {"workers": 1}}, 5),
        ({"seed": 1}, 1),
        ({"tile": {"min_valid": 0.6}}, 1),
        ({"coregister": {"max_shift_m": 100}}, 0),
    ],
)
def test_a_changed_option_touches_its_stage_and_what_follows(bind, changes, kept):
    run = bind(**changes)
    expected = set(DONE[:kept])
    if changes.get("evaluate") == {"single_modality": True}:
        expected.add("predict")  # maps do not depend on the evaluation
    assert set(_unchanged(run)) == expected


def test_the_area_of_the_maps_is_known_by_what_its_file_holds(bind, tmp_path):
    area, marks = tmp_path / "area.geojson", []
    for text in ("here", "there"):
        area.write_text(text)
        marks.append(bind(predict={"aoi": str(area)}).fingerprint("predict"))
    assert marks[0] != marks[1]


def test_changed_inputs_touch_everything(bind, light_record, embedded_scene, tmp_path):
    record = light_record()
    copy = tmp_path / "eo.tif"
    content = embedded_scene.paths["eo"].read_bytes()
    copy.write_bytes(content)
    record["scenes"][0]["files"]["eo"] = str(copy)
    before = bind(record=record).fingerprint("coregister")
    copy.write_bytes(content)  # another time, the same bytes
    assert bind(record=record).fingerprint("coregister") == before
    copy.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert bind(record=record).fingerprint("coregister") != before


@pytest.mark.parametrize(
    ("stage", "name"), [("coregister", "aligned/embedded/sar.tif"), ("tile", "patches.parquet"),
                        ("tile", "patches/sar.npy"),
                        ("train", "model/model.safetensors"), ("evaluate", "metrics.json"),
                        ("predict", "predictions/embedded.classes.tif")],
)  # fmt: skip
def test_a_lost_output_touches_its_stage(bind, stage, name):
    run = bind(copy=True)
    (run.folder.root / name).unlink()
    assert set(_unchanged(run)) == set(DONE) - {stage}


def test_a_stage_waits_for_what_it_needs(bind, tmp_path):
    run = bind()
    fresh = Run(config=run.config, folder=RunFolder.open(tmp_path / "fresh"))
    for stage, needed in (("tile", "coregister"), ("train", "tile"), ("evaluate", "train"), ("predict", "train"),
                          ("report", "coregister")):  # fmt: skip
        with pytest.raises(RunFolderError, match=rf"no result of stage '{needed}'.*`equipoise {needed}`"):
            fresh.do(stage)
    assert fresh.folder.stages == {}


def test_force_removes_what_the_stage_left_and_gives_the_same_maps(bind):
    run = bind(copy=True)
    # The item of a scene without a time bears that of processing.
    maps = {path.name: path.read_bytes() for path in (run.folder.root / "predictions").glob("[!.]*[!n]")}
    (run.folder.root / "predictions" / "stray.tif").touch()
    _, now = run.do("predict", force=True)
    assert now
    assert {path.name: path.read_bytes() for path in (run.folder.root / "predictions").glob("[!.]*[!n]")} == maps


def test_training_reads_the_patch_store_alone_and_gives_what_the_rasters_give(bind):
    weights = []
    for store in ("npy", "none"):
        run = bind(copy=True, train={"epochs": 1}, tile={"store": store})
        run.do("tile")
        assert (run.folder.root / "patches").is_dir() == (store == "npy")
        if store == "npy":
            for path in (run.folder.root / "aligned/embedded").glob("*.tif"):
                path.write_bytes(bytes(path.stat().st_size))
        run.do("train")
        weights.append((run.model_folder / "model.safetensors").read_bytes())
        shutil.rmtree(run.folder.root)
    assert weights[0] == weights[1]


def test_a_damaged_patch_store_is_refused_and_made_anew_by_force(bind):
    run = bind(copy=True, train={"epochs": 1})
    path = run.folder.root / "patches/eo.npy"
    whole = path.read_bytes()
    path.write_bytes(b"no array" + whole[8:])
    with pytest.raises(DatasetError, match=r"found no readable patch store .* `equipoise tile --force`"):
        run.do("train")
    # What an interrupted run of the same patches left is old, too.
    shutil.copytree(path.parent, path.parents[1] / ".patches.partial")
    mark = {"fingerprint": json.loads((path.parent / "store.json").read_text())["fingerprint"], "done": 10**6}
    (path.parents[1] / ".patches.partial/progress.json").write_text(json.dumps(mark))
    run.do("tile", force=True)
    assert path.read_bytes() == whole
    assert run.do("train")[1]


def test_two_commands_do_not_work_in_one_folder(bind):
    run = bind(copy=True)
    with run.folder.locked(), pytest.raises(RunFolderError, match=r"another Equipoise command at work.*wait for it"):
        RunFolder.open(run.folder.root).locked().__enter__()
    with run.folder.locked(), pytest.raises(RunFolderError, match="another Equipoise command"):
        Run(config=run.config, folder=RunFolder.open(run.folder.root)).do("report")
    assert not run.do("tile")[1]


def test_a_model_from_elsewhere_needs_no_training(bind, trained_run, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(trained_run.root / "model", model)
    run = bind(copy=True, predict={"model": str(model), "reliance": "none"})
    assert run.stages == ("coregister", "predict", "report")
    with pytest.raises(RunFolderError, match=r"predict\.model"):
        run.do("train")
    assert not run.do("coregister")[1]
    record, now = run.do("predict")
    assert now
    assert set(record.outputs) == {
        f"predictions/embedded.{name}"
        for name in ("classes.tif", "classes.tif.aux.xml", "classes.qml", "confidence.tif", "confidence.qml", "json")
    }


def test_unknown_scenes_to_predict_are_named(bind):
    with pytest.raises(ConfigError, match=r"unknown scenes \['elsewhere'\].*embedded"):
        bind(copy=True, predict={"scenes": ["elsewhere"]}).do("predict")


def test_splits_that_leave_nothing_are_refused(bind):
    run = bind(copy=True, tile={"patch_size": 300, "block_size": 300})
    with pytest.raises((PipelineError, ValueError), match="found") as caught:
        run.do("tile")
    assert "\n" not in str(caught.value)


def test_unlabelled_scenes_cannot_be_trained_on(bind, light_record):
    record = light_record()
    record["scenes"][0]["labels"] = None
    run = bind(copy=True, record=record)
    run.do("coregister")
    with pytest.raises(PipelineError, match="no labelled scene"):
        run.do("tile")


def test_every_stage_leaves_what_the_architecture_names(trained_run):
    root = trained_run.root
    for name in ("manifest.json", "aligned/embedded/eo.tif", "patches.parquet", "checkpoints/fusion/last.ckpt",
                 "metrics.json", "model/model.safetensors", "model/model.json", "model/README.md",
                 "predictions/embedded.classes.tif", "predictions/embedded.confidence.tif",
                 "predictions/embedded.reliance.tif", "predictions/embedded.trust.tif"):  # fmt: skip
        assert (root / name).is_file(), name
    stages = json.loads((root / "manifest.json").read_text())["stages"]
    assert tuple(stages) == DONE
    assert set(DONE) < set(ALL_STAGES)
    assert stages["train"]["figures"]["model"] == model_digest(root / "model")


def test_the_evaluation_measures_every_subset(trained_run):
    figures = json.loads((trained_run.root / "metrics.json").read_text())
    assert set(figures["subsets"]) == {"eo", "sar", "ir", "eo+sar", "eo+ir", "sar+ir", "eo+sar+ir"}
    assert figures["subsets"]["eo+sar+ir"] == figures["fusion"]
    assert len({item["count"] for item in figures["subsets"].values()}) == 1
    assert figures["majority"]["count"] == figures["fusion"]["count"]
    measured = figures["utilization"]
    assert set(measured) == {
        "brier", "cross_entropy", "information", "classes", "hack_alarm", "unused", "modality_gap", "missing_probe",
    }  # fmt: skip
    gap, probe = measured["modality_gap"], measured["missing_probe"]
    assert [tuple(pair) for pair in gap["pairs"]] == [("eo", "sar"), ("eo", "ir"), ("sar", "ir")]
    assert all(0 < distance < 2 for row in gap["centroid"] for distance in row)
    assert all(accuracy is None or 0 <= accuracy <= 1 for accuracy in probe["accuracy"])
    assert sum(measured["information"]["information"]) == pytest.approx(measured["information"]["value"][-1], abs=1e-6)
    assert figures["targets"] == []
    assert set(figures["subset_summary"]) == {"mean_iou", "accuracy"}
    assert sum(item["count"] for item in figures["calibration"]["bins"]) == figures["fusion"]["count"]
    # Three epochs are little, yet enough to beat one answer for all.
    assert figures["fusion"]["mean_iou"] > 2 * figures["majority"]["mean_iou"]
    assert figures["fusion"]["accuracy"] > figures["majority"]["accuracy"]


def test_good_inputs_have_no_problem(bind):
    assert validate_inputs(bind().config) == Validation(scenes=1)
