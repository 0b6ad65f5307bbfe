"""When a scene's images were taken: refused where it cannot be, and said where it is not known."""

import logging
from collections.abc import Iterable, Mapping

from ..datasets.acquisition_dates import check_priors
from ..datasets.normalise import Normaliser
from ..datasets.scene import Scene
from ..datasets.stack import AlignedStack
from .errors import PipelineError
from .scene_options import ModalityOptions
from .scenes import SceneFiles

log = logging.getLogger(__name__)


def known_dates(files: SceneFiles, opened: Mapping[str, Scene]) -> dict[str, str]:
    """Return modality -> acquisition time: what files say, and what is declared, also of a missing image."""
    return {**files.acquired, **{name: str(item.acquired) for name, item in opened.items() if item.acquired}}


def refuse_late_priors(
    files: SceneFiles, opened: Mapping[str, Scene], modalities: Mapping[str, ModalityOptions], *, reference: str
) -> None:
    """Refuse a scene whose earlier images are not; say where that cannot be told.

    Parameters
    ----------
    files, opened
        Of the scene; only times are read.
    modalities, reference
        As the configuration has them.

    Raises
    ------
    SceneError
        If a modality with `prior: true` is later than the reference, or its time is not ISO 8601.
    """
    priors = [name for name, item in modalities.items() if item.prior and name in opened]
    for name in check_priors(known_dates(files, opened), priors, reference=reference, scene=files.name):
        log.warning(
            "scene '%s': that '%s' is from before '%s' is believed, not checked: a date is not known; declare both "
            "under `acquired`", files.name, name, reference,
        )  # fmt: skip


def undated(stack: AlignedStack) -> tuple[str, ...]:
    """Return the modalities that a scene has and whose dates are not known."""
    return tuple(name for name in stack.modalities if name in stack.present and name not in stack.acquired)


def say_undated(stack: AlignedStack, normaliser: Normaliser) -> None:
    """Say what a network that reads dates is not told of a scene."""
    if normaliser.reference is None:
        return
    normaliser.dates(stack.name, stack.acquired)  # what is no time is refused before anything is mapped
    if names := undated(stack):
        log.warning(
            "scene '%s': the model reads dates, and that of %s is not known: it is mapped without; declare it under "
            "`acquired`", stack.name, ", ".join(names),
        )  # fmt: skip
    elif normaliser.reference not in stack.acquired:
        log.warning(
            "scene '%s': the date of '%s' is not known, so that there are days of the year but no time gaps",
            stack.name, normaliser.reference,
        )  # fmt: skip


def check_dates(stacks: Iterable[AlignedStack], normaliser: Normaliser) -> None:
    """Refuse to train on dates where none is known; say how many are not, and where there is nothing to learn of them.

    Raises
    ------
    PipelineError
        If no image of any scene has a date.
    SceneError
        If one is not ISO 8601.
    """
    if normaliser.reference is None:
        return
    images = unknown = 0
    told: set[tuple[tuple[float, ...], ...]] = set()
    for stack in stacks:
        found = normaliser.dates(stack.name, stack.acquired)
        told.add(tuple(tuple(values.tolist()) for values in found.values()))
        images += len(stack.present)
        unknown += len(undated(stack))
    if unknown == images:
        raise PipelineError(
            f"found no date of any of {images} images; wanted some for `train.dates: true`; declare them under "
            "`acquired` of the scenes, or train without"
        )
    if len(told) == 1:
        log.warning(
            "all scenes are of the same dates: the network cannot learn what another date means; train on several "
            "years or seasons, or do not trust it there"
        )
    if unknown:
        log.warning("%d of %d images have no date: the network is not told when they were taken", unknown, images)
