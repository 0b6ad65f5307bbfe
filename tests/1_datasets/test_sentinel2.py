"""Sentinel-2 products: reflectance equals the planted one whatever the baseline, level or packing."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_sentinel2 import ACQUIRED, PIXEL, FakeSafe, write_safe, zip_safe

from equipoise.datasets.errors import SceneError
from equipoise.datasets.modality import Band, Modality, Unit
from equipoise.datasets.product import BandFile, Product, product_scene
from equipoise.datasets.quality import Quality, QualityScheme
from equipoise.datasets.sentinel2 import read_sentinel2

#: Every band its own offset: one taken from a neighbour is found out. Real products have -1000 in all.
UNEQUAL = {band: -1000 - 50 * number for number, band in enumerate(PIXEL)}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20220615)


def reflectance(file: BandFile) -> np.ndarray:
    """Reflectance by rasterio and the stated scale alone, NaN at nodata."""
    with rasterio.open(file.href) as source:
        numbers = source.read(file.index).astype(np.float64)
    return np.where(numbers == file.nodata, np.nan, numbers * file.scale + file.offset)


def assert_truth(product: Product, safe: FakeSafe) -> None:
    assert {band.name for band in product.bands} == set(safe.truth)
    for file in product.bands:
        assert file.unit is Unit.REFLECTANCE
        np.testing.assert_allclose(reflectance(file), safe.truth[file.name], atol=1e-9, err_msg=file.name)


@pytest.mark.parametrize(
    ("level", "baseline", "offsets", "quantification"),
    [
        ("L2A", "02.14", None, 10_000),
        ("L2A", "04.00", -1000, 10_000),
        ("L2A", "05.09", UNEQUAL, 10_000),
        ("L2A", "05.09", 0, 20_000),
        ("L1C", "02.07", None, 10_000),
        ("L1C", "04.00", UNEQUAL, 10_000),
    ],
)
def test_every_band_is_its_finest_and_physical(tmp_path, rng, level, baseline, offsets, quantification):
    safe = write_safe(
        tmp_path, rng, level=level, baseline=baseline, offsets=offsets, quantification=quantification
    )  # fmt: skip
    product = read_sentinel2(safe.path)
    assert_truth(product, safe)
    assert product.kind == f"sentinel-2-{level.lower()}"
    assert product.acquired == ACQUIRED
    assert product.provenance["processing_baseline"] == baseline
    assert product.provenance["product"] == safe.path.name
    assert ("states no" in product.provenance["scaling"]) == (offsets is None)


def test_a_new_date_without_offset_has_none(tmp_path, rng):
    # The metadata decides, never the date: some reprocessed and harmonised products of 2022 have no offset.
    safe = write_safe(tmp_path, rng, baseline="03.01", offsets=None)
    assert all(band.offset == 0 for band in read_sentinel2(safe.path).bands)


@pytest.mark.parametrize("name", ["product.zip", "S2A_X.SAFE.zip", "no_suffix"])
@pytest.mark.parametrize("level", ["L2A", "L1C"])
def test_a_zip_reads_as_its_folder(tmp_path, rng, level, name):
    safe = write_safe(tmp_path, rng, level=level)
    packed = zip_safe(safe, name=name)
    product = read_sentinel2(packed)
    assert product.path == packed
    assert_truth(product, safe)


def test_the_metadata_file_stands_for_its_folder(tmp_path, rng):
    safe = write_safe(tmp_path, rng)
    assert read_sentinel2(safe.metadata).bands == read_sentinel2(safe.path).bands


def test_metadata_without_a_band_table_uses_the_specified_numbers(tmp_path, rng):
    safe = write_safe(tmp_path, rng, offsets=UNEQUAL)
    rewrite(safe.metadata, "Spectral_Information", "Left_Out")
    assert_truth(read_sentinel2(safe.path), safe)


def test_the_element_names_of_the_first_level_2a_products(tmp_path, rng):
    safe = write_safe(tmp_path, rng, baseline="02.05", offsets=None)
    for name in ("IMAGE_FILE", "PRODUCT_URI"):
        rewrite(safe.metadata, name, f"{name}_2A")
    rewrite(safe.metadata, "BOA_QUANTIFICATION", "L2A_BOA_QUANTIFICATION")
    product = read_sentinel2(safe.path)
    assert_truth(product, safe)
    assert product.provenance["product"] == safe.path.name


@pytest.mark.parametrize("packed", [False, True])
def test_scene_on_one_grid_with_classes(tmp_path, rng, packed):
    safe = write_safe(tmp_path, rng)
    product = read_sentinel2(zip_safe(safe) if packed else safe.path)
    bands = tuple(Band(name=name, unit=Unit.REFLECTANCE) for name in ("red", "nir"))
    scene = product_scene(product, Modality(name="eo", bands=bands))
    fine = np.repeat(np.repeat(safe.classes, 2, axis=0), 2, axis=1)
    usable = (fine > 1) & np.isfinite(safe.truth["B04"]) & np.isfinite(safe.truth["B08"])
    values = scene.read()
    np.testing.assert_array_equal(np.isfinite(values).all(axis=0), usable)
    for layer, band in zip(values, ("B04", "B08"), strict=True):
        np.testing.assert_allclose(layer[usable], safe.truth[band][usable], atol=2e-6)
    assert scene.quality is not None
    codes = scene.quality.values
    assert set(np.unique(codes[np.isin(fine, (8, 9, 10))])) == {Quality.CLOUD}
    assert set(np.unique(codes[fine == 3])) == {Quality.SHADOW}
    assert set(np.unique(codes[fine >= 11])) == {Quality.CLEAR}


def test_level_1c_has_the_mask_of_opaque_clouds_where_it_is_delivered(tmp_path, rng):
    safe = write_safe(tmp_path, rng, level="L1C")
    quality = read_sentinel2(safe.path).quality
    assert quality is not None
    assert quality.scheme is QualityScheme.MASK
    with rasterio.open(quality.href) as source:
        np.testing.assert_array_equal(source.read(quality.index), safe.classes)
    (safe.granule / "QI_DATA" / "MSK_CLASSI_B00.jp2").unlink()
    assert read_sentinel2(safe.path).quality is None


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<BOA_QUANTIFICATION_VALUE", "<OTHER", "well-formed"),
        ("BOA_QUANTIFICATION_VALUE", "OTHER", "no BOA_QUANTIFICATION_VALUE"),
        (">10000</BOA_Q", ">0</BOA_Q", "BOA_QUANTIFICATION_VALUE = 0 in"),
        (">10000</BOA_Q", ">1e308</BOA_Q", r"BOA_QUANTIFICATION_VALUE = 1e\+308 in .*1 to 1e\+06"),
        (">-1000</BOA_ADD_OFFSET>", ">-1e300</BOA_ADD_OFFSET>", r"BOA_ADD_OFFSET = -1e\+300; wanted"),
        (ACQUIRED, "never", "found 'never' as a time"),
        (ACQUIRED, "2022-06-31T10:15:59Z", "found '2022-06-31T10:15:59Z' as a time"),
        (">10000</BOA_Q", ">many</BOA_Q", "wanted a number"),
        (">10000</BOA_Q", ">inf</BOA_Q", "wanted a number"),
        ('BOA_ADD_OFFSET band_id="3"', 'BOA_ADD_OFFSET band_id="30"', "band_id '30'"),
        (">-1000</BOA_ADD_OFFSET>", "></BOA_ADD_OFFSET>", "wanted a number"),
        ("_B04_10m", "_B04x10m", "no file"),
        ("<IMAGE_FILE>GRANULE/", "<IMAGE_FILE>../", "name inside the product"),
        ("IMAGE_FILE", "PICTURE", "0 granules"),
        ("<n1:General_Info>", "<!DOCTYPE x []><n1:General_Info>", "document type"),
        ("</n1:General_Info>", "", "well-formed"),
    ],
)
def test_unusable_metadata_is_refused_in_one_line(tmp_path, rng, old, new, message):
    safe = write_safe(tmp_path, rng)
    if old == "_B04_10m":
        next(safe.path.rglob("*_B04_10m.jp2")).unlink()
    else:
        rewrite(safe.metadata, old, new)
    with pytest.raises(SceneError, match=message) as caught:
        read_sentinel2(safe.path)
    assert "\n" not in str(caught.value)
    assert str(safe.path) in str(caught.value)


def test_offset_of_one_band_missing_is_refused(tmp_path, rng):
    safe = write_safe(tmp_path, rng)
    rewrite(safe.metadata, '<BOA_ADD_OFFSET band_id="3">-1000</BOA_ADD_OFFSET>', "")
    with pytest.raises(SceneError, match="not for B04"):
        read_sentinel2(safe.path)


def test_other_things_are_no_sentinel2_product(tmp_path, rng):
    with pytest.raises(SceneError, match=r"neither MTD_MSIL2A\.xml nor"):
        read_sentinel2(tmp_path)
    with pytest.raises(SceneError, match="found nothing"):
        read_sentinel2(tmp_path / "absent.zip")
    safe = write_safe(tmp_path, rng)
    (safe.path / "MTD_MSIL1C.xml").write_bytes(safe.metadata.read_bytes())
    with pytest.raises(SceneError, match="wanted one"):
        read_sentinel2(safe.path)
