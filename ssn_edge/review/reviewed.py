"""Each picture with what people say about it, and whether that contradicts the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssn_edge.review.agreement import Agreement, agreement
from ssn_edge.review.kept_pictures import Kept, KeptPicture, Why
from ssn_edge.review.labels import Label, LabelBook, LabelLine

NEAR = 0.05
"""Distance of the normalised score from the threshold, as evidence counts it."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A picture and its labels.

    Args:
        picture: The picture.
        frame_sha256: Of its pixels as the log or its labels state it; None where neither does.
        said: The last word of each person, the latest last.
        agreement: What that comes to.
    """

    picture: KeptPicture
    frame_sha256: str | None
    said: Sequence[LabelLine]
    agreement: Agreement

    @property
    def label(self) -> Label | None:
        """The one label; None without one, or where people contradict each other."""
        return self.agreement.label

    @property
    def verdict(self) -> str | None:
        """What the line had said."""
        return None if self.picture.part is None else self.picture.part.verdict

    @property
    def score(self) -> float | None:
        """The line's normalised score."""
        return None if self.picture.part is None else self.picture.part.score

    @property
    def is_near(self) -> bool:
        """Whether the part's score is near the threshold."""
        score = self.score
        return self.picture.why is Why.NEAR or (score is not None and abs(score - 0.5) <= NEAR)

    @property
    def is_missed(self) -> bool:
        """Whether a part that people call defective had passed."""
        return self.verdict == "pass" and self.label is Label.DEFECTIVE

    @property
    def is_false_reject(self) -> bool:
        """Whether a part that people call good had failed."""
        return self.verdict == "fail" and self.label is Label.GOOD

    @property
    def is_disagreement(self) -> bool:
        """Whether people contradict each other, or the line."""
        return self.agreement.is_conflict or self.is_missed or self.is_false_reject


def reviewed(kept: Kept, book: LabelBook) -> list[Reviewed]:
    """Put labels and pictures together, by name of the picture."""
    return [_reviewed(picture, book) for picture in kept.pictures]


def _reviewed(picture: KeptPicture, book: LabelBook) -> Reviewed:
    stated = None if picture.part is None else picture.part.frame_sha256
    frame = stated or book.frames.get(picture.name)
    said = book.about(frame)
    return Reviewed(picture, frame, said, agreement(said))
