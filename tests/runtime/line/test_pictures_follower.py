from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, unknown
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.loop import Judge, run_line
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import (
    Journal,
    KeepPolicy,
    OverlayFormat,
    PictureFollower,
    PictureNames,
    WhenFull,
    draw_overlay,
)
from ssn_edge_runtime.sources import Frame, Source

Surface = Callable[..., ByteImage]


def keep(
    follower: PictureFollower, record: DecisionRecord, image: ByteImage, decision: Decision
) -> PictureNames:
    frame = Frame.taken_now(image, source="test", index=0)
    names = follower.plan(record.sequence, frame, decision)
    follower.write(replace(record, mask=names.mask, overlay=names.overlay), frame, decision)
    return names


@pytest.fixture
def record(output: Path, make_record: Callable[[Journal], DecisionRecord]) -> DecisionRecord:
    return make_record(Journal(output))


def test_the_mask_is_lossless_and_in_camera_coordinates(
    output: Path, judge: Judge, surface: Surface, record: DecisionRecord
) -> None:
    image = surface(1, defect=True)
    decision = judge.inspect(image)
    with PictureFollower(output) as follower:
        names = keep(follower, record, image, decision)
    assert names.mask == "pictures/000000001_fail_mask.png"
    assert names.overlay == "pictures/000000001_fail_overlay.jpg"
    mask = cv2.imread(str(output / names.mask), cv2.IMREAD_UNCHANGED)
    assert mask.shape == image.shape[:2]
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(mask == 255, decision.camera_mask())
    assert cv2.imread(str(output / names.overlay)).shape == image.shape
    assert sorted(path.name for path in (output / "pictures").iterdir()) == [
        "000000001_fail_mask.png",
        "000000001_fail_overlay.jpg",
    ]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [(KeepPolicy.ALL, "pass fail unknown"), (KeepPolicy.REJECTS, "fail unknown"), ("none", "")],
)
def test_the_policy_says_whose_pictures_are_kept(
    output: Path,
    judge: Judge,
    surface: Surface,
    record: DecisionRecord,
    policy: KeepPolicy | str,
    kept: str,
) -> None:
    image = surface(1)
    decisions = [
        judge.inspect(image),
        judge.inspect(surface(1, defect=True)),
        unknown(Reason.FROZEN_FRAME, "still"),
    ]
    with PictureFollower(output, keep=KeepPolicy(policy)) as follower:
        for sequence, decision in enumerate(decisions, start=1):
            keep(follower, replace(record, sequence=sequence), image, decision)
    written = {path.name.split("_")[1] for path in (output / "pictures").glob("*")}
    assert written == set(kept.split())


def test_a_frame_that_is_no_picture_gets_none(output: Path, record: DecisionRecord) -> None:
    image = np.zeros((4, 4), dtype=np.uint16)
    with PictureFollower(output) as follower:
        names = keep(follower, record, image, unknown(Reason.BAD_FRAME, "16 bit"))  # type: ignore[arg-type]
        nothing = follower.plan(2, None, unknown(Reason.NO_FRAME, "gone"))
    assert names == nothing == PictureNames()


class SlowFollower(PictureFollower):
    """Takes its time for each part's pictures."""

    def _write_file(self, name: str, data: bytes) -> None:
        time.sleep(0.02)
        super()._write_file(name, data)


def run(
    source: Source, judge: Judge, output: Path, follower: PictureFollower
) -> tuple[int, list[Path]]:
    with source, Journal(output) as journal, follower:
        summary = run_line(source, judge, journal, [follower])
    return summary.pictures_shed, sorted((output / "pictures").iterdir())


def test_a_slow_writer_sheds_and_no_record_names_what_was_shed(
    output: Path,
    judge: Judge,
    surfaces: Callable[[int], list[ByteImage]],
    scripted: Any,
    records: Callable[[Path], list[dict[str, Any]]],
) -> None:
    follower = SlowFollower(output, keep=KeepPolicy.ALL, overlay=OverlayFormat.NONE, depth=2)
    shed, written = run(scripted(surfaces(30), is_live=False), judge, output, follower)
    assert shed > 0
    assert len(written) == 30 - shed
    named = [record["mask"] for record in records(output) if record["mask"] is not None]
    assert sorted(named) == [f"pictures/{path.name}" for path in written]


def test_a_recording_can_wait_for_a_slow_writer(
    output: Path, judge: Judge, surfaces: Callable[[int], list[ByteImage]], scripted: Any
) -> None:
    follower = SlowFollower(
        output,
        keep=KeepPolicy.ALL,
        overlay=OverlayFormat.NONE,
        when_full=WhenFull.WAIT,
        depth=1,
    )
    shed, written = run(scripted(surfaces(10), is_live=False), judge, output, follower)
    assert (shed, len(written)) == (0, 10)


def test_pictures_that_cannot_be_written_are_counted_and_the_line_goes_on(
    output: Path,
    judge: Judge,
    surfaces: Callable[[int], list[ByteImage]],
    scripted: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    follower = PictureFollower(output, keep=KeepPolicy.ALL)
    with scripted(surfaces(4), is_live=False) as source, Journal(output) as journal, follower:
        (output / "pictures").rmdir()
        summary = run_line(source, judge, journal, [follower])
    assert summary.records == 4
    assert follower.failed == 4
    assert "pictures of 4 parts are missing" in caplog.text


def test_a_queue_of_nothing_is_refused(output: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        PictureFollower(output, depth=0)


@pytest.mark.parametrize("mono", [False, True])
def test_the_overlay_outlines_the_defect_and_leaves_the_frame_as_it_is(
    judge: Judge, surface: Surface, mono: bool
) -> None:
    image = surface(1, defect=True, size_hw=(120, 160))
    if mono:
        image = np.ascontiguousarray(image[:, :, 0])
    before = image.copy()
    decision = judge.inspect(image)
    overlay = draw_overlay(image, decision)
    assert np.array_equal(image, before)
    assert overlay.shape == (120, 160, 3)
    mask = decision.camera_mask()
    assert mask is not None
    red = (overlay == (0, 0, 255)).all(axis=2)
    assert red.any()
    assert not red[mask].any()
    assert cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8))[red].all()


def test_the_overlay_of_a_frame_without_a_map_is_the_frame(surface: Surface) -> None:
    image = surface(1)
    overlay = draw_overlay(image, unknown(Reason.FROZEN_FRAME, "still"))
    assert np.array_equal(overlay, image)
    assert not np.shares_memory(overlay, image)


def test_a_picture_that_cannot_be_written_is_one_line_and_leaves_no_half(
    output: Path,
    judge: Judge,
    surface: Surface,
    record: DecisionRecord,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    image = surface(1, defect=True)
    with PictureFollower(output) as follower:
        keep(follower, record, image, judge.inspect(image))
    assert follower.failed == 1
    assert list((output / "pictures").iterdir()) == []
    assert "mask.png: cannot be written (No space left on device)" in caplog.text
    assert "Traceback" not in caplog.text
