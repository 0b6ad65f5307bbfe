"""NetworkSpec: the description from which a network is built, stored beside its weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

from .errors import ModelError, require, wanted
from .fusion import FUSIONS
from .norm import NORMS

Task = Literal["segmentation", "classification"]

_TASKS = ("segmentation", "classification")
_MOST_CHANNELS = 4096
_MOST_CLASSES = 255  # 255 itself marks pixels to ignore
_ADDED_LATER = {"deep_supervision", "norm", "surrogate", "kind", "dates", "wavelengths", "sensors"}
_LEAST_NORMED = 4  # channels

#: The fusion network and its competitors (see :mod:`equipoise.models.baselines`).
KINDS = ("fusion", "early", "late", "i2m2")


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Everything that is needed to build a network; made of primitives, hence JSON-able.

    Attributes
    ----------
    modalities
        Names, in the order of every ``available`` column and coalition bit.
    in_channels
        Bands per modality, in that order.
    classes
        Number of classes, 2 to 255.
    task
        ``"segmentation"`` (a class a pixel) or ``"classification"`` (a class a patch).
    encoder
        One encoder name for all modalities, or one per modality.
    depth
        Number of strides of the encoders, 1 to 5.
    decoder_channels
        ``depth`` widths, coarse to fine. The features of stride ``2 ** depth`` are projected to the first,
        those of stride 2 and of the full-resolution stem to the last.
    fusion
        A name in :data:`~equipoise.models.fusion.FUSIONS`.
    deep_supervision
        Whether the coarser fused maps have heads of their own, which only training reads; segmentation alone.
    norm
        How decision layers are normalised. ``batch``; or ``layer``, over the channels of each place, and the features
        of each modality, too, before they are fused: no modality then speaks louder than another.
    surrogate
        Whether features of an absent modality are predicted from those present
        (:mod:`~equipoise.models.surrogate`); for ``kind`` ``fusion`` and two modalities or more.
    kind
        One of :data:`KINDS`: :class:`FusionUNet`, or the competitor that is built from the same description.
    dates
        Whether the date of each image is read (:class:`~equipoise.models.dates.DateEncoding`); not by early fusion,
        whose bands are one image.
    wavelengths
        A number a band, modality after modality: nm, -1 to -4 for the polarisations VV, VH, HH and HV, 0 where it is
        not known; empty unless an encoder reads them (:mod:`~equipoise.models.foundation`).
    sensors
        A name a modality: those of one sensor, such as its dates, are read by one encoder; ``fusion`` alone. Empty:
        each modality has its own.

    Raises
    ------
    ModelError
        The fields disagree with each other.
    """

    modalities: tuple[str, ...]
    in_channels: tuple[int, ...]
    classes: int
    task: Task = "segmentation"
    encoder: str | tuple[str, ...] = "resnet18"
    depth: int = 3
    decoder_channels: tuple[int, ...] = (64, 32, 16)
    fusion: str = "mean"
    deep_supervision: bool = False
    norm: str = "batch"
    surrogate: bool = False
    kind: str = "fusion"
    dates: bool = False
    wavelengths: tuple[float, ...] = ()
    sensors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.modalities)
        require(
            count > 0 and _names(self.modalities) and len(set(self.modalities)) == count,
            f"modalities {self.modalities}",
            "one or more names that differ from each other",
            "correct the names",
        )
        require(
            len(self.in_channels) == count and all(_positive(bands) for bands in self.in_channels),
            f"in_channels {self.in_channels} for {count} modalities",
            f"one band count of 1 to {_MOST_CHANNELS} per modality",
            "correct the band counts",
        )
        require(
            isinstance(self.encoder, str) or (len(self.encoder) == count and _names(self.encoder)),
            f"encoder {self.encoder!r} for {count} modalities",
            "one name, or one per modality",
            "correct the encoder names",
        )
        require(
            _positive(self.classes) and 2 <= self.classes <= _MOST_CLASSES,
            f"{self.classes!r} classes",
            f"2 to {_MOST_CLASSES}",
            "correct the class list",
        )
        require(self.task in _TASKS, f"task {self.task!r}", f"one of {_TASKS}", "correct the task")
        require(
            _positive(self.depth) and self.depth <= 5, f"depth {self.depth!r}", "an integer of 1 to 5", "correct it"
        )
        require(
            len(self.decoder_channels) == self.depth and all(_positive(width) for width in self.decoder_channels),
            f"decoder_channels {self.decoder_channels} at depth {self.depth}",
            f"one width of 1 to {_MOST_CHANNELS} per stride",
            "give as many widths as the depth",
        )
        require(self.fusion in FUSIONS, f"fusion {self.fusion!r}", f"one of {tuple(FUSIONS)}", "correct the fusion")
        require(
            isinstance(self.deep_supervision, bool) and (self.task == "segmentation" or not self.deep_supervision),
            f"deep_supervision {self.deep_supervision!r} for {self.task}",
            "true or false, and false for classification, which has one fused map",
            "correct it",
        )
        require(self.norm in NORMS, f"norm {self.norm!r}", f"one of {NORMS}", "correct the norm")
        self._check_surrogate()
        require(
            self.norm == "batch" or min(self.decoder_channels) >= _LEAST_NORMED,
            f"norm 'layer' over {min(self.decoder_channels)} channels", f"at least {_LEAST_NORMED}",
            "widen decoder_channels",
        )  # fmt: skip
        require(self.kind in KINDS, f"network kind {self.kind!r}", f"one of {KINDS}", "correct it")
        require(
            isinstance(self.dates, bool) and (self.kind != "early" or not self.dates),
            f"dates {self.dates!r} for a network of kind {self.kind!r}", "true or false, and false for early",
            "correct it",
        )  # fmt: skip
        self._check_wavelengths()
        self._check_sensors()

    def _check_wavelengths(self) -> None:
        require(
            len(self.wavelengths) in (0, sum(self.in_channels)) and all(_number(value) for value in self.wavelengths),
            f"wavelengths {self.wavelengths}", f"none, or {sum(self.in_channels)} numbers, one a band", "correct them",
        )  # fmt: skip

    def _check_sensors(self) -> None:
        require(
            len(self.sensors) in (0, len(self.modalities)) and _names(self.sensors),
            f"sensors {self.sensors!r} for {len(self.modalities)} modalities", "none, or one name per modality",
            "correct them",
        )  # fmt: skip
        alike = {
            (sensor, self.in_channels[column], self.encoders[column], self.wavelengths_of(self.modalities[column]))
            for column, sensor in enumerate(self.sensors)
        }
        require(
            not self.sensors or (self.kind == "fusion" and len(alike) == len(set(self.sensors))),
            f"sensors {self.sensors} that share encoders, in a network of kind {self.kind!r} with bands "
            f"{self.in_channels} and encoders {self.encoders}",
            "kind 'fusion', and the same bands and encoder for all modalities of a sensor",
            "make them alike, or let each have its own",
        )

    def _check_surrogate(self) -> None:
        require(isinstance(self.surrogate, bool), f"surrogate {self.surrogate!r}", "true or false", "correct it")
        fits = len(self.modalities) > 1 and self.kind == "fusion" and min(self.decoder_channels) >= _LEAST_NORMED
        require(
            fits or not self.surrogate,
            f"surrogate for kind {self.kind!r}, {len(self.modalities)} modalities, widths {self.decoder_channels}",
            f"kind 'fusion', 2 modalities or more, widths of {_LEAST_NORMED} or more",
            "leave surrogate out",
        )

    @property
    def encoders(self) -> tuple[str, ...]:
        """One encoder name per modality."""
        return (self.encoder,) * len(self.modalities) if isinstance(self.encoder, str) else self.encoder

    @property
    def readers(self) -> tuple[int, ...]:
        """Number of the encoder that reads each modality: its own, or the one that its sensor's modalities share."""
        named = self.sensors or self.modalities
        return tuple(list(dict.fromkeys(named)).index(name) for name in named)

    @property
    def widths(self) -> dict[int, int]:
        """Channels per fused scale: ``k`` has stride ``2 ** k``, 0 is the stem; classification reads the deepest."""
        widths = dict(zip(range(self.depth, 0, -1), self.decoder_channels, strict=True))
        return {0: widths[1], **widths} if self.task == "segmentation" else {self.depth: widths[self.depth]}

    def wavelengths_of(self, modality: str) -> tuple[float, ...]:
        """Return those of one modality's bands; empty where none are known."""
        column = self.modalities.index(modality)
        first = sum(self.in_channels[:column])
        return self.wavelengths[first : first + self.in_channels[column]]

    def single(self, modality: str) -> Self:
        """Describe the fusion network that has the same encoder and decoder but one modality.

        Raises
        ------
        ModelError
            The modality is not in the spec.
        """
        require(modality in self.modalities, f"modality {modality!r}", f"one of {self.modalities}", "correct the name")
        column = self.modalities.index(modality)
        return replace(
            self, modalities=(modality,), in_channels=(self.in_channels[column],), encoder=self.encoders[column],
            kind="fusion", surrogate=False, wavelengths=self.wavelengths_of(modality), sensors=(),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, strings and integers, as they come back from JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a spec from :meth:`to_dict`; what was added since the first saved models takes its default.

        Raises
        ------
        ModelError
            A key is missing or unknown, or a value does not fit.
        """
        names = {field.name for field in fields(cls)}
        require(
            names - _ADDED_LATER <= set(values) <= names,
            f"network keys {sorted(values)}",
            f"{sorted(names)}",
            "use a description that this version of Equipoise wrote",
        )
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        try:
            return cls(**plain)
        except TypeError as error:
            raise ModelError(
                wanted(f"a network description of the wrong types ({error})", "what to_dict wrote", "write it again")
            ) from error


def _positive(value: object) -> bool:
    # The upper bound keeps a foreign description from asking for more memory than there is.
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_CHANNELS


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -4 <= value < 1e9


def _names(values: tuple[str, ...]) -> bool:
    return all(isinstance(value, str) and value for value in values)
