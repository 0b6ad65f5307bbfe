"""Trust: tiles are flagged where, and only where, the prediction rests on input that was not good."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from strategies import registration_layer

from equipoise.datasets.quality import Quality
from equipoise.datasets.raster import cog_writer
from equipoise.datasets.stack import StackWindow
from equipoise.datasets.statistics import BandStatistics
from equipoise.pipeline import trust_maps as module
from equipoise.pipeline.predict import predict_scene
from equipoise.pipeline.predict_scenes import predict_scenes
from equipoise.pipeline.stage_options import PredictOptions
from equipoise.pipeline.trust import (
    DEFECTS,
    FLAG_NAMES,
    Flag,
    TileCounts,
    count_tiles,
    defects,
    judge,
    quality,
    trust_words,
    value_range,
)
from equipoise.pipeline.trust_maps import write_trust

TILE = 8
OPTIONS = PredictOptions(tile=48, overlap=16, reliance_tile=TILE, device="cpu")


def _counts(observed, *, clouded=0, missing=0, out_of_range=0):
    """One tile, one sensor."""
    layers = {"clouded": clouded, "missing": missing, "out_of_range": out_of_range}
    return TileCounts(
        observed=np.full((1, 1), observed, np.int32),
        **{name: np.full((1, 1, 1), value, np.int32) for name, value in layers.items()},
    )


@pytest.mark.parametrize(
    ("counts", "confidence", "wanted", "good"),
    [
        (_counts(64), 1.0, (0, 0, 0, 0), 1.0),
        (_counts(64), None, (0, 0, 0, 0), 1.0),
        (_counts(64, clouded=16, missing=16, out_of_range=16), 0.6, (0.25, 0.25, 0, 0.25), 0.25),
        (_counts(64, missing=32), 0.3, (0, 0.5, 0.5, 0), 0.25),
        (_counts(64), 0.0, (0, 0, 1, 0), 0.0),
        (_counts(0), 1.0, (0, 0, 0, 0), 1.0),
    ],
)
def test_quality_is_the_share_of_good_pixels_times_the_trust_in_the_position(counts, confidence, wanted, good):
    found = defects(counts, confidence=[confidence])
    np.testing.assert_allclose(found[:, 0, 0, 0], wanted, atol=1e-6)
    np.testing.assert_allclose(quality(found)[0, 0, 0], good, atol=1e-6)


SURE = st.none() | st.floats(0, 1, width=32)


@given(seed=st.integers(0, 10_000), sure=st.lists(SURE, min_size=1, max_size=4), data=st.data())
def test_defects_follow_their_sensor_and_a_constant_layer_is_a_number(seed, sure, data):
    rng, members = np.random.default_rng(seed), len(sure)
    layers = rng.integers(0, 9, (3, members, 2, 5)).astype(np.int32)
    names = ("clouded", "missing", "out_of_range")
    observed = rng.integers(0, 65, (2, 5)).astype(np.int32)
    counts = TileCounts(observed=observed, **dict(zip(names, layers, strict=True)))
    found = defects(counts, confidence=sure)
    constant = [None if known is None else np.full((2, 5), known, np.float32) for known in sure]
    np.testing.assert_array_equal(defects(counts, confidence=constant), found)
    places = [rng.random((2, 5), np.float32) if rng.random() < 0.5 else known for known in sure]
    order = data.draw(st.permutations(range(members)))
    turned = TileCounts(observed=observed, **dict(zip(names, layers[:, order], strict=True)))
    np.testing.assert_array_equal(
        defects(turned, confidence=[places[member] for member in order]),
        defects(counts, confidence=places)[:, order],
    )


def test_the_position_is_doubted_tile_by_tile():
    places = np.array([[0.0, 0.3, 0.6, 1.0]], np.float32)
    none = np.zeros((1, 1, 4), np.int32)
    counts = TileCounts(observed=np.full((1, 4), 64, np.int32), clouded=none, missing=none, out_of_range=none)
    found = defects(counts, confidence=[places])
    np.testing.assert_allclose(found[DEFECTS.index(Flag.MISPLACED), 0], [[1, 0.5, 0, 0]], atol=1e-6)


@given(seed=st.integers(0, 10_000), members=st.integers(1, 4), doubt=st.floats(0.05, 0.95))
def test_a_tile_is_flagged_exactly_where_enough_rests_on_bad_input(seed, members, doubt):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(members), (3, 4)).transpose(2, 0, 1).astype(np.float32)
    shares[:, rng.random((3, 4)) < 0.2] = np.nan
    observed = rng.integers(0, 3, (3, 4)).astype(np.int32)
    found = rng.dirichlet(np.ones(len(DEFECTS) + 1), (members, 3, 4))[..., :-1].transpose(3, 0, 1, 2)
    found = (found * (rng.random(found.shape) < 0.5)).astype(np.float32)
    flags, sensors = judge(shares, found, observed, doubt=doubt)
    bad = (shares * (1 - quality(found))).sum(axis=0)
    for at in np.ndindex(3, 4):
        if observed[at] == 0:
            assert (flags[at], sensors[at]) == (Flag.UNOBSERVED, -1)
        elif np.isnan(shares[0, *at]):
            assert (flags[at], sensors[at]) == (Flag.INDETERMINATE, -1)
        elif bad[at] < doubt:
            assert (flags[at], sensors[at]) == (Flag.SOUND, -1)
        else:
            blame = shares[:, *at] * found[:, :, *at]
            assert flags[at] == DEFECTS[blame.sum(axis=1).argmax()]
            assert sensors[at] == blame[DEFECTS.index(flags[at])].argmax()


@given(seed=st.integers(0, 1000))
def test_a_sensor_that_nothing_rests_on_cannot_spoil_a_tile(seed):
    rng = np.random.default_rng(seed)
    shares = np.array([1, 0], np.float32)[:, None, None]
    found = np.zeros((4, 2, 1, 1), np.float32)
    found[:, 1] = rng.random((4, 1, 1)) / 4
    flags, _ = judge(shares, found, np.ones((1, 1), np.int32), doubt=0.05)
    assert flags[0, 0] == Flag.SOUND


def test_the_plausible_range_comes_from_percentiles_where_they_are_known():
    statistics = BandStatistics(
        mean=(0.1,), std=(0.02,), count=9, percentiles=((0.05, 0.1, 0.3),), resolution=(0.001,)
    )  # fmt: skip
    low, high = value_range(statistics)
    np.testing.assert_allclose((low[0], high[0]), (-0.001, 0.501), atol=1e-6)
    low, high = value_range(replace(statistics, percentiles=None, resolution=None))
    np.testing.assert_allclose((low[0], high[0]), (-0.02, 0.22), atol=1e-6)


@pytest.fixture
def scene(write_stack, tmp_path):
    """64 x 96 px: radar alone tells the left half, optics alone the right; both have faults in rows of their own."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (64, 96))
    evidence = np.stack([3.0 * (truth == 0), 3.0 * (truth == 1)])
    left = np.arange(96) < 48
    images = {"eo": np.where(left, 0, evidence), "sar": np.where(left, evidence, 0)}
    images["sar"][:, 16:32] += 20  # the same on both classes: the answer stays, the values are impossible
    images["eo"][:, 32:40, 48::2] = np.nan
    for image in images.values():
        image[:, 56:, :16] = np.nan
    stack = write_stack(tmp_path, images)
    clouds = np.full((64, 96), Quality.CLEAR, np.uint8)
    clouds[:16] = Quality.CLOUD
    with cog_writer(
        tmp_path / "eo.quality.tif", stack.geobox, count=1, dtype="uint8", nodata=255, overview_resampling="mode"
    ) as writer:
        writer.write(clouds, 1)
    return replace(stack, clouds={"eo": tmp_path / "eo.quality.tif"}, confidence={"eo": 1.0, "sar": 0.9})


@pytest.fixture
def predictor(make_predictor, pixel_network):
    return make_predictor(pixel_network(("eo", "sar")), bands={"eo": 2, "sar": 2}, classes=2)


def _trust(stack, predictor, folder, *, resume="one", doubt=0.25):
    folder.mkdir(exist_ok=True)
    maps = predict_scene(stack, predictor, options=OPTIONS, folder=folder, resume=resume)
    files, summary = write_trust(
        stack, predictor.normaliser, classes=maps.classes, reliance=maps.reliance, tile=TILE, doubt=doubt,
        model=predictor.digest, folder=folder, resume=resume,
    )  # fmt: skip
    with rasterio.open(files.flags) as source:
        return files, summary, source.read(1)


def test_planted_faults_are_flagged_where_the_prediction_rests_on_them(scene, predictor, tmp_path):
    _, summary, flags = _trust(scene, predictor, tmp_path / "maps")
    wanted = np.full((8, 12), Flag.SOUND, np.uint8)
    wanted[:2, 6:] = Flag.CLOUDED  # not on the left, where radar tells
    wanted[2:4, :6] = Flag.OUT_OF_RANGE
    wanted[4, 6:] = Flag.MISSING
    wanted[7, :2] = Flag.UNOBSERVED
    np.testing.assert_array_equal(flags, wanted)
    shares = summary["shares"]
    assert summary["mapped_px"] == 64 * 96 - 8 * 16
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["rests on clouded data"] == pytest.approx(16 * 48 / summary["mapped_px"])
    assert summary["sensors"]["rests on clouded data"] == {"eo": shares["rests on clouded data"]}
    assert set(summary["sensors"]["rests on a noisy or saturated sensor"]) == {"sar"}


def test_a_doubtful_position_spoils_what_rests_on_that_sensor_alone(scene, predictor, tmp_path):
    stack = replace(scene, clouds={}, confidence={"eo": 1.0, "sar": 0.2})
    _, summary, flags = _trust(stack, predictor, tmp_path / "maps")
    assert (flags[:2, :6] == Flag.MISPLACED).all()
    assert (flags[:2, 6:] == Flag.SOUND).all()
    assert summary["sensors"][FLAG_NAMES[Flag.MISPLACED]].keys() == {"sar"}
    _, unknown, flags = _trust(replace(stack, confidence={"eo": 1.0}), predictor, tmp_path / "unknown")
    assert (flags[:2] == Flag.SOUND).all()
    assert unknown["unknown"] == ["the position of sar (not measured)"]


def test_a_position_that_is_sure_in_a_part_only_spoils_the_rest(scene, predictor, tmp_path, monkeypatch):
    """Radar tells the left half and is sure up to column 24, or from row 48; optics the right, sure up to column 72.

    Within a tile they are lost.
    """
    registration = {name: tmp_path / f"{name}.registration.tif" for name in ("eo", "sar")}
    rows, cols = np.mgrid[:9, :13]  # a node each 8 px
    registration_layer((cols < 10).astype(float), scene.geobox).save(registration["eo"])
    registration_layer(((cols < 4) | (rows > 5)).astype(float), scene.geobox).save(registration["sar"])
    numbers = {"eo": 0.0, "sar": 1.0}  # of the whole scene: layers go before them
    stack = replace(scene, clouds={}, registration=registration, confidence=numbers)
    _, summary, flags = _trust(stack, predictor, tmp_path / "maps")
    wanted = np.full((4, 12), Flag.SOUND, np.uint8)
    wanted[:, 10:] = wanted[:2, 4:6] = Flag.MISPLACED
    np.testing.assert_array_equal(flags[[0, 1, 5, 6]], wanted)
    assert summary["sensors"][FLAG_NAMES[Flag.MISPLACED]].keys() == {"eo", "sar"}
    monkeypatch.setattr(module, "WINDOW", 24)
    np.testing.assert_array_equal(_trust(stack, predictor, tmp_path / "small")[2], flags)
    part = replace(_lower_right(stack, tmp_path), registration={})
    maps = predict_scene(part, predictor, options=OPTIONS, folder=tmp_path, resume="one")
    files, _ = write_trust(
        stack, predictor.normaliser, classes=maps.classes, reliance=maps.reliance, tile=TILE, doubt=0.25, model="",
        folder=tmp_path, resume="one",
    )  # fmt: skip
    with rasterio.open(files.flags) as source:
        np.testing.assert_array_equal(source.read(1), flags[2:, 5:])


def test_the_layer_says_what_it_is(scene, predictor, tmp_path):
    files, _, flags = _trust(scene, predictor, tmp_path / "maps")
    with rasterio.open(files.flags) as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (source.dtypes, source.nodata, source.descriptions) == (("uint8",), 255, ("trust",))
        assert source.transform == scene.geobox.affine * Affine.scale(TILE)
        assert source.colormap(1)[int(Flag.CLOUDED)] == (86, 180, 233, 255)
        assert source.tags()["class_3"] == "rests on clouded data"
        assert (source.tags()["doubt"], source.tags()["approximate"]) == ("0.25", "false")
    assert "<Category>rests on clouded data</Category>" in files.sidecar.read_text()
    with rasterio.open(files.quality) as source:
        assert source.descriptions == ("eo", "sar", "prediction")
        assert source.scales == (0.01,) * 3
        good = source.read()
    assert good[:, 7, 0].tolist() == [255] * 3  # nobody saw it
    assert good[:2, 0, 0].tolist() == [0, 100]
    assert good[2, 0, 0] >= 90  # radar tells
    assert good[0, 4, 6] == 50
    assert flags.shape == good.shape[1:]


def test_windows_and_interruptions_change_nothing(scene, predictor, tmp_path, monkeypatch):
    files, summary, flags = _trust(scene, predictor, tmp_path / "maps")
    times = [path.stat().st_mtime_ns for path in files.all]
    assert _trust(scene, predictor, tmp_path / "maps")[1] == summary
    assert [path.stat().st_mtime_ns for path in files.all] == times
    _trust(scene, predictor, tmp_path / "maps", resume="two")
    assert files.flags.stat().st_mtime_ns > times[0]
    monkeypatch.setattr(module, "WINDOW", 24)
    _, again, same = _trust(scene, predictor, tmp_path / "small")
    np.testing.assert_array_equal(same, flags)
    assert again == summary


def test_a_map_of_a_part_of_the_scene_is_judged_where_it_lies(scene, predictor, tmp_path):
    _, _, whole = _trust(scene, predictor, tmp_path / "maps")
    part = _lower_right(scene, tmp_path)
    part = replace(part, clouds={"eo": _cut(scene.clouds["eo"], tmp_path / "part.quality.tif")})
    maps = predict_scene(part, predictor, options=OPTIONS, folder=tmp_path, resume="one")
    _, summary = write_trust(
        scene, predictor.normaliser, classes=maps.classes, reliance=maps.reliance, tile=TILE, doubt=0.25, model="",
        folder=tmp_path, resume="one",
    )  # fmt: skip
    with rasterio.open(tmp_path / "place.trust.tif") as source:
        np.testing.assert_array_equal(source.read(1), whole[2:, 5:])
        assert source.transform * (0, 0) == part.geobox.affine * (0, 0)
    assert summary["mapped_px"] == 48 * 56


def _lower_right(scene, folder):
    present = {name: _cut(path, folder / f"part.{name}.tif") for name, path in scene.present.items()}
    return replace(scene, geobox=scene.geobox[16:, 40:], present=present)


def _cut(path, target):
    """Write the lower right of a raster."""
    with rasterio.open(path) as source:
        values = source.read(window=((16, 64), (40, 96)))
        transform = source.transform * Affine.translation(40, 16)
        with rasterio.open(
            target, "w", driver="GTiff", height=48, width=56, count=source.count, dtype=values.dtype, crs=source.crs,
            transform=transform, nodata=source.nodata,
        ) as writer:  # fmt: skip
            writer.write(values)
    return target


def test_the_stage_tells_the_trust_in_words(scene, predictor, tmp_path):
    outputs, figures = predict_scenes(
        [scene], predictor, options=OPTIONS, informative={}, folder=tmp_path, resume="one"
    )  # fmt: skip
    assert tmp_path / "place.trust.tif" in outputs
    assert figures["scenes"]["place"]["trust"]["words"] == [
        "68 % of the mapped area rests on good data.", "13 % rests on clouded data (eo).",
        "6 % rests on a sensor that is partly missing (eo).", "13 % rests on a noisy or saturated sensor (sar).",
    ]  # fmt: skip
    outputs, figures = predict_scenes(
        [scene], predictor, options=OPTIONS.model_copy(update={"trust": None}), informative={},
        folder=tmp_path, resume="two",
    )  # fmt: skip
    assert tmp_path / "place.trust.tif" not in outputs
    assert "trust" not in figures["scenes"]["place"]


def test_little_is_not_told_as_nothing_and_nothing_mapped_is_said():
    shares = dict.fromkeys(FLAG_NAMES.values(), 0.0) | {"sound": 0.996, "rests on clouded data": 0.004}
    record = {"shares": shares, "sensors": {"rests on clouded data": {"eo": 0.003, "ir": 0.001}}, "unknown": []}
    assert trust_words(record)[1] == "Less than 1 % rests on clouded data (eo less than 1 %, ir less than 1 %)."
    assert "Nothing was mapped" in trust_words({"shares": {}, "sensors": {}, "unknown": []})[0]


def test_tiles_noisier_than_in_training_are_not_good(predictor):
    rng = np.random.default_rng(0)
    statistics = BandStatistics(mean=(0.0,) * 2, std=(10.0,) * 2, count=1, noise=((0.5, 1.0, 1.5), (0.5, 1.0, 1.5)))
    normaliser = replace(predictor.normaliser, training=dict.fromkeys(("eo", "sar"), statistics))
    quiet, noisy = rng.normal(0, 1, (2, 32, 64)), rng.normal(0, 1, (2, 32, 64))
    noisy[1, :16, 16:32] *= 4
    valid = np.ones((32, 64), dtype=bool)
    window = StackWindow(
        image={"eo": noisy.astype(np.float32), "sar": quiet.astype(np.float32)},
        valid={"eo": valid, "sar": valid}, labels=None, quality={},
    )  # fmt: skip
    counts = count_tiles(window, valid, normaliser, scene="place", tile=16)
    wanted = np.zeros((2, 2, 4), dtype=np.int32)
    wanted[0, 0, 1] = 256
    np.testing.assert_array_equal(counts.out_of_range, wanted)
    before = replace(normaliser, training=dict.fromkeys(("eo", "sar"), replace(statistics, noise=None)))
    assert not count_tiles(window, valid, before, scene="place", tile=16).out_of_range.any()
