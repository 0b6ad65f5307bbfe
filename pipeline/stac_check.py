"""Check of STAC files: pystac reads from them what was written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import PipelineError


def check_written(path: Path, record: Mapping[str, Any]) -> None:
    """Read an item or a collection again with pystac, and compare it with what was written.

    Raises
    ------
    PipelineError
        If pystac cannot read it, or reads something else.
    """
    import pystac  # half a second to import

    kind = pystac.Collection if record["type"] == "Collection" else pystac.Item
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        again = kind.from_dict(found).to_dict(include_self_link=False, transform_hrefs=False)
    except Exception as error:
        raise PipelineError(
            f"{path}: found no STAC {record['type']} ({error}); wanted one; this is a fault of Equipoise"
        ) from error
    differ = sorted(key for key in record if again.get(key) != record[key])
    if differ:
        raise PipelineError(
            f"{path}: found other {', '.join(differ)} when it was read again; wanted what was written; run again"
        )
