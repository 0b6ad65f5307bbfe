"""Reliance maps against the truth of the embedded scene: how near shares come to it, and what deleting a sensor costs.

Takes the run of `equipoise demo` (made first where it is not there), in whose scene each place's class is told by one
sensor alone. Two figures, over tiles that lie wholly in one sensor's places, and over all tiles:

- **error**: mean over sensors of |share - share of the tile's places that the sensor tells|;
- **deletion**: Spearman's correlation, over tiles and sensors, of a sensor's share with the accuracy that is lost
  in the tile when the sensor is taken away and the scene is mapped again.

Writes planted.json beside this file. `--run FOLDER` names another run of the demo.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.stats import spearmanr

RESULT = Path(__file__).with_name("planted.json")


def tiles(values: NDArray[Any], tile: int) -> NDArray[Any]:
    """Return (..., tile rows, tile columns, pixels of a tile), of whole tiles alone."""
    rows, cols = values.shape[-2] // tile, values.shape[-1] // tile
    blocks = values[..., : rows * tile, : cols * tile].reshape(*values.shape[:-2], rows, tile, cols, tile)
    return np.moveaxis(blocks, -3, -2).reshape(*values.shape[:-2], rows, cols, tile * tile)


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as source:
        return source.read()


def measure(run: Path, *, tile: int) -> dict[str, Any]:
    """Map the demo's scene with all sensors and without each, and compare with its truth."""
    from dataclasses import replace

    from equipoise.datasets.labels import read_labels
    from equipoise.datasets.stack import AlignedStack
    from equipoise.models.inference_form import inference_form
    from equipoise.pipeline.config import load_config
    from equipoise.pipeline.model_folder import load_predictor
    from equipoise.pipeline.predict import predict_scene

    config = load_config(run / "config.yaml")
    stack = AlignedStack.load(next((run / "aligned").glob("*/stack.json")))
    predictor = load_predictor(run / "model", device="cpu")
    predictor = replace(predictor, network=inference_form(predictor.network))
    names = predictor.network.modalities
    options = config.predict.model_copy(update={"reliance_tile": tile})
    told = read_labels(config.scenes[0].informative, stack.geobox, classes={k: k for k in range(len(names))})
    labels = read(stack.labels)[0]
    values = np.array([item.value for item in predictor.classes])
    wanted = np.where(labels < len(values), values[np.minimum(labels, len(values) - 1)], 0)

    def mapped(names: tuple[str, ...], reliance: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
        with tempfile.TemporaryDirectory() as folder:
            part = stack.of_modalities(predictor.network.modalities)
            part = replace(part, present={name: part.present[name] for name in names})
            files = predict_scene(part, predictor, options=options.model_copy(update={"reliance": reliance}),
                                  folder=Path(folder), resume="one")  # fmt: skip
            return read(files.classes)[0] == wanted, None if files.reliance is None else read(files.reliance)

    right, shares = mapped(names, "shapley")
    rows, cols = (length // tile for length in right.shape)
    shares = shares[:, :rows, :cols]
    known = tiles(labels < len(values), tile)
    count = known.sum(axis=-1)
    accuracy = (tiles(right, tile) & known).sum(axis=-1) / np.maximum(count, 1)
    lost = []
    for name in names:
        without, _ = mapped(tuple(item for item in names if item != name), "none")
        lost.append(accuracy - (tiles(without, tile) & known).sum(axis=-1) / np.maximum(count, 1))
    places = np.stack([(tiles(told, tile) == position).sum(axis=-1) for position in range(len(names))])
    truth = places / np.maximum(places.sum(axis=0), 1)
    defined = np.isfinite(shares).all(axis=0) & (places.sum(axis=0) >= tile**2 / 2) & (count >= tile**2 / 2)
    pure = defined & (truth.max(axis=0) == 1)
    return {
        "tile_px": tile,
        **{f"tiles_{kind}": int(at.sum()) for kind, at in (("pure", pure), ("all", defined))},
        **{f"error_{kind}": float(np.abs(shares - truth)[:, at].mean())
           for kind, at in (("pure", pure), ("all", defined))},
        "share_of_the_right_sensor_pure": float((shares * truth).sum(axis=0)[pure].mean()),
        "deletion": float(spearmanr(shares[:, defined].ravel(), np.stack(lost)[:, defined].ravel()).statistic),
        "accuracy": float(accuracy[defined].mean()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    run = parser.parse_args().run
    if not (run / "model").is_dir():
        subprocess.run([Path(sys.executable).with_name("equipoise"), "demo", "-o", run], check=True)
    record = {f"tiles of {tile} px": measure(run, tile=tile) for tile in (16, 32)}
    print(json.dumps(record, indent=1))
    temporary = RESULT.with_name(f".{RESULT.name}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(RESULT)


if __name__ == "__main__":
    main()
