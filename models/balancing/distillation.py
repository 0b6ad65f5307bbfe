"""Cross-modal distillation: a network of one modality learns from what another sees of the same place."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import require
from ..features import Features
from ..scores import full_precision
from ..three_steps import ThreeSteps
from .consistency import divergence
from .strategy import Step, Strategy

#: Scales from this stride on are compared: finer ones hold what each sensor alone can see.
_LEAST_STRIDE = 8


class CrossModalDistillation(Strategy):
    """A student of one modality follows a frozen teacher of another over co-registered samples.

    ``loss = labels * loss + features * mean_k L_k + T^2 KL(softmax(t / T) || softmax(s / T))``, where ``L_k`` is the
    squared difference of the two networks' encoded features at scale k, over the mean square of the teacher's, and
    ``t``, ``s`` are their logits. Cells and pixels count where both modalities are valid there, by the teacher's
    confidence (the probability of its class) and by how sure the position of either is. Without ``labels`` none is
    read.

    Regression of a teacher's latent features over synchronised pairs, and taking over its head, are those of RecycleML
    (Xing et al., 2018); soft labels at a temperature, and beside true ones, those of Hinton et al. (2015). Ours:
    several scales, the masks, the weight by confidence, and features relative to the teacher's strength.

    Parameters
    ----------
    teacher
        Trained network of one modality; it is neither trained nor saved with the student.
    batch_modalities
        Order of the columns of a batch's ``available``.
    temperature
        ``T``, above 0.
    features
        Weight of the features, 0 or more.
    labels
        Weight of the task's own loss, 0 or more: samples without labels add nothing to it.
    door
        Factor and summand, float (band,) each, that turn a batch's image into what the teacher was trained on, where
        that was normalised by other statistics; None: it was not.

    Raises
    ------
    ModelError
        The teacher reads several modalities, or a setting is out of range.
    """

    needs_encoders = True

    def __init__(
        self,
        teacher: ThreeSteps,
        *,
        batch_modalities: Sequence[str],
        temperature: float = 4.0,
        features: float = 1.0,
        labels: float = 0.0,
        door: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        require(
            len(teacher.modalities) == 1 and teacher.modalities[0] in batch_modalities,
            f"a teacher of {teacher.modalities}", f"one modality of {tuple(batch_modalities)}",
            "train a network of one modality",
        )  # fmt: skip
        require(temperature > 0, f"temperature {temperature}", "above 0", "correct it")
        for what, weight in (("feature", features), ("label", labels)):
            require(0 <= weight < float("inf"), f"{what} weight {weight}", "0 or more", "correct it")
        # In a list, where torch does not look: the teacher is no part of what is trained or saved.
        self._held = [teacher.eval().requires_grad_(False)]
        self.modality = teacher.modalities[0]
        self.columns = {name: column for column, name in enumerate(batch_modalities)}
        self.column = self.columns[self.modality]
        self.temperature, self.features, self.labels, self.door = temperature, features, labels, door

    def attach(self, network: ThreeSteps) -> None:
        """Compare the student with the teacher.

        Raises
        ------
        ModelError
            Their classes, task or widths differ, or the student reads several modalities.
        """
        mine, theirs = self._held[0].spec, network.spec
        for name in ("classes", "task", "depth", "decoder_channels"):
            found, wish = getattr(theirs, name), getattr(mine, name)
            require(found == wish, f"a student with {name} {found}", f"{wish} as its teacher has", "make them alike")
        require(
            len(network.modalities) == 1, f"a student of {network.modalities}", "one modality",
            "distil each modality, and start the fusion network from the students",
        )  # fmt: skip

    def loss(self, step: Step, loss: Tensor) -> Tensor:
        """Return the distance from the teacher, and the task's loss by its weight."""
        told, own = self._told(step), self.labels * loss
        if told is None:
            return own
        features, logits = told
        confidence = logits.softmax(dim=1).amax(dim=1, keepdim=True) * self._placed(step, logits)
        total = own
        if self.features > 0:
            total = total + self.features * feature_distance(
                step.features, features, student=step.network.modalities[0], teacher=self.modality,
                confidence=confidence, strides=_strides(step.network),
            )  # fmt: skip
        return total + self._soft(step, logits, confidence)

    def _told(self, step: Step) -> tuple[Features, Tensor] | None:
        """Return what the teacher sees and says of the batch; None where no sample has its modality."""
        teacher = self._held[0].to(step.logits.device)
        self._held[0] = teacher
        image, valid, present = step.batch["image"], step.batch.get("valid"), step.batch.get("available")
        available = None if present is None else present[:, [self.column]]
        if available is not None and not bool(available.any()):
            return None
        if self.door is not None:
            factor, summand = (values.to(image[self.modality])[:, None, None] for values in self.door)
            image = {**image, self.modality: image[self.modality] * factor + summand}
        with torch.no_grad():
            features = teacher.encode(image, valid=valid, available=available)
            every = torch.ones(features.batch, 1, dtype=torch.bool, device=features.device)
            logits = teacher.decode(teacher.fuse(features, every), size=features.size)
        return features, full_precision(logits)

    def _placed(self, step: Step, logits: Tensor) -> Tensor:
        """Return how sure the position of the less surely placed of the two is, (batch, 1, ...)."""
        known = step.batch.get("registration")
        if known is None:
            return torch.ones_like(logits[:, :1])
        columns = [self.column, self.columns[step.network.modalities[0]]]
        least = known[:, columns].amin(dim=1).to(logits)
        return least.reshape(-1, *[1] * (logits.ndim - 1))

    def _soft(self, step: Step, logits: Tensor, confidence: Tensor) -> Tensor:
        """Return the divergence of soft labels where both see something, weighted by the teacher's confidence."""
        weight = confidence[:, 0] * self._usable(step, logits)
        return divergence(full_precision(step.logits), logits, temperature=self.temperature, usable=weight)

    def _usable(self, step: Step, logits: Tensor) -> Tensor:
        """Return 1 where both modalities are valid: float (batch, y, x), or (batch,) for classification."""
        valid, present = step.batch.get("valid"), step.batch.get("available")
        usable = torch.ones_like(logits[:, 0])
        if valid is not None:
            both = valid[self.modality] & valid[step.network.modalities[0]]
            usable = usable * (both if usable.ndim == 3 else both.flatten(1).any(dim=1)).to(usable)
        seen = step.available.any(dim=1) if present is None else step.available.any(dim=1) & present[:, self.column]
        return usable * seen.to(usable).reshape(-1, *[1] * (usable.ndim - 1))


def feature_distance(
    features: Features,
    wanted: Features,
    *,
    student: str,
    teacher: str,
    confidence: Tensor,
    strides: Sequence[int],
) -> Tensor:
    """Return the mean over coarse scales of the weighted squared distance of features, over the teacher's mean square.

    Parameters
    ----------
    features, wanted
        The student's and the teacher's, of the same batch and widths.
    student, teacher
        Their modalities.
    confidence
        float (batch, 1, y, x), or (batch, 1) for classification.
    strides
        Stride of each scale, fine to coarse; those of 8 and more count, or the coarsest alone.

    Returns
    -------
    Tensor
        Scalar of 0 or more; 0 where no cell is seen by both.
    """
    levels = [level for level, stride in enumerate(strides) if stride >= _LEAST_STRIDE] or [len(strides) - 1]
    found = []
    for level in levels:
        ours, theirs = features.maps[student][level], wanted.maps[teacher][level]
        seen = torch.minimum(features.shares[student][level], wanted.shares[teacher][level])
        trust = confidence if confidence.ndim == 4 else confidence[..., None, None]
        weight = seen * F.adaptive_avg_pool2d(trust, (seen.shape[-2], seen.shape[-1]))
        square = (ours - theirs).square().mean(dim=1, keepdim=True)
        scale = (weight * theirs.square().mean(dim=1, keepdim=True)).sum()
        found.append((weight * square).sum() / scale.clamp_min(torch.finfo(scale.dtype).tiny))
    return torch.stack(found).mean()


def _strides(network: ThreeSteps) -> list[int]:
    return [2**scale for scale in sorted(network.spec.widths)]
