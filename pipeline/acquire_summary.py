"""What the command `acquire` says at the end: pairs, what is missing and why, and what was written where."""

from collections.abc import Iterator
from datetime import timedelta

from .acquire import AcquireResult


def acquired(result: AcquireResult, *, dry_run: bool) -> Iterator[str]:
    """Yield the lines to print."""
    shown = result.pairings if dry_run else result.pairings[: len(result.names)]
    names = result.names if not dry_run else (*result.names, *[""] * (len(result.pairings) - len(result.names)))
    for pairing, name in zip(shown, names, strict=True):
        parts = []
        for sensor, item in pairing.present.items():
            cloud = "" if item.cloud is None else f", cloud {item.cloud:.0%}"
            gap = pairing.gaps[sensor] / timedelta(days=1)
            away = "" if sensor == pairing.reference else f", {gap:+.1f} days"
            parts.append(f"{sensor} {item.acquired:%Y-%m-%d %H:%M} (area {item.coverage:.0%}{cloud}{away})")
        parts.extend(f"{sensor} missing: {why}" for sensor, why in pairing.missing.items())
        state = "over limit" if not name else "wanted" if dry_run else "new" if name in result.fresh else "unchanged"
        yield f"{name or '-':<24} {state:<10} {'; '.join(parts)}"
    left = len(result.pairings) - len(result.names)
    more = f"; {left} more found (--limit)" if left else ""
    if dry_run:
        yield f"dry run: nothing fetched, nothing written{more}"
        return
    for stack in result.stacks:
        yield f"wrote {stack}"
    yield f"wrote {result.config}: declare classes, then: equipoise run {result.config}{more}"
