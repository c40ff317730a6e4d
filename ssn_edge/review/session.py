"""What the page of a review asks for: pictures in order, and labels given and taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ssn_edge.review.kept_pictures import Kept, KeptPicture, by_key, find_kept
from ssn_edge.review.labels import (
    Box,
    Label,
    LabelFile,
    LabelLine,
    append_label,
    now_text,
)
from ssn_edge.review.order import ORDERS, Order, in_order
from ssn_edge.review.picture_check import checked_frame
from ssn_edge.review.reviewed import Reviewed, reviewed
from ssn_edge_runtime.errors import DatasetError, PictureError
from ssn_edge_runtime.pictures import encode_png, read_picture

_AS_THEY_ARE: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
"""What every browser shows; others are sent as PNG."""


class UnknownPictureError(DatasetError):
    """A key that stands for no picture."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A label that was given, and what the person had said before."""

    given: LabelLine
    picture: KeptPicture
    before: LabelLine | None


class ReviewSession:
    """One person's review of one folder; any thread may call it.

    Args:
        source: Folder of a log, its evidence, or of pictures.
        labels: File that labels are added to.
        who: The person, as `check_who` gives it.
        order: In which pictures are shown.
    """

    def __init__(self, source: Path, labels: Path, who: str, order: Order) -> None:
        self.who = who
        self._source = source
        self._labels = labels
        self._file = LabelFile(labels)
        self._order = order
        self._lock = Lock()
        self._steps: list[_Step] = []
        self._kept = find_kept(source)
        self._pictures = by_key(self._kept)

    @property
    def kept(self) -> Kept:
        """The pictures as they were found last."""
        return self._kept

    def listing(self) -> dict[str, object]:
        """Everything that the page shows but the pixels; looks for new pictures."""
        with self._lock:
            self._kept = find_kept(self._source)
            self._pictures = by_key(self._kept)
            found = in_order(reviewed(self._kept, self._file.read()), self._order)
            return {
                "source": str(self._kept.folder),
                "who": self.who,
                "labels": str(self._labels),
                "order": ORDERS[self._order],
                "pictures": [self._entry(each) for each in found],
            }

    def frame(self, key: str) -> tuple[bytes, str]:
        """A picture's file and its media type.

        Raises:
            UnknownPictureError: The key stands for none.
            PictureError: It is gone or cannot be read.
        """
        return _sent(self._picture(key).path)

    def layer(self, key: str, name: str) -> tuple[bytes, str]:
        """The mask or the overlay that the line kept; `name` says which.

        Raises:
            UnknownPictureError: There is none.
            PictureError: It is gone or cannot be read.
        """
        picture = self._picture(key)
        path = {"mask": picture.mask, "overlay": picture.overlay}.get(name)
        if path is None:
            raise UnknownPictureError(f"{picture.name}: no {name} was kept")
        return _sent(path)

    def label(self, key: str, label: Label, regions: tuple[Box, ...] = ()) -> dict[str, object]:
        """Give a picture a label; it is on the disk when this returns.

        Returns:
            The picture's entry as it is now.

        Raises:
            UnknownPictureError: The key stands for no picture.
            DatasetError: It cannot be read, or is not the picture that the line judged.
            StorageError: The label is not kept.
        """
        with self._lock:
            picture = self._picture(key)
            frame, height, width = checked_frame(picture)
            inside = tuple(
                (left, top, min(right, width), min(bottom, height))
                for left, top, right, bottom in regions
                if left < width and top < height
            )
            before = self._file.read().said.get(frame, {}).get(self.who)
            line = self._line(picture, frame, label, inside)
            append_label(self._labels, line)
            self._steps.append(_Step(line, picture, before))
            return self._entry_of(picture)

    def undo(self) -> dict[str, object] | None:
        """Take the last label of this session back; what was said before holds again.

        Returns:
            The picture's entry as it is now; None if there is nothing to take back.

        Raises:
            StorageError: It is not kept, and the label still holds.
        """
        with self._lock:
            if not self._steps:
                return None
            step = self._steps[-1]
            picture, before = step.picture, step.before  # it may be gone by now
            line = self._line(
                picture,
                step.given.frame_sha256,
                None if before is None else before.label,
                () if before is None else before.regions_xyxy,
            )
            append_label(self._labels, line)
            self._steps.pop()
            return self._entry_of(picture)

    def _picture(self, key: str) -> KeptPicture:
        picture = self._pictures.get(key)
        if picture is None:
            raise UnknownPictureError("there is no such picture (any more); load the page again")
        return picture

    def _line(
        self, picture: KeptPicture, frame: str, label: Label | None, regions: tuple[Box, ...]
    ) -> LabelLine:
        part = picture.part
        return LabelLine(
            label=label,
            who=self.who,
            at=now_text(),
            picture=picture.name,
            frame_sha256=frame,
            regions_xyxy=regions if label is Label.DEFECTIVE else (),
            sequence=None if part is None else part.sequence,
            verdict=None if part is None else part.verdict,
            score=None if part is None else part.score,
            package_id=None if part is None else part.package_id,
            settings_id=None if part is None else part.settings_id,
        )

    def _entry_of(self, picture: KeptPicture) -> dict[str, object]:
        one = Kept(self._kept.folder, self._kept.log, (picture,), self._kept.logged)
        (found,) = reviewed(one, self._file.read())
        return self._entry(found)

    def _entry(self, each: Reviewed) -> dict[str, object]:
        picture, part = each.picture, each.picture.part
        mine = next((line for line in each.said if line.who == self.who), None)
        entry: dict[str, object] = {
            "key": picture.key,
            "name": picture.name,
            "why": picture.why.value,
            "has_mask": picture.mask is not None,
            "has_overlay": picture.overlay is not None,
            "is_near": each.is_near,
            "is_disagreement": each.is_disagreement,
            "is_conflict": each.agreement.is_conflict,
            "label": None if each.label is None else each.label.value,
            "mine": None if mine is None or mine.label is None else mine.label.value,
            "regions": [] if mine is None else [list(box) for box in mine.regions_xyxy],
            "said": [
                {"who": line.who, "label": line.label.value, "at": line.at}
                for line in each.said
                if line.label is not None
            ],
            "part": None,
        }
        if part is not None:
            entry["part"] = {
                "sequence": part.sequence,
                "verdict": part.verdict,
                "reason": part.reason,
                "detail": part.detail,
                "score": part.score,
                "raw_score": part.raw_score,
                "threshold": part.threshold,
                "at": part.at,
                "source": part.source,
                "part_id": part.part_id,
                "boxes": [list(box) for box in part.boxes_xyxy],
                "defect_count": part.defect_count,
                "package_id": part.package_id,
                "recipe": part.recipe,
            }
        return entry


def _sent(path: Path) -> tuple[bytes, str]:
    media = _AS_THEY_ARE.get(path.suffix.lower())
    if media is None:
        return encode_png(read_picture(path)), "image/png"
    try:
        return path.read_bytes(), media
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror})") from error
