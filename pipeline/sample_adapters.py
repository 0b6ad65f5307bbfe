"""Samples of torchgeo and TerraTorch, to and from ours: the same tensors under the names that each of them reads.

Ours holds a dict of images by modality (`image`), of masks (`valid`), which sensors there are (`available`), and `mask`
or `label`. torchgeo's tasks read one stacked `image`; TerraTorch's multimodal models read a dict of images under names
of their own ("S2L2A"), and hand every other key but `mask` and `filename` to the model. Tensors are passed on, or
stacked, never changed; unbatched (band, y, x) and batched (batch, band, y, x) alike.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .errors import PipelineError

#: Our keys -> those under which they travel in a torchgeo sample, one a modality.
_VALID = "valid_{}"


def to_torchgeo(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample as torchgeo's tasks and transforms read it.

    Parameters
    ----------
    sample
        Ours; further keys (``mask``, ``label``, ``bounds``, ``crs``, ...) pass.

    Returns
    -------
    dict
        ``image``: all bands, stacked in the order of the modalities; ``valid_<modality>`` beside it.
    """
    images = _images(sample)
    rest = {key: value for key, value in sample.items() if key not in ("image", "valid")}
    beside = {_VALID.format(name): mask for name, mask in sample.get("valid", {}).items()}
    return {"image": torch.cat(list(images.values()), dim=-3), **beside, **rest}


def from_torchgeo(sample: Mapping[str, Any], modalities: Mapping[str, int | str]) -> dict[str, Any]:
    """Return a torchgeo sample as ours.

    Parameters
    ----------
    sample
        With one stacked ``image``, or an image a modality.
    modalities
        Modality -> number of its bands in the stacked image, in order; or -> the key of its own image.

    Returns
    -------
    dict
        ``image``, ``valid`` and ``available`` by modality; further keys pass. Where the sample tells nothing of what is
        valid, pixels are that are finite in all bands.

    Raises
    ------
    PipelineError
        If the bands or keys are others.
    """
    counts = {name: bands for name, bands in modalities.items() if isinstance(bands, int)}
    keys = {name: key for name, key in modalities.items() if isinstance(key, str)}
    found = {name: _tensor(sample, key) for name, key in keys.items()}
    if counts:
        stacked = _tensor(sample, "image")
        if sum(counts.values()) != stacked.shape[-3]:
            raise PipelineError(
                f"found an image of {stacked.shape[-3]} bands; wanted {sum(counts.values())} ({counts}); correct the "
                "numbers of bands"
            )
        found |= dict(zip(counts, stacked.split(list(counts.values()), dim=-3), strict=True))
    images = {name: found[name] for name in modalities}
    taken = {*keys.values(), *(_VALID.format(name) for name in modalities), *(["image"] if counts else [])}
    valid = {name: sample[_VALID.format(name)] for name in modalities if _VALID.format(name) in sample}
    return _ours(images, valid, {key: value for key, value in sample.items() if key not in taken})


def to_terratorch(sample: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a sample as TerraTorch's multimodal models read it.

    Parameters
    ----------
    sample
        Ours. A sensor that is missing for the whole sample is left out, as `allow_missing_modalities` does.
    names
        Modality -> TerraTorch's name: ``{"eo": "S2L2A", "sar": "S1GRD"}``.

    Returns
    -------
    dict
        ``image`` by name, and ``mask`` or ``filename`` where the sample has them. Nothing else: TerraTorch's tasks hand
        further keys to the model.
    """
    images = _images(sample)
    _require_names(images, names)
    present = _present(sample, list(images))
    kept = {key: sample[key] for key in ("mask", "label", "filename") if key in sample}
    return {"image": {names[name]: image for name, image in images.items() if present[name]}, **kept}


def from_terratorch(sample: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a sample of TerraTorch's multimodal data sets as ours.

    Parameters
    ----------
    sample
        With a dict of images under TerraTorch's names.
    names
        Modality -> TerraTorch's name, in our order; one that the sample lacks is left out of ours, too.

    Returns
    -------
    dict
        ``image``, ``valid`` and ``available`` by modality; further keys pass.

    Raises
    ------
    PipelineError
        If there is no dict of images, or one under a name that is not listed.
    """
    given = sample.get("image")
    if not isinstance(given, Mapping):
        raise PipelineError("found no dict of images; wanted one by modality; load the data without `concat_bands`")
    _require_names(given, {name: name for name in names.values()})
    images = {name: given[foreign] for name, foreign in names.items() if foreign in given}
    return _ours(images, {}, {key: value for key, value in sample.items() if key != "image"})


def _ours(images: Mapping[str, Tensor], valid: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    masks = {name: valid.get(name, image.isfinite().all(dim=-3)) for name, image in images.items()}
    seen = torch.stack([mask.flatten(-2).any(dim=-1) for mask in masks.values()], dim=-1)
    return {"image": dict(images), "valid": masks, "available": seen, **rest}


def _present(sample: Mapping[str, Any], names: list[str]) -> dict[str, bool]:
    available = sample.get("available")
    if available is None:
        return dict.fromkeys(names, True)
    return {name: bool(available[..., column].any()) for column, name in enumerate(names)}


def _images(sample: Mapping[str, Any]) -> Mapping[str, Tensor]:
    images = sample.get("image")
    if not isinstance(images, Mapping) or not images:
        raise PipelineError("found no images by modality; wanted a sample of Equipoise; use from_torchgeo for others")
    return images


def _require_names(found: Mapping[str, Any], names: Mapping[str, str]) -> None:
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise PipelineError(f"found modalities {unknown}; wanted some of {sorted(names)}; name them all")


def _tensor(sample: Mapping[str, Any], key: str) -> Tensor:
    found = sample.get(key)
    if not isinstance(found, Tensor) or found.ndim < 3:
        raise PipelineError(f"found no image under '{key}'; wanted one of (band, y, x); the keys are {sorted(sample)}")
    return found
