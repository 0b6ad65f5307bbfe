"""Options of the stages: one class each."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, model_validator

from .degradation_options import DegradationOptions
from .options import Options, Share, Slug
from .utilization_options import UtilizationOptions

StrategyName = Literal[
    "joint", "subset_sampling", "response", "auxiliary", "inverse_reliance", "frozen_head", "greedy", "mu_legacy",
    "mu_bounded", "mu_matched", "ogm_ge", "mmpareto", "meta_missing", "latent_surrogate",
    "explanation_erasing", "consistency", "feature_swapping", "contrastive",
]  # fmt: skip

#: Strategies that work on the encoder of each modality, which early fusion has not.
NEED_ENCODERS = frozenset({
    "frozen_head", "greedy", "mu_legacy", "ogm_ge", "mmpareto", "explanation_erasing", "feature_swapping",
    "contrastive",
})  # fmt: skip

#: Those of them that tell apart what each encoder learns: modalities cannot share one.
NEED_OWN_ENCODERS = frozenset({"greedy", "ogm_ge", "mmpareto"})

#: Strategies that want layer normalisation: with batch normalisation a network can tell what was changed in training.
_LAYER_NORM = frozenset({"response", "mu_bounded", "mu_matched", "explanation_erasing", "feature_swapping"})


def _word(value: Any) -> Any:
    """Take the number that YAML reads in `precision: 32` for the word."""
    return str(value) if type(value) is int else value


class CoregisterOptions(Options):
    """Bring every modality onto the reference grid."""

    reference: str | None = Field(None, description="Modality that defines the grid; null: the first one declared.")
    method: Literal["structure", "none"] = Field(
        "structure", description="structure: a shift, affine map or field, from edges; none: the files' own positions."
    )
    max_shift_m: float = Field(250.0, gt=0, description="Largest shift looked for, metres.")
    min_confidence: Share = Field(
        0.5, description="Least probability, 0 to 1, to be right within a pixel: below it, a position is refused."
    )
    on_failure: Literal["keep", "refuse"] = Field(
        "keep", description="What cannot be registered keeps its position with confidence 0, or ends the run."
    )


class TileOptions(Options):
    """Cut the aligned scenes into patches and give them to splits."""

    patch_size: int = Field(128, ge=1, description="Edge of a patch, px.")
    overlap: int = Field(0, ge=0, description="Least overlap of neighbouring patches, px.")
    min_valid: Share = Field(0.5, description="Least usable share that one modality at least must have.")
    min_labelled: Share = Field(0.1, description="Least labelled share of a training, validation or test patch.")
    max_cloud: Share | None = Field(
        None, description="Largest share of cloud and shadow that a modality may have, where known; null: no limit."
    )
    min_registration: Share | None = Field(
        None,
        description="Least mean probability that a modality lies right within a pixel, where known; null: no limit.",
    )
    block_size: int = Field(256, ge=1, description="Edge of the split blocks, px (scenes with split: auto).")
    buffer: int = Field(16, ge=0, description="Least distance between pixels of different splits, px.")
    validation: Share = Field(0.15, description="Share of blocks or scenes for validation.")
    test: Share = Field(0.2, description="Share of blocks or scenes for test.")
    normalisation: Literal["training", "scene"] = Field(
        "training",
        description="training: statistics of the training split; scene: each scene by its own (display products).",
    )
    store: Literal["none", "npy"] = Field(
        "npy",
        description="npy: keep the patches uncompressed, too, to load them faster; none: read aligned files.",
    )
    unlabelled: bool = Field(
        False,
        description="Also keep patches without labels, of training blocks and of scenes that have none: stage distill "
        "learns from them.",
    )
    chips: bool = Field(False, description="Also write each patch as GeoTIFFs under chips/, for other tools.")

    @model_validator(mode="after")
    def _consistent(self) -> "TileOptions":
        if self.overlap >= self.patch_size:
            raise ValueError(f"overlap is {self.overlap}; wanted less than patch_size ({self.patch_size})")
        if self.validation + self.test >= 1:
            raise ValueError("validation + test leave nothing to train on; wanted a sum below 1")
        return self


class TrainOptions(Options):
    """Fit the network."""

    network: Literal["fusion", "early", "late", "i2m2"] = Field(
        "fusion",
        description="fusion: one encoder a modality, joined at each scale. Competitors: early: one encoder over all "
        "bands; late: one network a modality, mean of their answers; i2m2: late and fusion, answers added.",
    )
    encoder: str | dict[Slug, str] = Field(
        "resnet18",
        description="smp or timm (tu-...) encoder, values (a perceptron; what tables get), or one of croma_base, "
        "croma_large, dofa_base, dofa_large, panopticon_base, vit_small and vit_base: one name for all, or modality -> "
        "name for each of them.",
    )
    weights: dict[Slug, str] = Field(
        {},
        description="Modality -> pre-trained encoder weights, downloaded: imagenet (smp), or torchgeo's name such as "
        "ResNet50_Weights.SENTINEL2_ALL_MOCO for encoder resnet50 and its 13 bands in order; others start at random.",
    )
    wavelengths_nm: dict[Slug, list[float]] = Field(
        {},
        description="Modality -> centre of each band, nm, in order, for encoders dofa and panopticon; radar bands that "
        "are named VV, VH, HH or HV need none.",
    )
    depth: int = Field(4, ge=2, le=5, description="Encoder stages.")
    decoder_channels: list[int] = Field([128, 64, 32, 16], description="Decoder widths, one a stage.")
    fusion: Literal["mean", "gated", "attention", "cell_attention", "concat", "shared_private"] = Field(
        "mean",
        description="How the modalities present are joined at each scale. mean: their mean; gated: weighted by gates "
        "that read their features; attention: a transformer over all cells of the deepest scale (mean at the others); "
        "cell_attention: they attend to each other in each cell (mean at strides 1 and 2); concat: concatenated with "
        "presence channels; shared_private: mean of a shared and sum of private projections.",
    )
    share_encoders: bool = Field(
        False,
        description="Let the dates of one sensor (modalities with `same_as` or the same `sensor`) share an encoder, in "
        "network: fusion.",
    )
    dates: bool = Field(
        False,
        description="Also read when each image was taken: day of the year, and days before or after the reference's "
        "(docs/missing/dates.md); not in network: early.",
    )
    deep_supervision: bool = Field(
        False, description="Give each coarser scale a head of its own, for strategies that train on them; segmentation."
    )
    norm: Literal["batch", "layer"] | None = Field(
        None,
        description="Normalisation of fusion and decoder. layer: each place over its channels, and each modality "
        "before it is fused, so that none speaks louder than another; batch: over the batch; null: layer for response, "
        "mu_bounded and mu_matched, batch for the others.",
    )
    surrogate: bool | None = Field(
        None,
        description="Guess the features of a missing sensor from those present, in network: fusion. null: true for "
        "latent_surrogate, false for the others.",
    )
    strategy: StrategyName | list[StrategyName] = Field(
        "subset_sampling",
        description="How the modalities are balanced; several are joined. subset_sampling: each sample sees a random "
        "subset of its modalities; mu_bounded: shares as `utilization` says. All: docs/strategies.md.",
    )
    utilization: UtilizationOptions = Field(
        UtilizationOptions(), description="Reliance that the mu_ strategies shall reach."
    )
    epochs: int = Field(30, ge=1, description="Passes over the training patches.")
    patience: int | None = Field(
        None,
        ge=1,
        description="Epochs without a better one after which training stops; null: never. They are counted after the "
        "strategies' warm-up; the schedule is that of all epochs.",
    )
    batch_size: int = Field(8, ge=2, description="Patches a batch.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are added up before a step of the optimiser.")
    precision: Annotated[Literal["32", "bf16"], BeforeValidator(_word)] = Field(
        "32", description="Of the network's activations, bits. bf16: bfloat16; losses and scores stay in 32 bits."
    )
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["find"] = Field(
        1e-3, description="Peak of the one-cycle schedule; find: measured in at most 100 trial steps before training."
    )
    weight_decay: float = Field(1e-2, ge=0, description="AdamW.")
    class_weights: Literal["none", "balanced"] = Field("none", description="balanced: by inverse square-root share.")
    geometry: Literal["none", "d4", "affine"] = Field(
        "d4",
        description="Random geometry, shared by all modalities. d4: a symmetry of the square; affine: also a small "
        "rotation, scale and shift.",
    )
    degradations: dict[Slug, list[DegradationOptions]] = Field(
        {}, description="Modality -> what may be wrong with its training patches, in order (docs/degradations.md)."
    )
    workers: int = Field(0, ge=0, description="Loader processes.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one.")
    logs: list[Literal["csv", "tensorboard"]] = Field(
        ["csv"],
        description="What every epoch is written to, under checkpoints/: csv (metrics.csv), tensorboard (needs "
        "`pip install tensorboard`); may be empty.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "TrainOptions":
        if len(self.decoder_channels) != self.depth:
            raise ValueError(
                f"decoder_channels has {len(self.decoder_channels)} values; wanted one a stage (depth: {self.depth})"
            )
        if self.deep_supervision and self.network in ("late", "i2m2"):
            raise ValueError(f"deep_supervision is true for network: {self.network}; wanted network: fusion or early")
        self._check_surrogate()
        if self.share_encoders and self.network != "fusion":
            raise ValueError(f"share_encoders is true for network: {self.network}; wanted network: fusion")
        if self.share_encoders and (needing := sorted(NEED_OWN_ENCODERS & set(self.strategies))):
            raise ValueError(
                f"share_encoders is true for strategy: {needing[0]}, which steers how fast each encoder learns; wanted "
                "another strategy, or false"
            )
        if self.network == "early":
            self._check_early()
        return self

    def _check_surrogate(self) -> None:
        """Refuse guesses where there is no part that could make them, and a strategy of guesses without them."""
        asks = "latent_surrogate" in self.strategies
        if self.surrogate is False and asks:
            raise ValueError("surrogate is false for strategy: latent_surrogate; wanted true, or another strategy")
        if self.chosen_surrogate and self.network != "fusion":
            found = "strategy is latent_surrogate" if asks else "surrogate is true"
            raise ValueError(f"{found} for network: {self.network}; wanted network: fusion")

    def _check_early(self) -> None:
        """Refuse what needs an encoder for each modality."""
        remedy = "early fusion, whose one encoder reads all bands; choose another network, or"
        if self.dates:
            raise ValueError(f"dates is true for {remedy} leave it out")
        needing = [name for name in self.strategies if name in NEED_ENCODERS]
        if needing:
            raise ValueError(f"strategy is {needing[0]} for network: early; wanted one for {remedy} another strategy")
        steered = {"mu_bounded", "mu_matched"} & set(self.strategies)
        if steered and self.utilization.depth not in (None, "decoder"):
            raise ValueError(
                f"utilization.depth is {self.utilization.depth} for network: early; wanted one for {remedy} decoder"
            )
        if self.weights:
            raise ValueError(f"weights name {sorted(self.weights)} for network: early; wanted none for {remedy} none")
        if isinstance(self.encoder, dict) and len(set(self.encoder.values())) > 1:
            raise ValueError(
                f"encoder is {self.encoder} for network: early; wanted one name for {remedy} the same name everywhere"
            )

    @property
    def chosen_norm(self) -> Literal["batch", "layer"]:
        """The normalisation, with the choice that is left open made."""
        if self.norm is not None:
            return self.norm
        return "layer" if _LAYER_NORM & set(self.strategies) else "batch"

    @property
    def chosen_surrogate(self) -> bool:
        """Whether features are guessed, with the choice that is left open made."""
        return "latent_surrogate" in self.strategies if self.surrogate is None else self.surrogate

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies in the order of their effect."""
        return (self.strategy,) if isinstance(self.strategy, str) else tuple(self.strategy)


class EvaluateOptions(Options):
    """Measure the network on the test split."""

    single_modality: bool = Field(
        True, description="Also train one network for each modality alone, with the same budget, to compare with."
    )
    rolls: int = Field(3, ge=1, description="Roll derangements of the permutation utilization.")
    bootstrap: int = Field(1000, ge=100, description="Resamples for the intervals.")
    robustness: bool = Field(
        True, description="Also measure scores, shares and calibration on degraded test patches (docs/evaluation.md)."
    )
    robustness_patches: int = Field(
        64, ge=2, description="Most test patches that are degraded, drawn by the seed; they are held in memory."
    )
    degradations: dict[Slug, list[DegradationOptions]] | None = Field(
        None,
        description="Modality -> degradations, each one a condition of its own; null: the built-in table of "
        "docs/evaluation.md.",
    )
    degradation_seeds: int = Field(
        2, ge=1, description="Draws of each degradation: scores as mean and spread over them, shares from the first."
    )


class PredictOptions(Options):
    """Make maps of whole scenes."""

    model: Path | None = Field(None, description="Model folder; null: the one that this run trains.")
    scenes: list[str] | None = Field(None, description="Scene names; null: all.")
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        None,
        description="Map no more than this: min x, min y, max x, max y; longitude and latitude where all four can be "
        "such, else in the scene's CRS. null: all.",
    )
    aoi: Path | None = Field(
        None, description="Map no more than the polygons in this vector file (GeoJSON or another); null: all."
    )
    tile: int = Field(256, ge=32, description="Edge of the windows given to the network, px.")
    overlap: int = Field(64, ge=0, description="Px that neighbouring windows share.")
    halo: int | None = Field(
        None,
        ge=0,
        description="Px along a window's border whose answers are not used; over the rest of the overlap "
        "neighbours are blended. null: a quarter of the overlap.",
    )
    batch_size: int | None = Field(
        None, ge=1, description="Windows a network call; null: 1 on the CPU (fits its caches), 8 on a GPU."
    )
    streams: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Batches that go through the network at the same time, each on its part of the processor's "
        "threads; null: one a thread but at most 4 on the CPU, 1 on a GPU.",
    )
    readers: int = Field(2, ge=1, le=64, description="Threads that read windows while the network works.")
    precision: Annotated[Literal["32", "bf16", "fp16"], BeforeValidator(_word)] = Field(
        "32", description="Of the network's activations, bits; probabilities and blending stay in 32 bits."
    )
    augment: Literal["none", "flips"] = Field(
        "none", description="flips: mean answer over a window's four reflections, at four times the cost."
    )
    reliance: Literal["none", "leave_one_out", "shapley"] = Field(
        "shapley",
        description="shapley: exact, over all subsets; leave_one_out: what is lost without each sensor, with fewer "
        "passes from three sensors on.",
    )
    reliance_tile: int = Field(32, ge=8, description="Edge of a pixel of the reliance map, scene px.")
    reliance_precision: Annotated[Literal["auto", "32", "bf16", "fp16"], BeforeValidator(_word)] = Field(
        "auto",
        description="At which the network answers subsets of the sensors, for reliance alone; auto: bf16 where the CPU "
        "multiplies in it, else `precision`.",
    )
    contributions: bool = Field(
        False,
        description="Also map what each sensor adds to the probability of the class, with its sign, and the synergy of "
        "all of them (docs/map-files.md); needs reliance: shapley.",
    )
    probabilities: bool = Field(False, description="Also write the probability of every class, in steps of 0.004.")
    geopackage: bool = Field(
        False, description="Chip classification: also write the table as a GeoPackage, chips.gpkg."
    )
    trust: Share | None = Field(
        0.25,
        description="A tile of the trust map is flagged where at least this share of its prediction rests on input "
        "that was not good (docs/map-files.md); needs reliance; null: no trust map.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one.")

    @model_validator(mode="after")
    def _consistent(self) -> "PredictOptions":
        if self.bbox is not None and (self.bbox[0] >= self.bbox[2] or self.bbox[1] >= self.bbox[3]):
            raise ValueError(f"bbox is {self.bbox}; wanted min x, min y, max x, max y, each minimum below its maximum")
        if self.bbox is not None and self.aoi is not None:
            raise ValueError("bbox and aoi are both set; wanted one of them; set the other to null")
        if self.overlap % 2 or self.overlap > self.tile // 2:
            raise ValueError(f"overlap is {self.overlap}; wanted an even number of at most tile / 2 ({self.tile // 2})")
        if self.halo is not None and self.halo > self.overlap // 2:
            raise ValueError(f"halo is {self.halo}; wanted at most overlap / 2 ({self.overlap // 2})")
        if self.contributions and self.reliance != "shapley":
            raise ValueError(
                f"contributions is true and reliance is {self.reliance}; wanted reliance: shapley, which measures them"
            )
        if (self.tile - self.overlap) % self.reliance_tile:
            raise ValueError(
                f"tile - overlap is {self.tile - self.overlap}; wanted a multiple of reliance_tile "
                f"({self.reliance_tile})"
            )
        return self

    @property
    def chosen_halo(self) -> int:
        """The halo, with the choice that is left open made."""
        return self.overlap // 4 if self.halo is None else self.halo

    @property
    def reliance_every(self) -> int:
        """Distance of the rows and columns at which reliance is computed, px: a tile has 64 such places at least."""
        return 2 if self.reliance_tile >= 16 and self.reliance_tile % 2 == 0 else 1


class ReportOptions(Options):
    """Write the report."""

    title: str | None = Field(None, description="Heading; null: the run's name.")
    max_scenes: int = Field(6, ge=1, description="Most scenes that are shown with pictures.")
