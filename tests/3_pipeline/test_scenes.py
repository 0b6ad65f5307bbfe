"""Scenes: patterns are expanded by what is on disk, and what is not there is named."""

import pytest

from equipoise.pipeline.config import parse_config
from equipoise.pipeline.errors import ConfigError
from equipoise.pipeline.scenes import resolve_scenes


@pytest.fixture
def resolve(tmp_path):
    def run(*scenes, files=(), table=None):
        for name in files:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        if table is not None:
            (tmp_path / "labels.csv").write_text(table)
        record = {
            "modalities": {"eo": {"unit": "reflectance", "bands": ["r"]}, "sar": {"unit": "db", "bands": ["VV"]}},
            "classes": [{"value": 0, "name": "a", "color": "#000000"}, {"value": 1, "name": "b", "color": "#ffffff"}],
            "scenes": list(scenes),
        }
        return resolve_scenes(parse_config(record, origin=tmp_path / "config.yaml"))

    return run


PATTERN = {"name": "{id}", "files": {"eo": "eo/{id}_eo.tif", "sar": "sar/S1-{id}.tif"}}
OPTICAL = {"name": "{id}", "files": {"eo": "eo/{id}_eo.tif"}}


def test_a_pattern_gives_one_scene_for_each_id_in_order(resolve, tmp_path):
    found = resolve(PATTERN, files=["eo/b.2_eo.tif", "eo/a-1_eo.tif", "sar/S1-a-1.tif", "sar/S1-b.2.tif", "eo/x.txt"])
    assert [scene.name for scene in found] == ["a-1", "b.2"]
    places = {name: source.path for name, source in found[0].files.items()}
    assert places == {"eo": tmp_path / "eo" / "a-1_eo.tif", "sar": tmp_path / "sar" / "S1-a-1.tif"}
    assert found[0].missing == {}


def test_a_missing_modality_carries_its_reason(resolve):
    files = ["eo/a_eo.tif", "sar/S1-b.tif", "single.tif"]
    first, second, third = resolve(PATTERN, {"name": "c", "files": {"eo": "single.tif"}}, files=files)
    assert (list(first.files), first.missing) == (["eo"], {"sar": "no file for this scene"})
    assert (list(second.files), second.missing) == (["sar"], {"eo": "no file for this scene"})
    assert (list(third.files), third.missing) == (["eo"], {"sar": "not listed for this scene"})


def test_modalities_keep_the_declared_order(resolve):
    (scene,) = resolve({"name": "one", "files": {"sar": "s.tif", "eo": "e.tif"}}, files=["s.tif", "e.tif"])
    assert list(scene.files) == ["eo", "sar"]


def test_labels_are_matched_by_id_and_count_as_inputs(resolve, tmp_path):
    files = ["eo/a_eo.tif", "eo/b_eo.tif", "labels/a.tif"]
    first, second = resolve({**OPTICAL, "labels": "labels/{id}.tif"}, files=files)
    assert first.labels == tmp_path / "labels" / "a.tif"
    assert second.labels is None
    assert set(first.inputs) == {tmp_path / "eo" / "a_eo.tif", tmp_path / "labels" / "a.tif"}


def test_a_label_table_gives_class_and_split(resolve):
    table = "id,label,split\na,1,test\nb,0,\n"
    scenes = {**OPTICAL, "label_table": "labels.csv", "split": "train"}
    found = resolve(scenes, files=["eo/a_eo.tif", "eo/b_eo.tif", "eo/c_eo.tif"], table=table)
    assert [(scene.label, scene.split) for scene in found] == [(1, "test"), (0, "train"), (None, "train")]


@pytest.mark.parametrize("table", ["id,class\na,1\n", "id,label\na,wet\n", "id,label\na,\n", None])
def test_an_unusable_label_table_is_refused(resolve, table):
    with pytest.raises(ConfigError, match=r"labels\.csv: found no usable label table"):
        resolve({**PATTERN, "label_table": "labels.csv"}, files=["eo/a_eo.tif"], table=table)


def _refused(resolve, *scenes, files=()):
    with pytest.raises(ConfigError) as caught:
        resolve(*scenes, files=files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_must_differ(resolve):
    one = {"name": "one", "files": {"eo": "eo.tif"}}
    assert "several scenes named ['one']" in _refused(resolve, one, one, files=["eo.tif"])
    same = {"name": "a", "files": {"eo": "eo.tif"}}
    assert "['a']" in _refused(resolve, OPTICAL, same, files=["eo/a_eo.tif", "eo.tif"])


def test_nothing_found_names_the_patterns(resolve):
    assert "{id}_eo.tif" in _refused(resolve, PATTERN)


@pytest.mark.parametrize("key", ["files", "labels"])
def test_a_pattern_that_matches_nothing_is_a_slip_and_not_a_missing_sensor(resolve, key):
    scenes = PATTERN if key == "files" else {**OPTICAL, "labels": "lables/{id}.tif"}
    message = _refused(resolve, scenes, files=["eo/a_eo.tif", "labels/a.tif"])
    assert ("S1-{id}.tif" if key == "files" else "lables") in message


@pytest.mark.parametrize(
    ("table", "found"), [("id,label\na,7\n", "label 7"), ("id,label,split\na,1,trian\n", "split 'trian'")]
)
def test_an_undeclared_label_or_split_is_refused(resolve, table, found):
    with pytest.raises(ConfigError, match=found):
        resolve({**OPTICAL, "label_table": "labels.csv"}, files=["eo/a_eo.tif"], table=table)


def test_a_table_from_a_spreadsheet_opens(resolve):
    (scene,) = resolve({**OPTICAL, "label_table": "labels.csv"}, files=["eo/a_eo.tif"], table="\ufeffid,label\na,1\n")
    assert scene.label == 1


@pytest.mark.parametrize("key", ["files", "labels", "informative"])
def test_a_missing_file_is_named(resolve, key):
    scene = {"name": "one", "files": {"eo": "eo.tif"}}
    scene[key] = {"eo": "nowhere.tif"} if key == "files" else "nowhere.tif"
    assert "nowhere.tif" in _refused(resolve, scene, files=["eo.tif"])


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a b", "-x", "a\nb"])
def test_unsafe_names_are_refused(resolve, name):
    assert repr(name) in _refused(resolve, {"name": name, "files": {"eo": "eo.tif"}}, files=["eo.tif"])


def test_a_scene_needs_a_file(resolve):
    assert "scene 'one': found no modality" in _refused(resolve, {"name": "one", "files": {}})


def test_an_id_belongs_into_the_name_and_into_file_names(resolve):
    assert "in `name`" in _refused(resolve, {**PATTERN, "name": "one"}, files=["eo/a_eo.tif"])
    folders = {"name": "{id}", "files": {"eo": "{id}/eo.tif"}}
    assert "folder's name" in _refused(resolve, folders, files=["a/eo.tif"])


def test_a_file_without_id_beside_patterns_is_refused_and_not_silently_missing(resolve):
    """One file for all places would otherwise count as missing everywhere."""
    scene = {"name": "{id}", "files": {"eo": "eo/{id}_eo.tif", "sar": "one.tif"}}
    assert "one.tif" in _refused(resolve, scene, files=["eo/a_eo.tif", "one.tif"])


@pytest.mark.parametrize(
    ("group", "expected"),
    [(None, [None, None]), ("flood", ["flood", "flood"]), ("^([a-z]+)-", ["bolivia", "india"]), ("(x)", [None, None])],
)
def test_a_group_is_a_name_or_the_part_of_the_scenes_name_that_an_expression_finds(resolve, group, expected):
    pattern = {**PATTERN, "group": group}
    files = ["eo/bolivia-1_eo.tif", "eo/india-7_eo.tif", "sar/S1-bolivia-1.tif"]
    assert [scene.group for scene in resolve(pattern, files=files)] == expected


def test_half_the_bands_of_a_modality_are_an_error_and_none_is_a_missing_modality(resolve):
    pattern = {
        "name": "{id}",
        "files": {"eo": {"bands": {"red": "eo/{id}_red.tif", "nir": "eo/{id}_nir.tif"}}, "sar": "sar/{id}.tif"},
    }
    whole = ["eo/a_red.tif", "eo/a_nir.tif", "sar/a.tif", "sar/b.tif"]
    found = resolve(pattern, files=whole)
    assert [sorted(scene.files) for scene in found] == [["eo", "sar"], ["sar"]]
    assert sorted(found[0].files["eo"].bands) == ["nir", "red"]
    with pytest.raises(ConfigError, match=r"found no file 'bands.nir' of modality 'eo' for id 'b', but others"):
        resolve(pattern, files=[*whole, "eo/b_red.tif"])
