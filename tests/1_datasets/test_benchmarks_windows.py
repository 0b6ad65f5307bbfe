"""Benchmark readers: windows of a chip are the chip, cut; beyond it nothing is valid and nothing is labelled."""

from collections.abc import Callable
from pathlib import Path

import fake_aerial_benchmarks as aerial
import fake_satellite_benchmarks as satellite
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from strategies import geoboxes

from equipoise.datasets.benchmarks.benchmark_dataset import BenchmarkDataset
from equipoise.datasets.benchmarks.collection import public_dataset
from equipoise.datasets.benchmarks.pixel_window import PixelWindow

EDGE = satellite.EDGE


@pytest.mark.parametrize("edge", [7, 16, 20])
@pytest.mark.parametrize(
    ("name", "write", "split"),
    [
        ("bright", satellite.write_bright, "validation"),
        ("spacenet6", satellite.write_spacenet6, "train"),
        ("sen12-gum", satellite.write_sen12_gum, "train"),
        ("isprs-vaihingen", aerial.write_vaihingen, "train"),
        ("isprs-potsdam", aerial.write_potsdam, "test"),
        ("mcubes", aerial.write_mcubes, "train"),
    ],
)
def test_windows_cover_every_pixel_once(name: str, write: Callable, split: str, edge: int, tmp_path: Path):
    public = public_dataset(name)
    chip = public.chips(write(tmp_path, np.random.default_rng(edge)), split)[0]
    whole = BenchmarkDataset(public, [chip])[0]
    parts = BenchmarkDataset(public, [chip], patch=edge)
    across = -(-EDGE // edge)
    assert len(parts) == across**2
    samples = [parts[position] for position in range(len(parts))]

    def joined(of: Callable[[dict], torch.Tensor]) -> torch.Tensor:
        rows = [torch.cat([of(samples[across * i + j]) for j in range(across)], -1) for i in range(across)]
        return torch.cat(rows, -2)

    for modality in whole["image"]:
        for kind in ("image", "valid"):
            found = joined(lambda sample, kind=kind, modality=modality: sample[kind][modality])
            assert torch.equal(found[..., :EDGE, :EDGE], whole[kind][modality])
            assert not found[..., EDGE:, :].any()
            assert not found[..., EDGE:].any()
    mask = joined(lambda sample: sample["mask"])
    assert torch.equal(mask[:EDGE, :EDGE], whole["mask"])
    assert (mask[EDGE:] == 255).all()
    assert (mask[:, EDGE:] == 255).all()


def test_a_window_has_its_own_position(tmp_path: Path):
    public = public_dataset("bright")
    chips = public.chips(satellite.write_bright(tmp_path, np.random.default_rng(1)), "validation")
    whole, last = BenchmarkDataset(public, chips)[0], BenchmarkDataset(public, chips, patch=12)[3]
    left, bottom, right, top = last["bounds"].tolist()
    assert (right - left, top - bottom) == (6.0, 6.0)
    assert (left - whole["bounds"][0], whole["bounds"][3] - top) == (6.0, 6.0)


def test_labels_of_another_size_are_brought_there_by_their_position(tmp_path: Path):
    public = public_dataset("bright")
    chip = public.chips(satellite.write_bright(tmp_path, np.random.default_rng(1)), "validation")[0]
    coarse = satellite.values(np.random.default_rng(2), [0, 1, 2, 3], edge=EDGE // 2)
    at = satellite.utm(0, pixel=0.5)
    grid = GeoBox(coarse.shape[1:], at.affine * type(at.affine).scale(2), at.crs)
    satellite.write(chip.labels, coarse, grid)
    wanted = np.kron(coarse[0], np.ones((2, 2), dtype=int))
    np.testing.assert_array_equal(BenchmarkDataset(public, [chip])[0]["mask"].numpy(), wanted)
    np.testing.assert_array_equal(
        BenchmarkDataset(public, [chip], patch=12)[1]["mask"].numpy()[:, :4], wanted[:12, 12:]
    )


@given(
    grid=geoboxes(largest=40), row=st.integers(-50, 50), col=st.integers(-50, 50), height=st.integers(1, 50),
    width=st.integers(1, 50),
)  # fmt: skip
def test_inside_and_place_speak_of_the_same_pixels(grid: GeoBox, row: int, col: int, height: int, width: int):
    window = PixelWindow(row=row, col=col, height=height, width=width)
    image = np.arange(grid.shape[0] * grid.shape[1]).reshape(grid.shape)
    padded = np.pad(image, 100, constant_values=-1)
    wanted = padded[100 + row : 100 + row + height, 100 + col : 100 + col + width]
    found = np.full((height, width), -1)
    inside = window.inside(grid)
    found[window.place(*inside)] = image[inside]
    np.testing.assert_array_equal(found, wanted)
    corner = window.of(grid).affine * (0, 0)
    assert corner == pytest.approx(grid.affine * (col, row))
