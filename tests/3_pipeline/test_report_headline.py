"""The report's headline: what is said of maps whose figures are given, above all of what was not measured."""

import pytest

from equipoise.pipeline.report_headline import headline, joined_words, sensor_words
from equipoise.pipeline.verdict import beaten_words, undecided_words

UNITS = {"eo": "reflectance", "sar": "db", "ir": "kelvin", "height": "metre", "odd": "digital_number"}


def _trust(*, sound=1.0, unknown=(), **defects):
    names = {
        "clouded": "rests on clouded data", "missing": "rests on a sensor that is partly missing",
        "grey": "indeterminate",
    }  # fmt: skip
    sensors = {names[key]: {"eo": share} for key, share in defects.items() if key != "grey"}
    shares = {"sound": sound, **{names[key]: share for key, share in defects.items()}}
    return {"shares": shares, "sensors": sensors, "unknown": list(unknown), "doubt": 0.25, "mapped_px": 100}


def _scene(reliance=None, *, pixels=100, trust=None, mapped=1.0, missing=None):
    return {
        "class_pixels": {"dry": pixels}, "mapped_share": mapped, "missing": missing or {},
        **({} if reliance is None else {"reliance": reliance}), **({} if trust is None else {"trust": trust}),
    }  # fmt: skip


def _said(*scenes, **more):
    named = {f"s{number}": scene for number, scene in enumerate(scenes)}
    return " ".join(headline({"scenes": named, **more}, units=UNITS))


def test_what_a_map_rests_on_is_said_first():
    said = _said(_scene({"eo": 0.2, "sar": 0.61, "ir": 0.19}, trust=_trust(sound=0.88, clouded=0.12)))
    assert said == (
        "This map rests 61 % on radar (sar), 20 % on optical data (eo) and 19 % on thermal infrared (ir). 88 % of the "
        "mapped area rests on good data, as far as that was judged. 12 % rests on clouded data (eo)."
    )


def test_scenes_count_by_their_mapped_area():
    said = _said(
        _scene({"eo": 1.0, "sar": 0.0}, pixels=300, trust=_trust(sound=1.0)),
        _scene({"eo": 0.0, "sar": 1.0}, pixels=100, trust=_trust(sound=0.6, missing=0.4)),
    )
    assert said.startswith("The maps of 2 scenes rest 75 % on optical data (eo) and 25 % on radar (sar). 90 % of the")
    assert "10 % rests on a sensor that is partly missing (eo)." in said


@pytest.mark.parametrize("reliance", [None, {}, {"eo": None, "sar": None}])
def test_a_reliance_that_is_not_known_is_not_told_as_nothing(reliance):
    said = _said(_scene(reliance))
    assert said == (
        "Which sensor this map rests on was not measured, or cannot be told. Whether what it rests on was good was not "
        "judged."
    )
    assert "0 %" not in said


def test_what_was_not_judged_is_named():
    said = _said(_scene({"eo": 1.0, "sar": 0.0}, trust=_trust(unknown=["clouds in eo (no cloud layer)"], grey=0.05)))
    assert said.endswith(
        "For 5 % it cannot be told which sensor the prediction rests on. Not judged: clouds in eo (no cloud layer)."
    )
    nothing = {"shares": {}, "sensors": {}, "unknown": []}
    assert "was not judged" in _said(_scene({"eo": 1.0, "sar": 0.0}, trust=nothing))


def test_a_part_and_missing_sensors_are_told():
    said = _said(_scene({"eo": 0.0, "sar": 1.0}, mapped=0.4, missing={"eo": "no file"}))
    assert "60 % of it is not mapped: nothing was observed there." in said
    assert said.endswith("Missing: eo; the network answers from what is there.")
    both = _said(_scene({"eo": 0.5, "sar": 0.5}, missing={"eo": "no file"}), _scene({"eo": 0.5, "sar": 0.5}))
    assert both.endswith("Missing in 1 scene: eo; the network answers from what is there.")


def test_what_was_asked_for_is_told():
    figures = {"scenes": {"s": _scene({"eo": 0.5, "sar": 0.5})}}
    assert "Only a part was asked for: the box 1, 2." in headline(figures, units=UNITS, part="the box 1, 2")


def test_one_sensor_needs_no_share():
    assert _said(_scene({"odd": 1.0})).startswith("This map rests on odd alone: the model knows no other sensor.")


def test_little_is_not_told_as_nothing():
    assert "less than 1 % on radar (sar)" in _said(_scene({"eo": 0.996, "sar": 0.004}))


def test_runs_without_maps_say_so():
    assert headline(None, units=UNITS) == ["No map has been made: stage predict was not done."]
    assert headline({"scenes": {}}, units=UNITS)[0].startswith("Nothing was mapped:")
    assert _said(_scene({"eo": 0.5, "sar": 0.5}, pixels=0)).startswith("Nothing was mapped:")


def test_chips_have_classes():
    said = headline({"chips": 12, "reliance": {"eo": 0.7, "sar": 0.3}}, units=UNITS)
    assert said == ["The classes of 12 chips rest 70 % on optical data (eo) and 30 % on radar (sar)."]
    assert "cannot be told" in headline({"chips": 1, "reliance": {"eo": None, "sar": None}}, units=UNITS)[0]


def test_words_are_joined_as_in_a_sentence():
    assert joined_words(["a"]) == "a"
    assert joined_words(["a", "b"]) == "a and b"
    assert joined_words(["a", "b", "c"]) == "a, b and c"
    assert [sensor_words(name, UNITS[name]) for name in ("sar", "odd")] == ["radar (sar)", "odd"]
    assert sensor_words("heights", "metre") == "heights"


def test_what_is_told_of_some_scenes_says_of_how_many():
    shares = {"eo": 0.6, "sar": 0.4}
    said = _said(_scene(shares, pixels=100, trust=_trust()), _scene({"eo": None, "sar": None}, pixels=900))
    assert said.startswith(
        "The maps of 2 scenes rest 60 % on optical data (eo) and 40 % on radar (sar) (told of 1 of 2 scenes). 100 % of "
        "the mapped area rests on good data, as far as that was judged (told of 1 of 2 scenes)."
    )
    one = _said(_scene(shares), _scene(shares, pixels=0))
    assert one.endswith("In 1 scene nothing was mapped: no sensor saw anything there.")


def test_a_use_that_is_not_above_the_noise_is_said_beside_what_a_map_rests_on():
    def used(indeterminate):
        return {"utilization": {"brier": {"indeterminate": indeterminate, "samples": 10}}}

    assert "on 10 test patches no sensor's use is above the noise" in undecided_words(used(True))
    assert undecided_words(used(False)) is None


def _evaluated(fusion, **alone):
    return {"fusion": {"mean_iou": fusion}, "single": {name: {"mean_iou": value} for name, value in alone.items()}}


def test_one_sensor_that_does_better_than_all_is_named():
    said = beaten_words(_evaluated(0.423, eo=0.316, sar=0.702))
    assert "network of sar alone does better: mean IoU 0.702" in said
    assert "the fusion network 0.423" in said
    assert beaten_words(_evaluated(0.66, eo=0.316, sar=0.702)) is None, "a little is within chance"
    assert beaten_words(_evaluated(None, eo=0.316)) is None
    assert beaten_words(_evaluated(0.4, eo=None)) is None
    assert beaten_words(_evaluated(0.4)) is None
