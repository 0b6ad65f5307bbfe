"""Placement: each scene through the neighbour that knows it best, or left where it is, with the reason."""

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from fake_pairs import as_radar, ground, in_memory, seen, shifted, turned
from odc.geo.geobox import GeoBox
from scipy import stats
from strategies import north_up

from equipoise.datasets.modality import Unit
from equipoise.datasets.source_positions import pixel_ratio
from equipoise.datasets.warp import warp
from equipoise.pipeline.matching_view import view_of
from equipoise.pipeline.placement import Registration, place
from equipoise.pipeline.registered import NotRegistrable, interpolated, registered
from equipoise.pipeline.stage_options import CoregisterOptions

EDGE = 200
GRID = north_up(EDGE, EDGE)
OPTIONS = CoregisterOptions(max_shift_m=150)

#: Two radar images, and by how much each lies off, px; the corrections are their opposite, m.
SHIFT_B, SHIFT_C = (3.4, -5.7), (-2.3, 4.1)
TRUE_B, TRUE_C = (57.0, 34.0), (-41.0, -23.0)


def fields(seed=0):
    return ground(np.random.default_rng(seed), tuple(GRID.shape))


def optical(name="a", *, of=None):
    return in_memory(name, seen(fields() if of is None else of), GRID, unit=Unit.REFLECTANCE)


def radar(name, shift, *, of=None, seed=1):
    image = as_radar(seen(fields() if of is None else of, shifted(*shift)), np.random.default_rng(seed))
    return in_memory(name, 10 ** (image / 10), GRID, unit=Unit.LINEAR_POWER)


def without(scene, part):
    """A scene of which a part is nodata."""
    values = scene.data.copy()
    values[(slice(None), *part)] = np.nan
    return replace(scene, data=values)


def placed(*scenes, anchor="a", grid=GRID, options=OPTIONS):
    return dict(place({scene.modality.name: scene for scene in scenes}, anchor, grid, options=options))


LEFT, RIGHT = (slice(None), slice(None, EDGE // 2 + 12)), (slice(None), slice(EDGE // 2 - 12, None))


# against planted truth


def test_every_scene_is_placed_on_the_anchor():
    found = placed(optical(), radar("b", SHIFT_B), radar("c", SHIFT_C, seed=2))
    for name, (east, north) in (("b", TRUE_B), ("c", TRUE_C)):
        numbers = found[name].registration
        assert numbers.applied
        assert numbers.measured
        assert numbers.kind == "shift"
        assert (numbers.east, numbers.north) == (pytest.approx(east, abs=2), pytest.approx(north, abs=2))
        assert numbers.largest == pytest.approx(np.hypot(east, north), abs=2)
        assert numbers.radius90 < 5
        assert numbers.confidence > 0.9
        assert numbers.rmse_before > 3 * numbers.rmse_after
        assert numbers.blocks == len(found[name].blocks.x)
        assert numbers.log10_false_alarms < -10
        assert f"{np.hypot(numbers.east, numbers.north):.1f} m" in numbers.note
        np.testing.assert_array_equal(found[name].layer.east, found[name].displacement.east)


def test_the_anchor_is_right_by_definition():
    scenes = optical(), radar("b", SHIFT_B)
    for anchor, other, sign in (("a", "b", 1), ("b", "a", -1)):
        found = placed(*scenes, anchor=anchor)
        assert found[anchor].registration == Registration(
            kind="reference", applied=True, note="reference", confidence=1.0, radius90=0.0
        )
        assert found[anchor].displacement is found[anchor].layer is found[anchor].blocks is None
        assert found[other].registration.through == anchor
        assert found[other].registration.east == pytest.approx(sign * TRUE_B[0], abs=2)


def test_what_the_anchor_does_not_show_is_placed_through_a_neighbour_of_its_kind():
    """The anchor and the third scene share a few columns only; the second one, itself off, shows both halves."""
    anchor, third = without(optical(), RIGHT), without(radar("c", SHIFT_C, seed=2), LEFT)
    second = radar("b", SHIFT_B)
    alone = placed(anchor, third)["c"]
    assert alone.registration.kind == "refused"
    found = placed(anchor, second, third)
    b, c = found["b"].registration, found["c"].registration
    assert (b.through, c.through) == ("a", "b")
    assert (b.east, b.north) == (pytest.approx(TRUE_B[0], abs=3), pytest.approx(TRUE_B[1], abs=3))
    assert (c.east, c.north) == (pytest.approx(TRUE_C[0], abs=4), pytest.approx(TRUE_C[1], abs=4))
    assert c.radius90 > b.radius90
    # What is doubtful of the second is doubtful of the third, too: independent errors add up as squares.
    views = view_of(second, found["b"].displacement), view_of(third)
    last, before = registered(*views, GRID, radius_m=OPTIONS.max_shift_m).layer, found["b"].layer
    layer = found["c"].layer
    expected = np.hypot(last.radius90, interpolated(before.grid, before.radius90, last.grid))
    np.testing.assert_allclose(layer.radius90, expected, rtol=1e-5)
    deviation = layer.radius90 / stats.rayleigh.ppf(0.9)
    np.testing.assert_allclose(layer.confidence, stats.rayleigh(scale=deviation).cdf(10.0), atol=1e-4)


def test_another_texture_is_bridged_too():
    """The anchor sees one ground, the third another one, the second both on top of each other."""
    rng = np.random.default_rng(5)
    one, two = fields(), ground(rng, tuple(GRID.shape))
    second, third = radar("b", SHIFT_B, of=one * two), radar("c", SHIFT_C, of=two, seed=2)
    assert placed(optical(), third)["c"].registration.kind == "refused"
    found = placed(optical(), second, third)
    assert found["c"].registration.through == "b"
    assert found["c"].registration.east == pytest.approx(TRUE_C[0], abs=4)
    assert found["c"].registration.north == pytest.approx(TRUE_C[1], abs=4)


def test_a_neighbour_that_was_refused_leads_nowhere():
    """It shows what the third shows, but nobody knows where it lies itself."""
    two = fields(7)
    lost, like_it = radar("b", SHIFT_B, of=two), radar("c", SHIFT_C, of=two, seed=2)
    found = placed(optical(), lost, like_it)
    assert found["b"].registration.kind == found["c"].registration.kind == "refused"


OTHER_GRIDS = {
    "20 m": GeoBox((EDGE // 2, EDGE // 2), GRID.affine * Affine.scale(2), GRID.crs),
    "50 m": GeoBox((EDGE // 5, EDGE // 5), GRID.affine * Affine.scale(5), GRID.crs),
    "5 m": GeoBox((2 * EDGE, 2 * EDGE), GRID.affine * Affine.scale(0.5), GRID.crs),
    "rotated": GRID.rotate(20),
    "degrees": GRID.to_crs("EPSG:4326"),
    "next zone": GRID.to_crs("EPSG:32632"),
}


@pytest.mark.parametrize("grid", OTHER_GRIDS.values(), ids=OTHER_GRIDS)
def test_scenes_on_other_grids_are_placed(grid):
    """The correction is in metres of the stack's grid."""
    source = radar("b", SHIFT_B)
    other = in_memory("b", warp(source, grid), grid, unit=Unit.LINEAR_POWER)
    numbers = placed(optical(), other)["b"].registration
    assert numbers.applied
    within = 0.3 * 10 * max(1.0, 1 / pixel_ratio(grid, GRID))
    assert (numbers.east, numbers.north) == (pytest.approx(TRUE_B[0], abs=within), pytest.approx(TRUE_B[1], abs=within))


# what cannot be placed


def test_what_is_refused_keeps_its_position_and_says_so():
    found = placed(optical(), radar("b", SHIFT_B, of=fields(9)))["b"]
    numbers = found.registration
    assert (numbers.kind, numbers.applied, numbers.confidence) == ("refused", False, 0.0)
    assert (numbers.east, numbers.north, numbers.largest) == (0, 0, 0)
    assert numbers.radius90 is numbers.through is None
    assert numbers.measured
    assert numbers.note.startswith("position as given: found an agreement that chance gives")
    assert -4 <= numbers.log10_false_alarms <= 0
    assert found.displacement is found.blocks is None
    assert (found.layer.confidence == 0).all()
    assert np.isnan(found.layer.radius90).all()
    assert (found.layer.east == 0).all()
    assert (found.layer.confidence_over(GRID) == 0).all()


def test_on_failure_refuse_ends_with_the_file_and_the_reason():
    options = CoregisterOptions(max_shift_m=150, on_failure="refuse")
    with pytest.raises(NotRegistrable, match=r"^b\.tif: found an agreement that chance gives") as refusal:
        placed(optical(), radar("b", SHIFT_B, of=fields(9)), options=options)
    assert not refusal.value.verdict.accepted
    with pytest.raises(NotRegistrable, match=r"^b\.tif: found too little common area"):
        placed(optical(), without(radar("b", SHIFT_B), (slice(None), slice(20, None))), options=options)
    assert placed(optical(), radar("b", SHIFT_B), options=options)["b"].registration.applied


@pytest.mark.parametrize("on_failure", ["keep", "refuse"])
def test_a_position_that_is_too_doubtful_is_refused(on_failure):
    """A turned swath covers a part of the area only: what it says of the rest is a guess."""
    rng, shape = np.random.default_rng(0), (200, 400)
    grid, wide = north_up(*shape), ground(rng, shape)
    swath = as_radar(seen(wide, turned(1.0, shape)), rng)
    swath[:, 120:] = np.nan
    anchor = in_memory("a", seen(wide), grid, unit=Unit.REFLECTANCE)
    other = in_memory("b", 10 ** (swath / 10), grid, unit=Unit.LINEAR_POWER)
    known = placed(anchor, other, grid=grid)["b"].registration
    assert known.applied
    assert 0.5 < known.confidence < 0.99
    strict = CoregisterOptions(max_shift_m=150, min_confidence=1.0, on_failure=on_failure)
    if on_failure == "refuse":
        with pytest.raises(NotRegistrable, match="lower min_confidence"):
            placed(anchor, other, grid=grid, options=strict)
        return
    found = placed(anchor, other, grid=grid, options=strict)["b"]
    assert (found.registration.kind, found.registration.confidence) == ("refused", 0.0)
    assert f"{known.confidence:.0%} only; wanted 100%" in found.registration.note
    assert found.displacement is None


# what is not measured


@pytest.mark.parametrize("case", ["method none", "no position"])
def test_what_is_not_measured_is_taken_as_it_is(case):
    grid = GRID if case == "method none" else GeoBox(GRID.shape, Affine.identity(), None)
    options = CoregisterOptions(method="none" if case == "method none" else "structure", on_failure="refuse")
    rng = np.random.default_rng(0)
    scenes = [in_memory(name, rng.random(grid.shape), grid) for name in ("a", "b")]
    found = placed(*scenes, grid=grid, options=options)["b"]
    assert found.registration.kind == "not measured"
    assert found.registration.applied
    assert not found.registration.measured
    assert found.registration.note == "position as given, not measured"
    assert found.registration.radius90 is None
    assert found.displacement is found.layer is found.blocks is None


# order


@pytest.mark.parametrize(("names", "expected"), [("abc", "abc"), ("bac", "abc"), ("cba", "acb")])
def test_the_anchor_comes_first_and_the_others_in_their_order(names, expected):
    options = CoregisterOptions(method="none")
    scenes = {name: in_memory(name, np.ones(GRID.shape), GRID) for name in names}
    assert "".join(name for name, _ in place(scenes, "a", GRID, options=options)) == expected


def test_scenes_are_placed_as_they_are_asked_for():
    """Whoever writes one has the memory for it before the next is looked at."""
    broken = replace(optical("c"), geobox=None)  # would fail if it were looked at
    steps = place({"a": optical(), "b": radar("b", SHIFT_B), "c": broken}, "a", GRID, options=OPTIONS)
    assert next(steps)[0] == "a"
    name, found = next(steps)
    assert (name, found.registration.applied) == ("b", True)


def test_an_anchor_alone_is_enough():
    assert list(placed(optical())) == ["a"]
