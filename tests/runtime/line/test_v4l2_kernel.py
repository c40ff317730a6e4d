from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.frame_stream_checks import FrameStreamChecks
from ssn_edge_runtime.sources import KernelV4l2Source, SourceOptions, V4l2Source, open_source
from ssn_edge_runtime.sources.v4l2_device import (
    AUTOGAIN,
    EXPOSURE_ABSOLUTE,
    EXPOSURE_AUTO,
    GAIN,
    Control,
    DriverBuffer,
    PictureFormat,
    Stamps,
)
from ssn_edge_runtime.sources.v4l2_pixels import READABLE, decode

Surface = Callable[..., ByteImage]
MS = 1_000_000
END_OF_FRAME = Stamps(is_monotonic=True, is_start_of_exposure=False)


@dataclass
class Camera:
    """What a camera remembers while it is plugged in; `FakeDevice` is an opening of it."""

    width: int = 640
    height: int = 480
    fourcc: str = "YUYV"
    rate: float | None = 30.0
    offered: tuple[str, ...] = ("YUYV", "MJPG", "Y10 ")
    sizes: tuple[tuple[int, int], ...] = ((640, 480), (64, 48))
    rates: tuple[float, ...] = (30.0, 15.0)
    values: dict[int, int] = field(
        default_factory=lambda: {EXPOSURE_AUTO: 3, EXPOSURE_ABSOLUTE: 156, AUTOGAIN: 1, GAIN: 64}
    )
    bounds: dict[int, tuple[int, int, int]] = field(
        default_factory=lambda: {
            EXPOSURE_AUTO: (0, 3, 1),
            EXPOSURE_ABSOLUTE: (1, 5000, 1),
            AUTOGAIN: (0, 1, 1),
            GAIN: (0, 255, 1),
        }
    )
    stamps: Stamps = END_OF_FRAME
    script: list[DriverBuffer | OSError | None] = field(default_factory=list)
    opened: int = 0
    closed: int = 0


class FakeDevice:
    """A V4L2 device as most drivers behave: they take the nearest, and say nothing."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._is_open = True
        camera.opened += 1

    def formats(self) -> list[str]:
        return list(self._camera.offered)

    def sizes(self, fourcc: str) -> list[str]:
        return [f"{width}x{height}" for width, height in self._camera.sizes]

    def format(self) -> PictureFormat:
        camera = self._camera
        row = camera.width * {"YUYV": 2, "GREY": 1, "BGR3": 3}.get(camera.fourcc, 0)
        return PictureFormat(camera.width, camera.height, camera.fourcc, row, row * camera.height)

    def set_format(self, width: int, height: int, fourcc: str) -> None:
        if (width, height) in self._camera.sizes:
            self._camera.width, self._camera.height = width, height
        if fourcc in self._camera.offered:
            self._camera.fourcc = fourcc

    def fps(self) -> float | None:
        return self._camera.rate

    def set_fps(self, fps: float) -> None:
        self._camera.rate = min(self._camera.rates, key=lambda rate: abs(rate - fps))

    def control(self, identity: int) -> Control | None:
        bounds = self._camera.bounds.get(identity)
        return None if bounds is None else Control("control", *bounds)

    def value(self, identity: int) -> int:
        return self._camera.values[identity]

    def set_value(self, identity: int, value: int) -> None:
        low, high, _ = self._camera.bounds[identity]
        if identity == EXPOSURE_AUTO and value not in (1, 3):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._camera.values[identity] = min(max(value, low), high)

    def start(self) -> Stamps:
        return self._camera.stamps

    def take(self, timeout_s: float) -> DriverBuffer | None:
        step = self._camera.script.pop(0)
        if isinstance(step, OSError):
            raise step
        return step

    def close(self) -> None:
        self._camera.closed += self._is_open
        self._is_open = False


@pytest.fixture
def device(tmp_path: Path) -> str:
    (tmp_path / "video0").touch()
    return str(tmp_path / "video0")


def opened(device: str, camera: Camera, **options: Any) -> KernelV4l2Source:
    return KernelV4l2Source(
        device, SourceOptions(**options), open_device=lambda _: FakeDevice(camera)
    )


def yuyv(camera: Camera, seed: int = 0) -> bytes:
    size = (camera.height, camera.width, 2)
    return np.random.default_rng(seed).integers(0, 255, size, dtype=np.uint8).tobytes()


def test_settings_are_written_and_noted(device: str) -> None:
    camera = Camera()
    source = opened(
        device, camera, width=64, height=48, format="MJPG", fps=15, exposure=2000.0, gain=10.0
    )
    with source:
        assert (camera.width, camera.height, camera.fourcc, camera.rate) == (64, 48, "MJPG", 15.0)
        assert camera.values == {EXPOSURE_AUTO: 1, EXPOSURE_ABSOLUTE: 20, AUTOGAIN: 0, GAIN: 10}
    assert camera.closed == camera.opened == 1


def test_what_nobody_asks_for_stays_as_it_is(device: str) -> None:
    camera = Camera()
    before = replace(camera, values=dict(camera.values))
    with opened(device, camera):
        assert (camera.values, camera.rate) == (before.values, before.rate)


def test_an_automatic_is_the_first_that_the_camera_knows(device: str) -> None:
    camera = Camera(values={EXPOSURE_AUTO: 1, EXPOSURE_ABSOLUTE: 5, AUTOGAIN: 0, GAIN: 1})
    with opened(device, camera, exposure="auto", gain="auto"):
        assert camera.values[EXPOSURE_AUTO] == 3
        assert camera.values[AUTOGAIN] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 1920, "height": 1080}, "it offers with YUYV the sizes 640x480, 64x48"),
        ({"format": "GREY"}, "it offers the formats YUYV, MJPG, Y10 "),
        ({"format": "Y10 "}, "gives Y10 , which is not read here; .* it offers YUYV, MJPG"),
        ({"fps": 60.0}, "fps=60 is not taken; the camera runs at 30 with YUYV 640x480"),
        ({"exposure": 1e6}, "exposure=1e\\+06 is not taken, .* it offers 100 to 500000 microsec"),
        ({"gain": 300.0}, "gain=300 is not taken, .* it offers 0 to 255 in steps of 1"),
        ({"gain": 1.5}, "a whole number is wanted"),
    ],
)
def test_a_setting_that_is_not_taken_is_an_error_with_what_the_camera_offers(
    device: str, options: dict[str, Any], message: str
) -> None:
    camera = Camera()
    with pytest.raises(ConfigError, match=message) as caught:
        opened(device, camera, **options).open()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert camera.closed == camera.opened  # it was let go


def test_a_camera_without_a_control_says_so(device: str) -> None:
    bare = Camera(bounds={}, values={})
    for options, message in (
        ({"exposure": 5.0}, "no exposure time in microseconds"),
        ({"exposure": "auto"}, "no such automatic"),
        ({"gain": 5.0}, "has no gain"),
    ):
        with pytest.raises(ConfigError, match=message):
            opened(device, bare, **options).open()
    with opened(device, bare):
        pass


def test_a_camera_that_comes_back_is_set_as_it_was_asked_for_or_not(device: str) -> None:
    camera = Camera(values={EXPOSURE_AUTO: 1, EXPOSURE_ABSOLUTE: 77, AUTOGAIN: 0, GAIN: 9})
    source = opened(device, camera, width=64, height=48)
    source.open()
    source.close()
    # Unplugged and back: all is as in the factory.
    camera.__init__(rate=15.0)  # type: ignore[misc]
    with source:
        assert (camera.width, camera.height, camera.rate) == (64, 48, 30.0)
        assert camera.values == {EXPOSURE_AUTO: 1, EXPOSURE_ABSOLUTE: 77, AUTOGAIN: 0, GAIN: 9}


def test_a_camera_that_comes_back_as_another_is_an_error_and_gives_no_frame(device: str) -> None:
    camera = Camera()
    source = opened(device, camera)
    source.open()
    source.close()
    camera.__init__(sizes=((320, 240),), width=320, height=240)  # type: ignore[misc]
    with pytest.raises(SourceError, match=r"is not what it was .* YUYV 320x240 .* YUYV 640x480"):
        source.open()
    with pytest.raises(SourceError, match="is not open"):
        source.read(1.0)


def test_frames_have_their_pixels_number_and_exposure(device: str) -> None:
    camera = Camera(width=64, height=48, values={**Camera().values, EXPOSURE_AUTO: 1})
    camera.script = [
        DriverBuffer(yuyv(camera, seed), sequence, 10**12 + seed * 33 * MS, False)
        for seed, sequence in ((0, 2**32 - 1), (1, 0), (2, 3))
    ]
    checks = FrameStreamChecks()
    with opened(device, camera) as source:
        assert source.tells_exposure
        frames = [source.read(1.0) for _ in range(3)]
    for seed, frame in enumerate(frames):
        assert frame is not None
        pixels = np.frombuffer(yuyv(camera, seed), np.uint8).reshape(48, 64, 2)
        assert np.array_equal(frame.image, cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_YUYV))
        # The stamp is of the frame's end: 15.6 ms of exposure and a period of 33.3 ms come off.
        assert frame.exposed_monotonic_ns == 10**12 + seed * 33 * MS - 15_600_000 - int(1e9 / 30)
        assert not frame.is_incomplete
        assert checks.check(frame) is None
    assert checks.missed == 2  # 1 and 2, after the counter wrapped


@pytest.mark.parametrize(
    ("stamps", "exposed"),
    [
        (Stamps(is_monotonic=True, is_start_of_exposure=True), 10**12),
        # Automatic exposure may last a period.
        (Stamps(is_monotonic=True, is_start_of_exposure=False), 10**12 - 2 * int(1e9 / 30)),
        (Stamps(is_monotonic=False, is_start_of_exposure=True), None),
    ],
)
def test_a_stamp_is_used_for_what_the_driver_says_it_is(
    device: str, stamps: Stamps, exposed: int | None
) -> None:
    camera = Camera(width=64, height=48, stamps=stamps)
    camera.script = [DriverBuffer(yuyv(camera), 1, 10**12, False)]
    with opened(device, camera) as source:
        assert source.tells_exposure == stamps.is_monotonic
        frame = source.read(1.0)
    assert frame is not None
    assert frame.exposed_monotonic_ns == exposed


def test_a_frame_that_the_driver_calls_damaged_or_that_is_short_is_incomplete(device: str) -> None:
    camera = Camera(width=64, height=48)
    whole = yuyv(camera)
    camera.script = [
        DriverBuffer(whole, 1, 1, True),
        DriverBuffer(whole[:-1], 2, 2, False),
        DriverBuffer(b"", 3, 3, False),
        DriverBuffer(whole + b"padding", 4, 4, False),
    ]
    with opened(device, camera) as source:
        frames = [source.read(1.0) for _ in range(4)]
    assert [frame and frame.is_incomplete for frame in frames] == [True, True, True, False]
    assert {frame.image.shape for frame in frames if frame is not None} == {(48, 64, 3)}


def test_an_unplugged_camera_is_a_source_error_and_counts_on_when_it_is_back(device: str) -> None:
    camera = Camera(width=64, height=48)
    gone = OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    camera.script = [DriverBuffer(yuyv(camera), 5, 1, False), gone]
    source = opened(device, camera)
    with source:
        first = source.read(1.0)
        with pytest.raises(SourceError, match=r"No such device\); is the camera still connected"):
            source.read(1.0)
    camera.script = [DriverBuffer(yuyv(camera), 0, 2, False)]
    with source:
        second = source.read(1.0)
    assert first is not None
    assert second is not None
    assert (first.index, second.index) == (0, 1)


def test_a_camera_that_gives_nothing_stalls(device: str) -> None:
    camera = Camera(script=[None])
    with opened(device, camera) as source, pytest.raises(SourceError, match="stalled"):
        source.read(0.5)


def test_a_device_that_is_in_use_or_not_there_ends_with_exit_code_5(device: str) -> None:
    def busy(_: str) -> FakeDevice:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    for path, message in ((device, "busy"), ("/dev/video99", "there is no such camera")):
        with pytest.raises(SourceError, match=message) as caught:
            KernelV4l2Source(path, open_device=busy).open()
        assert caught.value.exit_code == 5


def test_a_file_that_is_no_camera_is_told(tmp_path: Path) -> None:
    pytest.importorskip("linuxpy", reason="linuxpy is not installed: pip install 'ssn-edge[v4l2]'")
    (tmp_path / "video0").touch()
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    with pytest.raises(SourceError, match="cannot be opened as a camera"):
        KernelV4l2Source(str(tmp_path / "video0")).open()
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before


def test_without_linuxpy_a_camera_runs_without_settings_and_exposure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ssn_edge_runtime.sources.find_spec", lambda name: None)
    source = open_source("/dev/video0")
    assert type(source) is V4l2Source
    assert not source.tells_exposure
    with pytest.raises(SourceError, match=r"pip install 'ssn-edge\[v4l2\]'"):
        open_source("v4l2:/dev/video0?width=640")


@pytest.mark.parametrize("padding", [0, 32])
def test_each_format_is_decoded_to_its_pixels(surface: Surface, padding: int) -> None:
    bgr = np.ascontiguousarray(surface(1, size_hw=(48, 64)))
    yuv = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV)
    packed = {
        "GREY": bgr[:, :, :1],
        "BGR3": bgr,
        "RGB3": bgr[:, :, ::-1],
        "YUYV": np.stack([yuv[:, :, 0], np.full_like(yuv[:, :, 0], 128)], axis=2),
        "UYVY": np.stack([np.full_like(yuv[:, :, 0], 128), yuv[:, :, 0]], axis=2),
    }
    for fourcc, pixels in packed.items():
        rows = np.ascontiguousarray(pixels).reshape(48, -1)
        padded = np.pad(rows, ((0, 0), (0, padding)))
        layout = PictureFormat(64, 48, fourcc, padded.shape[1], padded.size)
        image, is_whole = decode(padded.tobytes(), layout)
        assert is_whole
        if fourcc in ("BGR3", "RGB3"):
            assert np.array_equal(image, bgr)
        elif fourcc == "GREY":
            assert np.array_equal(image, bgr[:, :, 0])
        else:
            assert image.shape == (48, 64, 3)
            assert abs(float(image.mean()) - float(yuv[:, :, 0].mean())) < 12
    assert {*packed, "MJPG", "JPEG"} == set(READABLE)


@given(cut=st.integers(0, 3000), padding=st.integers(0, 100))
def test_a_jpeg_that_was_cut_short_is_never_whole(cut: int, padding: int) -> None:
    random = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", random)[1].tobytes()
    layout = PictureFormat(64, 48, "MJPG", 0, len(jpeg))
    image, is_whole = decode(jpeg + bytes(padding), layout)
    assert is_whole
    assert image.shape == (48, 64, 3)
    kept = jpeg[: max(0, len(jpeg) - 1 - cut)]
    image, is_whole = decode(kept + bytes(padding), layout)
    assert not is_whole
    assert image.shape == (48, 64, 3)
