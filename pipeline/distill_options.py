"""Options of stage distill: which sensor teaches which, on tiles without labels."""

from pathlib import Path

from pydantic import Field, model_validator

from .options import Options, Slug


class DistillOptions(Options):
    """Let the network of one sensor teach those of the others, before the fusion network begins with all of them."""

    teacher: Slug = Field(description="Modality that teaches; its network is trained on the labels first.")
    model: Path | None = Field(
        None, description="Model folder of the teacher, of that modality alone; null: it is trained in this run."
    )
    students: list[Slug] | None = Field(None, description="Modalities that learn from it; null: all others.")
    epochs: int | None = Field(None, ge=1, description="Of the students, without labels; null: as train.epochs.")
    temperature: float = Field(4.0, gt=0, allow_inf_nan=False, description="At which the teacher's answers are soft.")
    features: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the features beside the answers.")
    finetune: bool = Field(
        True, description="Then train each student on labels and teacher together; its model folder holds the result."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "DistillOptions":
        if self.students is not None and (self.teacher in self.students or not self.students):
            raise ValueError(f"students are {self.students} of teacher {self.teacher}; wanted other modalities")
        return self

    def learners(self, modalities: list[str]) -> list[str]:
        """Return the students, in the order of the modalities."""
        return [name for name in modalities if name in (self.students or modalities) and name != self.teacher]

    def check(self, modalities: set[str], *, network: str, fusion: str) -> None:
        """Compare with what the configuration declares.

        Raises
        ------
        ValueError
            If a modality is not declared, there is none to teach, or the fusion network cannot begin with students.
        """
        if unknown := sorted({self.teacher, *(self.students or ())} - modalities):
            raise ValueError(f"distill names modality {unknown}; wanted images that are declared: {sorted(modalities)}")
        if len(modalities) < 2:
            raise ValueError(f"distill is set for {sorted(modalities)}; wanted two images at least")
        if network != "fusion":
            raise ValueError(f"distill is set for network: {network}; wanted network: fusion, which begins with them")
        if fusion in ("concat", "shared_private"):
            raise ValueError(
                f"distill is set for fusion: {fusion}, which has weights for each modality; wanted mean, gated or "
                "attention"
            )
