"""Labelled pictures as the next training set: copied once each, with where they are from."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssn_edge.review.agreement import OnConflict, agreement
from ssn_edge.review.choice import choose
from ssn_edge.review.kept_pictures import Kept
from ssn_edge.review.labels import Box, Label, LabelBook, LabelLine
from ssn_edge.review.listing import LIST_NAME, ListedPicture, cell, listing_bytes, read_listing
from ssn_edge.review.picture_check import checked_frame
from ssn_edge.review.reviewed import Reviewed, reviewed
from ssn_edge_runtime.errors import DatasetError, PictureError, StorageError
from ssn_edge_runtime.files import write_whole
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES, encode_png

IMAGES, MASKS = "images", "masks"
_OURS = re.compile(r"[0-9a-f]{64}(-[0-9a-f]{12})?\.[a-z]+")


@dataclass(frozen=True, slots=True)
class Export:
    """What an export did.

    Args:
        folder: The training set.
        added: Pictures that were not there before.
        changed: Pictures that were, with another label or region now.
        removed: Pictures that were, and whose label was taken back since.
        kept: Pictures that were, and stay as they are.
        good: Of all that are there now.
        defective: Of all that are there now.
        with_mask: Of the defective ones.
        left_out: Pictures without a label that counts: by state.
    """

    folder: Path
    added: int
    changed: int
    removed: int
    kept: int
    good: int
    defective: int
    with_mask: int
    left_out: dict[str, int]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "list": LIST_NAME,
            "added": self.added,
            "changed": self.changed,
            "removed": self.removed,
            "kept": self.kept,
            "good": self.good,
            "defective": self.defective,
            "with_mask": self.with_mask,
            "left_out": self.left_out,
        }


def export_labelled(
    kept: Kept,
    book: LabelBook,
    folder: Path,
    *,
    on_conflict: OnConflict = OnConflict.REFUSE,
    on_progress: Callable[[int, int], None] = lambda done, count: None,
) -> Export:
    """Write the labelled pictures, or add them to an earlier export.

    The list is written last and in one step: a run that ends in between leaves the training set
    that was there, or none.

    Args:
        kept: Where pictures and records are.
        book: What people said.
        folder: The training set: new, empty, or written by an earlier export.
        on_conflict: What becomes of frames on which people contradict each other.
        on_progress: Told how many of how many are done.

    Raises:
        DatasetError: Nothing to export, a conflict, a picture that changed since it was judged or
            labelled, or a folder that holds something else.
        StorageError: Nothing was changed, since the disk did not take it.
    """
    _refuse_other(folder)
    before = read_listing(folder)
    found = reviewed(kept, book)
    choice = choose(found, before, _log_cell(kept), on_conflict)
    chosen = choice.pictures
    if not chosen and not before:
        raise DatasetError(
            f"{kept.folder}: no picture here has a label yet; give some with ssn-edge review "
            f"{kept.folder}"
        )
    rows = dict(before)
    written: list[Path] = []
    try:
        for done, (each, line) in enumerate(chosen, start=1):
            row = _copied(kept, each, line, folder, before, written)
            rows[row.frame_sha256] = row
            on_progress(done, len(chosen))
        done_with = {line.frame_sha256 for _, line in chosen} | choice.settled
        for frame in set(rows) & (choice.dropped | _mended(rows, book, done_with, on_conflict)):
            del rows[frame]
        if not rows:
            raise DatasetError(f"{folder}: no picture would be left in it; keep it as it is")
        ordered = [rows[frame] for frame in sorted(rows)]
        if rows != before:
            write_whole(folder / LIST_NAME, listing_bytes(ordered), durable=True)
    except BaseException:
        _remove(written, folder)
        raise
    fresh = {row.frame_sha256 for row in rows.values()} - set(before)
    changed = sum(rows.get(frame, row) != row for frame, row in before.items())
    labels = [row.label for row in ordered]
    return Export(
        folder=folder,
        added=len(fresh),
        changed=changed,
        removed=len(before) - sum(frame in rows for frame in before),
        kept=sum(rows.get(frame) == row for frame, row in before.items()),
        good=labels.count(Label.GOOD.value),
        defective=labels.count(Label.DEFECTIVE.value),
        with_mask=sum(bool(row.mask) for row in ordered),
        left_out=dict(choice.left_out),
    )


def _copied(
    kept: Kept,
    each: Reviewed,
    line: LabelLine,
    folder: Path,
    before: dict[str, ListedPicture],
    written: list[Path],
) -> ListedPicture:
    """Bring one picture there, unless it is; its row."""
    picture = each.picture
    frame, height, width = checked_frame(picture)
    if frame != line.frame_sha256:
        raise DatasetError(
            f"{picture.path}: changed since {line.who} labelled it; label it again in the page"
        )
    earlier = before.get(frame)
    image = f"{IMAGES}/{frame}{picture.path.suffix.lower()}" if earlier is None else earlier.image
    if not (folder / image).is_file():
        try:
            data = picture.path.read_bytes()
        except OSError as error:
            raise PictureError(f"{picture.path}: cannot be read ({error.strerror})") from error
        _write(folder / image, data, written)
    mask = ""
    if line.label is Label.DEFECTIVE and line.regions_xyxy:
        mask = _mask_name(frame, line.regions_xyxy)
        if not (folder / mask).is_file():
            _write(folder / mask, _mask_png(line.regions_xyxy, height, width), written)
    row = _row(kept, each, line, image, mask)
    if earlier is not None and (earlier.label, earlier.mask) == (row.label, row.mask):
        return earlier  # the same said again, or found in another log: the first origin stays
    return row


def _row(kept: Kept, each: Reviewed, line: LabelLine, image: str, mask: str) -> ListedPicture:
    part = each.picture.part
    assert line.label is not None
    return ListedPicture(
        image=image,
        mask=mask,
        label=line.label.value,
        group=cell(None if part is None else part.part_id),
        frame_sha256=line.frame_sha256,
        labelled_by=cell(line.who),
        labelled_at=cell(line.at),
        log=_log_cell(kept),
        log_line="" if kept.log is None else str(kept.logged.head_line),
        log_head=cell(kept.logged.head_sha256),
        sequence=cell(None if part is None else part.sequence),
        verdict=cell(None if part is None else part.verdict),
        reason=cell(None if part is None else part.reason),
        score="" if part is None or part.score is None else f"{part.score:.6f}",
        package_id=cell(None if part is None else part.package_id),
        settings_id=cell(None if part is None else part.settings_id),
        kept_because=each.picture.why.value,
        captured_at=cell(None if part is None else part.at),
        picture=cell(each.picture.name),
    )


def _mended(
    rows: dict[str, ListedPicture], book: LabelBook, done: set[str], on_conflict: OnConflict
) -> set[str]:
    """Bring rows whose picture is no longer kept up to what people say now.

    Returns:
        Frames of which nobody is sure any more.
    """
    unsure = set()
    for frame in set(rows) & set(book.said) - done:
        found = agreement(book.about(frame))
        line = None
        if not found.is_conflict or on_conflict is OnConflict.LATEST:
            line = found.line
        if line is None or line.label is None or line.label is Label.UNSURE:
            unsure.add(frame)
        elif line.label.value != rows[frame].label:
            rows[frame] = replace(
                rows[frame],
                label=line.label.value,
                mask="",
                labelled_by=cell(line.who),
                labelled_at=cell(line.at),
            )
    return unsure


def _log_cell(kept: Kept) -> str:
    return cell(kept.folder.resolve())


def _mask_name(frame: str, regions: Sequence[Box]) -> str:
    # Named by what it shows: another region is another file, and the old list keeps its own.
    digest = hashlib.sha256(repr(tuple(regions)).encode()).hexdigest()[:12]
    return f"{MASKS}/{frame}-{digest}.png"


def _mask_png(regions: Sequence[Box], height: int, width: int) -> bytes:
    mask = np.zeros((height, width), np.uint8)
    for left, top, right, bottom in regions:
        mask[top:bottom, left:right] = 255
    if not mask.any():
        raise DatasetError(f"a region {regions} lies outside of its picture ({width} x {height})")
    return encode_png(mask)


def _write(path: Path, data: bytes, written: list[Path]) -> None:
    written.append(path)
    write_whole(path, data)


def _remove(written: Sequence[Path], folder: Path) -> None:
    """Take back what this run wrote, and the folders that it made."""
    for path in written:
        with contextlib.suppress(OSError):
            path.unlink()
    for place in (folder / IMAGES, folder / MASKS, folder):
        with contextlib.suppress(OSError):
            place.rmdir()  # stays if anything is in it


def _refuse_other(folder: Path) -> None:
    """Only a folder that is new, empty, or of an export: also of one that was killed.

    Raises:
        DatasetError: It holds something else.
        StorageError: It cannot be read.
    """
    try:
        if not folder.exists():
            return
        if not folder.is_dir():
            raise DatasetError(f"{folder}: is a file; a folder for the training set is wanted")
        names = {each.name for each in folder.iterdir()}
        other = names - {IMAGES, MASKS, LIST_NAME}
        other = {each for each in other if not each.startswith(f".{LIST_NAME}.")}
        if not other:
            for place in (IMAGES, MASKS):
                if place in names:
                    other |= {
                        f"{place}/{each.name}"
                        for each in (folder / place).iterdir()
                        if not _is_ours(each.name)
                    }
    except OSError as error:
        raise StorageError(f"{folder}: cannot be read ({error.strerror})") from error
    if other:
        raise DatasetError(
            f"{folder}: holds {min(other)}, which no export wrote; name a new folder, or one of an "
            "earlier export"
        )


def _is_ours(name: str) -> bool:
    if name.startswith("."):  # a file that was being written when the power went
        return True
    return bool(_OURS.fullmatch(name)) and Path(name).suffix in PICTURE_SUFFIXES
