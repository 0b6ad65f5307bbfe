"""Study: every degradation at three strengths on real imagery. Makes docs/figures/degradations.png.

Needs EQUIPOISE_DATA, or downloads the two samples. Run with `make study`.
"""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.figure import Figure
from PIL import Image

from equipoise.datasets.degradation import Degradation
from equipoise.datasets.degrade_sensor import (
    GainDrift,
    Misregistration,
    Noise,
    Outage,
    Speckle,
    StripeLoss,
    ThermalNoise,
)
from equipoise.datasets.degrade_sky import Haze, ThickCloud, ThinCloud
from equipoise.datasets.samples import fetch
from equipoise.pipeline.run_folder import package_versions

HERE = Path(__file__).parent
PICTURE = HERE.parents[2] / "docs" / "figures" / "degradations.png"
TILE = "282D_485L_3_3"
EO_M, SAR_M, IR_M = 10.0, 10.0, 30.0
RED_GREEN_BLUE_NM = (665.0, 560.0, 492.0)  # Sentinel-2 B04, B03, B02
NO_DATA = (0.85, 0.2, 0.6)

Array = np.ndarray[Any, np.dtype[np.float32]]
Row = tuple[str, str, Sequence[tuple[str, Degradation]]]

ROWS: list[Row] = [
    ("speckle", "sar", [(f"{n} looks" if n > 1 else "1 look", Speckle(looks=n)) for n in (8, 3, 1)]),
    ("noise", "eo", [(f"sigma = {s}", Noise(sigma=s)) for s in (0.01, 0.03, 0.1)]),
    (
        "haze",
        "eo",
        [(f"depth {t} at 550 nm", Haze(optical_depth=t, wavelengths_nm=RED_GREEN_BLUE_NM)) for t in (0.1, 0.3, 0.8)],
    ),
    ("thin cloud", "eo", [(f"depth {t}, cover 60%", ThinCloud(optical_depth=t, cover=0.6)) for t in (0.5, 2, 6)]),
    (
        "thick cloud",
        "eo",
        [(f"cover {c:.0%}", ThickCloud(cover=c, cloud_height_m=300, sun_azimuth_deg=120)) for c in (0.05, 0.15, 0.4)],
    ),
    ("thermal noise", "ir", [(f"NETD {k} K", ThermalNoise(netd_k=k)) for k in (0.3, 1.0, 3.0)]),
    ("gain drift", "eo", [(f"up to {f:.0%}", GainDrift(fraction=f)) for f in (0.1, 0.3, 0.6)]),
    ("stripe loss", "sar", [(f"{s:.0%} of the rows", StripeLoss(share=s)) for s in (0.02, 0.1, 0.3)]),
    (
        "misregistration",
        "zoom",
        [(f"{m} m", Misregistration(metres=m, direction_deg=100)) for m in (5, 15, 45)],
    ),
]


def main() -> None:
    """Draw the picture and note what was measured on it."""
    eo, sar = terramesh()
    ir = landsat8()
    images = {"eo": (eo, EO_M), "sar": (sar, SAR_M), "ir": (ir, IR_M), "zoom": (eo[:, 20:80, 40:100], EO_M)}
    limits = (float(np.percentile(ir, 1)), float(ir.max()))
    figure = Figure(figsize=(13.2, 9.6))
    left, right = figure.subfigures(1, 2)
    blocks = [
        half.subplots(5, 4, gridspec_kw={"wspace": 0.04, "hspace": 0.17, "left": 0.05, "right": 0.99})
        for half in (left, right)
    ]
    measured: dict[str, Any] = {}
    for number, (name, kind, strengths) in enumerate(ROWS):
        image, pixel_m = images[kind]
        axes = blocks[number // 5][number % 5]
        panel(axes[0], look(kind, image, limits=limits, reference=image), "as delivered")
        axes[0].set_ylabel(name, fontsize=10)
        for axis, (title, degradation) in zip(axes[1:], strengths, strict=True):
            worse = degradation(image, pixel_m=pixel_m, rng=np.random.default_rng(7))
            panel(axis, look(kind, worse, limits=limits, reference=image), title)
            measured.setdefault(name, {})[title] = {
                "rms_change": round(float(np.sqrt(np.nanmean((worse - image) ** 2))), 4),
                "share_lost": round(float(np.isnan(worse).mean()), 4),
            }
    last = blocks[1][4]
    panel(last[0], look("eo", eo, limits=limits, reference=eo), "as delivered")
    last[0].set_ylabel("outage", fontsize=10)
    for axis, kind in zip(last[1:], ("eo", "sar", "ir"), strict=True):
        gone = Outage()(images[kind][0], pixel_m=images[kind][1], rng=np.random.default_rng(7))
        panel(axis, look(kind, gone, limits=limits, reference=gone), f"no {kind.upper()}")
    save(figure)
    record = {"rows": measured, "versions": package_versions()}
    (HERE / "results.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {PICTURE} ({PICTURE.stat().st_size / 1000:.0f} kB) and {HERE / 'results.json'}")


def terramesh() -> tuple[Array, Array]:
    """Return part of a tile: reflectance of red, green, blue and VV in linear power, (band, y, x)."""
    folder = fetch("terramesh")
    crop = (slice(None), slice(30, 190), slice(50, 210))
    optical = next(folder.rglob(f"S2L2A/{TILE}.tif"))
    with rasterio.open(optical) as source:
        eo = source.read([4, 3, 2]).astype(np.float32)[crop] / np.float32(10_000)
    with rasterio.open(optical.parents[1] / "S1RTC" / f"{TILE}.tif") as source:
        decibels = source.read([1])[crop]
    return eo, np.power(10, decibels / 10).astype(np.float32)


def landsat8() -> Array:
    """Return part of the thermal band as brightness temperature, kelvin, (1, y, x), by the constants of its MTL."""
    file = next(fetch("landsat8").rglob("l8_B10.tif"))
    text = file.with_name("l8_MTL.txt").read_text(encoding="ascii")
    keys = ("RADIANCE_MULT_BAND_10", "RADIANCE_ADD_BAND_10", "K1_CONSTANT_BAND_10", "K2_CONSTANT_BAND_10")
    found = {key: re.search(rf"{key} = (\S+)", text) for key in keys}
    scale, offset, k1, k2 = (float(match[1]) for match in found.values() if match)
    with rasterio.open(file) as source:
        counts = source.read([1])[:, 440:600, 150:310].astype(np.float32)
    return np.asarray(k2 / np.log(k1 / (counts * scale + offset) + 1), dtype=np.float32)


def look(kind: str, image: Array, *, limits: tuple[float, float], reference: Array) -> Array:
    """Return what is shown of an image, (y, x, 3), 0-1; ``limits`` in kelvin, ``reference`` for the fringes."""
    lost = np.isnan(image).any(axis=0)
    if kind == "eo":
        shown = (np.clip(image / 0.8, 0, 1) ** 0.5).transpose(1, 2, 0)
    elif kind == "sar":
        decibels = 10 * np.log10(np.maximum(image[0], 1e-5))
        shown = np.repeat(np.clip((decibels + 25) / 25, 0, 1)[..., None], 3, axis=2)
    elif kind == "zoom":  # red where it lay, cyan where it lies now: grey where both agree
        before, after = (np.clip(item.mean(axis=0) / 0.5, 0, 1) ** 0.6 for item in (reference, image))
        shown = np.stack([before, after, after], axis=2)
    else:
        level = np.clip((image[0] - limits[0]) / (limits[1] - limits[0]), 0, 1)
        shown = np.stack([0.1 + 0.9 * level**0.8, level**1.6, 0.35 * (1 - level)], axis=2)
    return np.asarray(np.where(lost[..., None], NO_DATA, shown), dtype=np.float32)


def panel(axis: Any, shown: Array, title: str) -> None:
    axis.imshow(shown, interpolation="nearest")
    axis.set_title(title, fontsize=8, pad=2)
    axis.set_xticks([])
    axis.set_yticks([])


def save(figure: Figure) -> None:
    """Write the picture with a palette of 256 colours: a third of the bytes, and no difference to the eye."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    picture = (
        Image.open(buffer)
        .convert("RGB")
        .quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    )
    temporary = PICTURE.with_name(f".{PICTURE.name}.tmp")
    picture.save(temporary, format="png", optimize=True)
    temporary.replace(PICTURE)


if __name__ == "__main__":
    main()
