"""Reliance by date and by sensor: a table whose rows are sensors, and below each its dates."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..datasets.stack import AlignedStack


def by_sensor(
    measured: Mapping[str, Any], sensors: Mapping[str, str], *, stacks: Iterable["AlignedStack"]
) -> list[dict[str, Any]]:
    """Join what was measured of the dates of each sensor.

    Parameters
    ----------
    measured
        As :func:`~equipoise.pipeline.utilization.measured_utilization` gives it.
    sensors
        Modality -> its sensor.
    stacks
        Scenes, for when their images were taken.

    Returns
    -------
    Nothing where no sensor has several modalities, else one record a sensor: ``sensor``; ``reliance``, the sum of the
    shares of its dates, and ``information``, its share where its dates come and go together
    (:func:`~equipoise.models.sensor_shares.group_information`), both None where indeterminate; and ``dates``, one
    record each: ``modality``, ``reliance``, ``information`` (shares of its own) and ``acquired``, the first and the
    last day among the scenes, None where not known.
    """
    # Only here: summaries at the terminal must not wait for torch.
    from ..models.sensor_shares import group_information, shares, summed

    names = list(measured["brier"]["modalities"])
    groups = [sensors.get(name, name) for name in names]
    if len(set(groups)) == len(names):
        return []
    own = {meter: measured[meter]["share"] or [None] * len(names) for meter in ("brier", "information")}
    reliance = None if measured["brier"]["share"] is None else summed(measured["brier"]["share"], groups)
    found = measured["information"]
    together = None if found["indeterminate"] else shares(group_information(found["value"], groups))
    days = _days(names, stacks)
    rows = {
        name: {"modality": name, "reliance": used, "information": known, "acquired": days[name]}
        for name, used, known in zip(names, own["brier"], own["information"], strict=True)
    }
    return [
        {
            "sensor": sensor,
            "reliance": None if reliance is None else reliance[sensor],
            "information": None if together is None else together[sensor],
            "dates": [rows[name] for name, group in zip(names, groups, strict=True) if group == sensor],
        }
        for sensor in dict.fromkeys(groups)
    ]


def sensor_words(table: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say of each sensor of several dates in a few words what they are worth."""
    return [
        f"{row['sensor']} in all {_told(row['reliance'])} of the reliance ("
        + ", ".join(f"{item['modality']} {_told(item['reliance'])}" for item in row["dates"]) + ")"
        for row in table if len(row["dates"]) > 1
    ]  # fmt: skip


def _told(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _days(names: Iterable[str], stacks: Iterable["AlignedStack"]) -> dict[str, list[str] | None]:
    known: dict[str, list[str]] = {name: [] for name in names}
    for stack in stacks:
        for name in known:
            if name in stack.present and name in stack.acquired:
                known[name].append(stack.acquired[name][:10])
    return {name: [min(days), max(days)] if days else None for name, days in known.items()}
