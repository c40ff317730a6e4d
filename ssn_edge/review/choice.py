"""Which pictures an export takes, and what becomes of those on which people disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssn_edge.review.agreement import OnConflict
from ssn_edge.review.labels import Label, LabelLine
from ssn_edge.review.listing import ListedPicture, cell
from ssn_edge.review.reviewed import Reviewed
from ssn_edge_runtime.errors import DatasetError

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """What an export takes.

    Args:
        pictures: Each with the line that labels it; a frame once.
        settled: Frames of an earlier export that stay as that export has them.
        dropped: Frames of an earlier export that leave it.
        left_out: Pictures that are not taken, by why.
    """

    pictures: Sequence[tuple[Reviewed, LabelLine]]
    settled: frozenset[str]
    dropped: frozenset[str]
    left_out: Mapping[str, int]


def choose(
    found: Sequence[Reviewed],
    before: Mapping[str, ListedPicture],
    log: str,
    on_conflict: OnConflict,
) -> Choice:
    """Take what has a label that counts.

    Two people contradict each other within one file of labels, or where an earlier export has
    another person's label from another folder. Whoever contradicts himself has changed his mind.

    Args:
        found: Pictures with what people say.
        before: Rows of the earlier export by frame.
        log: The folder that is exported, as rows name it.
        on_conflict: What becomes of contradictions.

    Raises:
        DatasetError: There are some, and they are to be refused.
    """
    taken: dict[str, tuple[Reviewed, LabelLine]] = {}
    left_out = {"unlabelled": 0, "unsure": 0, "conflict": 0, "same_frame": 0}
    quarrels: list[str] = []
    settled: set[str] = set()
    dropped: set[str] = set()
    for each in found:
        line = each.agreement.line
        if line is None:
            left_out["unlabelled"] += 1
            continue
        if line.label is None or line.label is Label.UNSURE:
            left_out["unsure"] += 1
            continue
        frame = line.frame_sha256
        earlier = before.get(frame)
        is_older = earlier is not None and _contradicts(earlier, line, log)
        if each.agreement.is_conflict or is_older:
            said = [f"{one.who}: {one.label.value}" for one in each.said if one.label]
            if is_older and earlier is not None:
                said.append(f"{earlier.labelled_by}: {earlier.label}, in the earlier export")
            quarrels.append(f"{each.picture.name} ({', '.join(said)})")
            if on_conflict is not OnConflict.LATEST:
                left_out["conflict"] += 1
                dropped.add(frame)
                continue
            if is_older and earlier is not None and earlier.labelled_at > line.at:
                settled.add(frame)
                continue
        if frame in taken:
            left_out["same_frame"] += 1
        else:
            taken[frame] = each, line
    if quarrels and on_conflict is OnConflict.REFUSE:
        _refuse(quarrels)
    return Choice(list(taken.values()), frozenset(settled), frozenset(dropped), left_out)


def _contradicts(earlier: ListedPicture, line: LabelLine, log: str) -> bool:
    assert line.label is not None
    return (
        earlier.label != line.label.value
        and earlier.log != log  # this folder's own labels say what holds for its own rows
        and earlier.labelled_by != cell(line.who)
    )


def _refuse(quarrels: Sequence[str]) -> None:
    names = ", ".join(quarrels[:_NAMED])
    more = f" and {len(quarrels) - _NAMED} more" if len(quarrels) > _NAMED else ""
    raise DatasetError(
        f"{len(quarrels)} pictures have contradicting labels: {names}{more}; settle them in the "
        "page (filter: disagreements), or choose --on-conflict leave-out or latest"
    )
