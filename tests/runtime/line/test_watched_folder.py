from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.sources import (
    DamagedFrame,
    NoFrameYet,
    WatchedFolderSource,
    watch_folder,
)

pytest.importorskip(
    "inotify_simple", reason="inotify_simple is not installed: pip install 'ssn-edge[watch]'"
)
Surface = Callable[..., ByteImage]

SLOW_WRITER = """
import sys, time
data = open(sys.argv[1], "rb").read()
with open(sys.argv[2], "wb") as out:
    for start in range(0, len(data), len(data) // 8 + 1):
        out.write(data[start : start + len(data) // 8 + 1]); out.flush(); time.sleep(0.05)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "incoming"
    path.mkdir()
    return path


def png(image: ByteImage) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def drop(folder: Path, name: str, image: ByteImage) -> None:
    """As a careful writer does it: under another name, then renamed."""
    (folder / f".{name}.tmp").write_bytes(png(image))
    (folder / f".{name}.tmp").rename(folder / name)


def parts(source: WatchedFolderSource, count: int, timeout_s: float = 5.0) -> list[str]:
    found = []
    for _ in range(count):
        frame = source.read(timeout_s)
        assert frame is not None
        assert frame.part_id is not None
        found.append(frame.part_id)
    return found


@pytest.mark.parametrize("polls", [False, True])
def test_new_pictures_are_parts_and_those_that_were_there_are_not(
    folder: Path, surface: Surface, polls: bool
) -> None:
    drop(folder, "old.png", surface(0))
    with WatchedFolderSource(folder, polls=polls) as source:
        assert not source.is_live
        (folder / "notes.txt").write_text("no part")
        (folder / ".hidden.png").write_bytes(png(surface(9)))
        (folder / "below.png").mkdir()
        drop(folder, "b.png", surface(1))
        frame = source.read(5.0)
        assert frame is not None
        assert (frame.part_id, frame.index, frame.path) == ("b.png", 0, folder / "b.png")
        assert np.array_equal(frame.image, surface(1))
        with pytest.raises(NoFrameYet, match=r"no new picture within 0.1 s"):
            source.read(0.1)


def test_pictures_come_in_the_order_of_their_completion_whatever_their_names(
    folder: Path, surface: Surface
) -> None:
    with WatchedFolderSource(folder) as source:
        for name in ("c.png", "a.png", "b.png"):
            drop(folder, name, surface(1))
        assert parts(source, 3) == ["c.png", "a.png", "b.png"]


@pytest.mark.parametrize("polls", [False, True])
def test_no_half_written_picture_is_ever_judged(
    folder: Path, tmp_path: Path, surface: Surface, polls: bool
) -> None:
    whole = png(surface(5, size_hw=(200, 300)))
    (tmp_path / "whole.png").write_bytes(whole)
    with WatchedFolderSource(folder, polls=polls) as source:
        arguments = [str(tmp_path / "whole.png"), str(folder / "slow.png")]
        with subprocess.Popen([sys.executable, "-c", SLOW_WRITER, *arguments]):
            frame = source.read(10.0)
            assert frame is not None
            assert np.array_equal(frame.image, surface(5, size_hw=(200, 300)))


def test_a_picture_begun_before_the_opening_counts_when_it_is_done(
    folder: Path, surface: Surface
) -> None:
    whole = png(surface(1))
    with (folder / "late.png").open("wb") as out:
        out.write(whole[:100])
        out.flush()
        source = WatchedFolderSource(folder)
        source.open()
        out.write(whole[100:])
    assert parts(source, 1) == ["late.png"]
    source.close()


def test_those_that_are_there_count_on_request_in_the_order_of_their_names(
    folder: Path, surface: Surface
) -> None:
    for name in ("b.png", "a.png"):
        drop(folder, name, surface(1))
    with watch_folder(str(folder), existing=True) as source:
        assert parts(source, 2) == ["a.png", "b.png"]


def test_what_came_while_it_was_closed_is_found_on_the_next_opening_and_nothing_twice(
    folder: Path, surface: Surface
) -> None:
    source = WatchedFolderSource(folder)
    with source:
        drop(folder, "1.png", surface(1))
        assert parts(source, 1) == ["1.png"]
    drop(folder, "2.png", surface(2))
    with source:
        assert parts(source, 1) == ["2.png"]
        drop(folder, "3.png", surface(3))
        assert parts(source, 1) == ["3.png"]
        with pytest.raises(NoFrameYet):
            source.read(0.0)


def test_a_damaged_picture_is_told_with_its_part_and_the_next_one_read(
    folder: Path, surface: Surface
) -> None:
    with WatchedFolderSource(folder) as source:
        (folder / "bad.png").write_bytes(png(surface(1))[:200])
        drop(folder, "good.png", surface(1))
        with pytest.raises(DamagedFrame) as caught:
            source.read(5.0)
        assert (caught.value.part_id, caught.value.index) == ("bad.png", 0)
        assert parts(source, 1) == ["good.png"]


def test_a_folder_that_is_gone_is_a_source_error(folder: Path) -> None:
    with WatchedFolderSource(folder) as source:
        folder.rmdir()
        with pytest.raises(SourceError, match="is gone"):
            source.read(5.0)
    with pytest.raises(SourceError, match="no such folder"):
        source.open()


def test_a_thousand_pictures_dropped_at_once_all_come_once_and_in_order(
    folder: Path, surface: Surface
) -> None:
    names = [f"{number:04}.png" for number in np.random.default_rng(0).permutation(1000)]
    image = surface(1, size_hw=(8, 8))

    def write() -> None:
        for name in names:
            drop(folder, name, image)

    with WatchedFolderSource(folder) as source:
        writer = threading.Thread(target=write)
        writer.start()
        assert parts(source, 1000) == names
        writer.join()


def test_events_that_the_kernel_lost_are_found_by_looking(
    folder: Path, surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WatchedFolderSource(folder) as source:
        kernel: Any = source._kernel
        wait = kernel.wait
        monkeypatch.setattr(kernel, "wait", lambda timeout_s: (wait(timeout_s), None)[1])
        drop(folder, "1.png", surface(1))
        assert parts(source, 1) == ["1.png"]


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_no_descriptor_is_left(folder: Path) -> None:
    before = descriptors()
    source = WatchedFolderSource(folder)
    for _ in range(20):
        with source, pytest.raises(NoFrameYet):
            source.read(0.0)
    assert descriptors() == before


def test_a_name_that_is_used_again_counts_again(folder: Path, surface: Surface) -> None:
    with WatchedFolderSource(folder) as source:
        for _ in range(3):
            drop(folder, "a.png", surface(1))  # over the one before
            assert parts(source, 1) == ["a.png"]
        for _ in range(3):
            (folder / "a.png").unlink()
            (folder / "a.png").write_bytes(png(surface(1)))
            assert parts(source, 1) == ["a.png"]
        (folder / "a.png").unlink()
        with pytest.raises(NoFrameYet):
            source.read(0.1)
        assert source._taken == {}  # nothing is remembered of what is gone


def test_a_file_counts_once_however_often_its_writer_closes_it(
    folder: Path, surface: Surface
) -> None:
    with WatchedFolderSource(folder) as source:
        (folder / "a.png").write_bytes(png(surface(1)))
        with (folder / "a.png").open("ab") as again:
            again.write(b"tags")
        assert parts(source, 1) == ["a.png"]
        with (folder / "a.png").open("ab") as again:
            again.write(b"more tags")
        with pytest.raises(NoFrameYet):
            source.read(0.1)


def test_a_picture_that_was_taken_away_before_it_was_read_is_told(
    folder: Path, surface: Surface
) -> None:
    with WatchedFolderSource(folder) as source:
        drop(folder, "a.png", surface(1))
        (folder / "a.png").unlink()
        with pytest.raises(DamagedFrame) as caught:
            source.read(5.0)
        assert caught.value.part_id == "a.png"


def test_a_folder_that_is_polled_finds_a_name_that_is_used_again(
    folder: Path, surface: Surface
) -> None:
    with WatchedFolderSource(folder, polls=True) as source:
        for seed in (1, 2):
            (folder / "a.png").write_bytes(png(surface(seed)))
            assert parts(source, 1) == ["a.png"]
            (folder / "a.png").unlink()


def test_a_line_on_an_empty_folder_ends_soon_after_its_stop(
    folder: Path, surface: Surface, judge: Any, output: Path, records: Any
) -> None:
    from ssn_edge_runtime.loop import run_line
    from ssn_edge_runtime.sinks import Journal

    stop = threading.Event()

    def work() -> None:
        time.sleep(0.3)
        drop(folder, "1.png", surface(1))
        time.sleep(0.7)  # longer than a camera's stall, which a folder has not
        drop(folder, "2.png", surface(2, defect=True))
        time.sleep(0.3)
        stop.set()

    worker = threading.Thread(target=work)
    with WatchedFolderSource(folder) as source, Journal(output) as journal:
        worker.start()
        run_line(source, judge, journal, stop=stop, frame_timeout_s=0.2)
        worker.join()
    assert [(r["part_id"], r["verdict"]) for r in records(output)] == [
        ("1.png", "pass"),
        ("2.png", "fail"),
    ]
