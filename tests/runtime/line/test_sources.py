from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.sources import (
    DamagedFrame,
    FolderSource,
    Source,
    V4l2Source,
    VideoFileSource,
    open_source,
)

Surface = Callable[..., ByteImage]


class FakeCapture:
    """A camera as OpenCV shows it."""

    def __init__(self, frames: list[ByteImage | None], *, opens: bool = True) -> None:
        self.frames = frames
        self.opens = opens
        self.released = False
        self.delay_s = 0.0
        self.settings: dict[int, float] = {}

    def isOpened(self) -> bool:
        return self.opens

    def read(self) -> tuple[bool, ByteImage | None]:
        time.sleep(self.delay_s)
        image = self.frames.pop(0)
        return image is not None, image

    def get(self, prop: int) -> float:
        return self.settings[prop]

    def set(self, prop: int, value: float) -> bool:
        self.settings[prop] = value
        return True

    def release(self) -> None:
        self.released = True


@pytest.fixture
def device(tmp_path: Path) -> str:
    (tmp_path / "video0").touch()
    return str(tmp_path / "video0")


def write_video(path: Path, images: list[ByteImage]) -> None:
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (width, height))
    for image in images:
        writer.write(image)
    writer.release()


def read_all(source: Source) -> list[tuple[int, str | None, ByteImage | str]]:
    """Index, part id, and image or what is wrong with it."""
    found: list[tuple[int, str | None, ByteImage | str]] = []
    with source:
        while True:
            try:
                frame = source.read(1.0)
            except DamagedFrame as damage:
                found.append((damage.index, damage.part_id, str(damage)))
                continue
            if frame is None:
                return found
            found.append((frame.index, frame.part_id, frame.image))


def test_a_folder_gives_its_pictures_in_the_order_of_their_names(
    tmp_path: Path, surface: Surface
) -> None:
    for name in ("b.PNG", "a.bmp", "c.jpg", ".hidden.png", "notes.txt"):
        suffix = Path(name).suffix if name != "notes.txt" else ".png"
        (tmp_path / name).write_bytes(cv2.imencode(suffix.lower(), surface(1))[1].tobytes())
    (tmp_path / "below").mkdir()
    cv2.imwrite(str(tmp_path / "below" / "d.png"), surface(2))
    assert [part for _, part, _ in read_all(FolderSource(tmp_path))] == ["a.bmp", "b.PNG", "c.jpg"]
    recursive = open_source(str(tmp_path), recursive=True)
    assert [part for _, part, _ in read_all(recursive)] == [
        "a.bmp",
        "b.PNG",
        "below/d.png",
        "c.jpg",
    ]


def test_a_frame_of_a_folder_has_its_pixels_and_its_place(tmp_path: Path, surface: Surface) -> None:
    cv2.imwrite(str(tmp_path / "part.png"), surface(3))
    with FolderSource(tmp_path) as source:
        frame = source.read(1.0)
        assert frame is not None
        assert np.array_equal(frame.image, surface(3))
        assert frame.path == tmp_path / "part.png"
        assert frame.source == str(tmp_path)
        assert frame.captured_at.utcoffset() is not None
        assert source.read(1.0) is None


def test_a_damaged_picture_is_told_and_the_next_one_read(tmp_path: Path, surface: Surface) -> None:
    whole = cv2.imencode(".jpg", surface(1))[1].tobytes()
    (tmp_path / "1.jpg").write_bytes(whole)
    (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
    cv2.imwrite(str(tmp_path / "3.png"), np.zeros((40, 60), dtype=np.uint16))
    (tmp_path / "4.png").write_bytes(b"")
    (tmp_path / "5.jpg").write_bytes(whole)
    found = read_all(FolderSource(tmp_path))
    assert [(index, part) for index, part, _ in found] == [
        (0, "1.jpg"),
        (1, "2.jpg"),
        (2, "3.png"),
        (3, "4.png"),
        (4, "5.jpg"),
    ]
    assert "cut short" in str(found[1][2])
    assert "16 bits" in str(found[2][2])
    assert isinstance(found[4][2], np.ndarray)


def test_one_picture_is_a_recording_of_one_part(tmp_path: Path, surface: Surface) -> None:
    cv2.imwrite(str(tmp_path / "part.png"), surface(3))
    found = read_all(open_source(str(tmp_path / "part.png")))
    assert [(index, part) for index, part, _ in found] == [(0, "part.png")]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no pictures"):
        FolderSource(tmp_path).open()


def test_a_video_gives_each_of_its_frames(tmp_path: Path, surface: Surface) -> None:
    images = [surface(seed) for seed in range(7)]
    write_video(tmp_path / "line.avi", images)
    source = open_source(str(tmp_path / "line.avi"))
    assert not source.is_live
    found = read_all(source)
    assert [index for index, _, _ in found] == list(range(7))
    for (_, _, decoded), image in zip(found, images, strict=True):
        assert isinstance(decoded, np.ndarray)
        assert abs(float(decoded.mean()) - float(image.mean())) < 3


def test_a_video_that_was_cut_short_says_so(
    tmp_path: Path, surface: Surface, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "line.avi"
    write_video(path, [surface(seed) for seed in range(30)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        assert len(read_all(VideoFileSource(path))) < 30
    assert "its header states 30" in caplog.text


def test_a_file_that_is_no_video_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "line.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(SourceError, match="cannot be opened as a video"):
        open_source(str(tmp_path / "line.mp4")).open()


def test_a_camera_that_is_not_there_ends_with_exit_code_5() -> None:
    with pytest.raises(SourceError, match="/dev/video99: there is no such camera") as caught:
        open_source("/dev/video99").open()
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    assert "there are /dev/video" in str(caught.value) or "no video device" in str(caught.value)


def test_a_bare_number_is_a_camera() -> None:
    assert open_source("7").name == "/dev/video7"
    assert V4l2Source(7).name == "/dev/video7"


@pytest.mark.parametrize("device", ["", "nowhere", "nowhere.avi"])
def test_nothing_of_that_name_ends_with_exit_code_5(device: str) -> None:
    with pytest.raises(SourceError, match="nothing of that name") as caught:
        open_source(device)
    assert caught.value.exit_code == 5


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="neither a video"):
        open_source(str(tmp_path / "notes.txt"))


def test_a_camera_gives_frames_with_one_buffer_in_the_driver(device: str, surface: Surface) -> None:
    capture = FakeCapture([surface(1), surface(2)[:, :, :1]])
    with V4l2Source(device, capture_factory=lambda _: capture) as source:
        assert source.is_live
        assert capture.settings == {cv2.CAP_PROP_BUFFERSIZE: 1}
        colour, mono = source.read(1.0), source.read(1.0)
    assert colour is not None
    assert mono is not None
    assert (colour.index, colour.image.shape) == (0, (40, 60, 3))
    assert (mono.index, mono.image.shape) == (1, (40, 60))
    assert capture.released


def test_a_camera_that_does_not_open_is_a_source_error(device: str) -> None:
    capture = FakeCapture([], opens=False)
    with pytest.raises(SourceError, match="another program may hold it"):
        V4l2Source(device, capture_factory=lambda _: capture).open()
    assert capture.released


def test_a_camera_that_gives_no_frame_is_a_source_error(device: str) -> None:
    with (
        V4l2Source(device, capture_factory=lambda _: FakeCapture([None])) as source,
        pytest.raises(SourceError, match="gave no frame"),
    ):
        source.read(1.0)


def test_a_frame_later_than_the_timeout_is_a_stall(device: str, surface: Surface) -> None:
    capture = FakeCapture([surface(1)])
    capture.delay_s = 0.05
    with (
        V4l2Source(device, capture_factory=lambda _: capture) as source,
        pytest.raises(SourceError, match="stalled"),
    ):
        source.read(0.01)


def test_a_camera_counts_its_frames_over_a_reopening(device: str, surface: Surface) -> None:
    source = V4l2Source(device, capture_factory=lambda _: FakeCapture([surface(1)]))
    indices = []
    for _ in range(2):
        with source:
            frame = source.read(1.0)
            assert frame is not None
            indices.append(frame.index)
    assert indices == [0, 1]


def test_closing_leaves_a_camera_alone_while_a_read_sits_in_the_driver(
    device: str, surface: Surface
) -> None:
    capture = FakeCapture([surface(1)])
    capture.delay_s = 1.5
    source = V4l2Source(device, capture_factory=lambda _: capture)
    source.open()
    reading = threading.Thread(target=source.read, args=(10.0,))
    reading.start()
    time.sleep(0.05)
    source.close()
    assert not capture.released
    reading.join()
    source.close()
    assert capture.released
