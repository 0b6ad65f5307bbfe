"""Acquisition dates: when each image of a sample was taken, and how long before or after the day that is mapped."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from .errors import SceneError

_DAY = timedelta(days=1)


def date_key(modality: str) -> str:
    """Return the key beside the modality's own under which a sample's ``image`` holds its date (:func:`date_values`).

    No modality can be called so.
    """
    return f"{modality}@date"


def parse_time(text: str, *, where: str) -> datetime:
    """Return the time that a product states, ISO 8601, in UTC; a time without a zone is taken as UTC.

    Raises
    ------
    SceneError
        If it is no time.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise SceneError(
            f"{where}: found acquisition time {text!r}; wanted ISO 8601 such as 2024-05-03 or 2024-05-03T10:20:31Z; "
            "declare it under `acquired` of the scene"
        ) from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def date_values(
    acquired: Mapping[str, str], modality: str, *, reference: str, scene: str = "scene"
) -> NDArray[np.float32]:
    """Return what is known of when an image was taken; what is not known is told as such, and never guessed.

    Parameters
    ----------
    acquired
        Modality -> acquisition time, ISO 8601, where it is known.
    modality
        Whose image it is.
    reference
        Modality whose date is that of the map.
    scene
        For messages.

    Returns
    -------
    float32 (4,): 1 where the date is known, else 0; days since the turn of its year, 0 to 366; 1 where the reference's
    date is known, too, else 0; days from the reference's time to the image's, negative where it is older.

    Raises
    ------
    SceneError
        If a time is not ISO 8601.
    """
    values = np.zeros(4, dtype=np.float32)
    if modality not in acquired:
        return values
    taken = parse_time(acquired[modality], where=f"scene '{scene}', {modality}")
    values[:2] = 1, (taken - datetime(taken.year, 1, 1, tzinfo=UTC)) / _DAY
    if reference in acquired:
        values[2:] = 1, (taken - parse_time(acquired[reference], where=f"scene '{scene}', {reference}")) / _DAY
    return values


def check_priors(acquired: Mapping[str, str], priors: Iterable[str], *, reference: str, scene: str) -> list[str]:
    """Refuse priors that are later than what they are prior to.

    Parameters
    ----------
    acquired, reference, scene
        As for :func:`date_values`.
    priors
        Modalities of earlier images, those that the scene has.

    Returns
    -------
    Priors of which this cannot be told, since a date is not known.

    Raises
    ------
    SceneError
        If a prior is later than the reference, or a time is not ISO 8601.
    """
    unknown = []
    for prior in priors:
        _, _, both, gap = date_values(acquired, prior, reference=reference, scene=scene).tolist()
        if not both:
            unknown.append(prior)
        elif gap > 0:
            raise SceneError(
                f"scene '{scene}': found '{prior}' of {acquired[prior]}, {gap:.4g} days after '{reference}' of "
                f"{acquired[reference]}; wanted an image from before it, since it is declared as prior; take an "
                "earlier one, or declare it without `prior`"
            )
    return unknown
