"""The pictures of docs/coregistration.md: the embedded scene before and after, and the residuals of Los Angeles.

Of Los Angeles (EQUIPOISE_DATA) no imagery is drawn: it comes without a licence to show it.
"""

import shutil
import tempfile
from pathlib import Path

from coregister_cases import DATA

from equipoise.datasets.synthetic import write_scene
from equipoise.pipeline.coregister_files import coregister_files
from equipoise.pipeline.file_modality import open_file
from equipoise.pipeline.registration_figures import residual_histogram, residual_vectors
from equipoise.pipeline.registration_folder import SavedScene
from equipoise.pipeline.stage_options import CoregisterOptions

FIGURES = Path(__file__).parents[1] / "docs" / "figures"


def embedded(folder: Path) -> None:
    """Draw radar and thermal of the embedded scene beside its optics."""
    made = write_scene(folder / "scene", size=768, seed=7)
    reference, *moving = made.paths.values()
    coregister_files(reference, moving, folder=folder / "out", options=CoregisterOptions(), units={})
    for drawn, name in {
        "sar.detail.png": "sar.png", "ir.detail.png": "ir.png", "ir.flicker.gif": "ir.gif",
        "sar.residuals.png": "vectors.png",
    }.items():  # fmt: skip
        shutil.copyfile(folder / "out" / drawn, FIGURES / f"coregistration_embedded_{name}")


def city(folder: Path) -> None:
    """Draw what blocks of the radar of Los Angeles ask for, on an empty ground."""
    paths = [DATA / "prepared" / f"los_angeles_{sensor}.tif" for sensor in ("S2RGB", "S1VH")]
    coregister_files(paths[0], paths[1:], folder=folder, options=CoregisterOptions(), units={})
    scene = SavedScene.load(folder, reference=open_file(paths[0], name=paths[0].stem))
    blocks, circle = scene.blocks[paths[1].stem], scene.registrations[paths[1].stem].radius90
    vectors = residual_vectors(blocks, affine=scene.affine, shape=scene.shape, ground=None)
    (FIGURES / "coregistration_los_angeles_vectors.png").write_bytes(vectors)
    (FIGURES / "coregistration_los_angeles_histogram.png").write_bytes(residual_histogram(blocks, circle=circle))


def main() -> None:
    """Draw both and say where they are."""
    with tempfile.TemporaryDirectory() as place:
        embedded(Path(place) / "embedded")
        if (DATA / "prepared").is_dir():
            city(Path(place) / "city")
    print(f"wrote {FIGURES}/coregistration_*")


if __name__ == "__main__":
    main()
