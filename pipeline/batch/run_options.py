"""Options of a batch run that do not change its maps: who works, and what is made of the units."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from .cluster import ClusterOptions


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run goes.

    Attributes
    ----------
    cluster
        Who does the work.
    attempts
        Errors, or dead workers, after which a unit is set aside.
    retry_failed
        Try units again that an earlier command set aside.
    verify
        Read every file of the units that are done, and compare it with its hash; else sizes alone.
    kinds
        Mosaics that are made: ``vrt``, ``cog``.
    admin, admin_column
        Vector file of administrative units that are summed up, too, and its column of names.
    log
        Where a line of JSON goes for each event; None: a bar.
    settings
        For the record: what the run was asked for, plain values.
    """

    cluster: ClusterOptions
    attempts: int = 3
    retry_failed: bool = False
    verify: bool = False
    kinds: frozenset[str] = frozenset({"vrt", "cog"})
    admin: Path | None = None
    admin_column: str | None = None
    log: TextIO | None = None
    settings: dict[str, Any] = field(default_factory=dict)
