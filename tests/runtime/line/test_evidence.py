"""Which pictures are kept as evidence, which go first, and that nobody waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_edge_runtime import read_picture
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.errors import ConfigError, StorageError
from ssn_edge_runtime.loop import Judge, run_line
from ssn_edge_runtime.record import DecisionRecord, frame_sha256
from ssn_edge_runtime.sinks import (
    EVIDENCE_FOLDER,
    EvidenceKeeper,
    EvidencePolicy,
    Journal,
    PictureNames,
)
from ssn_edge_runtime.sinks import evidence_folder as folder_module
from ssn_edge_runtime.sources import Frame

LARGE = 10**9
PASSED = Decision(Verdict.PASS, Reason.NONE)


def policy(**options: Any) -> EvidencePolicy:
    return EvidencePolicy(**({"quota_bytes": LARGE, "reserve_bytes": 0, "share": 0.0} | options))


@pytest.fixture
def record(output: Path, make_record: Callable[[Journal], DecisionRecord]) -> DecisionRecord:
    return make_record(Journal(output))


def offer(keeper: EvidenceKeeper, record: DecisionRecord, image: ByteImage) -> None:
    frame = Frame.taken_now(image, source="test", index=0)
    assert keeper.plan(record.sequence, frame, PASSED) == PictureNames()
    keeper.write(record, frame, PASSED)


def kept(output: Path) -> list[str]:
    return sorted(path.name for path in (output / EVIDENCE_FOLDER).iterdir())


@pytest.mark.parametrize(
    ("verdict", "score", "name"),
    [
        (Verdict.FAIL, 0.99, "000000007_fail.png"),
        (Verdict.UNKNOWN, None, "000000007_unknown.png"),
        (Verdict.PASS, 0.46, "000000007_pass_near.png"),
        (Verdict.PASS, 0.44, None),
        (Verdict.PASS, None, None),
    ],
)
def test_rejects_and_what_passed_near_the_threshold_are_kept(
    output: Path,
    record: DecisionRecord,
    surface: Callable[..., ByteImage],
    verdict: Verdict,
    score: float | None,
    name: str | None,
) -> None:
    image = surface(3)
    with EvidenceKeeper(output, policy(near=0.05)) as keeper:
        offer(keeper, replace(record, sequence=7, verdict=verdict, score=score), image)
        keeper.write(replace(record, verdict=Verdict.UNKNOWN), None, PASSED)  # there is no frame
    assert kept(output) == ([] if name is None else [name])
    if name is not None:
        again = read_picture(output / EVIDENCE_FOLDER / name)
        assert frame_sha256(again) == frame_sha256(image)  # what the record says of the frame


def test_an_even_share_of_what_passed_is_kept_and_the_same_one_each_time(
    record: DecisionRecord,
) -> None:
    def drawn(seed: int) -> list[int]:
        chosen = policy(share=0.05, seed=seed)
        records = (replace(record, sequence=number, score=0.1) for number in range(1, 4001))
        return [each.sequence for each in records if chosen.worth(each) is not None]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert 140 < len(drawn(1)) < 260


def noise(seed: int) -> ByteImage:
    """A picture of some 12 kB as a PNG."""
    return np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)


def test_what_is_worth_least_goes_first_and_then_the_oldest(
    output: Path, record: DecisionRecord
) -> None:
    size = len(cv2.imencode(".png", noise(0))[1])
    chosen = policy(quota_bytes=int(4.5 * size), share=1.0)
    with EvidenceKeeper(output, chosen, depth=50) as keeper:
        for sequence, (verdict, score) in enumerate(
            [
                (Verdict.FAIL, 0.9),
                (Verdict.PASS, 0.1),
                (Verdict.PASS, 0.5),
                (Verdict.PASS, 0.1),
                (Verdict.FAIL, 0.9),
                (Verdict.PASS, 0.49),
                (Verdict.UNKNOWN, None),
                (Verdict.FAIL, 0.9),
            ],
            start=1,
        ):
            verdict_record = replace(record, sequence=sequence, verdict=verdict, score=score)
            offer(keeper, verdict_record, noise(sequence))
    assert kept(output) == [
        "000000001_fail.png",
        "000000005_fail.png",
        "000000007_unknown.png",
        "000000008_fail.png",
    ]
    assert (keeper.counts.kept, keeper.counts.evicted) == (8, 4)
    assert keeper.held_bytes <= chosen.quota_bytes
    with EvidenceKeeper(output, chosen) as keeper:
        offer(keeper, replace(record, sequence=9, verdict=Verdict.FAIL), noise(9))
    assert kept(output)[0] == "000000005_fail.png"


def test_a_smaller_quota_is_kept_from_the_start(output: Path, record: DecisionRecord) -> None:
    with EvidenceKeeper(output, policy(), depth=10) as keeper:
        for sequence in range(1, 6):
            offer(keeper, replace(record, sequence=sequence, verdict=Verdict.FAIL), noise(sequence))
    (output / EVIDENCE_FOLDER / "000000009_fail.png.tmp").write_bytes(b"half")
    (output / EVIDENCE_FOLDER / "note.txt").write_bytes(b"someone's")
    with EvidenceKeeper(output, policy(quota_bytes=30_000)):
        pass
    assert kept(output) == ["000000004_fail.png", "000000005_fail.png", "note.txt"]


def test_pictures_go_while_the_disk_is_nearly_full(
    output: Path, record: DecisionRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EvidenceKeeper(output, policy(), depth=10) as keeper:
        for sequence in range(1, 6):
            offer(keeper, replace(record, sequence=sequence, verdict=Verdict.FAIL), noise(sequence))
    with EvidenceKeeper(output, policy(reserve_bytes=2**62)) as keeper:
        offer(keeper, replace(record, sequence=6, verdict=Verdict.FAIL), noise(6))
    assert kept(output) == []
    assert (keeper.counts.evicted, keeper.counts.failed) == (5, 1)


@contextmanager
def stuck_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Encoding takes until the event is set."""
    let_go = threading.Event()
    encode = folder_module.encode_png

    def slow(image: ByteImage) -> bytes:
        assert let_go.wait(20.0)
        return encode(image)

    monkeypatch.setattr(folder_module, "encode_png", slow)
    try:
        yield let_go
    finally:
        let_go.set()


def test_a_slow_disk_sheds_with_a_count_and_nobody_waits(
    output: Path, record: DecisionRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        stuck_disk(monkeypatch) as let_go,
        EvidenceKeeper(output, policy(), depth=3) as keeper,
    ):
        for sequence in range(1, 101):  # would take for ever if one of them waited
            offer(keeper, replace(record, sequence=sequence, verdict=Verdict.FAIL), noise(1))
        assert keeper.shed in (96, 97)  # one may be in the writer's hands
        let_go.set()
    event = keeper.take_event()
    assert event is not None
    assert event.detail["kept"] == 100 - keeper.shed
    assert event.detail["shed"] == keeper.shed
    assert keeper.take_event() is None


def test_a_picture_that_cannot_be_written_is_counted_and_leaves_no_half(
    output: Path,
    record: DecisionRecord,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with EvidenceKeeper(output, policy()) as keeper:
        offer(keeper, replace(record, verdict=Verdict.FAIL), noise(1))
    assert keeper.counts.failed == 1
    assert kept(output) == []
    assert "No space left on device" in caplog.text


def test_the_evidence_of_retired_records_goes(output: Path, record: DecisionRecord) -> None:
    with EvidenceKeeper(output, policy(), depth=10) as keeper:
        for sequence in range(1, 6):
            offer(keeper, replace(record, sequence=sequence, verdict=Verdict.FAIL), noise(sequence))
    with EvidenceKeeper(output, policy()) as keeper:
        keeper.evict_up_to(3)
    assert kept(output) == ["000000004_fail.png", "000000005_fail.png"]


def test_a_line_keeps_the_evidence_of_what_it_rejected(
    output: Path,
    judge: Judge,
    surfaces: Callable[[int], list[ByteImage]],
    scripted: Any,
    records: Callable[[Path], list[dict[str, Any]]],
) -> None:
    images = surfaces(9)
    with (
        scripted(images, is_live=False) as source,
        Journal(output) as journal,
        EvidenceKeeper(output, policy(near=0.0), depth=20) as keeper,
    ):
        summary = run_line(source, judge, journal, [keeper])
    assert summary.verdicts["fail"] == 3
    assert kept(output) == [f"{number:09d}_fail.png" for number in (1, 4, 7)]
    for number in (1, 4, 7):
        picture = read_picture(output / EVIDENCE_FOLDER / f"{number:09d}_fail.png")
        assert frame_sha256(picture) == records(output)[number - 1]["frame_sha256"]


@pytest.mark.parametrize(
    "options", [{"quota_bytes": 0}, {"near": 0.6}, {"share": 1.5}, {"reserve_bytes": -1}]
)
def test_impossible_policies_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        policy(**options)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / EVIDENCE_FOLDER).write_text("")
    with pytest.raises(StorageError, match="cannot be used"):
        EvidenceKeeper(tmp_path, policy()).open()
    with pytest.raises(ConfigError, match="at least 1"):
        EvidenceKeeper(tmp_path, policy(), depth=0)
