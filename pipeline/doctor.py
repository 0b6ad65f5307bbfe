"""Doctor: what this machine has, and what is wrong with the installation."""

import importlib.util
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from .. import __version__
from .run_folder import package_versions


def examine() -> Iterator[tuple[str, str]]:
    """Yield (what, finding) pairs; findings that need action begin with ``PROBLEM``."""
    yield "equipoise", __version__
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    versions = package_versions()
    yield from versions.items()
    yield "torch and torchvision", _torch_pair(versions)
    yield from _devices()
    import rasterio

    yield "GDAL", f"{rasterio.__gdal_version__}, GDAL_NUM_THREADS={os.environ.get('GDAL_NUM_THREADS', 'not set')}"
    yield "data folder", _data_folder()
    if importlib.util.find_spec("albumentationsx") is not None:
        yield "albumentations", "PROBLEM: albumentationsx takes its import name; uninstall it"


def _torch_pair(versions: dict[str, str]) -> str:
    try:
        torch_minor = int(versions["torch"].split(".")[1])
        vision_minor = int(versions["torchvision"].split(".")[1])
    except (IndexError, ValueError):
        return f"PROBLEM: found {versions['torch']} and {versions['torchvision']}; install both"
    if vision_minor != torch_minor + 15:
        return (
            f"PROBLEM: found torch {versions['torch']} with torchvision {versions['torchvision']}; wanted one release "
            f"(torchvision 0.{torch_minor + 15}); install both from requirements.txt"
        )
    return "one release"


def _devices() -> Iterator[tuple[str, str]]:
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(number).total_memory / 2**30
            yield f"GPU {number}", f"{torch.cuda.get_device_name(number)}, {memory:.0f} GiB"
    else:
        yield "GPU", "none; training and prediction run on the CPU"
    yield "threads", f"{torch.get_num_threads()} for torch, {os.cpu_count()} cores"


def _data_folder() -> str:
    from ..datasets.samples import DATA_VARIABLE

    folder = os.environ.get(DATA_VARIABLE)
    if folder is None:
        return f"{DATA_VARIABLE} is not set: samples are downloaded when asked for"
    return folder if Path(folder).is_dir() else f"PROBLEM: {DATA_VARIABLE}={folder} is no folder; correct or unset it"
