"""In which order pictures are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum

from ssn_edge.review.kept_pictures import Why
from ssn_edge.review.reviewed import Reviewed

WITHOUT_SCORE = 0.25
"""Distance of a part without a score: after those near the threshold, before clear ones."""


class Order(str, Enum):
    """How pictures follow each other."""

    USEFUL = "useful"
    TIME = "time"


ORDERS = {
    Order.USEFUL: "Most useful first: where people disagree, where label and verdict disagree, "
    "then nearest to the threshold. Random passes come last, in an order drawn by lot.",
    Order.TIME: "In the order of time.",
}


def in_order(pictures: Sequence[Reviewed], order: Order) -> list[Reviewed]:
    """The pictures in the order in which they are shown."""
    if order is Order.TIME:
        return sorted(pictures, key=lambda each: (_sequence(each), each.picture.name))
    return sorted(pictures, key=lambda each: (*_use(each), each.picture.name))


def _use(each: Reviewed) -> tuple[int, float]:
    if each.agreement.is_conflict:
        return 0, 0.0
    if each.is_disagreement:
        return 1, 0.0
    if each.picture.why is Why.RANDOM:
        # By lot: whoever stops half-way has not looked at the doubtful ones alone.
        lot = hashlib.sha256(each.picture.name.encode("utf-8", "surrogateescape")).digest()
        return 3, float(int.from_bytes(lot[:6], "big"))
    return 2, WITHOUT_SCORE if each.score is None else abs(each.score - 0.5)


def _sequence(each: Reviewed) -> int:
    return 0 if each.picture.part is None else each.picture.part.sequence
