"""Job: what all units of a run share."""

from dataclasses import dataclass
from pathlib import Path

from ...datasets.sensors import Sensor
from ..stage_options import CoregisterOptions, PredictOptions


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs to know beside the unit.

    Attributes
    ----------
    out
        Folder of the run, the same for all workers.
    model
        Folder of the model.
    digest
        Hash of its files: a worker that finds another one refuses.
    predict, coregister
        Options of the stages.
    sensors
        What is fetched of a catalog, in the model's order; empty where the scenes are files.
    reference
        Modality that the others are brought onto.
    config
        Configuration whose scenes are mapped, where they come from one.
    collection
        Identifier of the run's STAC collection.
    threads
        Threads of a unit.
    """

    out: Path
    model: Path
    digest: str
    predict: PredictOptions
    coregister: CoregisterOptions
    sensors: tuple[Sensor, ...] = ()
    reference: str = ""
    config: Path | None = None
    collection: str = "batch"
    threads: int = 1

    @property
    def scratch(self) -> Path:
        """Folder of what is not finished."""
        return self.out / ".work"

    @property
    def units(self) -> Path:
        """Folder of the units."""
        return self.out / "units"
