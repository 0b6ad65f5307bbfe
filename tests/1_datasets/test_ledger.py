"""Checksums as catalogs declare them, and file names made from foreign text."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.datasets.ledger import DownloadError, safe_name, verify

CONTENT = b"pixels" * 1000

#: Multihash prefixes written out from the multiformats table: code and length.
PREFIXES = {"sha1": "1114", "sha256": "1220", "sha512": "1340", "sha384": "2030", "md5": "d50110", "sha3_256": "1620"}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.tif").write_bytes(CONTENT)
    return tmp_path / "a.tif"


@pytest.mark.parametrize("name", PREFIXES)
def test_every_kind_of_checksum_is_compared(path, name):
    good = PREFIXES[name] + hashlib.new(name, CONTENT).hexdigest()
    assert verify(path, name="a", size=None, checksum=good) == name
    bad = PREFIXES[name] + hashlib.new(name, b"other").hexdigest()
    with pytest.raises(DownloadError, match=f"a: found {name} .* wanted "):
        verify(path, name="a", size=None, checksum=bad)


@pytest.mark.parametrize("checksum", ["", "zz", "12", "1220aa", "90e4021c" + "0" * 60, "ffff"])
def test_a_checksum_that_cannot_be_read_verifies_nothing(path, checksum):
    assert verify(path, name="a", size=None, checksum=checksum) == "nothing"
    assert verify(path, name="a", size=len(CONTENT), checksum=checksum) == "size"


@given(text=st.text(max_size=200))
def test_a_name_is_one_harmless_file_name(text):
    name = safe_name(text)
    assert name
    assert not name.startswith(".")
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert len(name) <= 120


@given(texts=st.lists(st.text(max_size=8), min_size=2, max_size=2, unique=True))
def test_two_texts_never_share_a_name(texts):
    first, second = texts
    assert safe_name(first) != safe_name(second)


def test_an_ordinary_name_is_kept():
    assert safe_name("S2B_20210710") == "S2B_20210710"
