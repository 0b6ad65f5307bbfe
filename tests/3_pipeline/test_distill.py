"""Stage distill: one sensor teaches the others on tiles without labels, and the fusion network begins with them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from pydantic import ValidationError
from typer.testing import CliRunner

from equipoise.datasets.patches import PatchIndex
from equipoise.datasets.statistics import BandStatistics
from equipoise.datasets.synthetic import write_scene
from equipoise.models.baselines import build_network
from equipoise.models.checkpoint import load_model
from equipoise.pipeline.cli import app
from equipoise.pipeline.config import Config
from equipoise.pipeline.distill import beside_labels
from equipoise.pipeline.errors import PipelineError, RunFolderError
from equipoise.pipeline.explain import explain
from equipoise.pipeline.run_folder import RunFolder
from equipoise.pipeline.stages import Run
from equipoise.pipeline.teacher import door
from equipoise.pipeline.train import fit_network
from equipoise.pipeline.unlabelled import apart

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")

SENSORS = ("eo", "sar")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two places; the second has no labels and lies elsewhere."""
    root = tmp_path_factory.mktemp("places")
    first = write_scene(root / "first", size=192)
    second = write_scene(root / "second", size=192, seed=5)
    for path in second.paths.values():
        with rasterio.open(path, "r+") as raster:
            raster.transform = Affine.translation(9000, 0) * raster.transform
    return first, second


def _files(scene):
    return {name: str(scene.paths[name]) for name in SENSORS}


def _config(scenes, **changes):
    first, second = scenes
    return Config.model_validate({
        "name": "distilled",
        "modalities": {
            "eo": {"unit": "reflectance", "scale": 1e-4, "bands": ["blue", "green", "red", "nir"]},
            "sar": {"unit": "linear_power", "bands": ["VV", "VH"]},
        },
        "classes": [
            {"value": value, "name": name, "color": color}
            for value, (name, color) in enumerate(zip(first.class_names, first.class_colors, strict=True))
        ],
        "scenes": [
            {"name": "labelled", "files": _files(first), "labels": str(first.labels)},
            {"name": "bare", "files": _files(second), "split": "train"},
        ],
        "coregister": {"method": "none"},
        "tile": {"patch_size": 32, "block_size": 48, "buffer": 0, "unlabelled": True},
        "train": {"depth": 2, "decoder_channels": [16, 8], "epochs": 2, "device": "cpu"},
        "evaluate": {"single_modality": False, "robustness": False, "rolls": 1, "bootstrap": 100},
        "distill": {"teacher": "eo"},
        **changes,
    })  # fmt: skip


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    """A run up to the trained fusion network."""
    bound = Run(config=_config(scenes), folder=RunFolder.open(tmp_path_factory.mktemp("run"), seed=0))
    for stage in ("coregister", "tile", "distill", "train"):
        bound.do(stage)
    return bound


def test_patches_without_labels_are_kept_apart(run):
    index = PatchIndex.load(run.folder.root / "patches.parquet")
    bare = index.table[index.table["scene"] == "bare"]
    assert set(bare["split"]) == {"unlabelled"}
    assert len(bare) == 36
    assert run.folder.stages["tile"].figures["patches"]["unlabelled"] == len(index.of_split("unlabelled"))
    assert index.of_split("unlabelled").class_counts(range(6)).sum() == 0
    assert "bare" not in set(index.of_split("train").table["scene"])


def test_another_date_of_a_place_shows_nothing_of_what_is_tested(scenes, tmp_path):
    first, _ = scenes
    bound = Run(config=_config((first, first)), folder=RunFolder.open(tmp_path, seed=0))
    bound.do("coregister")
    bound.do("tile")
    table = PatchIndex.load(tmp_path / "patches.parquet").table
    bare = table[table["scene"] == "bare"]
    measured = table[table["split"].isin(["validation", "test"])]
    assert 0 < len(bare) < 36
    for row in bare.itertuples():
        for other in measured.itertuples():
            assert abs(row.row - other.row) >= 32 or abs(row.col - other.col) >= 32


def _row(split, row=0):
    return {"split": split, "row": row, "col": 0, "height": 8, "width": 8}


@pytest.mark.parametrize("crs", ["EPSG:32632", None])
def test_the_group_tells_places_apart_where_coordinates_do_not(crs):
    """Chips without a CRS: another date of a flood that is tested is of its group."""
    grid = GeoBox((64, 8), Affine.scale(10, -10), crs)
    away = GeoBox((64, 8), Affine.translation(9e5, 0) * Affine.scale(10, -10), crs)
    rows = {
        "tested": [_row("test")], "learned": [_row("train", 32), _row("unlabelled", 48)],
        "of the tested": [_row("unlabelled")], "of the learned": [_row("unlabelled")], "alone": [_row("unlabelled")],
    }  # fmt: skip
    groups = dict(zip(rows, ("a", "b", "a", "b", None), strict=True))
    grids = {name: grid if name in ("tested", "learned") else away for name in rows}
    kept = apart(rows, grids, groups=groups, buffer=0)
    assert {name: len(found) for name, found in kept.items()} == {
        "tested": 1, "learned": 2, "of the tested": 0, "of the learned": 1, "alone": 1,
    }  # fmt: skip


def test_without_the_option_the_index_is_as_before(scenes, tmp_path, run):
    plain = _config(scenes, distill=None, tile={"patch_size": 32, "block_size": 48, "buffer": 0})
    bound = Run(config=plain, folder=RunFolder.open(tmp_path, seed=0))
    for stage in ("coregister", "tile"):
        bound.do(stage)
    mine = PatchIndex.load(tmp_path / "patches.parquet").table
    theirs = PatchIndex.load(run.folder.root / "patches.parquet").table
    assert mine.equals(theirs[theirs["split"] != "unlabelled"].reset_index(drop=True))


def test_every_sensor_has_a_model_that_works_alone(run):
    figures = run.folder.stages["distill"].figures
    assert figures["patches"]["unlabelled"] >= 36
    for name in SENSORS:
        network, card = load_model(run.folder.root / "distilled" / name)
        assert network.modalities == (name,)
        assert [item["name"] for item in card.modalities] == [name]
    assert figures["students"]["sar"]["how"] == ["cross_modal_distillation", "joint"]


def test_half_of_what_a_student_sees_at_the_end_is_labelled(run):
    data = run._training_data()
    table = data.index.table.copy()
    table.loc[table.index[table["split"] == "train"][10:], "split"] = "unlabelled"
    few = replace(data, index=PatchIndex(table=table, modalities=data.index.modalities))
    bare = len(few.index.of_split("unlabelled"))
    seen = beside_labels(few).index
    assert len(seen.of_split("train")) == bare + 10 * round(bare / 10) > bare + 50
    for split in ("validation", "test"):
        assert len(seen.of_split(split)) == len(few.index.of_split(split))
    assert len(few.index.of_split("train")) == 10
    # Where most are labelled anyway, each is seen once.
    assert len(beside_labels(data).index.table) == len(data.index.table)


def test_the_teacher_does_not_see_what_the_student_meets(scenes, run, tmp_path, monkeypatch):
    met = []

    def fitted(spec, data, config, **options):
        met.append((options["label"], sorted(config.train.degradations)))
        return fit_network(spec, data, config, **options)

    monkeypatch.setattr("equipoise.pipeline.distill.fit_network", fitted)
    cloud = {"eo": [{"kind": "thick_cloud", "cover": 0.3}], "sar": [{"kind": "speckle", "looks": 4}]}
    harder = _config(scenes, train={**_config(scenes).train.model_dump(), "degradations": cloud, "epochs": 1})
    shutil.copytree(run.folder.root, tmp_path / "run")
    Run(config=harder, folder=RunFolder.open(tmp_path / "run", seed=0)).do("distill")
    assert met == [
        ("distill eo alone", ["eo", "sar"]), ("distill sar taught", ["sar"]), ("distill sar beside labels", ["sar"]),
    ]  # fmt: skip


def test_explain_knows_the_folder_of_models(run):
    item = explain(run.folder.root / "distilled")
    assert (item.kind, item.found) == ("model folders", {"models": list(SENSORS)})


def test_the_fusion_network_began_with_the_students(scenes, tmp_path, run):
    """With a learning rate of nearly nothing it ends where it began."""
    still = _config(scenes, train={**_config(scenes).train.model_dump(), "learning_rate": 1e-12, "weight_decay": 0})
    shutil.copytree(run.folder.root, tmp_path / "run")
    bound = Run(config=still, folder=RunFolder.open(tmp_path / "run", seed=0))
    bound.do("distill")
    bound.do("train")
    network, _ = load_model(tmp_path / "run" / "model")
    for column, name in enumerate(SENSORS):
        single, _ = load_model(tmp_path / "run" / "distilled" / name)
        theirs = single.encoders[0].state_dict()
        for key, value in network.encoders[column].state_dict().items():
            if value.dtype.is_floating_point and "running" not in key:
                torch.testing.assert_close(value, theirs[key], atol=1e-6, rtol=0)


def test_doing_it_again_does_nothing_and_other_options_do_it_anew(scenes, run):
    _, now = run.do("distill")
    assert not now
    other = Run(config=_config(scenes, distill={"teacher": "eo", "temperature": 2.0}), folder=run.folder)
    assert other.fingerprint("distill") != run.fingerprint("distill")
    assert other.fingerprint("train") != run.fingerprint("train")
    assert other.fingerprint("tile") == run.fingerprint("tile")


def test_the_command_takes_a_teacher_that_was_trained_elsewhere(scenes, run, tmp_path):
    config = _config(scenes, distill={"teacher": "eo", "model": str(run.folder.root / "distilled" / "eo"), "epochs": 1})
    shutil.copytree(run.folder.root, tmp_path / "run")
    (tmp_path / "c.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    words = ["train", "--stage", "distill", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "eo taught, validation scores eo" in done.stdout
    assert "patches without labels" in done.stdout
    record = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert record["now"] is False
    assert record["figures"]["students"]["eo"]["how"] == ["given"]


def test_students_are_the_same_whoever_learns_beside_them(tmp_path, scenes):
    """Of three sensors, two may learn, or one; what the others left behind goes."""

    def files(scene):
        return {name: str(scene.paths[name]) for name in (*SENSORS, "ir")}

    plain = _config(scenes).model_dump(mode="json")
    plain["modalities"]["ir"] = {"unit": "kelvin", "bands": ["B10"]}
    plain["train"]["epochs"] = 1
    for item, scene in zip(plain["scenes"], scenes, strict=True):
        item["files"] = files(scene)
    both = Config.model_validate(plain)
    one = Config.model_validate({**plain, "distill": {"teacher": "eo", "students": ["ir"], "finetune": False}})
    two = Config.model_validate({**plain, "distill": {"teacher": "eo", "finetune": False}})
    bound = Run(config=both, folder=RunFolder.open(tmp_path, seed=0))
    for stage in ("coregister", "tile"):
        bound.do(stage)
    found = {}
    for name, config in (("two", two), ("one", one)):
        record, _ = Run(config=config, folder=RunFolder.open(tmp_path, seed=0)).do("distill")
        found[name] = (tmp_path / "distilled" / "ir" / "model.safetensors").read_bytes()
        assert {path.split("/")[1] for path in record.outputs} == set(record.figures["students"])
    assert found["two"] == found["one"]
    assert not (tmp_path / "distilled" / "sar").exists()


def test_what_a_strategy_makes_of_the_networks_makes_the_stage_new(scenes, run):
    """Strategies of the fusion network are not those of the students, but some need another norm."""
    chosen = {"depth": 2, "decoder_channels": [16, 8], "epochs": 2, "device": "cpu"}
    marks = {
        name: Run(config=_config(scenes, train={**chosen, "strategy": name}), folder=run.folder).fingerprint("distill")
        for name in ("subset_sampling", "joint", "response")
    }
    assert marks["subset_sampling"] == marks["joint"] == run.fingerprint("distill")
    assert marks["response"] != marks["joint"]


def test_a_rate_that_is_found_is_the_teachers(scenes, run, tmp_path):
    """Students do not read labels, and so cannot find a rate by them."""
    found = _config(scenes, train={**_config(scenes).train.model_dump(), "learning_rate": "find", "epochs": 1})
    shutil.copytree(run.folder.root, tmp_path / "run")
    bound = Run(config=found, folder=RunFolder.open(tmp_path / "run", seed=0))
    bound.do("distill")
    rates = {load_model(tmp_path / "run" / "distilled" / name)[1].training["learning_rate"] for name in SENSORS}
    assert len(rates) == 1
    assert not list((tmp_path / "run" / "checkpoints" / "distill").glob("sar-*/learning_rate.txt"))


def test_students_begin_with_the_weights_that_are_named_for_them(scenes, run, tmp_path, monkeypatch):
    asked = []

    def build(spec, *, weights=None):
        asked.append((spec.modalities, dict(weights or {})))
        return build_network(spec)

    monkeypatch.setattr("equipoise.pipeline.distill.build_network", build)
    monkeypatch.setattr("equipoise.pipeline.fit.build_network", build)
    named = _config(scenes, train={**_config(scenes).train.model_dump(), "weights": {"sar": "imagenet"}, "epochs": 1})
    shutil.copytree(run.folder.root, tmp_path / "run")
    Run(config=named, folder=RunFolder.open(tmp_path / "run", seed=0)).do("distill")
    assert asked == [(("eo",), {}), (("sar",), {"sar": "imagenet"})]


def test_train_says_how_to_do_what_it_needs(scenes, tmp_path, run):
    shutil.copytree(run.folder.root, tmp_path / "run")
    other = _config(scenes, distill={"teacher": "eo", "temperature": 2.0})
    with pytest.raises(RunFolderError, match="run `equipoise train --stage distill`, or"):
        Run(config=other, folder=RunFolder.open(tmp_path / "run", seed=0)).do("train")


def test_the_door_of_a_teacher_is_that_of_its_own_statistics():
    here = BandStatistics(mean=(1.0, 5.0), std=(2.0, 4.0), count=9)
    there = BandStatistics(mean=(3.0, 5.0), std=(4.0, 1.0), count=9)
    image = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    factor, summand = door(here, there)
    found = torch.from_numpy(here.normalise(image)) * factor[:, None, None] + summand[:, None, None]
    torch.testing.assert_close(found, torch.from_numpy(there.normalise(image)))
    assert door(here, here) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"train": {"depth": 2, "decoder_channels": [16, 8], "norm": "layer"}},
            "network norm batch; wanted norm",
        ),
        ({"tile": {"patch_size": 32, "block_size": 48, "buffer": 0, "normalisation": "scene"}}, "normalisation"),
        ({"rename": "lake"}, "found classes"),
        ({"bands": ["red", "green", "blue", "nir"]}, "found bands"),
    ],
)
def test_a_teacher_of_other_data_or_of_another_network_is_refused(scenes, run, tmp_path, changes, told):
    plain = {**_config(scenes).model_dump(mode="json"), **changes}
    plain["distill"] = {"teacher": "eo", "model": str(run.folder.root / "distilled" / "eo")}
    if (name := plain.pop("rename", None)) is not None:
        plain["classes"][0]["name"] = name
    if (bands := plain.pop("bands", None)) is not None:
        plain["modalities"]["eo"]["bands"] = bands
    bound = Run(config=Config.model_validate(plain), folder=RunFolder.open(tmp_path, seed=0))
    for stage in ("coregister", "tile"):
        bound.do(stage)
    with pytest.raises(PipelineError, match=told):
        bound.do("distill")


def test_a_teacher_of_other_sensors_is_refused(scenes, run, tmp_path):
    config = _config(scenes, distill={"teacher": "eo", "model": str(run.folder.root / "model")})
    shutil.copytree(run.folder.root, tmp_path / "run")
    with pytest.raises(PipelineError, match="found a model of eo, sar; wanted one of eo alone"):
        Run(config=config, folder=RunFolder.open(tmp_path / "run", seed=0)).do("distill")


def test_without_options_the_stage_says_what_to_add(scenes, tmp_path):
    bound = Run(config=_config(scenes, distill=None), folder=RunFolder.open(tmp_path, seed=0))
    assert "distill" not in bound.stages
    with pytest.raises(RunFolderError, match="add `distill"):
        bound.do("distill")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"distill": {"teacher": "oe"}}, "names modality"),
        ({"distill": {"teacher": "eo", "students": ["eo"]}}, "wanted other modalities"),
        ({"train": {"depth": 2, "decoder_channels": [16, 8], "network": "late"}}, "network: late"),
        ({"train": {"depth": 2, "decoder_channels": [16, 8], "fusion": "concat"}}, "fusion: concat"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(scenes, changes, told):
    with pytest.raises(ValidationError, match=told):
        _config(scenes, **changes)


def test_an_unknown_stage_is_one_line(tmp_path):
    done = CliRunner().invoke(app, ["train", "--stage", "dream", str(tmp_path / "c.yaml")])
    assert done.exit_code != 0
    assert "found --stage dream; wanted one of fusion, distill" in str(done.exception)
