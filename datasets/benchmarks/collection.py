"""The public data sets by name."""

from collections.abc import Mapping

from .bright import BRIGHT
from .dfc2020 import DFC2020
from .errors import BenchmarkError
from .isprs import POTSDAM, VAIHINGEN
from .mavoc import MAVOC
from .mcubes import MCUBES
from .ombria import OMBRIA
from .openearthmap_sar import OPENEARTHMAP_SAR
from .public_dataset import PublicDataset
from .sen1floods11 import SEN1FLOODS11
from .sen12_gum import SEN12_GUM
from .sen12ms import SEN12MS, SEN12MS_SIMPLIFIED
from .spacenet6 import SPACENET6
from .whu_opt_sar import WHU_OPT_SAR

#: Every data set that can be read.
PUBLIC_DATASETS: Mapping[str, PublicDataset] = {
    "sen1floods11": SEN1FLOODS11,
    "ombria": OMBRIA,
    "sen12ms": SEN12MS,
    "sen12ms-simplified": SEN12MS_SIMPLIFIED,
    "dfc2020": DFC2020,
    "bright": BRIGHT,
    "spacenet6": SPACENET6,
    "openearthmap-sar": OPENEARTHMAP_SAR,
    "whu-opt-sar": WHU_OPT_SAR,
    "mcubes": MCUBES,
    "mavoc": MAVOC,
    "isprs-vaihingen": VAIHINGEN,
    "isprs-potsdam": POTSDAM,
    "sen12-gum": SEN12_GUM,
}


def public_dataset(name: str) -> PublicDataset:
    """Return a data set by its name.

    Raises
    ------
    BenchmarkError
        If there is none of that name.
    """
    if name not in PUBLIC_DATASETS:
        raise BenchmarkError(f"found data set '{name}'; wanted one of {', '.join(PUBLIC_DATASETS)}; choose one of them")
    return PUBLIC_DATASETS[name]
