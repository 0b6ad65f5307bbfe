"""Acceptance: whether what was found between two images can be chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .registration import Level

#: Mean and deviation, between pairs of different places, of the mean lead over two levels; the deviation falls with the
#: root of their number. Of 446 such pairs and 656 turned by half (chips of OMBRIA, Los Angeles), 1 % were beyond 2 of
#: these deviations, 2 beyond 4.
CHANCE, CHANCE_SPREAD, CHANCE_LEVELS = 1.3, 0.33, 2

#: Largest log10 of the expected number of false alarms that is accepted: 1 in 10 000 pairs of different places.
ACCEPTED = -4.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Evidence that two images show one place.

    Attributes
    ----------
    lead
        Mean over levels of how far the score of a block, where the other blocks expect its content, stands out of its
        background, in deviations of the background.
    log10_false_alarms
        Logarithm of how many pairs of different places, in one, score as high this close to the given position.
    """

    lead: float
    log10_false_alarms: float

    @property
    def accepted(self) -> bool:
        """Whether chance is excluded."""
        return self.log10_false_alarms < ACCEPTED


def judged(levels: Sequence[Level], *, radius_px: float) -> Verdict:
    """Judge a registration by the a-contrario principle (Desolneux, Moisan and Morel 2000).

    Chance is asked for twice: for a lead as high, from its distribution between different places; and for a shift as
    near to the given position as this one, of all that were searched. True pairs mostly lie near their position.

    Parameters
    ----------
    levels
        What was found, the finest last; not empty.
    radius_px
        Search radius in pixels of the matching grid.
    """
    lead = float(np.mean([level.lead.mean() for level in levels]))
    spread = CHANCE_SPREAD * np.sqrt(CHANCE_LEVELS / len(levels))
    by_score = float(stats.norm.logsf(lead, loc=CHANCE, scale=spread) / np.log(10))
    fit = levels[-1].fit
    distance = float(np.median(np.hypot(*fit.at(fit.places).T)))
    near = 2 * np.log10(min(1.0, (distance + 1) / (radius_px + 1)))
    return Verdict(lead=lead, log10_false_alarms=by_score + float(near))
