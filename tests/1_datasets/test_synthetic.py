"""The synthetic scene keeps its promises: planted classes, planted shifts, planted holes."""

import hashlib
import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import Resampling, reproject
from scipy import ndimage

from equipoise.datasets.fractal import fractal_field, level_within
from equipoise.datasets.ground import backscatter, draw_ground, reflectance, temperature
from equipoise.datasets.sensing import ground_box
from equipoise.datasets.synthetic import MODALITIES, write_scene

SIZE = 384
BLOCKS = np.add.outer(np.arange(SIZE) // 16 * (SIZE // 16), np.arange(SIZE) // 16)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("scene"), size=SIZE, seed=7)


@pytest.fixture(scope="module")
def maps(scene):
    return {name: read(getattr(scene, name))[0] for name in ("labels", "informative", "clouds")}


@pytest.fixture(scope="module")
def aligned(scene):
    """Each modality on the reference grid, its shift put right; NaN where it has no observation."""
    return {name: on_reference(scene, name, correct=True) for name in MODALITIES}


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def on_reference(scene, modality, *, correct):
    with rasterio.open(scene.paths["eo"]) as reference:
        transform, crs, shape = reference.transform, reference.crs, reference.shape
    with rasterio.open(scene.paths[modality]) as file:
        values = file.read().astype(np.float64)
        values[values == file.nodata] = np.nan
        shift = scene.true_shift_m[modality] if correct else (0.0, 0.0)
        source = Affine.translation(*shift) * file.transform
    out = np.full((len(values), *shape), np.nan)
    reproject(
        values, out, src_transform=source, src_crs=crs, dst_transform=transform, dst_crs=crs,
        src_nodata=np.nan, dst_nodata=np.nan, resampling=Resampling.bilinear,
    )  # fmt: skip
    return out


def digest(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def smoothed(values):
    """Windowed mean over 7 x 7 pixels; NaN where the window touches a hole."""
    return np.stack([ndimage.uniform_filter(band, 7) for band in values])


def interior(maps, window):
    """Pixels whose window is of one class, off roads and borders, and clear of cloud, shadow and swath edges."""
    told = ndimage.maximum_filter(maps["informative"], window) != 255
    return told & (ndimage.maximum_filter(maps["clouds"], window) == 0)


def block_means(values, usable):
    """Mean of the usable pixels of each block of 16 x 16 pixels: texture is hardly correlated beyond that."""
    blocks = [ndimage.sum_labels(array, BLOCKS, np.arange(BLOCKS.max() + 1)) for array in (values * usable, usable)]
    return (blocks[0] / np.maximum(blocks[1], 1))[blocks[1] >= 30]


# What each sensor's pair is split on: one number a pixel from its 7 x 7 mean.
FEATURE = {
    "eo": lambda mean: mean[3] / mean[2],
    "sar": lambda mean: 10 * np.log10(np.clip(mean, 1e-6, None)).mean(axis=0),
    "ir": lambda mean: mean[0],
}


def test_equal_arguments_give_equal_bytes(tmp_path):
    first, second, other = (
        digest(write_scene(tmp_path / name, size=128, seed=seed).folder)
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == second
    assert all(first[name] != other[name] for name in first)
    assert set(first) == {
        "eo.tif", "sar.tif", "ir.tif", "labels.tif", "informative.tif", "clouds.tif", "truth.json"
    }  # fmt: skip


def test_files_are_laid_out_as_documented(scene):
    with rasterio.open(scene.paths["eo"]) as eo:
        assert (eo.dtypes, eo.nodata, eo.shape) == (("uint16",) * 4, 0, (SIZE, SIZE))
        assert eo.descriptions == ("blue", "green", "red", "nir")
        assert eo.scales == (1e-4,) * 4
        assert eo.crs.to_epsg() == 32632
        bounds = eo.bounds
    with rasterio.open(scene.paths["sar"]) as sar:
        assert (sar.dtypes, sar.descriptions, sar.nodata) == (("float32",) * 2, ("VV", "VH"), 0)
        assert sar.tags()["units"] == "linear_power"
        assert np.degrees(np.arctan2(sar.transform.d, sar.transform.a)) == pytest.approx(0.6)
        assert np.hypot(sar.transform.a, sar.transform.d) == pytest.approx(10.0)
        assert (sar.read() >= 0).all()
    with rasterio.open(scene.paths["ir"]) as ir:
        assert (ir.dtypes, ir.res, ir.nodata) == (("float32",), (30.0, 30.0), -9999)
        assert ir.bounds.left < bounds.left
        assert ir.bounds.right > bounds.right
        assert 270 < ir.read().min() < ir.read().max() < 310


def test_labels_carry_names_and_colours(scene):
    with rasterio.open(scene.labels) as labels:
        assert labels.nodata == 255
        assert labels.tags()["class_names"].split(",") == list(scene.class_names)
        assert labels.colormap(1)[5] == (*bytes.fromhex(scene.class_colors[5][1:]), 255)
        assert set(np.unique(labels.read())) == set(range(6))


def test_truth_states_the_shifts_and_shares(scene):
    truth = json.loads(scene.truth.read_text())
    assert truth["true_shift_m"] == {"eo": [0, 0], "sar": [37.3, -21.8], "ir": [-24.0, 18.5]}
    assert truth["separable"]["sar"] == ["forest", "flooded_forest"]
    assert (truth["seed"], truth["size"], truth["looks"]) == (7, SIZE, 4.4)


def test_every_class_covers_between_8_and_30_percent(maps):
    shares = np.bincount(maps["labels"].ravel()) / SIZE**2
    assert shares.min() > 0.08
    assert shares.max() < 0.30


def test_most_blocks_of_128_px_hold_all_classes(maps):
    blocks = maps["labels"].reshape(3, 128, 3, 128).swapaxes(1, 2).reshape(9, -1)
    assert np.mean([len(np.unique(block)) for block in blocks]) > 5.4


def test_clouds_and_swath_edge_have_the_stated_shares(scene, maps):
    shares = [(maps["clouds"] == code).mean() for code in (1, 2, 3, 255)]
    assert shares == pytest.approx([0.10, 0.08, 0.05, 0.04], abs=0.03)
    eo = read(scene.paths["eo"])
    assert ((eo == 0).all(axis=0) == (maps["clouds"] == 255)).all()
    blue = eo[0] / 1e4
    assert np.median(blue[maps["clouds"] == 2]) > 0.4
    assert np.median(blue[maps["clouds"] == 3]) < 0.5 * np.median(blue[maps["clouds"] == 0])


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_informative_sensor_splits_its_pair(scene, maps, aligned, modality):
    feature = FEATURE[modality](smoothed(aligned[modality]))
    first, second = pair_of(scene, modality)
    usable = interior(maps, 9) & (maps["informative"] == MODALITIES.index(modality)) & np.isfinite(feature)
    low, high = (feature[usable & (maps["labels"] == label)] for label in (first, second))
    middle = (np.median(low) + np.median(high)) / 2
    right = np.concatenate([(low < middle), (high > middle)])
    if np.median(low) > np.median(high):
        right = ~right
    assert right.size > 1500
    assert right.mean() > 0.95


@pytest.mark.parametrize("blind", MODALITIES)
def test_a_sensor_is_blind_to_the_pairs_of_the_others(scene, maps, aligned, blind):
    """Welch's test on block means (pixels are correlated): the two classes of a foreign pair differ by < 3 errors."""
    values = aligned[blind] if blind != "sar" else 10 * np.log10(np.clip(aligned[blind], 1e-6, None))
    # The thermal footprint reaches 4 px over a road or a border; the others stay within 2 px.
    usable = interior(maps, 13 if blind == "ir" else 9)
    for band in values:
        filled = np.nan_to_num(band)
        for pair in (pair_of(scene, name) for name in MODALITIES if name != blind):
            first, second = (block_means(filled, usable & np.isfinite(band) & (maps["labels"] == c)) for c in pair)
            error = np.sqrt(first.var(ddof=1) / first.size + second.var(ddof=1) / second.size)
            assert min(first.size, second.size) > 10
            assert abs(first.mean() - second.mean()) < 3 * error


@pytest.mark.parametrize("draw", [reflectance, backscatter, temperature])
def test_on_the_ground_foreign_classes_have_equal_moments(draw):
    """Before footprint and noise the two classes of a foreign pair agree to a twentieth of their spread."""
    rng = np.random.default_rng(5)
    ground = draw_ground(ground_box(256), rng=rng, pixel=2.0)
    field = draw(ground, rng=rng) if draw is temperature else np.log(draw(ground, rng=rng))
    own = {reflectance: (2, 3), backscatter: (0, 1), temperature: (4, 5)}[draw]
    plain = ground.structure == 0
    for pair in {(0, 1), (2, 3), (4, 5)} - {own}:
        first, second = (field[:, plain & (ground.classes == c)] for c in pair)
        assert (np.abs(first.mean(1) - second.mean(1)) < 0.05 * first.std(1)).all()
        assert first.std(1) == pytest.approx(second.std(1), rel=0.05)
    first, second = (field[:, plain & (ground.classes == c)] for c in own)
    assert (np.abs(first.mean(1) - second.mean(1)) / first.std(1)).max() > 4


def test_no_sensor_is_named_where_the_one_that_could_tell_is_blind(scene, maps):
    eo_tells = maps["informative"] == 0
    assert np.isin(maps["clouds"][eo_tells], (0, 1)).all()
    assert np.isfinite(on_reference(scene, "sar", correct=True)[0][maps["informative"] == 1]).all()
    told = maps["informative"] != 255
    assert (maps["informative"][told] == np.array([1, 1, 0, 0, 2, 2])[maps["labels"][told]]).all()
    assert 0.5 < told.mean() < 0.8


def test_speckle_has_the_stated_looks(tmp_path):
    """One scene with and one with hardly any speckle share everything else: their ratio is the speckle."""
    calm, rough = (write_scene(tmp_path / f"{n:g}", size=128, seed=1, looks=n) for n in (1e6, 4.4))
    truth, noisy = read(calm.paths["sar"]), read(rough.paths["sar"])
    ratio = noisy[truth > 0] / truth[truth > 0]
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)
    assert 1 / ratio.var() == pytest.approx(4.4, rel=0.05)


@pytest.mark.parametrize(("modality", "tolerance_m"), [("sar", 3.0), ("ir", 5.0)])
def test_true_shift_brings_the_edges_together(scene, aligned, modality, tolerance_m):
    wrong = peak_m(edges(aligned["eo"]), edges(on_reference(scene, modality, correct=False)))
    right = peak_m(edges(aligned["eo"]), edges(aligned[modality]))
    assert np.hypot(*right) < tolerance_m
    # The remaining offset of the uncorrected file, (east, north), is the vector to be added.
    assert wrong == pytest.approx(scene.true_shift_m[modality], abs=tolerance_m)


def edges(values):
    """Gradient magnitude, summed over bands after a light smoothing; 0 with no slope at holes; standardised."""
    total = np.zeros(values.shape[1:])
    usable = ndimage.binary_erosion(np.isfinite(values).all(axis=0), iterations=6)
    for band in values:
        filled = np.where(np.isfinite(band), band, np.nanmedian(band))
        filled = np.log(np.clip(filled, 1e-5, None)) if np.nanmax(band) < 100 else filled
        total += ndimage.gaussian_gradient_magnitude(filled, 1.5) / np.nanstd(filled)
    total = np.minimum(total, np.percentile(total[usable], 99))
    return np.where(usable, (total - total[usable].mean()) / total[usable].std(), 0.0)


def peak_m(reference, moving):
    """Return (east, north) in metres by which `moving` must be moved to fit, to a fraction of a pixel."""
    product = np.fft.fft2(reference) * np.conj(np.fft.fft2(moving))
    surface = np.fft.fftshift(np.fft.ifft2(product).real)
    centre, reach = np.array(surface.shape) // 2, 10
    window = surface[centre[0] - reach : centre[0] + reach + 1, centre[1] - reach : centre[1] + reach + 1]
    at = np.array(np.unravel_index(window.argmax(), window.shape))
    row, column = np.array([vertex(window[tuple(at + step * k)] for k in (-1, 0, 1)) for step in np.eye(2, dtype=int)])
    offset = at + np.array([row, column]) - reach
    return np.array([offset[1], -offset[0]]) * 10.0


def vertex(samples):
    before, at, after = samples
    return 0.5 * (before - after) / (before - 2 * at + after)


def pair_of(scene, modality):
    names = json.loads(scene.truth.read_text())["separable"][modality]
    return [scene.class_names.index(name) for name in names]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 64}, "size=64"), ({"sar_shift_m": (200.0, 0.0)}, "200 m"), ({"thick_share": 0.95}, "clouds over")],
)
def test_impossible_scenes_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_scene(tmp_path, **arguments)


def test_fractal_field_holds_only_its_band():
    field = fractal_field((200, 300), rng=np.random.default_rng(0), longest=60, shortest=10)
    power = np.abs(np.fft.fft2(field)) ** 2
    frequency = np.hypot(np.fft.fftfreq(200)[:, None], np.fft.fftfreq(300)[None, :])
    outside = (frequency > 1 / 10 + 1e-9) | (frequency < 1 / 60 - 1e-9)
    assert power[outside].sum() < 1e-6 * power.sum()
    assert (field.mean(), field.std()) == pytest.approx((0, 1), abs=1e-4)
    with pytest.raises(ValueError, match="no wavelength"):
        fractal_field((16, 16), rng=np.random.default_rng(0), longest=400, shortest=200)


def test_level_within_gives_every_group_the_same_moments():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, (50, 60)).astype(np.uint8)
    level = level_within((rng.normal(size=groups.shape) * (groups + 1) + groups).astype(np.float32), groups)
    for group in range(4):
        assert (level[groups == group].mean(), level[groups == group].std()) == pytest.approx((0, 1), abs=1e-4)
