"""What lies beside a scene's maps: styles for QGIS, and a STAC Item that lists them all."""

from collections.abc import Sequence
from pathlib import Path

from ..datasets.stack import AlignedStack
from .map_files import MapFiles
from .predict import Predictor
from .qgis_style import write_map_style, write_style
from .stac_item import ItemPlace, MapAsset, write_item
from .stac_model import ModelSource
from .trust import FLAG_COLOURS, FLAG_NAMES
from .trust_maps import TrustFiles


def write_companions(
    stack: AlignedStack,
    maps: MapFiles,
    trust: TrustFiles | None,
    predictor: Predictor,
    *,
    model: Path | None,
    place: ItemPlace | None = None,
) -> list[Path]:
    """Write styles and item of a scene's maps; return the files.

    Parameters
    ----------
    stack
        The scene.
    maps, trust
        What was written of it.
    predictor
        What it was mapped with.
    model
        Folder of the model; None leaves it out of the item.
    place
        Of the item in a collection, where the model has an item of its own: the maps' item then links it, and does not
        describe it again.
    """
    names = {item.value: item.name for item in predictor.classes}
    colours = {item.value: item.rgb for item in predictor.classes}
    written = [write_style(maps.classes, names, colours=colours), *_styles(maps, trust, predictor)]
    source = None if model is None or place is not None else model_source(predictor, folder=model)
    listed = _assets(maps, trust, {value: (name, colours[value]) for value, name in names.items()})
    item = write_item(maps.classes.with_name(f"{stack.name}.json"), stack, listed, model=source, place=place)
    return written + ([] if item is None else [item])


def _styles(maps: MapFiles, trust: TrustFiles | None, predictor: Predictor) -> list[Path]:
    """Write the styles of all maps but that of the classes."""
    sensors = len(predictor.network.modalities)
    numbers = {
        "confidence": (maps.confidence, 1), "probability": (maps.probability, len(predictor.classes)),
        "reliance": (maps.reliance, sensors), "contribution": (maps.contribution, sensors + 1),
        "quality": (None if trust is None else trust.quality, sensors + 1),
    }  # fmt: skip
    found = [write_map_style(path, kind, bands=bands) for kind, (path, bands) in numbers.items() if path is not None]
    flags = [] if trust is None else [write_style(trust.flags, FLAG_NAMES, colours=FLAG_COLOURS)]
    return [*flags, *(path for path in found if path is not None)]


def model_source(predictor: Predictor, *, folder: Path) -> ModelSource:
    """Return what STAC tells of the model, as it was trained, that was loaded from a folder."""
    return ModelSource(
        folder=folder, digest=predictor.digest, network=predictor.network.spec.to_dict(),
        classes={item.value: item.name for item in predictor.classes},
        modalities={item.name: item.band_names for item in predictor.normaliser.modalities},
        parameters=sum(weight.numel() for weight in predictor.network.parameters()),
    )  # fmt: skip


def _assets(
    maps: MapFiles, trust: TrustFiles | None, classes: dict[int, tuple[str, tuple[int, int, int]]]
) -> Sequence[MapAsset]:
    flags = {int(flag): (name, FLAG_COLOURS[flag]) for flag, name in FLAG_NAMES.items()}
    found = [
        (maps.classes, "classes", classes), (maps.confidence, "probability of the class, calibrated", {}),
        (maps.probability, "probability of every class, calibrated", {}),
        (maps.reliance, "share of what the prediction rests on, by sensor", {}),
        (maps.contribution, "what each sensor adds to the probability of the class, and their synergy", {}),
    ]  # fmt: skip
    if trust is not None:
        found += [(trust.flags, "what is wrong with the input that the prediction rests on", flags),
                  (trust.quality, "quality of each sensor and of what the prediction rests on", {})]  # fmt: skip
    return [MapAsset(path=path, title=title, classes=kinds) for path, title, kinds in found if path is not None]
