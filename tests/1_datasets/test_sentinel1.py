"""Sentinel-1 GRD: a product whose ground, geometry, noise and gains are known is opened to that ground."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_orbit import Geometry
from fake_sentinel1 import FakeGrd, centres, displacement, tie_points
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.transform import GCPTransformer

from equipoise.datasets.errors import SceneError
from equipoise.datasets.geocoding import TiePoints, target_grid
from equipoise.datasets.modality import POWER_FLOOR, Band, Modality, Unit
from equipoise.datasets.scene import check_scene
from equipoise.datasets.sentinel1 import open_sentinel1

SMALL = Geometry(shape=(200, 250))


def radar(*names: str, unit: Unit = Unit.DB) -> Modality:
    return Modality(name="sar", bands=tuple(Band(name=name, unit=unit) for name in names))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeGrd, Path]:
    fake = FakeGrd()
    return fake, fake.write(tmp_path_factory.mktemp("grd"))


def test_backscatter_lies_where_it_was_and_is_what_it_was(product):
    fake, path = product
    scene = open_sentinel1(path, radar("vh", "VV"))
    values, (easting, northing) = scene.read(), centres(scene.geobox)
    assert scene.geobox.crs == fake.crs
    assert values.dtype == np.float32
    for layer, name in zip(values, ("VH", "VV"), strict=True):
        truth = fake.expected(easting, northing, name)
        seen = np.isfinite(layer)
        # Digital numbers are rounded: of 25 from dark VH ground, on 32 of noise, 0.5 is up to 6 % of the power.
        np.testing.assert_allclose(layer[seen], truth[seen], rtol=0.08)
        assert layer[seen].mean() / truth[seen].mean() == pytest.approx(1, abs=1e-3)
        assert np.hypot(*displacement(layer, truth, 10.0)) < 0.1  # metres: a hundredth of a pixel
    # The swath fills its rotated rectangle, and nothing beside it.
    seen = np.isfinite(values).all(axis=0).sum() * 100
    assert seen == pytest.approx(400 * 500 * 10 * 9.98, rel=0.01)


def test_a_scene_says_what_it_is(product):
    _, path = product
    scene = open_sentinel1(path, radar("vv", unit=Unit.AMPLITUDE))
    check_scene(scene)
    (band,) = scene.modality.bands
    assert (band.name, band.unit, band.scale, band.offset) == ("vv", Unit.LINEAR_POWER, 1.0, 0.0)
    assert scene.acquired == "2021-04-01T05:26:23.794457Z"
    assert list(scene.data.band.values) == ["vv"]
    facts = scene.provenance
    assert facts["product"] == path.name
    assert (facts["mission"], facts["mode"], facts["orbit_direction"]) == ("S1A", "IW", "Ascending")
    assert (facts["relative_orbit"], facts["processor"]) == ("117", "IPF 003.31")
    assert set(facts["polarisations"].split()) == {"VV", "VH"}
    assert "sigma0" in facts["calibration"]
    assert facts["geocoding"].startswith("GCPs")
    assert scene.geobox.affine.c % 10 == 0
    assert scene.geobox.affine.f % 10 == 0


@pytest.mark.parametrize("resolution", [None, 40.0])
def test_the_result_does_not_depend_on_what_is_read_at_once(product, resolution):
    _, path = product
    scene = open_sentinel1(path, radar("VV", "VH"), resolution=resolution)
    whole = scene.read()
    step = 10 / (resolution or 10)
    for corners in ((100, 104, 200, 204), (37, 220, 150, 400), (0, 40, 0, 40)):
        top, bottom, left, right = (int(corner * step) for corner in corners)
        part, same = scene.read((slice(top, bottom), slice(left, right))), whole[:, top:bottom, left:right]
        assert (np.isfinite(part) == np.isfinite(same)).mean() > 0.999
        both = np.isfinite(part) & np.isfinite(same)
        np.testing.assert_allclose(part[both], same[both], rtol=5e-4)  # the spline's rounding, 1e-5 px
    with_blocks = np.asarray(scene.data.data.rechunk((2, 50, 70)).compute(scheduler="synchronous"))
    np.testing.assert_allclose(with_blocks, whole, rtol=5e-4)


@pytest.mark.parametrize(
    ("geometry", "crs"),
    [
        (SMALL, "EPSG:32632"),
        (replace(SMALL, ascending=False), "EPSG:32631"),
        (replace(SMALL, latitude=-30.0), "EPSG:32732"),
        (replace(SMALL, longitude=175.54), "EPSG:32660"),  # near range lies west, far range east of the antimeridian
    ],
    ids=["ascending", "descending", "south", "antimeridian"],
)
@pytest.mark.parametrize("ipf", ["002.84", "003.31"])
def test_flight_directions_hemispheres_and_old_processors(tmp_path, geometry, crs, ipf):
    fake = FakeGrd(geometry=geometry, crs=crs, ipf=ipf)
    scene = open_sentinel1(fake.write(tmp_path, zipped=True), radar("VV"))
    assert scene.geobox.crs == crs
    truth = fake.expected(*centres(scene.geobox), "VV")
    (layer,) = scene.read()
    assert np.hypot(*displacement(layer, truth, 10.0)) < 0.2
    assert np.nanmean(layer / truth) == pytest.approx(1, abs=2e-3)
    assert scene.provenance["processor"] == f"IPF {ipf}"


def test_thermal_noise_stays_if_wanted_and_dark_water_is_not_missing(tmp_path):
    fake = FakeGrd(geometry=SMALL, truth=lambda easting, _: np.full_like(easting, 1e-7), looks=4.4)
    path = fake.write(tmp_path, rng=np.random.default_rng(1))
    without, noisy = (open_sentinel1(path, radar("VV"), remove_noise=wish).read()[0] for wish in (True, False))
    # At most the chance border is lost: both masks are the same, whatever the noise.
    assert (np.isfinite(without) == np.isfinite(noisy)).all()
    assert np.isfinite(without).mean() > 0.98 * 200 * 250 * 100 / (without.size * 100)
    assert np.nanmin(without) >= POWER_FLOOR
    assert np.nanmedian(noisy) > 3e-3
    check_scene(open_sentinel1(path, radar("VV")))
    # Averaged before the floor: what is left of 1000 DN^2 of noise over 400^2 is far below it.
    coarse = open_sentinel1(path, radar("VV"), resolution=100.0).read()[0]
    assert np.nanmedian(coarse) < 0.1 * np.nanmedian(noisy)


def test_coarse_pixels_are_means_of_power(tmp_path):
    fake = FakeGrd(looks=4.4)
    scene = open_sentinel1(fake.write(tmp_path), radar("VV"), resolution=50.0)
    assert scene.geobox.resolution.x == 50
    height, width = scene.geobox.shape
    fine = scene.geobox.zoom_to((5 * height, 5 * width))
    truth = fake.expected(*centres(fine), "VV").reshape(height, 5, width, 5).mean(axis=(1, 3))
    ratio = scene.read()[0] / truth
    inside = ratio[np.isfinite(ratio)]
    assert inside.mean() == pytest.approx(1, abs=0.01)
    # 25 pixels of 4.4 looks: the scatter of their mean is 1 / sqrt(110); edge pixels hold fewer.
    assert np.percentile(np.abs(inside - 1), 68) == pytest.approx(1 / np.sqrt(110), rel=0.2)


@pytest.mark.parametrize(("quantity", "factor"), [("gamma0", 1 / 0.81), ("beta0", None)])
def test_other_quantities_use_their_own_gains(product, quantity, factor):
    _, path = product
    sigma = open_sentinel1(path, radar("VV")).read()
    other = open_sentinel1(path, radar("VV"), calibration=quantity)
    assert quantity in other.provenance["calibration"]
    ratio = other.read() / sigma
    if factor is not None:
        np.testing.assert_allclose(ratio[np.isfinite(ratio)], factor, rtol=1e-4)
    else:
        assert 0.6 < np.nanmedian(ratio) < 1.2
        assert np.nanstd(ratio) > 0.05


def test_border_noise_is_cut_off_in_every_polarisation(tmp_path):
    plain, ghostly = FakeGrd(geometry=SMALL), FakeGrd(geometry=SMALL, border=40)
    expected = open_sentinel1(plain.write(tmp_path / "a"), radar("VV")).read()[0]
    found = open_sentinel1(ghostly.write(tmp_path / "b"), radar("VV")).read()[0]
    lost = np.isfinite(expected) & ~np.isfinite(found)
    # Forty columns and the erosion of ten, of 200 lines.
    assert lost.sum() == pytest.approx(50 * 200, rel=0.03)
    both = np.isfinite(found)
    # Beside the hole the bilinear weights of lost pixels go to their neighbours.
    assert (np.abs(found[both] / expected[both] - 1) < 1e-4).mean() > 0.99
    np.testing.assert_allclose(found[both], expected[both], rtol=0.1)


def test_one_zero_is_one_hole(tmp_path):
    path = FakeGrd(geometry=SMALL, polarisations=("VV",)).write(tmp_path)
    (path / "manifest.safe").unlink()  # it declares another checksum
    (measurement,) = (path / "measurement").iterdir()
    with rasterio.open(measurement, "r+") as file:
        numbers = file.read(1)
        numbers[100:103, 120:123] = 0
        file.write(numbers, 1)
    before = np.isfinite(open_sentinel1(FakeGrd(geometry=SMALL).write(tmp_path / "b"), radar("VV")).read()).sum()
    after = np.isfinite(open_sentinel1(path, radar("VV")).read()).sum()
    assert 4 <= before - after <= 16


def test_a_whole_scene_is_placed_within_a_fifth_of_a_pixel():
    big = Geometry(shape=(16_700, 25_800))  # IW: 170 km x 260 km
    row, column, longitude, latitude = np.array(tie_points(big, lines=10, samples=21)).T
    points = TiePoints(rows=row, columns=column, longitudes=longitude, latitudes=latitude)
    rng = np.random.default_rng(0)
    rows, columns = rng.uniform(0, 16_699, 2000), rng.uniform(0, 25_799, 2000)
    to_map = Transformer.from_crs("EPSG:4326", points.utm(), always_xy=True)
    with GCPTransformer(points.projected(points.utm()), tps=True) as spline:
        found = spline.rowcol(*to_map.transform(*big.ground(rows, columns)), op=float)
    error = np.hypot(found[0] - 0.5 - rows, found[1] - 0.5 - columns)
    assert error.max() < 0.3
    assert np.sqrt(np.mean(error**2)) < 0.05


def test_points_that_determine_no_spline_are_refused():
    rows, columns = np.array([0.0, 0.0, 199.0, 199.0]), np.array([0.0, 249.0, 0.0, 249.0])
    points = TiePoints(rows=rows, columns=columns, longitudes=columns / 1e4, latitudes=np.zeros(4))
    with pytest.raises(SceneError, match=r"^here: found tie points that determine no spline") as caught:
        target_grid(points, (200, 250), spacing=10.0, resolution=10.0, where="here")
    assert "\n" not in str(caught.value)


def test_tie_points_across_the_antimeridian_span_an_area(tmp_path):
    def moved(text: str) -> str:
        """Move every tie point so that the image's middle lies at 180 degrees."""
        found = [float(item) for item in re.findall("<longitude>(.*?)<", text)]
        middle = (min(found) + max(found)) / 2
        return re.sub(
            "<longitude>(.*?)<",
            lambda item: f"<longitude>{(float(item[1]) - middle) % 360 - 180:.12f}<",
            text,
        )

    grid = open_sentinel1(FakeGrd(geometry=SMALL, edit={"s1a": moved}).write(tmp_path), radar("VV")).geobox
    assert max(grid.shape) < 500


def _edited(part: str, old: str, new: str):
    return lambda folder: FakeGrd(geometry=SMALL, edit={part: lambda text: text.replace(old, new)}).write(folder)


def _without(pattern: str):
    def write(folder: Path) -> Path:
        safe = FakeGrd(geometry=SMALL).write(folder)
        for file in safe.glob(pattern):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        return safe

    return write


def _flattened(*axes: str):
    """Every tie point has 0 on these axes."""

    def write(folder: Path) -> Path:
        def change(text: str) -> str:
            head, mark, points = text.partition("<geolocationGrid>")
            for axis in axes:
                points = re.sub(f"<{axis}>[^<]*<", f"<{axis}>0<", points)
            return head + mark + points

        return FakeGrd(geometry=SMALL, edit={"s1a": change}).write(folder)

    return write


def _cut(pattern: str, *, manifest: bool = True):
    def write(folder: Path) -> Path:
        safe = FakeGrd(geometry=SMALL).write(folder)
        if not manifest:
            (safe / "manifest.safe").unlink()
        for file in safe.glob(pattern):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        return safe

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_without("annotation"), "found no annotation"),
        (_without("measurement/*vv*"), "measurement/s1a-iw-grd-vv.*exactly one"),
        (_without("annotation/calibration/calibration-*"), "calibration-s1a-iw-grd-vv.*exactly one"),
        (_without("annotation/calibration/noise-*"), "no noise table for VV"),
        (_edited("s1a", "<productType>GRD", "<productType>SLC"), "found a SLC product in mode IW"),
        (_edited("s1a", "<mode>IW", "<mode>WV"), "found a GRD product in mode WV"),
        (_edited("s1a", "<polarisation>V", "<polarisation>H"), "wanted VV; name the bands"),
        (_edited("s1a", "<numberOfLines>200", "<numberOfLines>201"), "found 200 x 250 uint16 pixels of VV"),
        (_edited("s1a", "geolocationGridPoint>", "point>"), "found 0 tie points"),
        (_flattened("latitude"), "tie points on one line of the ground"),
        (_flattened("pixel"), "tie points on one line of the image"),
        (_flattened("longitude", "latitude"), "tie points on one line of the ground"),
        (_edited("s1a", "<startTime>2021-04-01T", "<startTime>yesterday"), "found 'yesterday.*as a time"),
        (_edited("s1a", "<startTime>2021-04-01T", "<startTime>2021-04-41T"), "found '2021-04-41.*as a time"),
        (_edited("s1a", "<latitude>", "<latitude>x"), "wanted a number"),
        (_edited("s1a", "<startTime>", "<start>"), "not well-formed XML"),
        (_edited("s1a", "<product>", '<!DOCTYPE x [<!ENTITY a "b">]><product>'), "document type"),
        (_cut("annotation/*.xml"), "not well-formed XML"),
        (_cut("annotation/calibration/noise-*"), r"noise.*' of .* bytes.*manifest declares"),
        (_cut("annotation/calibration/noise-*", manifest=False), "not well-formed XML"),
        (_cut("measurement/*"), r"'measurement.*' of .* bytes.*manifest declares"),
        (_cut("measurement/*", manifest=False), "found pixels of VV"),
        (_edited("s1a", "<rangePixelSpacing>1", "<rangePixelSpacing>9"), "tie points that span"),
    ],
)
def test_damaged_products_are_refused_in_one_line(tmp_path, write, message):
    path = write(tmp_path)
    with pytest.raises(SceneError, match=message) as caught:
        open_sentinel1(path, radar("VV")).read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("modality", "options", "message"),
    [
        (radar("HH"), {}, "wanted HH"),
        (radar("VV", "vv"), {}, "declared twice"),
        (radar("VV", unit=Unit.REFLECTANCE), {}, "radar backscatter; declare"),
        (radar("VV"), {"resolution": 0.0}, "resolution of 0.0 m"),
    ],
)
def test_wishes_that_the_product_cannot_meet_are_refused(product, modality, options, message):
    with pytest.raises(SceneError, match=message):
        open_sentinel1(product[1], modality, **options)


def test_a_zip_and_the_manifest_name_the_same_product(product, tmp_path):
    fake, path = product
    expected = open_sentinel1(path, radar("VV")).read((slice(100, 140), slice(200, 260)))
    zipped = FakeGrd().write(tmp_path, zipped=True)
    for name in (path / "manifest.safe", zipped):
        scene = open_sentinel1(name, radar("VV"))
        np.testing.assert_array_equal(scene.read((slice(100, 140), slice(200, 260))), expected)
    assert scene.provenance["product"] == zipped.name
    assert fake.name.startswith(zipped.stem)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_damage_is_refused_or_harmless(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    fake = FakeGrd(geometry=Geometry(shape=(30, 40)), polarisations=("VV",))
    path = fake.write(tmp_path_factory.mktemp("damaged"))
    good = open_sentinel1(path, radar("VV")).read()
    victim = rng.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    content = bytearray(victim.read_bytes())
    if rng.random() < 0.3:
        content = content[: rng.integers(len(content))]
    else:
        for place in rng.integers(0, len(content), rng.choice([1, 5, 50])):
            content[place] = rng.integers(256) if rng.random() < 0.5 else ord(rng.choice(list("0123456789-.eE ")))
    victim.write_bytes(content)
    found, refusal = good, ""
    try:
        found = open_sentinel1(path, radar("VV")).read()
    except SceneError as error:
        refusal = str(error)
    assert "\n" not in refusal
    np.testing.assert_array_equal(found, good)
