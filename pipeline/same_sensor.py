"""Several dates of one sensor: modalities that are alike, and what they are called together."""

from collections.abc import Mapping
from typing import Any

from .nearest import did_you_mean
from .scene_options import ModalityOptions

#: What a modality says of itself alone.
_OWN = frozenset({"same_as", "sensor", "prior"})


def with_same_settings(record: dict[str, Any]) -> dict[str, Any]:
    """Complete the modalities that are declared as `same_as` another one by what that one declares.

    Parameters
    ----------
    record
        A configuration as plain values; not changed.

    Raises
    ------
    ValueError
        If a modality is the same as itself, as one that is not declared, or as one that is in turn the same as another.
    """
    modalities = record.get("modalities")
    if not isinstance(modalities, dict):
        return record
    return {**record, "modalities": {name: _completed(name, own, modalities) for name, own in modalities.items()}}


def _completed(name: Any, own: Any, modalities: Mapping[Any, Any]) -> Any:
    other = own.get("same_as") if isinstance(own, dict) else None
    if other is None:
        return own
    whole = {key for key, item in modalities.items() if isinstance(item, dict) and item.get("same_as") is None}
    if other not in whole:
        raise ValueError(
            f"modality '{name}' is the same as {other!r}; wanted one of {sorted(map(str, whole))}, which says itself "
            f"what its numbers mean{did_you_mean(str(other), map(str, whole))}"
        )
    return {**{key: value for key, value in modalities[other].items() if key not in _OWN}, **own}


def sensors_of(modalities: Mapping[str, ModalityOptions]) -> dict[str, str]:
    """Return modality -> the sensor that it is of: as it says, as the one that it is the same as says, or itself."""
    found = {}
    for name, item in modalities.items():
        other = None if item.same_as is None else modalities.get(item.same_as)
        found[name] = item.sensor or (other.sensor if other is not None else None) or item.same_as or name
    return found


def check_shared(modalities: Mapping[str, ModalityOptions], *, encoder: str | Mapping[str, str]) -> None:
    """Refuse to share encoders where nothing is shared, or what would be shared is not alike.

    Parameters
    ----------
    modalities, encoder
        As the configuration has them.

    Raises
    ------
    ValueError
        If no sensor has several modalities, or those of one differ in bands, units or encoder.
    """
    sensors = sensors_of(modalities)
    if len(set(sensors.values())) == len(sensors):
        raise ValueError(
            "train.share_encoders is true and no sensor has several modalities; wanted some that name the same "
            "`sensor`, or are `same_as` another"
        )
    first: dict[str, str] = {}
    for name, sensor in sensors.items():
        other = first.setdefault(sensor, name)
        mine, theirs = (
            ([(band.name, band.network_unit) for band in modalities[key].modality(key).bands],
             encoder if isinstance(encoder, str) else encoder.get(key))
            for key in (name, other)
        )  # fmt: skip
        if mine != theirs:
            raise ValueError(
                f"train.share_encoders is true and '{name}' differs from '{other}', which is of the same sensor; "
                "wanted the same bands, units and encoder"
            )
