"""A program: the formats of a V4L2 device as a line of JSON, for a process of its own.

A driver that hangs takes only that process with it. Nothing is set, nothing streams.
"""

from __future__ import annotations

import json
import sys


def formats_of(path: str) -> list[str]:
    """Formats with their sizes, as ``YUYV 640x480, 1280x720``.

    Raises:
        ImportError: linuxpy is not installed.
        OSError: It cannot be opened, or does not capture.
    """
    from ssn_edge_runtime.sources.v4l2_device import LinuxpyDevice

    device = LinuxpyDevice(path)
    try:
        return [f"{each} {', '.join(device.sizes(each))}".strip() for each in device.formats()]
    finally:
        device.close()


def main(path: str) -> None:
    """Print formats, or the error."""
    answer: dict[str, object]
    try:
        answer = {"formats": formats_of(path)}
    except ImportError as error:
        answer = {"error": f"needs a library that is not there ({error})"}
    except Exception as error:  # noqa: BLE001 - a report, whatever a driver does
        answer = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
