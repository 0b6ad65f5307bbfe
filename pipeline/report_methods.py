"""Report methods: what this run did, as a paragraph that can go into a paper, with its sources."""

from collections.abc import Callable, Mapping, Sequence

from .config import Config
from .report_headline import joined_words, sensor_words
from .run_folder import StageRecord

#: Works that are cited, by key.
SOURCES: Mapping[str, str] = {
    "dizenzo": "Di Zenzo, S. (1986). A note on the gradient of a multi-image. Computer Vision, Graphics, and Image "
    "Processing 33(1), 116-125.",
    "unet": "Ronneberger, O., Fischer, P., Brox, T. (2015). U-Net: convolutional networks for biomedical image "
    "segmentation. MICCAI.",
    "dice": "Milletari, F., Navab, N., Ahmadi, S.-A. (2016). V-Net: fully convolutional neural networks for volumetric "
    "medical image segmentation. 3DV.",
    "adamw": "Loshchilov, I., Hutter, F. (2019). Decoupled weight decay regularization. ICLR.",
    "mmformer": "Zhang, Y., et al. (2022). mmFormer: multimodal medical transformer for incomplete multimodal learning "
    "of brain tumor segmentation. MICCAI.",
    "mu": "Singh, S., Markopoulos, P. P., Saber, E., Lew, J. D., Heard, J. (2023). Measuring modality utilization in "
    "multi-modal neural networks. IEEE CAI.",
    "mutrain": "Singh, S., Saber, E., Markopoulos, P. P., Heard, J. (2024). Regulating modality utilization within "
    "multimodal fusion networks. Sensors 24(18), 6054.",
    "recycle": "Xing, T., Sandha, S. S., Balaji, B., Chakraborty, S., Srivastava, M. (2018). Enabling edge devices "
    "that learn from each other: cross modal training for activity recognition. EdgeSys.",
    "hinton": "Hinton, G., Vinyals, O., Dean, J. (2015). Distilling the knowledge in a neural network. NIPS Deep "
    "Learning Workshop.",
    "greedy": "Wu, N., Jastrzebski, S., Cho, K., Geras, K. J. (2022). Characterizing and overcoming the greedy nature "
    "of learning in multi-modal deep neural networks. ICML.",
    "ogm": "Peng, X., Wei, Y., Deng, A., Wang, D., Hu, D. (2022). Balanced multimodal learning via on-the-fly "
    "gradient modulation. CVPR.",
    "mmpareto": "Wei, Y., Hu, D. (2024). MMPareto: boosting multimodal learning with innocent unimodal assistance. "
    "ICML.",
    "konwer": "Konwer, A., et al. (2023). Enhancing modality-agnostic representations via meta-learning for brain "
    "tumor segmentation. ICCV.",
    "mfm": "Tsai, Y.-H. H., Liang, P. P., Zadeh, A., Morency, L.-P., Salakhutdinov, R. (2019). Learning factorized "
    "multimodal representations. ICLR.",
    "ayyar": "Ayyar, M. P., et al. (2024). ET: explain to train. ICIP.",
    "yaras": "Yaras, C., Chen, S., Wang, P., Qu, Q. (2024). Explaining and mitigating the modality gap in contrastive "
    "multimodal learning. arXiv 2412.07909.",
    "infonce": "van den Oord, A., Li, Y., Vinyals, O. (2018). Representation learning with contrastive predictive "
    "coding. arXiv 1807.03748.",
    "guo": "Guo, C., Pleiss, G., Sun, Y., Weinberger, K. Q. (2017). On calibration of modern neural networks. ICML.",
    "shapley": "Shapley, L. S. (1953). A value for n-person games. Contributions to the Theory of Games II, 307-317.",
    "brier": "Brier, G. W. (1950). Verification of forecasts expressed in terms of probability. Monthly Weather Review "
    "78(1), 1-3.",
    "efron": "Efron, B. (1979). Bootstrap methods: another look at the jackknife. The Annals of Statistics 7(1), 1-26.",
}

#: What each strategy does, and its source.
_STRATEGIES: Mapping[str, tuple[str, str | None]] = {
    "joint": ("all sensors that were present were shown", None),
    "subset_sampling": ("each sample showed a random subset of its sensors", "mmformer"),
    "inverse_reliance": ("the weaker a sensor was alone, the more often it was shown alone", None),
    "response": (
        "in two samples of five, one sensor's features were replaced by some that tell nothing of the place",
        "mu",
    ),
    "feature_swapping": ("in three samples of ten, two sensors exchanged parts of their features", "yaras"),
    "contrastive": (
        "first, without labels, features of two sensors of one place were brought together (InfoNCE)",
        "infonce",
    ),
    "auxiliary": ("each sensor alone answered for itself, too", "mmformer"),
    "frozen_head": ("encoders were trained each alone and then frozen", "mutrain"),
    "mu_legacy": ("one sensor's utilization by cross entropy was pulled to its target (a reconstruction)", "mutrain"),
    "mu_bounded": ("utilization by a bounded score was held at its targets by a controller", "mutrain"),
    "mu_matched": ("utilization was matched to what each sensor tells under each condition", "mutrain"),
    "greedy": ("the sensor that learned more slowly was left alone with the task for some steps", "greedy"),
    "consistency": (
        "each sample was answered from all of its sensors and from a random subset, whose answer was pulled to the "
        "first",
        "hinton",
    ),
    "explanation_erasing": (
        "where the answer rested most on a sensor that was used too much, that sensor was erased in a second loss",
        "ayyar",
    ),
    "ogm_ge": ("gradients of the sensor that was ahead were damped", "ogm"),
    "mmpareto": ("each encoder followed a direction that serves the fused and its own loss", "mmpareto"),
    "meta_missing": (
        "layers that had taken a step on a random subset of the sensors answered for all of them, and a detector of "
        "those that were missing was worked against",
        "konwer",
    ),
    "latent_surrogate": ("features of hidden sensors were predicted from the others and used in their place", "mfm"),
}

_FUSIONS = {
    "mean": "the mean of the sensors that are present", "gated": "gates that read the features",
    "attention": "the mean of the sensors that are present, the deepest after a transformer over all of their cells",
    "cell_attention": "attention between the sensors that are present in a cell",
    "concat": "concatenation with presence channels",
    "shared_private": "shared and private projections",
}  # fmt: skip

_SPLITS = {"train": "training", "validation": "validation", "test": "the test"}

Cite = Callable[[str], str]


def methods(config: Config, stages: Mapping[str, StageRecord]) -> tuple[list[tuple[str, str]], list[str]]:
    """Describe what was done, stage by stage; a stage that was not done is not described.

    Parameters
    ----------
    config
        Of the run.
    stages
        Records of the stages that are finished.

    Returns
    -------
    Heading and text of each paragraph, with numbers in brackets; and the sources in the order of these numbers.
    """
    cited: list[str] = []

    def cite(key: str) -> str:
        if key not in cited:
            cited.append(key)
        return f"[{cited.index(key) + 1}]"

    tellers: Mapping[str, tuple[str, Callable[[Config, StageRecord, Cite], str]]] = {
        "coregister": ("Alignment", _alignment), "tile": ("Patches", _patches),
        "distill": ("Distillation", _distillation), "train": ("Network", _network),
        "evaluate": ("Evaluation", _evaluation), "predict": ("Maps", _maps),
    }  # fmt: skip
    paragraphs = [("Data", _data(config))]
    paragraphs += [
        (title, tell(config, stages[name], cite)) for name, (title, tell) in tellers.items() if name in stages
    ]
    return paragraphs, [SOURCES[key] for key in cited]


def _data(config: Config) -> str:
    sensors = [
        f"{sensor_words(name, str(item.unit))}, {_bands(item.modality(name).band_names)}"
        for name, item in config.modalities.items()
    ]
    kind = "a class of each pixel" if config.task == "segmentation" else "a class of each chip"
    return f"The task is {kind} out of {len(config.classes)}, from {'; '.join(sensors)}."


def _bands(names: Sequence[str]) -> str:
    return f"band{'' if len(names) == 1 else 's'} {joined_words(names)}"


def _alignment(config: Config, record: StageRecord, cite: Cite) -> str:
    options, found = config.coregister, record.figures.get("registrations", {})
    reference, still = config.reference, ("reference", "uniform")
    if options.method == "none":
        return f"Sensors were resampled onto the grid of {reference} at their files' own positions."
    items = [item for scene in found.values() for item in scene.values() if item.get("kind") not in still]
    moved = sum(bool(item.get("applied")) for item in items)
    return (
        f"Sensors were registered onto {reference} by the structure of their edges (gradient structure tensor "
        f"{cite('dizenzo')}), within {options.max_shift_m:g} m, and resampled once; a position was applied where "
        f"it was right within a pixel with a probability of {options.min_confidence:g} at least ({moved} of "
        f"{len(items)} images)."
    )


def _patches(config: Config, record: StageRecord, cite: Cite) -> str:
    del cite
    options, counts = config.tile, record.figures.get("patches", {})
    parts = (
        joined_words([f"{number} for {_SPLITS.get(split, split)}" for split, number in sorted(counts.items())])
        if counts
        else "none"
    )
    if config.task == "classification":
        return f"Chips are samples as they are: {parts}."
    whose = "the training split" if options.normalisation == "training" else "each scene"
    return (
        f"Scenes were cut into patches of {options.patch_size} px: {parts}. Splits are blocks of {options.block_size} "
        f"px at least {options.buffer} px apart, or whole scenes; values were normalised by statistics of {whose}."
    )


def _network(config: Config, record: StageRecord, cite: Cite) -> str:
    options, figures = config.train, record.figures
    encoder = (
        options.encoder if isinstance(options.encoder, str) else joined_words(sorted(set(options.encoder.values())))
    )
    kinds = {
        "fusion": f"A U-Net {cite('unet')} with an encoder for each sensor ({encoder}), whose features are joined at "
        f"each scale by {_FUSIONS[options.fusion]}",
        "early": f"A U-Net {cite('unet')} over all bands at once ({encoder})",
        "late": f"A U-Net {cite('unet')} for each sensor ({encoder}), whose answers are averaged",
        "i2m2": f"A U-Net {cite('unet')} for each sensor and one for all ({encoder}), whose answers are added",
    }
    optimiser = (
        f"with AdamW {cite('adamw')} (batches of {options.batch_size}, peak learning rate {figures['learning_rate']:g})"
    )
    loss = f"cross entropy and soft Dice {cite('dice')}" if config.task == "segmentation" else "cross entropy"
    told = [_STRATEGIES[name] for name in options.strategies]
    balance = joined_words([f"{words} {cite(key)}" if key else words for words, key in told])
    return (
        f"{kinds[options.network]}, {figures['parameters']:,} parameters, was trained for {len(figures['history'])} "
        f"epochs {optimiser} on {loss}; {balance}. Kept is epoch {figures['best_epoch'] + 1}, the best on the "
        f"validation split. Confidence is calibrated there by one temperature {cite('guo')}."
    )


def _distillation(config: Config, record: StageRecord, cite: Cite) -> str:
    figures, options = record.figures, config.distill
    learners = [name for name in figures["students"] if name != figures["teacher"]]
    heat = "" if options is None else f" at temperature {options.temperature:g}"
    return (
        f"A network of {figures['teacher']} alone taught those of {joined_words(learners)} by its features "
        f"{cite('recycle')} and its answers{heat} {cite('hinton')}, on {sum(figures['patches'].values())} patches "
        "whose labels were not read; the fusion network began with their weights."
    )


def _evaluation(config: Config, record: StageRecord, cite: Cite) -> str:
    del record
    used = f"the rise of the Brier score {cite('brier')} when one sensor comes from another patch {cite('mu')}"
    told = f"the Shapley value {cite('shapley')} of each sensor for that score"
    return (
        "Figures are of the test split, which neither training nor the choice of the epoch has seen. Utilization is "
        f"{used}, as a share of the sum; information is {told}. Intervals are 95 % bootstrap intervals {cite('efron')} "
        f"over patches ({config.evaluate.bootstrap} resamples)."
    )


def _maps(config: Config, record: StageRecord, cite: Cite) -> str:
    options = config.predict
    if "chips" in record.figures:
        return (
            f"Each chip was given a class. Reliance is the absolute Shapley value {cite('shapley')} of each sensor for "
            "its probability, over all subsets of the sensors, as a share."
        )
    parts = [f"Maps were made in windows of {options.tile} px that overlap by {options.overlap} px."]
    if options.bbox is not None or options.aoi is not None:
        parts.append("A part of the scenes was asked for.")
    if options.reliance == "shapley":
        parts.append(
            f"Reliance is the absolute Shapley value {cite('shapley')} of each sensor for the probability of the class "
            f"shown, over all subsets of the sensors, averaged over tiles of {options.reliance_tile} px, as a share."
        )
    if options.reliance == "leave_one_out":
        parts.append(
            f"Reliance is what is lost without each sensor, in tiles of {options.reliance_tile} px, as a share."
        )
    if options.trust is not None and options.reliance != "none" and "scenes" in record.figures:
        parts.append(
            f"A tile is flagged where at least {options.trust:.0%} of its prediction rests on input that was clouded, "
            "missing, doubtfully placed or out of range."
        )
    return " ".join(parts)
