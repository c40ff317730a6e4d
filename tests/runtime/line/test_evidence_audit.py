"""Kept frames against the log: changed, damaged, exchanged or unknown ones are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.record import DecisionRecord, EventKind, EventRecord, frame_sha256
from ssn_edge_runtime.sinks import EVIDENCE_FOLDER, Journal, ProblemKind, audit_log

MakeRecord = Callable[..., DecisionRecord]


def picture(output: Path, sequence: int) -> Path:
    return output / EVIDENCE_FOLDER / f"{sequence:09d}_fail.png"


@pytest.fixture(params=["in the record", "behind it"])
def log(
    output: Path,
    make_record: MakeRecord,
    surface: Callable[..., ByteImage],
    request: pytest.FixtureRequest,
) -> Path:
    """Six parts that failed, each with its frame; the log says the hash in one of the two ways."""
    (output / EVIDENCE_FOLDER).mkdir(parents=True)
    with Journal(output) as journal:
        for sequence in range(1, 7):
            image = surface(sequence)
            sha256 = frame_sha256(image)
            picture(output, sequence).write_bytes(encode_png(image))
            is_in_record = request.param == "in the record"
            journal.write(
                replace(
                    make_record(journal),
                    verdict=Verdict.FAIL,
                    reason=Reason.DEFECT,
                    frame_sha256=sha256 if is_in_record else None,
                )
            )
            if not is_in_record:
                file = picture(output, sequence).relative_to(output).as_posix()
                detail = {"sequence": sequence, "frame_sha256": sha256, "file": file}
                journal.note(EventRecord.now(EventKind.KEPT, detail))
    return output


def test_frames_that_are_what_the_log_says_are_counted(log: Path) -> None:
    picture(log, 2).unlink()  # evicted
    report = audit_log(log, with_evidence=True)
    assert (report.problems, report.evidence) == ((), 5)
    assert not any("kept frames" in each for each in report.unproven)
    assert audit_log(log).evidence is None


def test_a_changed_a_damaged_and_an_exchanged_frame_are_found_with_their_lines(log: Path) -> None:
    changed = np.zeros((40, 60, 3), dtype=np.uint8)
    picture(log, 1).write_bytes(encode_png(changed))
    picture(log, 3).write_bytes(picture(log, 3).read_bytes()[:-30])
    picture(log, 5).write_bytes(picture(log, 4).read_bytes())
    report = audit_log(log, with_evidence=True)
    assert report.evidence == 3
    assert {each.kind for each in report.problems} == {ProblemKind.EVIDENCE}
    lines = (log / "decisions.jsonl").read_text().splitlines()
    for problem, sequence in zip(report.problems, (1, 3, 5), strict=True):
        assert picture(log, sequence).name in problem.detail
        assert '"frame_sha256":"' in lines[problem.line - 1]
        assert f'"sequence":{sequence}' in lines[problem.line - 1]
    assert audit_log(log).is_whole


def test_a_frame_that_the_log_does_not_know_is_said_to_be_unproven(log: Path) -> None:
    picture(log, 9).write_bytes(picture(log, 1).read_bytes())
    # Of a part whose record power loss took, and whose number another part has now.
    (log / EVIDENCE_FOLDER / "000000002_unknown.png").write_bytes(picture(log, 2).read_bytes())
    report = audit_log(log, with_evidence=True)
    assert (report.problems, report.evidence) == ((), 6)
    assert any(each.startswith("what 2 of the kept frames show") for each in report.unproven)
