"""Damaged inputs: a clear error or the right result, never a crash, a hang or silent garbage.

Every case damages one file of one specimen (tests/fuzz_specimens.py) and reads it in a process of its own
(tests/fuzz_reading.py), after :func:`verify_product`, as `equipoise validate` does.

Products whose files carry checksums (SAFE folder with a manifest, zip) and every other damage that can be told (a cut
raster, a changed deflate block, anything in a PNG) must be refused or read as if nothing had happened. What nothing
protects cannot be told from other data, and there only the form is checked (shapes, types, masks, finite values):
changed bytes in uncompressed pixels, in the header of a plain raster that stays valid (its position, nodata, tags), in
text (VRT, MTL, JSON, YAML, CSV), and one band's file in the place of another's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fuzz_reading import Child, Reading
from fuzz_specimens import WRITERS, Specimen, build_specimens, copy_of, forget_checksums
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rasterio.enums import Compression

from equipoise.datasets.product import quiet_open

CASES = 300

#: Seconds that one case may take on a busy machine; an undamaged specimen takes 0.3.
PATIENCE = 30

#: Words that are put in the place of numbers and names.
ABSURD = (
    "\u00b2",  # a digit that is no number
    "2021-13-45",
    "0",
    "-1",
    "nan",
    "inf",
    "1e999",
    "1e-320",
    "99999999999999999999",
    "",
    "x",
    "-0.0",
    "1e6",
    "3.5",
    "true",
    "..",
)

#: Ways of damage; the first three are what storage and networks do, most often.
KINDS = ("truncate", "flip", "zeros", "ones", "delete", "empty", "swap")


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is done to one file: ``where`` is a share of its length, ``seed`` draws bits, ``run`` is in bytes."""

    kind: str
    where: float
    run: int
    seed: int

    def apply(self, content: bytes, other: bytes) -> bytes | None:
        """Return the damaged bytes; None for a file that is gone."""
        start = int(self.where * len(content))
        damaged = bytearray(content)
        if self.kind == "truncate":
            return content[:start]
        if self.kind == "flip":
            rng = np.random.default_rng(self.seed)
            # Half of them near one place, so that headers are met, too.
            reach = len(content) if self.seed % 2 else min(len(content), 64)
            for _ in range(1 + self.run % 64):
                damaged[(start + int(rng.integers(reach))) % len(content)] ^= 1 << int(rng.integers(8))
            return bytes(damaged)
        if self.kind in ("zeros", "ones"):
            length = min(self.run, len(content) - start)
            damaged[start : start + length] = (b"\0" if self.kind == "zeros" else b"\xff") * length
            return bytes(damaged)
        return {"delete": None, "empty": b"", "swap": other}[self.kind]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Any damage; headers are met more often than their share of the bytes."""
    header = st.floats(0.0, 0.02)
    return Damage(
        kind=draw(st.sampled_from(KINDS[:4] * 3 + KINDS[4:])),
        where=draw(st.floats(0.0, 0.999) | header),
        run=draw(st.integers(1, 64) | st.integers(1, 4096)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> list[Specimen]:
    return build_specimens(tmp_path_factory.mktemp("specimens"), np.random.default_rng(20))


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child(seconds=PATIENCE)
    yield child
    child.close()


@pytest.fixture(scope="module")
def undamaged(specimens: list[Specimen], child: Child) -> dict[str, Reading]:
    return {specimen.name: child.read(specimen) for specimen in specimens}


@pytest.mark.parametrize("name", WRITERS)
def test_an_undamaged_specimen_is_read(undamaged: dict[str, Reading], name: str):
    reading = undamaged[name]
    assert reading.faults == ()
    assert (reading.refused, reading.error) == (None, None)
    assert reading.digest


@given(data=st.data())
@settings(derandomize=True, max_examples=CASES, database=None, print_blob=False)
def test_damage_is_refused_or_harmless(
    data: st.DataObject, specimens: list[Specimen], undamaged: dict[str, Reading], child: Child, tmp_path_factory
):
    specimen = data.draw(st.sampled_from(specimens), label="specimen")
    victim = data.draw(st.sampled_from(specimen.victims()), label="victim")
    other = data.draw(st.sampled_from(specimen.victims()), label="other")
    damage = data.draw(damages(), label="damage")
    original = (specimen.folder / victim).read_bytes()
    content = damage.apply(original, (specimen.folder / other).read_bytes())
    assume(content != original)
    folder = tmp_path_factory.mktemp("case")
    reading = child.read(copy_of(specimen, folder, victim=victim, content=content))
    if fault := judged(specimen, victim, damage, content, reading, undamaged[specimen.name]):
        pytest.fail(f"{specimen.name}: {victim} with {damage}: {fault}", pytrace=False)


@given(data=st.data())
@settings(derandomize=True, max_examples=CASES // 3, database=None, print_blob=False)
def test_absurd_words_in_text_are_refused_or_taken(
    data: st.DataObject, specimens: list[Specimen], child: Child, tmp_path_factory
):
    """Metadata without checksums, and settings, in which a number is no number, far out of range, or another's."""
    specimen, victim = data.draw(st.sampled_from(texts(specimens)), label="file")
    text = (specimen.folder / victim).read_text("utf-8")
    words = list(re.finditer(r"(?<=[>\"= :,(\[])[-+\w.:]+(?=[<\", \n\])])", text))
    at = data.draw(st.sampled_from(range(len(words))), label="word")
    other = words[data.draw(st.integers(0, len(words) - 1), label="other")].group()
    word = data.draw(st.sampled_from((*ABSURD, other)), label="instead")
    content = text[: words[at].start()] + word + text[words[at].end() :]
    folder = tmp_path_factory.mktemp("words")
    case = copy_of(specimen, folder, victim=victim, content=content.encode())
    forget_checksums(folder)
    assert child.read(case).faults == ()


@pytest.mark.parametrize(
    ("name", "victim", "before", "after"),
    [
        pytest.param("stack", "stack.json", '"shape": [\n    150', '"shape": [\n    180', id="a larger grid"),
        pytest.param("stack", "stack.json", '"shape": [\n    150', '"shape": [\n    140', id="a smaller grid"),
        pytest.param("stack", "stack.json", '"shape": [\n    150', '"shape": [\n    1e999', id="an endless grid"),
        pytest.param("vrt", "mosaic.vrt", ">500000.0, 10.0", ">500000.0, nan", id="no size"),
        pytest.param("vrt", "mosaic.vrt", ">500000.0, 10.0", ">500000.0, 0", id="a size of 0"),
        pytest.param("vrt", "mosaic.vrt", "EPSG:32633", "EPSG:5806", id="a CRS that is no plane"),
    ],
)
def test_what_fuzzing_found_is_refused(specimens, child, tmp_path, name: str, victim: str, before: str, after: str):
    """Each of these once came out as another exception, or as numbers from another place."""
    specimen = next(specimen for specimen in specimens if specimen.name == name)
    text = (specimen.folder / victim).read_text("utf-8")
    assert before in text
    reading = child.read(copy_of(specimen, tmp_path, victim=victim, content=text.replace(before, after).encode()))
    assert reading.faults == ()
    assert reading.error is not None


def test_a_header_that_is_no_text_is_refused(specimens, child, tmp_path):
    """GDAL quotes the bytes in its message, and rasterio then raises UnicodeDecodeError."""
    specimen = next(specimen for specimen in specimens if specimen.name == "vrt")
    content = (specimen.folder / "mosaic.vrt").read_bytes().replace(b"<SRS>EPSG", b"<SRS\xff>EPSG")
    reading = child.read(copy_of(specimen, tmp_path, victim="mosaic.vrt", content=content))
    assert reading.faults == ()
    assert reading.error is not None


def test_a_cut_png_is_refused_by_the_reader_itself(specimens, child, tmp_path):
    """GDAL reads it as a whole without an error and fills it up with white."""
    specimen = next(specimen for specimen in specimens if specimen.name == "png")
    content = (specimen.folder / "chip.png").read_bytes()
    reading = child.read(copy_of(specimen, tmp_path, victim="chip.png", content=content[: len(content) // 2]))
    assert reading.error is not None


def texts(specimens: list[Specimen]) -> list[tuple[Specimen, str]]:
    """Files that are text."""
    suffixes = (".vrt", ".txt", ".json", ".csv", ".yaml", ".xml")
    return [
        (specimen, victim)
        for specimen in specimens
        for victim in specimen.victims()
        if victim.lower().endswith(suffixes)
    ]


def judged(
    specimen: Specimen, victim: str, damage: Damage, content: bytes | None, reading: Reading, right: Reading
) -> str | None:
    """Say what is wrong with the reading of a damaged specimen, or None."""
    if reading.faults:
        return "; ".join(reading.faults)
    if reading.refused is not None or reading.error is not None or reading.digest == right.digest:
        return None
    if specimen.proven:
        return "silent garbage in a product with checksums"
    # A configuration names rasters by a pattern, and finds those that are there.
    if specimen.reader != "configuration" and can_be_told(specimen.folder / victim, damage, content):
        return "silent garbage, although this damage can be told"
    return None


def can_be_told(original: Path, damage: Damage, content: bytes | None) -> bool:
    """Whether a changed file betrays itself: a cut raster, anything in a PNG, changed bytes in deflate blocks only."""
    if not content:
        return original.suffix.lower() in (".tif", ".png", ".nc", ".parquet")
    if original.suffix.lower() != ".tif":
        return original.suffix == ".png"
    if damage.kind == "truncate":
        return True
    before, after = (np.frombuffer(part, np.uint8) for part in (original.read_bytes(), content))
    return len(before) == len(after) and bool(deflated(original)[before != after].all())


def deflated(path: Path) -> np.ndarray:
    """Which bytes of a TIFF lie in deflate blocks of full resolution, bool (bytes,)."""
    inside = np.zeros(path.stat().st_size, dtype=bool)
    with quiet_open(path) as source:
        # Adler-32 adds up bytes: blocks of a few small class values often agree by chance.
        if source.compression is not Compression.deflate or source.dtypes[0] == "uint8":
            return inside
        for band in source.indexes:
            for (row, column), _ in source.block_windows(band):
                start = int(source.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band))
                size = int(source.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band))
                inside[start : start + size] = True
    return inside
