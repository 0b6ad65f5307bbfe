"""Products in folders, zips and tars: the same names and bytes, and nothing outside them or larger than allowed."""

import io
import ntpath
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from strategies import north_up, write_tiff

from equipoise.datasets import archive as archive_module
from equipoise.datasets.archive import Archive, is_safe_name, open_archive
from equipoise.datasets.errors import SceneError

CONTENT = {
    "MTD.xml": b"<a/>",
    "GRANULE/L2A/MTD_TL.xml": b"<b/>",
    "GRANULE/L2A/IMG_DATA/R10m/x_B02_10m.jp2": b"\x00" * 9,
}


def folder(path: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def zipped(path: Path, content: dict[str, bytes], *, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            file.writestr(top + name, data)
    return path


def tarred(path: Path, content: dict[str, bytes], *, top: str = "", mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, data in content.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def all_forms(path: Path) -> list[Archive]:
    return [
        open_archive(folder(path / "X.SAFE", CONTENT)),
        open_archive(folder(path / "around", {f"X.SAFE/{name}": data for name, data in CONTENT.items()})),
        open_archive(zipped(path / "flat.zip", CONTENT)),
        open_archive(zipped(path / "X.SAFE.zip", CONTENT, top="X.SAFE/")),
        open_archive(zipped(path / "no suffix", CONTENT, top="X.SAFE/")),
        open_archive(zipped(path / "mac.zip", {"__MACOSX/a": b"", **{f"X.SAFE/{k}": CONTENT[k] for k in CONTENT}})),
        open_archive(tarred(path / "flat.tar", CONTENT)),
        open_archive(tarred(path / "dotted.tar", CONTENT, top="./")),
        open_archive(tarred(path / "top.tar", CONTENT, top="X/")),
    ]  # fmt: skip


def test_every_form_has_the_same_names_and_bytes(tmp_path):
    for archive in all_forms(tmp_path):
        assert archive.names() == tuple(sorted(CONTENT)), archive.root
        assert {name: archive.read_bytes(name) for name in archive.names()} == CONTENT
        assert archive.read_xml("MTD.xml").tag == "a"


def test_find_keeps_to_one_folder_and_takes_either_case(tmp_path):
    for archive in all_forms(tmp_path):
        assert archive.find("*.xml") == ("MTD.xml",)
        assert archive.find("granule/*/mtd_TL.XML") == ("GRANULE/L2A/MTD_TL.xml",)
        assert archive.find("*/IMG_DATA/*") == ()
        assert archive.one("GRANULE/*/IMG_DATA/R10m/*_B02_10m.jp2").endswith("jp2")
        with pytest.raises(SceneError, match=r"found 0 files '\*\.tif'; wanted exactly one"):
            archive.one("*.tif")
        with pytest.raises(SceneError, match="no file 'absent'"):
            archive.read_bytes("absent")
        with pytest.raises(SceneError, match="no file 'absent'"):
            archive.href("absent")


@pytest.mark.parametrize("name", ["p.zip", "p {odd}.zip", "ö p.SAFE.zip", "zipped"])
@pytest.mark.parametrize("top", ["", "X.SAFE/", "./X/"])
def test_gdal_opens_what_href_says(tmp_path, name, top):
    values = np.arange(48, dtype=np.uint16).reshape(1, 6, 8)
    data = {"IMG/b.tif": write_tiff(tmp_path / "b.tif", values, north_up(6, 8)).read_bytes(), "a.xml": b"<a/>"}
    made = [folder(tmp_path / "folder", data), zipped(tmp_path / name, data, top=top)]
    made += [tarred(tmp_path / f"{name}.tar", data, top=top)]
    for path in made:
        with rasterio.open(open_archive(path).href("IMG/b.tif")) as source:
            np.testing.assert_array_equal(source.read(), values)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/passwd", "C:\\out", "..\\out", "\\\\host\\x"])
def test_names_that_lead_outside_are_refused(tmp_path, name):
    assert not is_safe_name(name)
    for path in (zipped(tmp_path / "a.zip", {name: b"", "b": b""}), tarred(tmp_path / "a.tar", {name: b"", "b": b""})):
        with pytest.raises(SceneError, match="leads out of the product"):
            open_archive(path)


@given(st.text("ab./\\:C", max_size=12))
def test_a_safe_name_stays_inside_on_every_system(name):
    if is_safe_name(name):
        for flavour in (os.path, ntpath):
            joined = flavour.normpath(flavour.join("root", name))
            assert joined == "root" or joined.startswith("root" + flavour.sep)


def test_links_that_lead_outside_are_refused(tmp_path):
    product = folder(tmp_path / "product", CONTENT)
    (tmp_path / "secret.xml").write_bytes(b"<secret/>")
    (product / "dangling.xml").symlink_to(product / "nowhere.xml")
    (product / "inside.xml").symlink_to(product / "MTD.xml")
    assert "dangling.xml" not in open_archive(product).names()
    assert open_archive(product).read_bytes("inside.xml") == b"<a/>"
    (tmp_path / "link").symlink_to(product)
    assert open_archive(tmp_path / "link").names() == open_archive(product).names()
    (product / "link.xml").symlink_to(tmp_path / "secret.xml")
    with pytest.raises(SceneError, match="links to a place outside"):
        open_archive(product)
    with tarfile.open(tmp_path / "linked.tar", "w") as file:
        info = tarfile.TarInfo("link.xml")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.xml")
        file.addfile(info)
    assert open_archive(tmp_path / "linked.tar").names() == ()


def test_sizes_are_bounded(tmp_path, monkeypatch):
    for path in (folder(tmp_path / "f", {"a": b"x" * 100}), zipped(tmp_path / "z.zip", {"a": b"x" * 100})):
        archive = open_archive(path)
        assert len(archive.read_bytes("a", limit=100)) == 100
        with pytest.raises(SceneError, match="of 100 bytes; wanted at most 99"):
            archive.read_bytes("a", limit=99)
    monkeypatch.setattr(archive_module, "BOMB_SIZE", 10_000)
    bomb = open_archive(zipped(tmp_path / "bomb.zip", {"b.jp2": bytes(1_000_000)}))
    with pytest.raises(SceneError, match="grows from"):
        bomb.href("b.jp2")
    monkeypatch.setattr(archive_module, "MEMBER_LIMIT", 2)
    for path in (
        folder(tmp_path / "many", CONTENT),
        zipped(tmp_path / "m.zip", CONTENT),
        tarred(tmp_path / "m.tar", CONTENT),
    ):
        with pytest.raises(SceneError, match="more than 2 files"):
            open_archive(path)


def test_a_size_that_lies_is_not_believed(tmp_path):
    packed = zipped(tmp_path / "lie.zip", {"a": b"x" * 5000})
    raw = packed.read_bytes()
    packed.write_bytes(raw.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(SceneError, match="cannot be read"):
        open_archive(packed).read_bytes("a", limit=100)


def test_damaged_encrypted_and_doubled_archives_are_refused(tmp_path):
    whole = zipped(tmp_path / "whole.zip", {"a": os.urandom(2000), "b": b"1"}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:1500])
    with pytest.raises(SceneError, match="neither folder"):
        open_archive(tmp_path / "cut.zip")
    (tmp_path / "flipped.zip").write_bytes(whole[:100] + bytes(50) + whole[150:])
    with pytest.raises(SceneError, match="cannot be read"):
        open_archive(tmp_path / "flipped.zip").read_bytes("a")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as twice:
        twice.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            twice.writestr("a", b"2")
    with pytest.raises(SceneError, match="two members of one name"):
        open_archive(tmp_path / "twice.zip")
    locked = bytearray(whole)
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(SceneError, match="encrypted"):
        open_archive(tmp_path / "locked.zip")
    with pytest.raises(SceneError, match=r"unpack it|neither folder"):
        open_archive(tarred(tmp_path / "small.tar.gz", CONTENT, mode="w:gz"))


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a []><a/>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="cp037"?>' + "<!DOCTYPE a []><a/>".encode("cp037"),
        b"<a><b></a>",
        b"<a>",
        b"",
        b"\xff\xfe\x00",
    ],
)
def test_xml_with_document_type_or_damage_is_refused(tmp_path, content):
    archive = open_archive(folder(tmp_path / "p", {"x.xml": content, "sub/y": b""}))
    with pytest.raises(SceneError, match=r"document type|well-formed") as caught:
        archive.read_xml("x.xml")
    assert "\n" not in str(caught.value)
