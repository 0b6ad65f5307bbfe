"""The one place that knows torchgeo's data sets: any of them gives the common sample, in its versions 0.8 to 0.10.

torchgeo joins the sensors of a sample into one array, in numbers as stored, and says neither which channel is what
nor what is fill; that is declared here. The versions differ: 0.8 gives ``crs`` and ``bounds`` as slices (x, y, time);
from 0.9 on a sample has a ``transform`` and the data set the CRS. Time series (time, channel, y, x) are one run of
channels, and masks may have a leading axis of one. torchgeo is imported only when a data set is asked for: that takes
many seconds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ..modality import Modality
from ..stack import IGNORE
from .chip_image import working_values
from .errors import BenchmarkError


def torchgeo_dataset(name: str, **arguments: Any) -> Any:
    """Make one of torchgeo's data sets; nothing is downloaded.

    Parameters
    ----------
    name
        Name of the class in ``torchgeo.datasets``.
    arguments
        For its constructor: ``root``, ``split``, ...

    Raises
    ------
    BenchmarkError
        If this version of torchgeo has no such class, or its files are not there.
    """
    if arguments.get("download"):
        raise BenchmarkError(f"found `download` for {name}; wanted files that are there; download them yourself")
    import torchgeo
    from torchgeo import datasets

    made = getattr(datasets, name, None)
    if made is None:
        raise BenchmarkError(
            f"found no data set '{name}' in torchgeo {torchgeo.__version__}; wanted a class of torchgeo.datasets; "
            "correct the name, or install the version that has it"
        )
    try:
        return made(**arguments)
    except datasets.DatasetNotFoundError as error:
        reason = " ".join(str(error).split())
        raise BenchmarkError(f"{name}: found no files ({reason}); wanted its published layout") from error


class TorchgeoSamples(Dataset[dict[str, Any]]):
    """Samples of a torchgeo data set in the form of those of `BenchmarkDataset`, not normalised.

    Parameters
    ----------
    inner
        What :func:`torchgeo_dataset` made, or any data set of torchgeo's samples with integer indices.
    modalities
        Bands and units of each sensor, in order.
    channels
        Modality -> its channels of torchgeo's ``image`` (or of another entry: ``entries``), from 0, in band order.
    class_values
        Values of torchgeo's ``mask`` or ``label`` in class order; others are not labelled.
    entries
        Modality -> key of the sample, where torchgeo has several images; ``image`` by default.
    """

    def __init__(
        self,
        inner: Any,
        *,
        modalities: Sequence[Modality],
        channels: Mapping[str, Sequence[int]],
        class_values: Sequence[int],
        entries: Mapping[str, str] | None = None,
    ) -> None:
        for modality in modalities:
            if len(channels.get(modality.name, ())) != len(modality.bands):
                raise BenchmarkError(
                    f"found {len(channels.get(modality.name, ()))} channels for modality '{modality.name}'; wanted one "
                    f"for each of its {len(modality.bands)} bands; complete `channels`"
                )
        self._inner = inner
        self._modalities = tuple(modalities)
        self._channels = channels
        self._class_values = tuple(class_values)
        self._entries = {} if entries is None else dict(entries)

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, position: int) -> dict[str, Any]:
        given = self._inner[position]
        sample: dict[str, Any] = {"id": str(position), "image": {}, "valid": {}}
        available = []
        for modality in self._modalities:
            working = self._working(given, modality)
            valid = np.asarray(np.isfinite(working).all(axis=0))
            values = np.where(valid, modality.to_network(working), np.float32(0))
            sample["image"][modality.name] = torch.from_numpy(values)
            sample["valid"][modality.name] = torch.from_numpy(valid)
            available.append(bool(valid.any()))
        sample["available"] = torch.tensor(available)
        for key in ("mask", "label"):
            if key in given:
                stated = np.asarray(given[key])
                sample[key] = torch.from_numpy(
                    self._positions(stated[0] if key == "mask" and stated.ndim == 3 else stated)
                )
        return sample | self._position(given, next(iter(sample["valid"].values())).shape)

    def _working(self, given: Mapping[str, Any], modality: Modality) -> NDArray[np.float32]:
        key = self._entries.get(modality.name, "image")
        if key not in given:
            raise BenchmarkError(f"found {', '.join(given)} in torchgeo's sample; wanted '{key}'; correct `entries`")
        image = np.asarray(given[key], dtype=np.float32)
        image = image.reshape(-1, *image.shape[-2:])
        wanted = list(self._channels[modality.name])
        if max(wanted) >= len(image):
            raise BenchmarkError(
                f"found {len(image)} channels in torchgeo's '{key}'; wanted number {max(wanted)} for modality "
                f"'{modality.name}'; correct `channels`"
            )
        return working_values(image[wanted], modality, [band.nodata for band in modality.bands])

    def _positions(self, stated: NDArray[Any]) -> NDArray[np.int64]:
        out = np.full(stated.shape, IGNORE, dtype=np.int64)
        for position, value in enumerate(self._class_values):
            out[stated == value] = position
        return out

    def _position(self, given: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
        crs = given.get("crs", getattr(self._inner, "crs", None))
        affine = _affine(given, shape)
        if crs is None or affine is None:
            return {}
        a, b, c, d, e, f = affine
        height, width = shape
        xs = [c + a * x + b * y for x in (0, width) for y in (0, height)]
        ys = [f + d * x + e * y for x in (0, width) for y in (0, height)]
        return {
            "crs": str(crs),
            "transform": torch.tensor(affine, dtype=torch.float64),
            "bounds": torch.tensor([min(xs), min(ys), max(xs), max(ys)], dtype=torch.float64),
        }


def _affine(given: Mapping[str, Any], shape: tuple[int, ...]) -> list[float] | None:
    if "transform" in given:
        return [float(number) for number in list(given["transform"])[:6]]
    bounds = given.get("bounds")
    if not isinstance(bounds, tuple) or not isinstance(bounds[0], slice):
        return None
    x, y = bounds[0], bounds[1]
    height, width = shape
    return [(x.stop - x.start) / width, 0.0, float(x.start), 0.0, -(y.stop - y.start) / height, float(y.stop)]
