"""What is used of a V4L2 device: a thin layer, so that the logic above it needs no camera.

`LinuxpyDevice` is the one on real devices; tests bring their own.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
from dataclasses import dataclass
from typing import Any, Protocol

EXPOSURE_AUTO = 0x009A0901
EXPOSURE_ABSOLUTE = 0x009A0902  # in 100 microseconds
AUTOGAIN = 0x00980912
GAIN = 0x00980913


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """What the driver gives: size in pixels, FourCC, bytes of a row and of a whole frame."""

    width: int
    height: int
    fourcc: str
    row_bytes: int
    frame_bytes: int


@dataclass(frozen=True, slots=True)
class Control:
    """A control of the driver, with the values it takes."""

    name: str
    minimum: int
    maximum: int
    step: int


@dataclass(frozen=True, slots=True)
class Stamps:
    """What the driver's time stamps are: of which clock, of which moment."""

    is_monotonic: bool
    is_start_of_exposure: bool


@dataclass(frozen=True, slots=True)
class DriverBuffer:
    """One frame of the driver, copied out of its memory.

    Args:
        data: Its bytes.
        sequence: The driver's counter, 32 bit.
        stamp_ns: Its time stamp.
        is_error: Whether the driver says that it is damaged.
    """

    data: bytes
    sequence: int
    stamp_ns: int
    is_error: bool


class V4l2Device(Protocol):
    """An open device. Every method raises `OSError` when the driver refuses or is gone."""

    def formats(self) -> list[str]:
        """The FourCCs it offers."""
        ...

    def sizes(self, fourcc: str) -> list[str]:
        """The sizes it offers for a format, for a person to read."""
        ...

    def format(self) -> PictureFormat:
        """The format that is set."""
        ...

    def set_format(self, width: int, height: int, fourcc: str) -> None:
        """Ask for a format; the driver takes the nearest it has."""
        ...

    def fps(self) -> float | None:
        """Frames a second; None if the driver does not tell."""
        ...

    def set_fps(self, fps: float) -> None:
        """Ask for a rate; the driver takes the nearest it has."""
        ...

    def control(self, identity: int) -> Control | None:
        """A control by its number; None if there is none."""
        ...

    def value(self, identity: int) -> int:
        """A control's value."""
        ...

    def set_value(self, identity: int, value: int) -> None:
        """Set a control."""
        ...

    def start(self) -> Stamps:
        """Begin to stream."""
        ...

    def take(self, timeout_s: float) -> DriverBuffer | None:
        """Wait for a frame; None if none came."""
        ...

    def close(self) -> None:
        """Stop, and close the device; a second call does nothing."""
        ...


BUFFERS = 4
"""One is filled while one is copied; the driver drops new frames once all are full."""


class LinuxpyDevice:
    """A device file through linuxpy's `ioctl` layer, with memory that the driver maps.

    Args:
        path: Device file.

    Raises:
        OSError: It cannot be opened, or is no device that captures.
    """

    def __init__(self, path: str) -> None:
        from linuxpy.video import device as v4l2

        self._v4l2: Any = v4l2
        self._type = v4l2.BufferType.VIDEO_CAPTURE
        self._maps: list[mmap.mmap] = []
        self._is_streaming = False
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            flags = v4l2.Capability(v4l2.read_capabilities(self._fd).device_caps)
            needed = v4l2.Capability.VIDEO_CAPTURE | v4l2.Capability.STREAMING
            if flags & needed != needed:
                raise OSError(errno.ENOTTY, "does not capture video by streaming")
        except BaseException:
            os.close(self._fd)
            raise

    def formats(self) -> list[str]:
        """The FourCCs it offers, in the driver's order."""
        found = self._v4l2.iter_read_formats(self._fd, self._type)
        return [self._v4l2.human_pixel_format(each.pixel_format) for each in found]

    def sizes(self, fourcc: str) -> list[str]:
        """Sizes, or ranges of sizes."""
        number = self._v4l2.raw.v4l2_fourcc(*fourcc)
        texts = []
        for size in self._v4l2.iter_read_frame_sizes(self._fd, number):
            info = size.info
            if size.type == self._v4l2.FrameSizeType.DISCRETE:
                texts.append(f"{info.width}x{info.height}")
            else:
                texts.append(
                    f"{info.min_width}x{info.min_height} to {info.max_width}x{info.max_height}"
                )
        return texts

    def format(self) -> PictureFormat:
        """The format that is set."""
        found = self._v4l2.get_raw_format(self._fd, self._type).fmt.pix
        return PictureFormat(
            found.width,
            found.height,
            self._v4l2.human_pixel_format(found.pixelformat),
            found.bytesperline,
            found.sizeimage,
        )

    def set_format(self, width: int, height: int, fourcc: str) -> None:
        """Ask for a format."""
        self._v4l2.set_format(self._fd, self._type, width, height, fourcc)

    def fps(self) -> float | None:
        """Frames a second."""
        try:
            return float(self._v4l2.get_fps(self._fd, self._type)) or None
        except (OSError, ZeroDivisionError):
            return None

    def set_fps(self, fps: float) -> None:
        """Ask for a rate."""
        self._v4l2.set_fps(self._fd, self._type, fps)

    def control(self, identity: int) -> Control | None:
        """A control that is there and can be written."""
        query = self._v4l2.raw.v4l2_query_ext_ctrl()
        query.id = identity
        try:
            self._v4l2.ioctl(self._fd, self._v4l2.IOC.QUERY_EXT_CTRL, query)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):
                return None
            raise
        unusable = self._v4l2.ControlFlag.DISABLED | self._v4l2.ControlFlag.READ_ONLY
        if query.flags & unusable:
            return None
        return Control(query.name.decode(), query.minimum, query.maximum, query.step)

    def value(self, identity: int) -> int:
        """A control's value."""
        return int(self._v4l2.get_control(self._fd, identity))

    def set_value(self, identity: int, value: int) -> None:
        """Set a control."""
        self._v4l2.set_control(self._fd, identity, value)

    def start(self) -> Stamps:
        """Map the driver's buffers, queue them all, and begin."""
        v4l2, memory = self._v4l2, self._v4l2.Memory.MMAP
        count = v4l2.request_buffers(self._fd, self._type, memory, BUFFERS).count
        flags = 0
        for index in range(count):
            buffer = v4l2.query_buffer(self._fd, self._type, memory, index)
            self._maps.append(v4l2.mem_map(self._fd, buffer.length, buffer.m.offset))
            flags = buffer.flags
            self._queue(index)
        v4l2.stream_on(self._fd, self._type)
        self._is_streaming = True
        kinds = v4l2.BufferFlag
        return Stamps(
            is_monotonic=flags & kinds.TIMESTAMP_MASK == kinds.TIMESTAMP_MONOTONIC,
            is_start_of_exposure=flags & kinds.TSTAMP_SRC_MASK == kinds.TSTAMP_SRC_SOE,
        )

    def take(self, timeout_s: float) -> DriverBuffer | None:
        """Copy the oldest frame out of the driver's memory, and give that back."""
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if not ready:
            return None
        try:
            buffer = self._v4l2.dequeue_buffer(self._fd, self._type, self._v4l2.Memory.MMAP)
        except BlockingIOError:
            return None
        data = self._maps[buffer.index][: buffer.bytesused]
        taken = DriverBuffer(
            data=data,
            sequence=buffer.sequence,
            stamp_ns=buffer.timestamp.secs * 1_000_000_000 + buffer.timestamp.usecs * 1_000,
            is_error=bool(buffer.flags & self._v4l2.BufferFlag.ERROR),
        )
        self._queue(buffer.index)
        return taken

    def close(self) -> None:
        """Stop, unmap, close."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            if self._is_streaming:
                self._v4l2.stream_off(fd, self._type)
        except OSError:
            pass  # unplugged: the kernel stopped it
        finally:
            for each in self._maps:
                each.close()
            self._maps = []
            os.close(fd)

    def _queue(self, index: int) -> None:
        self._v4l2.enqueue_buffer(self._fd, self._type, self._v4l2.Memory.MMAP, 0, index)
