"""Report headline: what a run came to, in a few sentences that can be forwarded."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .trust import DEFECTS, FLAG_NAMES, Flag, percent

Record = Mapping[str, Any]

#: What a sensor is called by the unit of its bands, so that readers need not know the run's own names.
KINDS = {
    "reflectance": "optical data", "linear_power": "radar", "amplitude": "radar", "db": "radar",
    "kelvin": "thermal infrared", "metre": "heights",
}  # fmt: skip


def headline(prediction: Record | None, *, units: Mapping[str, str], part: str | None = None) -> list[str]:
    """Say what maps rest on, and whether that was good.

    Parameters
    ----------
    prediction
        Figures of stage predict; None where it was not done.
    units
        Sensor -> unit of its bands, as the configuration has it.
    part
        What was asked for, in words, where it is less than everything.

    Returns
    -------
    Sentences: what is mapped, what it rests on, what of that is doubtful, and what was not judged. Of what was not
    measured they say so; it is never told as 0.
    """
    if prediction is None:
        return ["No map has been made: stage predict was not done."]
    if "chips" in prediction:
        return [
            _rests(
                _named(prediction.get("reliance"), units), what=f"The classes of {_count(prediction['chips'], 'chip')}"
            )
        ]
    scenes: Mapping[str, Record] = prediction.get("scenes") or {}
    mapped = {name: item for name, item in scenes.items() if _pixels(item) > 0}
    if not mapped:
        return ["Nothing was mapped: no sensor saw anything in the area that was asked for."]
    what = "This map" if len(mapped) == 1 else f"The maps of {_count(len(mapped), 'scene')}"
    known = [name for name, item in mapped.items() if _is_known(item.get("reliance"))]
    reliance = _mean({name: mapped[name]["reliance"] for name in known}, mapped)
    rests = _rests(_named(reliance, units), what=what, plural=len(mapped) > 1)
    lines = [rests.removesuffix(".") + _of_which(known, mapped) + "."]
    asked = [] if part is None else [f"Only a part was asked for: {part}."]
    empty = len(scenes) - len(mapped)
    nothing = [f"In {_count(empty, 'scene')} nothing was mapped: no sensor saw anything there."] if empty else []
    return [*lines, *_doubts(mapped), *asked, *_gaps(mapped), *nothing]


def sensor_words(name: str, unit: str | None) -> str:
    """Return what a sensor is called: ``radar (sar)``, or its own name where its unit says nothing more."""
    kind = KINDS.get(str(unit))
    return name if kind is None or kind == name else f"{kind} ({name})"


def joined_words(parts: Sequence[str]) -> str:
    """Join words as a sentence does: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _named(shares: Mapping[str, float | None] | None, units: Mapping[str, str]) -> dict[str, float] | None:
    """Return shares by what sensors are called, the largest first; None where any is unknown."""
    if not shares or any(share is None for share in shares.values()):
        return None
    ordered = sorted(shares.items(), key=lambda item: -float(item[1] or 0))
    return {sensor_words(name, units.get(name)): float(share or 0) for name, share in ordered}


def _rests(shares: Mapping[str, float] | None, *, what: str, plural: bool = False) -> str:
    verb = "rest" if plural or "classes" in what else "rests"
    if shares is None:
        return f"Which sensor {what[0].lower()}{what[1:]} {verb} on was not measured, or cannot be told."
    if len(shares) == 1:
        return f"{what} {verb} on {next(iter(shares))} alone: the model knows no other sensor."
    return f"{what} {verb} {joined_words([f'{percent(share)} on {name}' for name, share in shares.items()])}."


def _doubts(scenes: Mapping[str, Record]) -> list[str]:
    """Say which parts rest on input that was not good."""
    judged = {name: item for name, item in scenes.items() if item.get("trust") and item["trust"]["shares"]}
    if not judged:
        return ["Whether what it rests on was good was not judged."]
    shares = {
        flag: _weighted({name: _flagged(item, flag) for name, item in judged.items()}, judged)
        for flag in (Flag.SOUND, Flag.INDETERMINATE, *DEFECTS)
    }
    found = sorted((flag for flag in DEFECTS if shares[flag] > 0), key=lambda flag: -shares[flag])
    doubtful = [f"{percent(shares[flag])} {FLAG_NAMES[flag]}{_blamed(judged, flag)}" for flag in found]
    sound = f"{percent(shares[Flag.SOUND])} of the mapped area rests on good data, as far as that was judged"
    lines = [f"{sound}{_of_which(list(judged), scenes)}."]
    if doubtful:
        lines.append(f"{joined_words(doubtful)}.")
    if shares[Flag.INDETERMINATE] > 0:
        lines.append(
            f"For {percent(shares[Flag.INDETERMINATE])} it cannot be told which sensor the prediction rests on."
        )
    unknown = list(dict.fromkeys(text for item in judged.values() for text in item["trust"].get("unknown", ())))
    lines += [f"Not judged: {', '.join(unknown)}."] if unknown else []
    return [line[0].upper() + line[1:] for line in lines]


def _flagged(item: Record, flag: Flag) -> float:
    return float(item["trust"]["shares"].get(FLAG_NAMES[flag], 0))


def _blamed(scenes: Mapping[str, Record], flag: Flag) -> str:
    names = {name for item in scenes.values() for name in item["trust"].get("sensors", {}).get(FLAG_NAMES[flag], {})}
    return f" ({', '.join(sorted(names))})" if names else ""


def _gaps(scenes: Mapping[str, Record]) -> list[str]:
    """Say how much was not mapped, and which sensors were not there."""
    shares = {name: item.get("mapped_share") for name, item in scenes.items()}
    whole = min((float(share) for share in shares.values() if share is not None), default=1.0)
    lines = []
    if whole < 0.995:
        part = f"{percent(1 - whole)} of it" if len(scenes) == 1 else f"up to {percent(1 - whole)} of a scene"
        lines.append(f"{part[0].upper()}{part[1:]} is not mapped: nothing was observed there.")
    missing = sorted({sensor for item in scenes.values() for sensor in item.get("missing", {})})
    count = sum(bool(item.get("missing")) for item in scenes.values())
    if missing:
        where = "" if len(scenes) == 1 else f" in {_count(count, 'scene')}"
        lines.append(f"Missing{where}: {', '.join(missing)}; the network answers from what is there.")
    return lines


def _mean(shares: Mapping[str, Mapping[str, float | None]], scenes: Mapping[str, Record]) -> dict[str, float] | None:
    """Return mean shares of scenes that have them, by mapped area; None where there are none."""
    if not shares:
        return None
    sensors = list(dict.fromkeys(sensor for item in shares.values() for sensor in item))
    return {
        sensor: _weighted({name: float(item.get(sensor) or 0) for name, item in shares.items()}, scenes)
        for sensor in sensors
    }


def _is_known(shares: Mapping[str, float | None] | None) -> bool:
    return bool(shares) and all(share is not None for share in (shares or {}).values())


def _of_which(known: Sequence[str], scenes: Mapping[str, Record]) -> str:
    """Say of how many scenes something is told, where it is not told of all."""
    return f" (told of {len(known)} of {len(scenes)} scenes)" if 0 < len(known) < len(scenes) else ""


def _weighted(values: Mapping[str, float], scenes: Mapping[str, Record]) -> float:
    return float(np.average([values[name] for name in values], weights=[_pixels(scenes[name]) for name in values]))


def _pixels(item: Record) -> float:
    """Return how many pixels of a scene were mapped."""
    return float(sum(item.get("class_pixels", {}).values()))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
