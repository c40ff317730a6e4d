"""Evidence against its log: is each picture that is still there the frame that the log names?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.errors import PictureError
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.record import EventKind, LineKind, frame_sha256
from ssn_edge_runtime.sinks.chain import ChainProblem, ProblemKind
from ssn_edge_runtime.sinks.evidence_policy import EVIDENCE_FOLDER, EvidenceName
from ssn_edge_runtime.sinks.links import Link


@dataclass(frozen=True, slots=True)
class _Said:
    sha256: str
    file: str
    number: int


class EvidenceCheck:
    """Takes the lines of a log, one after the other, and then looks at the pictures.

    Args:
        folder: Of the log; may be in use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / EVIDENCE_FOLDER
        self._names: dict[int, list[EvidenceName]] = {}
        self._said: dict[EvidenceName, _Said] = {}
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            name = EvidenceName.read(path.name)
            if name is not None:
                self._names.setdefault(name.sequence, []).append(name)

    def take(self, link: Link, file: str, number: int) -> None:
        """Remember what a line says of a picture; the last one counts.

        A record says it itself where one process does all; else an event behind it does.
        """
        document = link.document
        if link.event is EventKind.KEPT:
            detail = document.get("detail")
            document = detail if isinstance(detail, dict) else {}
        elif link.kind is not LineKind.VERDICT:
            return
        sequence, sha256 = document.get("sequence"), document.get("frame_sha256")
        if not isinstance(sequence, int) or not isinstance(sha256, str):
            return
        for name in self._names.get(sequence, ()):
            # A number that power loss gave out again may be that of two pictures.
            if link.event is EventKind.KEPT:
                is_it = document.get("file") == f"{EVIDENCE_FOLDER}/{name}"
            else:
                is_it = document.get("verdict") == name.verdict.value
            if is_it:
                self._said[name] = _Said(sha256, file, number)

    def compare(self) -> tuple[int, int, list[ChainProblem]]:
        """Look at all pictures; those that were evicted meanwhile are passed over.

        Returns:
            How many are as the log says, of how many it says nothing, and what is wrong.
        """
        sound = unknown = 0
        problems = []
        for _, names in sorted(self._names.items()):
            for name in names:
                said, path = self._said.get(name), self._folder / str(name)
                if said is None:
                    unknown += path.exists()
                    continue
                try:
                    found = frame_sha256(read_picture(path))
                except PictureError as error:
                    if not path.exists():
                        continue
                    wrong = f"the frame that this line names cannot be read: {error}"
                else:
                    if found == said.sha256:
                        sound += 1
                        continue
                    wrong = f"{EVIDENCE_FOLDER}/{name} is not the frame that this line names"
                problems.append(ChainProblem(said.number, ProblemKind.EVIDENCE, wrong, said.file))
        return sound, unknown, problems
