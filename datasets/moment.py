"""Moments: the times that products state, checked before anything relies on them."""

import re
from datetime import UTC, datetime

from .errors import SceneError

#: Calendar date and time, as metadata of satellites write them; a fraction may have more digits than Python keeps.
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?")


def utc_text(text: str, *, where: str) -> str:
    """Return a time as ISO 8601 text in UTC that ends in ``Z``; its digits stay as they are where it is in UTC.

    Parameters
    ----------
    text
        As stated; without a zone it is in UTC.
    where
        Name of the product, for messages.

    Raises
    ------
    SceneError
        If it is no date with a time.
    """
    try:
        moment = datetime.fromisoformat(text) if _ISO.fullmatch(text) else None
        if moment is not None and moment.utcoffset():
            return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        raise SceneError(
            f"{where}: found '{text[:40]}' as a time; wanted ISO 8601, such as 2021-04-01T05:26:23Z; "
            "download the product again"
        )
    return f"{text.removesuffix('Z').removesuffix('+00:00')}Z"
