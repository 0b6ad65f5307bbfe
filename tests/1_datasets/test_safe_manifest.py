"""Manifests of SAFE products: a file that was cut or changed since it was made is found out."""

import numpy as np
import pytest
from fake_sentinel2 import write_safe, zip_safe

from equipoise.datasets.archive import open_archive
from equipoise.datasets.errors import SceneError
from equipoise.datasets.safe_manifest import check_checksums, check_sizes, read_manifest
from equipoise.datasets.sentinel2 import read_sentinel2


@pytest.fixture
def safe(tmp_path):
    return write_safe(tmp_path, np.random.default_rng(5))


@pytest.mark.parametrize("packed", [False, True])
def test_a_whole_product_agrees_with_its_manifest(safe, packed):
    images = sorted(file.relative_to(safe.path).as_posix() for file in safe.path.rglob("*.jp2"))
    path = zip_safe(safe) if packed else safe.path
    archive = open_archive(path)
    check_sizes(archive, archive.names())
    assert sorted(read_manifest(archive)) == images
    assert sorted(check_checksums(path)) == images


def test_a_truncated_image_is_refused_when_the_product_is_read(safe):
    # 20 m and 60 m bands have tiles smaller than a block of ours: GDAL would read a truncated one without an error.
    (band,) = safe.granule.glob("IMG_DATA/R20m/*_B05_20m.jp2")
    content = band.read_bytes()
    for length in (0, 100, len(content) - 1):
        band.write_bytes(content[:length])
        with pytest.raises(SceneError, match=rf"_B05_20m.jp2' of {length} bytes; wanted the {len(content)}"):
            read_sentinel2(safe.path)
    (safe.path / "manifest.safe").unlink()
    assert read_sentinel2(safe.path).bands  # nothing to compare with


def test_changed_bytes_of_the_same_number_are_found_by_checksum(safe):
    (band,) = safe.granule.glob("IMG_DATA/R10m/*_B02_10m.jp2")
    content = bytearray(band.read_bytes())
    content[len(content) // 2] ^= 1
    band.write_bytes(content)
    check_sizes(open_archive(safe.path), open_archive(safe.path).names())
    with pytest.raises(SceneError, match=r"_B02_10m.jp2' with another checksum"):
        check_checksums(safe.path)
    band.unlink()
    with pytest.raises(SceneError, match=r"no file '.*_B02_10m.jp2'"):
        check_checksums(safe.path)


def test_entries_that_say_nothing_are_left_out(tmp_path):
    (tmp_path / "manifest.safe").write_text(
        "<m><byteStream size='x'><fileLocation href='a'/></byteStream><byteStream size='1'/>"
        "<byteStream size='1'><fileLocation href='./b'/><checksum checksumName='CRC'>0</checksum></byteStream></m>"
    )
    (tmp_path / "b").write_bytes(b"1")
    archive = open_archive(tmp_path)
    assert set(read_manifest(archive)) == {"b"}
    assert check_checksums(tmp_path) == ()
