"""Files beside a trained model: which of their bands it takes, and what about them does not fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.modality import Band, Modality, Unit
from ..datasets.scene import Scene
from .errors import ConfigError
from .init_units import looks_of
from .nearest import did_you_mean


@dataclass(frozen=True, kw_only=True)
class ModelNeeds:
    """What a model was trained on.

    Attributes
    ----------
    folder
        Where it is.
    modalities
        Sensors with their bands, in its order.
    classes
        Names of its classes.
    task
        ``segmentation`` or ``classification``.
    any_unit
        Whether each scene is normalised by its own statistics, so that units do not count.
    """

    folder: Path
    modalities: tuple[Modality, ...]
    classes: tuple[str, ...]
    task: str
    any_unit: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sensors."""
        return tuple(item.name for item in self.modalities)

    def modality(self, name: str) -> Modality:
        """Return a sensor of the model.

        Raises
        ------
        ConfigError
            If the model knows none of this name.
        """
        for item in self.modalities:
            if item.name == name:
                return item
        raise ConfigError(
            f"found files of '{name}'; wanted sensors that the model {self.folder} knows: {', '.join(self.names)}"
            f"{did_you_mean(name, self.names)}; leave '{name}' away, or call it as the model does"
        )


def read_needs(folder: Path) -> ModelNeeds:
    """Read what a model folder wants; the network is loaded, so that damage is found.

    Raises
    ------
    ConfigError
        If it is the folder of a run, not of its model.
    CheckpointError
        If the model is missing, damaged or foreign.
    """
    inside = folder / "model"
    if not (folder / "model.json").is_file() and (inside / "model.json").is_file():
        raise ConfigError(f"{folder}: found a run folder; wanted the model in it; write --model {inside}")
    from .model_folder import load_predictor

    predictor = load_predictor(folder, device="cpu")
    return ModelNeeds(
        folder=folder, modalities=tuple(predictor.normaliser.modalities),
        classes=tuple(item.name for item in predictor.classes), task=predictor.network.spec.task,
        any_unit=predictor.normaliser.scenes is not None,
    )  # fmt: skip


def fitted(
    scene: Scene, needs: ModelNeeds, *, positions: Sequence[int] = (), scale: float | None = None
) -> dict[str, Any]:
    """Return a modality as the configuration has it, with the model's bands out of those of a file.

    Parameters
    ----------
    scene
        The file, with all its bands, in the unit that was declared or that it tells.
    needs
        What the model wants.
    positions
        1-based places of the model's bands in the file, in the model's order; empty: bands are found by name, or where
        the file has no names and as many bands, in its own order.
    scale
        That was declared.

    Raises
    ------
    ConfigError
        If the model does not know the sensor, or wants other bands or another unit.
    """
    wanted = needs.modality(scene.modality.name)
    indices = _indices(scene, wanted, positions, needs.folder)
    _require_unit(scene, wanted, needs)
    unit = scene.modality.bands[0].unit
    return {
        "unit": str(unit),
        "scale": scale,
        "bands": [
            name if index is None else {"name": name, "index": index}
            for name, index in zip(wanted.band_names, indices, strict=True)
        ],
    }


def _indices(scene: Scene, wanted: Modality, positions: Sequence[int], folder: Path) -> list[int | None]:
    bands = scene.modality.bands
    name, names = wanted.name, [band.name for band in bands]
    by_name = {band.name.lower(): band for band in bands}
    if not positions and all(text.lower() in by_name for text in wanted.band_names):
        return [by_name[text.lower()].index for text in wanted.band_names]
    known = {band.index for band in bands}
    if positions:
        if len(positions) == len(wanted.bands) and set(positions) <= known:
            return list(positions)
        raise ConfigError(
            f"found --bands {name}={','.join(map(str, positions))}; wanted {len(wanted.bands)} places among "
            f"{_numbers(bands)}, one for each of {', '.join(wanted.band_names)}; correct it"
        )
    if len(bands) == len(wanted.bands) and all(_nameless(band) for band in bands):
        return [band.index for band in bands]
    trained = [band.index for band in wanted.bands]
    example = ",".join(map(str, trained if set(trained) <= known else range(1, len(wanted.bands) + 1)))
    remedy = (
        f"if they are there under other names, say at which places, such as --bands {name}={example}; or name another "
        "file"
        if len(bands) >= len(wanted.bands) and None not in known
        else "name another file, or take another model"
    )
    raise ConfigError(
        f"{scene.path}: found bands {', '.join(names)} of '{name}'; wanted {', '.join(wanted.band_names)}, which the "
        f"model {folder} was trained on; {remedy}"
    )


def _numbers(bands: Sequence[Band]) -> str:
    return ", ".join(str(band.index) for band in bands if band.index is not None) or "none: it is a product with names"


def _nameless(band: Band) -> bool:
    return band.index is not None and band.name in (f"band {band.index}", f"band_{band.index}")


def _require_unit(scene: Scene, wanted: Modality, needs: ModelNeeds) -> None:
    found, units = scene.modality.bands[0], {band.working_unit for band in wanted.bands}
    if needs.any_unit or units == {found.working_unit}:
        return
    name, unit = wanted.name, wanted.bands[0].unit
    words = ", ".join(sorted(str(item) for item in units))
    if len(units) > 1:
        remedy = "write its bands with their units under `modalities` by hand"
    elif found.unit is Unit.DIGITAL_NUMBER:
        remedy = _remedy(scene, name, wanted.bands[0])
    else:
        remedy = f"write --unit {name}={unit} if it is that, or name another file"
    looks = f" ({looks_of(scene, name).range})" if found.unit is Unit.DIGITAL_NUMBER else ""
    raise ConfigError(
        f"{scene.path}: found '{name}' in {found.unit}{looks}; wanted {words}, which the model {needs.folder} was "
        f"trained on; {remedy}"
    )


def _remedy(scene: Scene, name: str, band: Band) -> str:
    """Return what declares the unit: as the values look, else as the model's own files were."""
    looks = looks_of(scene, name)
    unit = looks.unit if looks.unit is not None and band.is_backscatter else band.unit
    scale = looks.scale if looks.unit is unit else band.scale
    flags = f"--unit {name}={unit}" + ("" if scale in (None, 1) else f" --scale {name}={scale:g}")
    if looks.unit is unit:
        return f"if it is that, add {flags}"
    return f"they do not look like it: name another file, or if it is that all the same, add {flags}"
