"""Integrity of delivered products: what is whole passes, what is damaged is named."""

import re
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import rasterio
from fake_landsat import tar_landsat, write_landsat
from fake_orbit import Geometry
from fake_sentinel1 import FakeGrd
from fake_sentinel2 import write_safe, zip_safe
from rasterio.shutil import copy as copy_raster
from strategies import north_up, write_tiff

from equipoise.datasets.block_checksums import check_deflate
from equipoise.datasets.errors import SceneError
from equipoise.datasets.integrity import verify_product

GRID = north_up(120, 130)


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 3000, (2, 120, 130)).astype(np.uint16)


@pytest.fixture
def tiled(tmp_path, values):
    return write_tiff(
        tmp_path / "eo.tif", values, GRID, tiled=True, blockxsize=64, blockysize=64, compress="deflate",
        interleave="band",
    )  # fmt: skip


@pytest.fixture
def safe(tmp_path):
    return write_safe(tmp_path, np.random.default_rng(1))


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 16
    path.write_bytes(content)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def blocks(path):
    """Offset and size of each block, from GDAL's own tags."""
    with rasterio.open(path) as source:
        return [
            tuple(int(source.get_tag_item(f"BLOCK_{key}_{x}_{y}", "TIFF", bidx=b)) for key in ("OFFSET", "SIZE"))
            for b in source.indexes
            for (y, x), _ in source.block_windows(b)
        ]


def test_whole_inputs_pass_and_the_line_says_what_was_compared(tmp_path, tiled, safe):
    assert verify_product(tiled) == f"{tiled}: 2 bands of 130 x 120 px decoded"
    images = len(list(safe.path.rglob("*.jp2")))
    assert verify_product(safe.path) == f"{safe.path}: {images} files agree with the checksums of manifest.safe"
    assert verify_product(safe.metadata).startswith(f"{safe.metadata}: {images} files agree")
    others = len([path for path in safe.path.rglob("*") if path.is_file()]) - images
    packed = zip_safe(safe)
    assert verify_product(packed).endswith(f"manifest.safe, {others} other members agree with the zip's checksums")
    landsat = write_landsat(tmp_path, np.random.default_rng(2), level=2)
    rasters = len(list(landsat.path.glob("*.TIF")))
    assert verify_product(landsat.path).endswith(f": {rasters} rasters decoded")
    assert verify_product(landsat.mtl).endswith(f": {rasters} rasters decoded")
    assert verify_product(tar_landsat(landsat)).endswith(f": {rasters} rasters decoded")


def test_radar_without_checksums_is_decoded(tmp_path):
    product = FakeGrd(geometry=Geometry(shape=(60, 70))).write(tmp_path)
    manifest = product / "manifest.safe"
    manifest.write_text(re.sub("<checksum.*?</checksum>| size=.*?(?=>)", "", manifest.read_text("utf-8")), "utf-8")
    assert verify_product(product).endswith(": 2 rasters decoded")
    image = next(product.glob("measurement/*-vh-*.tiff"))
    cut(image, image.stat().st_size - 100)
    with pytest.raises(SceneError, match=rf"{image.name}: found a raster that cannot be decoded"):
        verify_product(product)


@pytest.mark.parametrize("packed", [False, True])
def test_a_changed_bit_in_a_safe_product_is_found_and_named(safe, packed):
    image = next(safe.granule.rglob("*_B02_10m.jp2"))
    flip(image, image.stat().st_size // 2)  # the zip is made of the damaged folder: its own checksums agree
    path = zip_safe(safe) if packed else safe.path
    with pytest.raises(SceneError, match=f"{image.name}'"):
        verify_product(path)


def test_a_missing_or_cut_file_of_a_safe_product_is_found(safe):
    image = next(safe.granule.rglob("*_B03_10m.jp2"))
    content = image.read_bytes()
    cut(image, len(content) // 2)
    with pytest.raises(SceneError, match=f"{image.name}'"):
        verify_product(safe.path)
    image.unlink()
    with pytest.raises(SceneError, match=f"no file '.*{image.name}'"):
        verify_product(safe.path)


def test_a_manifest_cannot_lead_out_of_the_product(safe, tmp_path):
    (tmp_path / "secret").write_text("s")
    manifest = safe.path / "manifest.safe"
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace('href="./GRANULE', 'href="../secret', 1), "utf-8")
    with pytest.raises(SceneError, match=r"no file '../secret"):
        verify_product(safe.path)


def test_damage_anywhere_in_a_zip_is_found(safe):
    packed = zip_safe(safe)
    with zipfile.ZipFile(packed) as archive:
        member = next(info for info in archive.infolist() if info.filename.endswith("MTD_TL.xml"))
    flip(packed, member.header_offset + 30 + len(member.filename) + member.compress_size // 2)  # not in the manifest
    with pytest.raises(SceneError, match=r"MTD_TL.xml' that cannot be read"):
        verify_product(packed)


def test_without_a_manifest_a_cut_image_is_found_by_its_form(safe):
    """GDAL alone decodes a cut JPEG 2000 file, and gives out numbers for what is not there."""
    (safe.path / "manifest.safe").unlink()
    images = len(list(safe.path.rglob("*.jp2")))
    assert verify_product(safe.path).endswith(f": {images} rasters decoded")
    image = next(safe.granule.rglob("*_B05_20m.jp2"))
    content = image.read_bytes()
    for size in (0, 5, 60, len(content) // 2, len(content) - 1):
        image.write_bytes(content[:size])
        with pytest.raises(SceneError, match=image.name):
            verify_product(safe.path)


@pytest.mark.parametrize("kind", ["tiled", "uncompressed", "cog", "big"])
def test_every_truncation_of_a_raster_is_found(tmp_path, values, kind):
    """Wherever the directory lies: a lost tag (here of six bytes) makes -9999 an observation."""
    path = tmp_path / "dem.tif"
    creation = {"tiled": {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}}.get(kind, {})
    creation |= {"BIGTIFF": "YES"} if kind == "big" else {}
    write_tiff(path, values.astype(np.int16), GRID, nodata=-9999, tags={"ACQUIRED": "2021-06-03"}, **creation)
    if kind == "cog":
        copy_raster(path, tmp_path / "cog.tif", driver="COG", BLOCKSIZE=128, COMPRESS="DEFLATE")
        path = tmp_path / "cog.tif"
    assert verify_product(path).endswith("decoded")
    content = path.read_bytes()
    # GDAL pads; a COG repeats the last four bytes of each block behind it.
    whole = len(content.rstrip(b"\0")) - (4 if kind == "cog" else 0)
    for size in {*np.linspace(0, whole - 1, 40).astype(int).tolist(), *range(whole - 40, whole)}:
        path.write_bytes(content[:size])
        with pytest.raises(SceneError, match=f"{path.name}: found"):
            verify_product(path)


def test_every_changed_bit_in_a_deflate_block_is_found_although_gdal_passes_some(tiled, values):
    content, rng = tiled.read_bytes(), np.random.default_rng(3)
    passed = 0
    for offset, size in blocks(tiled) * 12:
        changed = bytearray(content)
        changed[offset + rng.integers(size)] ^= 1 << rng.integers(8)
        tiled.write_bytes(changed)
        with pytest.raises(SceneError, match=f"{tiled.name}: found"):
            verify_product(tiled)
        try:
            with rasterio.open(tiled) as source:
                passed += bool((source.read() != values).any())
        except rasterio.errors.RasterioError:
            pass
    assert passed > 0, "GDAL compares all checksums by now: block_checksums.py has become superfluous"


def test_blocks_shared_by_all_bands_sparse_files_and_other_compressions_pass(tmp_path, values):
    pixel = write_tiff(tmp_path / "pixel.tif", values, GRID, compress="deflate", interleave="pixel", predictor=2)
    with rasterio.open(pixel) as source:
        check_deflate(source, pixel)
    with rasterio.open(
        tmp_path / "sparse.tif", "w", driver="GTiff", count=1, height=512, width=512, dtype="uint8", tiled=True,
        compress="deflate", SPARSE_OK=True, crs=GRID.crs.to_wkt(), transform=GRID.affine,
    ) as file:  # fmt: skip
        file.write(np.ones((1, 256, 256), np.uint8), window=((0, 256), (0, 256)))
    for path in (pixel, tmp_path / "sparse.tif", write_tiff(tmp_path / "lzw.tif", values, GRID, compress="lzw")):
        assert verify_product(path).endswith("decoded")


def test_an_internal_mask_is_decoded_too(tmp_path, values):
    path = tmp_path / "masked.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_tiff(path, values, GRID)
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.indices((120, 130)).sum(axis=0) % 7 != 0)
    assert verify_product(path).endswith("decoded")
    with rasterio.open(path) as file:
        mask = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=None) or 0)
    assert 0 < mask < path.stat().st_size
    cut(path, path.stat().st_size - 8)
    with pytest.raises(SceneError, match=r"masked.tif: found"):
        verify_product(path)


def test_a_cut_png_is_found_although_gdal_fills_it_up(tmp_path, values):
    plain = write_tiff(tmp_path / "plain.tif", (values[:1] // 16).astype(np.uint8), GRID)
    path = tmp_path / "chip.png"
    copy_raster(plain, path, driver="PNG")
    assert verify_product(path).endswith("1 bands of 130 x 120 px decoded")
    content = path.read_bytes()
    for size in (len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(SceneError, match=r"chip.png: found a (damaged chunk|raster that)"):
            verify_product(path)
    path.write_bytes(content)
    flip(path, len(content) // 2)
    with pytest.raises(SceneError, match=r"chip.png: found"):
        verify_product(path)


def test_the_sources_of_a_vrt_are_looked_at(tmp_path, tiled):
    mosaic = tmp_path / "mosaic.vrt"
    copy_raster(tiled, mosaic, driver="VRT")
    assert verify_product(mosaic).endswith("decoded")
    offset, size = blocks(tiled)[3]
    flip(tiled, offset + size - 1)
    with pytest.raises(SceneError, match=r"eo.tif: found a damaged block"):
        verify_product(mosaic)
    tiled.unlink()
    with pytest.raises(SceneError, match=r"mosaic.vrt: found a raster that cannot be decoded"):
        verify_product(mosaic)


def test_a_header_that_claims_what_the_file_cannot_hold_is_refused_at_once(tmp_path):
    hollow = tmp_path / "hollow.tif"
    with rasterio.open(
        hollow, "w", driver="GTiff", count=1, height=200_000, width=200_000, dtype="uint16", tiled=True,
        blockxsize=4096, blockysize=4096, SPARSE_OK=True, crs=GRID.crs.to_wkt(), transform=GRID.affine,
    ):  # fmt: skip
        pass
    with pytest.raises(SceneError, match="found a header of 200000 x 200000 px, 80000000000 bytes"):
        verify_product(hollow)


def test_what_is_no_product_is_said(tmp_path):
    with pytest.raises(SceneError, match=r"a.tif: found a raster that cannot be decoded"):
        verify_product(tmp_path / "a.tif")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SceneError, match="no product known here"):
        verify_product(tmp_path / "folder")


def test_a_landsat_product_beside_others_is_verified_alone(tmp_path):
    product = write_landsat(tmp_path, np.random.default_rng(4))
    (product.path / "other_MTL.txt").write_text("GROUP = A\nEND_GROUP = A\nEND\n")
    (product.path / "other_B1.TIF").write_bytes(b"cut")
    assert "rasters decoded" in verify_product(product.mtl)
    band = next(product.path.glob("*_B4.TIF"))
    cut(band, band.stat().st_size - 10)
    with pytest.raises(SceneError, match=f"{band.name}: found"):
        verify_product(product.mtl)


def test_a_cut_tar_is_refused(tmp_path):
    packed = tar_landsat(write_landsat(tmp_path, np.random.default_rng(5)))
    with tarfile.open(packed) as archive:
        last = archive.getmembers()[-1]
    cut(packed, last.offset_data + 10)
    with pytest.raises(SceneError, match=packed.name):
        verify_product(packed)
    shutil.rmtree(packed.with_suffix(""))
