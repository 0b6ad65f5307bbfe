"""What values look like, where a file tells no unit: what is usual is proposed, and what is not known stays unsaid."""

import numpy as np
import pytest
import rasterio

from equipoise.pipeline.file_modality import open_file
from equipoise.pipeline.init_units import looks_of


def _file(path, low, high, *, dtype="float32", scale=1.0, nodata=None):
    values = np.linspace(low, high, 64 * 64).reshape(64, 64).astype(dtype)
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=1, dtype=dtype, nodata=nodata,
                       crs="EPSG:32632", transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as writer:  # fmt: skip
        writer.write(values, 1)
        writer.scales = (scale,)
    return path


@pytest.mark.parametrize(
    ("name", "low", "high", "header", "unit", "scale"),
    [
        ("eo", 0.02, 0.9, 1.0, "reflectance", None),
        ("eo", 150, 9000, 1.0, "reflectance", 0.0001),
        ("eo", 150, 9000, 0.0001, "reflectance", None),  # the header brings it
        ("eo", 0, 255, 1.0, None, None),  # a picture for the eye
        ("eo", 7000, 46000, 1.0, None, None),
        ("sar", -28, 3, 1.0, "db", None),
        ("sar", 0.001, 0.8, 1.0, "linear_power", None),
        ("sar", 9, 255, 1.0, None, None),
        ("sar", -3000, 200, 1.0, None, None),
        ("ir", 271, 309, 1.0, "kelvin", None),
        ("ir", 20, 240, 1.0, None, None),
        ("dem", 12, 900, 1.0, None, None),
    ],
)
def test_values_that_are_usual_of_a_sensor_are_known(tmp_path, name, low, high, header, unit, scale):
    path = _file(tmp_path / "a.tif", low, high, scale=header)
    looks = looks_of(open_file(path, name=name), name)
    assert (looks.unit, looks.scale) == (unit, scale)
    assert looks.low == pytest.approx(header * (low + 0.01 * (high - low)), rel=0.05)
    assert looks.range == f"values {looks.low:.4g} to {looks.high:.4g}"


def test_a_file_without_valid_values_looks_like_nothing(tmp_path):
    looks = looks_of(open_file(_file(tmp_path / "a.tif", 5, 5, dtype="uint8", nodata=5), name="eo"), "eo")
    assert (looks.unit, looks.range) == (None, "no valid values in its middle")
