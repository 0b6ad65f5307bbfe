"""Write what can be known of the oracle scene under every condition to exact.json, and print it."""

import json
import sys
from math import isnan
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))

from equipoise.models.coalitions import coalitions  # noqa: E402
from equipoise.models.utilization import permutation_reliance  # noqa: E402
from oracle.exact import BayesNetwork, exact_figures  # noqa: E402 - the path comes first
from oracle.scene import OracleScene  # noqa: E402
from oracle.variants import VARIANTS  # noqa: E402

PATCHES = 4096
RELIANCE_BATCHES, RELIANCE_PATCHES = 8, 64


def main() -> None:
    """Measure the standard scene under all conditions, the other variants in the clear."""
    # More threads than one only wait for each other on tensors this small.
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for variant in VARIANTS:
        # Pixels of a cell are copies of its native pixels; two a side are enough for the meters of the package.
        scene, small = OracleScene(variant), OracleScene(variant, cell_px=2)
        names = [item.name for item in scene.conditions] if variant == "standard" else ["clear"]
        found[variant] = {}
        print(f"{variant}: {', '.join(scene.modalities)}")
        for name in names:
            found[variant][name] = row = measured(scene, small, name)
            share = " ".join(f"{value:.3f}" for value in row["share_information"])
            permuted = " ".join(f"{value:.3f}" for value in row["share_permutation"])
            accuracy = " ".join(f"{key} {value:.3f}" for key, value in row["accuracy"].items() if "+" not in key)
            best = list(row["accuracy"].values())[-1]
            print(f"  {name:24s} all {best:.3f} {accuracy} | Shapley {share} | permutation {permuted}")
    (HERE / "exact.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measured(scene: OracleScene, small: OracleScene, name: str) -> dict[str, Any]:
    """Return the figures of one condition, rounded to the fourth place; -0 becomes 0."""
    figures = exact_figures(scene, name, patches=PATCHES)
    generator = small.generator(1)
    # A shift of a quarter of a cell is no whole pixel of a small cell.
    seen = small if scene.conditions[scene.index(name)].shift_cells == 0 else scene
    batches = [seen.batch(RELIANCE_PATCHES, name, generator) for _ in range(RELIANCE_BATCHES)]
    report = permutation_reliance(BayesNetwork(seen, name), batches, bootstrap=100)
    keys = [
        "+".join(m for m, member in zip(scene.modalities, row, strict=True) if member) or "none"
        for row in coalitions(len(scene.modalities))
    ]
    return {
        "accuracy": dict(zip(keys, rounded(figures.accuracy), strict=True)),
        "information_nats": dict(zip(keys, rounded(figures.information), strict=True)),
        "brier_gain": dict(zip(keys, rounded(figures.brier_gain), strict=True)),
        "standard_error_most": rounded(figures.error.amax(dim=1)),
        "share_information": rounded(figures.shares()),
        "share_brier": rounded(figures.shares("brier_gain")),
        "reliance_permutation": rounded(report.reliance),
        "share_permutation": rounded(report.share),
    }


def rounded(values: Any) -> list[float | None]:
    # JSON has no NaN: the reliance on a modality that nobody has is null.
    return [None if isnan(value) else round(float(value), 4) + 0.0 for value in values]


if __name__ == "__main__":
    main()
