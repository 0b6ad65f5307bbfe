"""What each test of the laws study trains and measures; every function is one part, JSON out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.models.balancing import Utilization
from equipoise.models.information import InformationReport, coalition_information
from equipoise.models.share_checks import hack_alarm, unused_information
from equipoise.models.utilization import permutation_reliance
from equipoise.models.utilization_report import UtilizationReport

from oracle.conditions import CONDITIONS, TRAINING_FAMILIES, named  # isort: skip
from oracle.loader import oracle_loader  # isort: skip
from oracle.scene import OracleScene  # isort: skip
from utilization.networks import Budget, fit, hits  # isort: skip

Found = Mapping[str, Any]

#: What the oracle study found to be true; rows of tables in the order of ``coalitions``.
EXACT: Found = json.loads((Path(__file__).parents[1] / "oracle" / "exact.json").read_text(encoding="utf-8"))
#: A quarter of a cell of two pixels is no whole pixel.
RESPONSE_CONDITIONS = tuple(item.name for item in CONDITIONS if item.name != "misregistration_quarter")
#: Name -> strategy, and what it is told of the thermal sensor's share.
NULL_METHODS: Mapping[str, tuple[Any, Utilization | None]] = {
    "subset_sampling": ("subset_sampling", None),
    "mu_bounded": (["subset_sampling", "mu_bounded"], Utilization(target={"ir": (0.3, 0.5)})),
    "mu_legacy": (["subset_sampling", "mu_legacy"], Utilization(target={"ir": 0.4}, metric="cross_entropy")),
}
#: Name -> strategy, and the conditions of its training.
RESPONSE_METHODS: Mapping[str, tuple[Any, Any]] = {
    "plain": ("joint", "clear"),
    "degradation": ("joint", named(*TRAINING_FAMILIES)),
    "mu_matched": (["subset_sampling", "mu_matched"], named(*TRAINING_FAMILIES)),
    "response": (["subset_sampling", "response"], "clear"),
    "response, degradation": (["subset_sampling", "response"], named(*TRAINING_FAMILIES)),
}


def scene_of(variant: str) -> OracleScene:
    """Return a scene of 64 cells a patch, two pixels a side each."""
    return OracleScene(variant, cells=8, cell_px=2)


def informed(network: Any, scene: OracleScene, score: Any = "brier", *, batches: int = 4) -> InformationReport:
    """Measure coalition information on test patches, against the true prior."""
    prior = [1 / len(scene.classes)] * len(scene.classes)
    data = oracle_loader(scene, "clear", count=batches, batch_size=128, seed=777)
    return coalition_information(network, data, score=score, prior=prior, bootstrap=300)


def relied(network: Any, scene: OracleScene, score: Any = "brier", *, batches: int = 4) -> UtilizationReport:
    """Measure permutation reliance on the same patches."""
    data = oracle_loader(scene, "clear", count=batches, batch_size=128, seed=777)
    return permutation_reliance(network, data, score=score, rolls=3, bootstrap=300)


def oracle(seed: int, budget: Budget) -> Found:
    """T1: coalition information of a trained network beside the exact one, in nats and by the Brier score."""
    scene, exact = scene_of("standard"), EXACT["standard"]["clear"]
    network, figures = fit(scene, "subset_sampling", seed=seed, budget=budget)
    nats, brier = (informed(network, scene, score, batches=8) for score in ("cross_entropy", "brier"))
    return {
        "seed": seed, "modalities": scene.modalities, "coalitions": list(exact["information_nats"]),
        "nats": nats.value, "exact_nats": list(exact["information_nats"].values()),
        "share": {"cross_entropy": nats.share, "brier": brier.share},
        "exact_share": {"cross_entropy": exact["share_information"], "brier": exact["share_brier"]},
        "accuracy": brier.accuracy[-1], "bayes_accuracy": exact["accuracy"]["eo+sar+ir"], "seconds": figures["seconds"],
    }  # fmt: skip


def redundancy(seed: int, budget: Budget) -> Found:
    """T2: shares of a modality and its copy, by information and by permutation, from one network."""
    scene = scene_of("twin")
    network, figures = fit(scene, "subset_sampling", seed=seed, budget=budget)
    brier = informed(network, scene)
    return {
        "seed": seed, "modalities": scene.modalities, "information_share": brier.share,
        "permutation_share": relied(network, scene).share, "exact_share": EXACT["twin"]["clear"]["share_brier"],
        "accuracy": brier.accuracy[-1], "bayes_accuracy": EXACT["twin"]["clear"]["accuracy"]["eo+eo_twin+sar"],
        "seconds": figures["seconds"],
    }  # fmt: skip


def synergy(seed: int, budget: Budget) -> Found:
    """T3: shares where two modalities tell nothing alone and all together; whether the double count is flagged."""
    scene, exact = scene_of("xor"), EXACT["xor"]["clear"]
    network, figures = fit(scene, "subset_sampling", seed=seed, budget=budget)
    brier, permuted = informed(network, scene), relied(network, scene)
    return {
        "seed": seed, "modalities": scene.modalities, "share": brier.share, "value_of_all": brier.value[-1],
        "exact_value_of_all": exact["brier_gain"]["eo+sar"], "synergy": brier.synergy,
        "synergy_interval": brier.synergy_interval, "counted_twice": brier.counted_twice,
        "reliance": permuted.reliance, "counted": sum(permuted.reliance) / brier.value[-1],
        "accuracy": brier.accuracy[-1], "bayes_accuracy": exact["accuracy"]["eo+sar"], "seconds": figures["seconds"],
    }  # fmt: skip


def null(method: str, seed: int, budget: Budget) -> Found:
    """T4: what is measured of a modality that tells nothing, left alone or told to matter, and which checks fire."""
    scene = scene_of("irrelevant_ir")
    strategy, wanted = NULL_METHODS[method]
    network, figures = fit(scene, strategy, seed=seed, budget=budget, utilization=wanted)
    brier, entropy, told = relied(network, scene), relied(network, scene, "cross_entropy"), informed(network, scene)
    unused, alarm = unused_information(told, brier), hack_alarm(entropy.share, brier.share)
    target = None if wanted is None else wanted.of(scene.modalities)
    shares = entropy.share if method == "mu_legacy" else brier.share
    return {
        "method": method, "seed": seed, "modalities": scene.modalities, "reliance": brier.to_dict(),
        "ce_share": entropy.share, "information": told.to_dict(),
        "miss": None if target is None or shares is None else target.miss(shares),
        "checks": {
            "hack_alarm": None if alarm is None else list(alarm),
            "unused_information": None if unused is None else list(unused.flagged),
        },
        "accuracy": told.accuracy[-1], "bayes_accuracy": EXACT["irrelevant_ir"]["clear"]["accuracy"]["eo+sar+ir"],
        "seconds": figures["seconds"],
    }  # fmt: skip


def response(method: str, seed: int, budget: Budget) -> Found:
    """T7: shares of reliance and information and the accuracy of one network, condition by condition."""
    scene = scene_of("standard")
    strategy, conditions = RESPONSE_METHODS[method]
    network, figures = fit(scene, strategy, seed=seed, budget=budget, conditions=conditions)
    prior = [1 / len(scene.classes)] * len(scene.classes)
    found = {}
    for name in RESPONSE_CONDITIONS:
        batches = list(oracle_loader(scene, name, count=1, batch_size=96, seed=777))
        found[name] = {
            "reliance": permutation_reliance(network, batches, rolls=2, bootstrap=100).share,
            "information": coalition_information(network, batches, prior=prior, bootstrap=100).share,
            "accuracy": float(hits(network, scene, name, patches=256, seed=778).mean()),
        }
    return {"method": method, "seed": seed, "conditions": found, "seconds": figures["seconds"]}
