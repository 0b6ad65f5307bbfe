"""Sources: which files on disk one acquisition of one modality is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Source:
    """The files of one acquisition of one modality.

    Attributes
    ----------
    path
        A raster, a SAFE folder or its .zip, or a Landsat folder; None where there is one file a band.
    bands
        Band name -> raster, for acquisitions that are delivered as one file a band.
    quality
        Raster of clouds, shadows and fill beside them, if any.
    """

    path: Path | None = None
    bands: Mapping[str, Path] = field(default_factory=dict)
    quality: Path | None = None

    @property
    def name(self) -> str:
        """File name for messages and provenance."""
        return self.place.name

    @property
    def place(self) -> Path:
        """The path, or the first band's file."""
        return self.path if self.path is not None else next(iter(self.bands.values()))

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Every file or folder that was named."""
        named = (self.path, *self.bands.values(), self.quality)
        return tuple(path for path in named if path is not None)


def as_source(source: Path | Source) -> Source:
    """Accept a bare path as a source."""
    return source if isinstance(source, Source) else Source(path=source)
