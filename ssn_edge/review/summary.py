"""How far a review came, and how often the line was wrong by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ssn_edge.review.kept_pictures import Kept, Why
from ssn_edge.review.labels import Label, LabelBook
from ssn_edge.review.reviewed import Reviewed, reviewed
from ssn_edge_calibrate.exact_interval import CONFIDENCE, exact_interval

STATES = (*(each.value for each in Label), "conflict", "unlabelled")

BIASED = (
    "Rejects and near misses were kept for what they are: what is wrong among them is no rate of "
    "the line. Only pictures that were kept at random give one."
)


@dataclass(frozen=True, slots=True)
class EscapeRate:
    """How many defective parts passed, by the pictures that were kept at random.

    Speaks of parts that passed with a score not near the threshold, from the oldest such picture
    that is still there. Holds whoever labels them in whatever order: a picture without a label is
    taken for good at the lower end and for defective at the upper one.

    Args:
        pictures: Kept at random.
        defective: Of these, called defective.
        open: Of these, without a label, left open, or in conflict.
        low: Lower end of the exact interval.
        high: Upper end.
        confidence: Of the interval, were all labelled.
    """

    pictures: int
    defective: int
    open: int
    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A review so far.

    Args:
        by_why: Pictures by why they were kept, then by what people say.
        logged: Parts in the log by verdict, with or without a picture.
        people: Labels that count, by person.
        missed: Pictures of parts that passed and are called defective.
        false_rejects: Pictures of parts that failed and are called good.
        escapes: None where no picture was kept at random.
        gone: Frames with a label whose picture is no longer there.
        torn_lines: Of the file of labels.
    """

    by_why: Mapping[str, Mapping[str, int]]
    logged: Mapping[str, int]
    people: Mapping[str, int]
    missed: int
    false_rejects: int
    escapes: EscapeRate | None
    gone: int
    torn_lines: int

    @property
    def pictures(self) -> int:
        """How many there are."""
        return sum(sum(row.values()) for row in self.by_why.values())

    def count(self, state: str) -> int:
        """How many pictures are in one of `STATES`."""
        return sum(row[state] for row in self.by_why.values())

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "pictures": self.pictures,
            **{state: self.count(state) for state in STATES},
            "by_why": {why: dict(row) for why, row in self.by_why.items()},
            "logged": dict(self.logged),
            "people": dict(self.people),
            "missed": self.missed,
            "false_rejects": self.false_rejects,
            "escapes": None if self.escapes is None else asdict(self.escapes),
            "gone": self.gone,
            "torn_lines": self.torn_lines,
            "note": BIASED,
        }


def summarise(kept: Kept, book: LabelBook) -> Summary:
    """Count what a review came to."""
    found = reviewed(kept, book)
    states: dict[str, Counter[str]] = {}
    for each in found:
        states.setdefault(each.picture.why.value, Counter())[_state(each)] += 1
    here = {each.frame_sha256 for each in found}
    return Summary(
        by_why={
            why.value: {state: states[why.value][state] for state in STATES}
            for why in Why
            if why.value in states
        },
        logged=dict(kept.logged.verdicts),
        people=dict(Counter(who for by_person in book.said.values() for who in by_person)),
        missed=sum(each.is_missed for each in found),
        false_rejects=sum(each.is_false_reject for each in found),
        escapes=_escapes([each for each in found if each.picture.why is Why.RANDOM]),
        gone=sum(bool(by_person) and frame not in here for frame, by_person in book.said.items()),
        torn_lines=book.torn_lines,
    )


def _state(each: Reviewed) -> str:
    if each.agreement.is_conflict:
        return "conflict"
    return "unlabelled" if each.label is None else each.label.value


def _escapes(drawn: Sequence[Reviewed]) -> EscapeRate | None:
    if not drawn:
        return None
    defective = sum(each.label is Label.DEFECTIVE for each in drawn)
    left = sum(each.label not in (Label.GOOD, Label.DEFECTIVE) for each in drawn)
    low, _ = exact_interval(defective, len(drawn))
    _, high = exact_interval(defective + left, len(drawn))
    return EscapeRate(len(drawn), defective, left, low, high, CONFIDENCE)
