"""STAC of a batch run: valid, complete, served by any web server, and the same wherever the folder is moved."""

import hashlib
import json
import re
import shutil
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

import geopandas
import numpy as np
import pystac
import pytest
import rasterio.shutil
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.mlm import MLMExtension
from pystac.validation import JsonSchemaSTACValidator
from pystac_client import Client
from pystac_client.stac_api_io import StacApiIO

from equipoise.datasets.raster import cog_writer
from equipoise.datasets.stack import AlignedStack
from equipoise.models.checkpoint import ModelCard, model_digest, save_model
from equipoise.models.network import FusionUNet, NetworkSpec
from equipoise.pipeline.batch.collection import write_collection
from equipoise.pipeline.batch.item_place import unit_place
from equipoise.pipeline.errors import PipelineError
from equipoise.pipeline.map_companions import model_source, write_companions
from equipoise.pipeline.predict import predict_scene
from equipoise.pipeline.stac_asset import EXTENSION_OF
from equipoise.pipeline.stac_model import ModelSource
from equipoise.pipeline.stage_options import PredictOptions
from equipoise.pipeline.trust_maps import write_trust

OPTIONS = PredictOptions(tile=32, overlap=0, reliance_tile=8, device="cpu")

UNITS = {
    "utm32n_e0001_n0002": ("EPSG:32632", (740_000.0, 5_000_000.0), "2024-05-01T10:00:00Z"),
    "utm33n_e0003_n0004": ("EPSG:32633", (260_000.0, 5_010_000.0), "2024-06-11T05:30:00Z"),
}

REMOTE = "https://catalog.example.org/v1/collections/optical/items/S2B_33TWM"

REGIONS = {"Marsh & <delta>": (11.9, 44.0, 12.2, 46.0), "far side": (11.0, 45.0, 12.03, 45.15)}


@dataclass(frozen=True)
class Row:
    """What is asked of a row of the ledger."""

    name: str
    record: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A run's folder beside its model's, both within ``root``."""

    root: Path
    rows: list[Row]
    written: list[Path]
    model: ModelSource

    @property
    def out(self) -> Path:
        return self.root / "runs" / "spring"

    @property
    def jsons(self) -> list[Path]:
        return [*self.written, *(self.out / "units" / row.name / f"{row.name}.json" for row in self.rows)]


def _stack(folder: Path, name: str, crs: str, corner: tuple[float, float], *, rng: np.random.Generator) -> AlignedStack:
    grid = GeoBox((40, 48), Affine(10.0, 0.0, corner[0], 0.0, -10.0, corner[1]), crs)
    folder.mkdir(parents=True)
    for modality, count in (("eo", 2), ("sar", 1)):
        names, unit = [f"{modality}{band}" for band in range(count)], ",".join(["digital_number"] * count)
        with cog_writer(
            folder / f"{modality}.tif", grid, count=count, dtype="float32", nodata=float("nan"),
            overview_resampling="average", descriptions=names, tags={"unit": unit},
        ) as writer:  # fmt: skip
            writer.write(rng.normal(size=(count, 40, 48)).astype(np.float32))
    present = {modality: folder / f"{modality}.tif" for modality in ("eo", "sar")}
    return AlignedStack(name=name, geobox=grid, modalities=("eo", "sar"), present=present, missing={})


def _map(stack: AlignedStack, predictor, *, model: Path, out: Path) -> Row:
    """Map a unit in a folder of its own, which then gets its name, as workers do."""
    sources = [{"id": "S2B_33TWM", "collection": "optical", "href": REMOTE},
               {"id": "sar", "collection": None, "href": str(stack.present["sar"])}]  # fmt: skip
    work = out / ".work" / "a" / "deeper" / stack.name
    work.mkdir(parents=True)
    files = predict_scene(stack, predictor, options=OPTIONS, folder=work, resume="one")
    trust, _ = write_trust(
        stack, predictor.normaliser, classes=files.classes, reliance=files.reliance, tile=OPTIONS.reliance_tile,
        doubt=OPTIONS.trust, model=predictor.digest, folder=work, resume="one",
    )  # fmt: skip
    place = unit_place(stack.name, out=out, collection="spring", digest=predictor.digest, sources=sources)
    write_companions(stack, files, trust, predictor, model=model, place=place)
    hashes = {
        path.name: [path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in work.iterdir()
        if path.is_file()
    }
    (out / "units").mkdir(exist_ok=True)
    work.rename(out / "units" / stack.name)
    return Row(stack.name, {"state": "done", "files": hashes, "sources": sources})


def _extras(out: Path) -> dict[Path, str]:
    grid = GeoBox((64, 64), Affine(10.0, 0.0, 260_000.0, 0.0, -10.0, 5_010_000.0), "EPSG:32633")
    (out / "regions").mkdir()
    mosaic = out / "regions" / "delta.classes.tif"
    with cog_writer(mosaic, grid, count=1, dtype="uint8", nodata=255, overview_resampling="mode",
                    descriptions=["class"]) as writer:  # fmt: skip
        writer.write(np.zeros((1, 64, 64), np.uint8))
    rasterio.shutil.copy(mosaic, mosaic.with_suffix(".vrt"), driver="VRT")
    frame = geopandas.GeoDataFrame({"name": ["delta"]}, geometry=[shapely.box(11.9, 44, 12.2, 46)], crs="EPSG:4326")
    frame.to_parquet(out / "regions.parquet")
    frame.to_file(out / "ledger.gpkg", layer="units", driver="GPKG")
    (out / "report.html").write_text("<!doctype html><title>report</title>")
    return {
        mosaic: "classes of delta", mosaic.with_suffix(".vrt"): "classes of all regions",
        out / "regions.parquet": "figures by region", out / "ledger.gpkg": "units", out / "report.html": "report",
    }  # fmt: skip


@pytest.fixture(scope="module")
def tree(make_predictor, tmp_path_factory) -> Tree:
    """Units of two zones, with all that a run writes; then moved, with the model, to another place."""
    root, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    spec = NetworkSpec(modalities=("eo", "sar"), in_channels=(2, 1), classes=3, depth=1, decoder_channels=(4,))
    predictor = make_predictor(FusionUNet(spec), bands={"eo": 2, "sar": 1}, classes=3)
    model = root / "models" / "wetlands"
    save_model(model, predictor.network, ModelCard(
        network=spec.to_dict(), classes=tuple({"value": item.value, "name": item.name} for item in predictor.classes),
        modalities=({"name": "eo"}, {"name": "sar"}), class_prior=(0.2, 0.3, 0.5),
    ))  # fmt: skip
    predictor, out = replace(predictor, digest=model_digest(model)), root / "runs" / "spring"
    rows = []
    for name, (crs, corner, acquired) in UNITS.items():
        stack = _stack(root / "aligned" / name, name, crs, corner, rng=rng)
        rows.append(_map(replace(stack, acquired={"eo": acquired}), predictor, model=model, out=out))
    waiting = [Row("utm33n_e0009_n0009", None), Row("utm33n_e0009_n0010", {"state": "empty"})]
    source = model_source(predictor, folder=model)
    written = write_collection(
        out, name="spring", rows=[*rows, *waiting], model=source, regions=REGIONS, files=_extras(out), title="Spring",
    )  # fmt: skip
    shutil.rmtree(out / ".work")
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    shutil.move(root, moved)
    source = replace(source, folder=moved / model.relative_to(root))
    return Tree(root=moved, rows=rows, written=[moved / path.relative_to(root) for path in written], model=source)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def _fields(value: Any) -> set[str]:
    """Return the prefixes of all fields within, but for links: these may name fields without declaring them."""
    if isinstance(value, dict):
        prefixes = {key.partition(":")[0] for key in value if ":" in key}
        return prefixes.union(*(_fields(part) for key, part in value.items() if key != "links"))
    return set().union(*map(_fields, value)) if isinstance(value, list) else set()


def test_every_file_satisfies_the_schemas_of_stac(tree):
    validator = JsonSchemaSTACValidator()  # with pystac's own copies of the schemas: nothing is fetched
    known = set(validator.schema_cache)
    for path in tree.jsons:
        record = json.loads(path.read_text())
        kind = pystac.STACObjectType(record["type"])
        validator.validate_core(record, kind, "1.1.0")
        broken = {key: value for key, value in record.items() if key != "links"}
        with pytest.raises(pystac.STACValidationError):
            validator.validate_core(broken, kind, "1.1.0")
    assert len(tree.jsons) == 5
    assert set(validator.schema_cache) == known


def test_extensions_are_declared_where_their_fields_are(tree):
    for path in tree.jsons:
        record = json.loads(path.read_text())
        assert {EXTENSION_OF[prefix] for prefix in _fields(record)} == set(record.get("stac_extensions", [])), path


def test_no_file_knows_where_it_was_made(tree):
    for path in tree.jsons:
        record = json.loads(path.read_text())
        text = path.read_text()
        assert "file://" not in text
        assert str(tree.root) not in text
        assert not re.search(r'"/', text)
        hrefs = [entry["href"] for entry in [*record["links"], *record.get("assets", {}).values()]]
        assert all(href.startswith(("./", "../")) or href == REMOTE for href in hrefs)


def test_a_web_server_and_pystac_find_everything(tree):
    with _served(tree.root) as address:
        collection = pystac.Collection.from_file(f"{address}runs/spring/collection.json")
        items = list(collection.get_items(recursive=True))
        assert [item.id for item in items] == list(UNITS)
        model = collection.get_single_link("derived_from").resolve_stac_object(root=collection).target
        for item in items:
            assert item.get_root() is collection
            assert item.get_parent() is collection
            assert item.get_collection() is collection
            links = item.get_links("derived_from")
            assert [link.absolute_href for link in links] == [
                REMOTE, f"{address}aligned/{item.id}/sar.tif", model.get_self_href(),
            ]  # fmt: skip
            with urlopen(links[1].absolute_href) as answer:  # noqa: S310 (of the server above)
                assert answer.read() == (tree.root / f"aligned/{item.id}/sar.tif").read_bytes()
            expression = item.properties["processing:expression"]["expression"]
            assert urljoin(item.get_self_href(), expression) == model.get_self_href()
        assert model.get_root_link().absolute_href == collection.get_self_href()
        seen = 0
        for owner in (collection, model, *items):
            for asset in owner.assets.values():
                with urlopen(asset.get_absolute_href()) as answer:  # noqa: S310 (of the server above)
                    content = answer.read()
                    assert int(answer.headers["Content-Length"]) == asset.extra_fields["file:size"] == len(content)
                assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
                assert asset.media_type
                assert asset.roles
                seen += 1
    assert seen == 5 + 3 + 2 * 5


# A static catalog has no search, and says nothing of conformance: the client says so, and walks it.
@pytest.mark.filterwarnings("ignore::pystac_client.warnings.PystacClientWarning")
def test_the_reader_of_pystac_client_opens_the_collection(tree):
    """Its sessions and retries read a collection; ``Client`` begins with a catalog, which there is for it."""
    reader = StacApiIO()
    with _served(tree.root) as address:
        collection = pystac.Collection.from_file(f"{address}runs/spring/collection.json", stac_io=reader)
        assert [item.id for item in collection.get_items()] == list(UNITS)
        assert collection.get_item("utm32n_e0001_n0002").properties["proj:code"] == "EPSG:32632"
        client = Client.open(f"{address}runs/spring/catalog.json", stac_io=StacApiIO())
        (listed,) = client.get_collections()
        assert listed.id == "spring"
        assert [item.id for item in client.get_items(recursive=True)] == list(UNITS)
    reader.session.close()


def test_what_the_page_says_runs(tree, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "batch-stac.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tree.out.parent)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block.replace("out/", "spring/"), names)  # noqa: S102 (a page of this repository)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [[name, crs] for name, (crs, _, _) in UNITS.items()]
    assert Path(lines[2].split()[1]).samefile(tree.model.folder / "model.safetensors")
    classes = names["cube"]["classes"].to_numpy()
    # Of each unit, 40 x 48 pixels of 10 m are a quarter as many of 20 m.
    np.testing.assert_allclose((classes != 255).sum(axis=(1, 2)), 40 * 48 / 4, rtol=0.05)


def test_the_extent_holds_all_items_and_each_region(tree):
    record = json.loads(tree.written[0].read_text())
    boxes = np.array(record["extent"]["spatial"]["bbox"])
    outlines = []
    for crs, (west, north), _ in UNITS.values():
        outline = GeoBox((40, 48), Affine(10.0, 0.0, west, 0.0, -10.0, north), crs).extent.to_crs("EPSG:4326")
        outlines.append(outline.boundingbox.bbox)
    whole = [*np.min(outlines, axis=0)[:2], *np.max(outlines, axis=0)[2:]]
    np.testing.assert_allclose(boxes[0], whole, atol=1e-6)
    np.testing.assert_allclose(boxes[2], [whole[0], whole[1], 12.03, 45.15], atol=1e-6)
    assert record["extent"]["temporal"]["interval"] == [["2024-05-01T10:00:00Z", "2024-06-11T05:30:00Z"]]
    assert record["summaries"] == {"proj:code": ["EPSG:32632", "EPSG:32633"]}
    assert "<delta>" in record["keywords"][-2]
    assert "<" not in record["description"]


def test_kinds_of_files_are_told(tree):
    collection = pystac.Collection.from_file(str(tree.written[0]))
    kinds = {key: asset.media_type for key, asset in collection.assets.items()}
    assert kinds == {
        "delta.classes.tif": pystac.MediaType.COG, "delta.classes.vrt": pystac.MediaType.XML,
        "regions.parquet": pystac.MediaType.VND_APACHE_PARQUET, "ledger.gpkg": pystac.MediaType.GEOPACKAGE,
        "report.html": pystac.MediaType.HTML,
    }  # fmt: skip
    assert collection.assets["delta.classes.tif"].extra_fields["proj:code"] == "EPSG:32633"
    assert set(collection.item_assets) == {"classes", "confidence", "reliance", "trust", "quality"}
    record = collection.to_dict()["item_assets"]["classes"]
    assert [entry["title"] for entry in record["classification:classes"]] == ["class <0>", "class <1>", "class <2>"]
    assert not {"href", "file:size", "proj:shape"} & set(record)


def test_the_model_is_described_once(tree):
    model = pystac.Item.from_file(str(tree.written[1]))
    described = MLMExtension.ext(model)
    weights = tree.root / "models" / "wetlands" / "model.safetensors"
    assert Path(model.assets["model"].get_absolute_href()).resolve() == weights.resolve()
    assert model.properties["mlm:name"] == model.id == f"equipoise-{model_digest(weights.parent)}"
    # What its inputs are called must be told of the item itself, too: the extension's schema asks for it.
    assert [band for entry in described.input for band in entry.bands] == ["eo0", "eo1", "sar0"]
    for told in (model.properties, model.assets["model"].extra_fields):
        assert [band["name"] for band in told["bands"]] == ["eo0", "eo1", "sar0"]
    item = pystac.Item.from_file(str(tree.jsons[3]))
    assert not MLMExtension.has_extension(item)
    assert item.get_links("derived_from")[-1].extra_fields["mlm:name"] == model.id
    assert item.properties["processing:level"] == "L4"
    assert len(ClassificationExtension.ext(item.assets["classes"]).classes) == 3


def test_items_that_do_not_belong_are_refused(tree, tmp_path):
    out = shutil.copytree(tree.out, tmp_path / "run")
    write = partial(write_collection, out, rows=tree.rows, model=tree.model, regions={}, files={})
    with pytest.raises(PipelineError, match="'spring', not 'autumn'"):
        write(name="autumn")
    with pytest.raises(PipelineError, match="no unit that is done"):
        write(name="spring", rows=[Row("waiting", None)])
    path = out / "units" / tree.rows[1].name / f"{tree.rows[1].name}.json"
    path.write_text(path.read_text().replace("L4", "L3"))
    with pytest.raises(PipelineError, match="was changed"):
        write(name="spring")
    path.unlink()
    with pytest.raises(PipelineError, match="no readable item"):
        write(name="spring")
    assert (out / "collection.json").read_bytes() == tree.written[0].read_bytes()


def test_a_database_with_a_journal_promises_no_hash(tree, tmp_path):
    out = shutil.copytree(tree.out, tmp_path / "run")
    (out / "ledger.gpkg-wal").write_bytes(b"changes")
    path, *_ = write_collection(out, name="spring", rows=tree.rows, model=tree.model, regions={},
                               files={out / "ledger.gpkg": "units"})  # fmt: skip
    assert "file:checksum" not in json.loads(path.read_text())["assets"]["ledger.gpkg"]


def test_many_units_cost_little(tree, tmp_path):
    count, out = 2000, tmp_path / "run"
    text = (tree.out / "units" / tree.rows[0].name / f"{tree.rows[0].name}.json").read_text()
    rows = [Row(f"utm32n_e{number:04d}_n0000", {"state": "done"}) for number in range(count)]
    for row in rows:
        folder = out / "units" / row.name
        folder.mkdir(parents=True)
        (folder / f"{row.name}.json").write_text(text.replace(tree.rows[0].name, row.name))
    began = time.perf_counter()
    path, *_ = write_collection(out, name="spring", rows=iter(rows), model=tree.model, regions={}, files={})
    seconds, size = time.perf_counter() - began, path.stat().st_size
    tracemalloc.start()
    write_collection(out, name="spring", rows=iter(rows), model=tree.model, regions={}, files={})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    links = pystac.Collection.from_file(str(path)).get_item_links()
    assert [link.title for link in links] == [row.name for row in rows]
    assert size < 220 * count, f"{seconds} s, {size / count} bytes, {peak / count} bytes of memory"
    assert peak < 2000 * count < len(text) * count / 3  # items are not kept
    assert seconds < 20  # generous: other work shares the machine
