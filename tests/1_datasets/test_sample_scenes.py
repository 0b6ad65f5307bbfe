"""The real samples, opened through the product and compared with the manifest that lies beside them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from equipoise.datasets.modality import Unit
from equipoise.datasets.sample_scenes import SampleScene, sample_scenes
from equipoise.datasets.samples import SAMPLES, fetch, sample_names
from equipoise.datasets.scene import check_scene

pytestmark = pytest.mark.real

#: Every how many scenes of a sample one is opened: OMBRIA's 456 patches are alike.
STEP = {"ombria": 24}

#: WorldCereal's composites without an observation.
EMPTY = ("2020-12-01", "2021-01-01")


@pytest.fixture(scope="module")
def manifest(data_folder) -> dict[str, dict[str, str]]:
    with (data_folder / "manifest.csv").open(encoding="utf-8") as stream:
        return {row["file"]: row for row in csv.DictReader(stream)}


def _chosen(name: str) -> list[SampleScene]:
    return sample_scenes(name, fetch(name))[:: STEP.get(name, 1)]


def _rows(item: SampleScene, root: Path, manifest: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    """Manifest rows of the files that a scene is made of; none for products and for what was prepared from them."""
    files = [path.relative_to(root).as_posix() for path in (*item.source.bands.values(), item.source.path) if path]
    return [manifest[file] for file in files if file in manifest]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_scene_is_what_the_manifest_says(name, data_folder, manifest):
    assert name in sample_names()
    items = _chosen(name)
    assert items
    for item in items:
        if name == "worldcereal" and item.modality.name == "eo" and item.name in EMPTY:
            continue
        scene = item.open()
        check_scene(scene)
        values = scene.read()
        assert values.shape == (len(item.modality.bands), *scene.geobox.shape)
        assert np.isfinite(values).all(axis=0).mean() > 0.6
        rows = _rows(item, data_folder, manifest)
        assert rows or name in ("landsat8", "los_angeles")  # a product's folder, and a raster made of fragments
        for row in rows:
            _agrees(item, scene, row)


def _agrees(item: SampleScene, scene, row: dict[str, str]) -> None:
    if len(item.source.bands) == 0 and not row["file"].endswith(".nc"):
        assert [int(row["height"]), int(row["width"])] == list(scene.geobox.shape), row["file"]
        assert int(row["bands"]) == len(item.modality.bands), row["file"]
    if row["crs"].startswith("EPSG:"):
        assert scene.geobox.crs.to_epsg() == int(row["crs"].removeprefix("EPSG:").split()[0]), row["file"]
    if len(row["acq_date"]) == 10 and item.modality.name != "dem" and not row["file"].endswith(".nc"):
        assert scene.acquired is not None, row["file"]
        assert scene.acquired[:10] == row["acq_date"], row["file"]


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("ombria", "los_angeles")])
def test_values_are_physical(name):
    """Ranges of nature: land and water reflect 0 to 1, backscatter is -50 to +15 dB, the ground is above freezing."""
    plausible = {
        Unit.REFLECTANCE: (-0.05, 1.0),
        Unit.DB: (-50.0, 15.0),
        Unit.KELVIN: (250.0, 330.0),
        Unit.METRE: (-10.0, 4000.0),
    }
    for item in _chosen(name):
        values = item.modality.to_network(item.open().read())
        for band, layer in zip(item.modality.bands, values, strict=True):
            if np.isfinite(layer).any():
                low, high = np.nanpercentile(layer, (1, 99))
                least, most = plausible[band.network_unit]
                assert least <= low <= high <= most, (item.name, band.name, low, high)


def test_clouds_of_the_landsat_scene_are_masked_and_cold(data_folder):
    """An independent look: what the quality band calls cloud is colder than what it calls clear."""
    item = next(item for item in _chosen("landsat8") if item.modality.name == "ir")
    scene = item.open()
    raw = item.__class__(**{**vars(item), "handling": type(item.handling)(clouds="keep")}).open()
    clouded = scene.read_quality() == 1
    assert 0.30 < clouded.mean() < 0.34
    assert np.isnan(scene.read()[:, clouded]).all()
    kelvin = raw.read()[0]
    assert np.nanmedian(kelvin[clouded]) < np.nanmedian(kelvin[~clouded]) - 3
