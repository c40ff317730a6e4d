"""From what several people said about a frame to one label, by a stated rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ssn_edge.review.labels import Label, LabelLine


class OnConflict(str, Enum):
    """What becomes of a frame that one person calls good and another defective."""

    REFUSE = "refuse"
    LEAVE_OUT = "leave-out"
    LATEST = "latest"
    """The last word counts."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What people say about one frame.

    Args:
        label: None where nobody has said anything, or where they contradict each other.
        line: The line that the label comes from: the latest that says so.
        is_conflict: One says good, another defective.
    """

    label: Label | None
    line: LabelLine | None
    is_conflict: bool = False


def agreement(said: Sequence[LabelLine]) -> Agreement:
    """The one label of a frame. Unsure counts only where nobody is sure.

    Args:
        said: The last word of each person, the latest last.
    """
    sure = [each for each in said if each.label in (Label.GOOD, Label.DEFECTIVE)]
    if len({each.label for each in sure}) > 1:
        return Agreement(None, sure[-1], is_conflict=True)
    if sure:
        return Agreement(sure[-1].label, sure[-1])
    return Agreement(said[-1].label, said[-1]) if said else Agreement(None, None)
