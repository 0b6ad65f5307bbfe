"""Configuration that continues with acquired stacks: `equipoise run` takes it once the classes are declared."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..datasets.ledger import safe_name
from ..datasets.modality import Band
from ..datasets.sensors import Sensor
from ..datasets.stack import AlignedStack
from .commented_yaml import commented_yaml
from .config import Config
from .run_folder import write_text
from .scene_options import FilesOptions, ModalityOptions, SceneOptions


def write_config(
    folder: Path, stacks: Sequence[Path], sensors: Sequence[Sensor], *, name: str, written: str | None
) -> tuple[Path, str]:
    """Write a configuration that goes on with the stacks; one that the user has edited is kept, ours goes beside it.

    Parameters
    ----------
    folder
        Folder of the acquisition; file names are relative to it.
    stacks
        Descriptions of the aligned stacks, at least one.
    sensors
        In the user's order.
    name
        Name of the run.
    written
        SHA-256 of the configuration that an earlier call wrote, if one did.

    Returns
    -------
    The file, and the SHA-256 of what this and earlier calls wrote as ``config.yaml``.
    """
    scenes, used = [], set()
    for path in stacks:
        stack = AlignedStack.load(path)
        used |= set(stack.present)
        files = {
            key: FilesOptions(
                path=raster.relative_to(folder),
                quality=stack.clouds[key].relative_to(folder) if key in stack.clouds else None,
            )
            for key, raster in stack.present.items()
        }
        scenes.append(
            SceneOptions(name=stack.name, files=files, acquired=dict(stack.acquired), group=stack.group, labels=None)
        )
    working = {sensor.name: written_modality(sensor) for sensor in sensors if sensor.name in used}
    # Without validation: the classes are the user's to declare, and the command says so when they are not there.
    config = Config.model_construct(name=safe_name(name), modalities=working, scenes=scenes, classes=[])
    text = (
        "# Written by `equipoise acquire`. To train, declare `classes` and each scene's `labels`; to map only, a\n"
        "# trained model in `predict.model`. Then: equipoise run config.yaml\n" + commented_yaml(config)
    )
    path, digest = folder / "config.yaml", hashlib.sha256(text.encode()).hexdigest()
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    if found not in (None, digest, written):
        path = folder / "config.new.yaml"
        write_text(path, text)
        return path, written or ""
    write_text(path, text)
    return path, digest


def written_modality(sensor: Sensor) -> ModalityOptions:
    """Describe the written rasters: working units, so neither scale nor offset."""
    unit = Band(name=sensor.name, unit=sensor.unit).working_unit
    return ModalityOptions.model_validate({"unit": unit, "bands": list(sensor.bands), "quality": "codes"})
