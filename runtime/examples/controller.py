"""A controller in Python that has each part judged, in its own process.

    pip install 'ssn-edge[opencv,cpu]'
    python controller.py part.ssn parts/ 200

Takes the pictures of a folder for a camera, and a time limit in milliseconds for each part. Lets a
part through on an explicit pass in time, and on nothing else. Exits with 0 if it ran to the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from ssn_edge_runtime import Inspector, SsnEdgeError, read_picture
from ssn_edge_runtime.arrays import ByteImage


def is_accepted(inspector: Inspector, frame: ByteImage | None, *, limit_ms: float) -> bool:
    """Whether a part may go on.

    Args:
        inspector: An open one.
        frame: (H, W, 3) BGR or (H, W) mono, uint8; None where the camera gave none.
        limit_ms: A pass that comes later is none: the part may be past the ejector.
    """
    began = time.monotonic()
    decision = inspector.inspect(frame)  # does not raise for a bad frame or engine: `unknown`
    took_ms = (time.monotonic() - began) * 1000
    # Pass is the only active signal. This call runs in our thread and cannot be cut short: if it
    # hangs in a driver, nothing is accepted, and the PLC must take our silence for reject.
    return decision.verdict == "pass" and took_ms <= limit_ms


def frame_of(path: Path) -> ByteImage | None:
    """What stands in for the camera here; a picture that cannot be read is no frame."""
    try:
        return read_picture(path)
    except SsnEdgeError:
        return None


def run(
    package: Path, parts: Path, *, limit_ms: float, accept: Callable[[str], None]
) -> tuple[int, int]:
    """Judge every part; how many there were, and how many were accepted."""
    count = accepted = 0
    # Opening takes a moment: it loads, warms up and tests itself. Once, before the first part.
    with Inspector.open(package) as inspector:
        for path in sorted(parts.iterdir()):
            count += 1
            if is_accepted(inspector, frame_of(path), limit_ms=limit_ms):
                accept(path.name)
                accepted += 1
    return count, accepted


def main(arguments: list[str]) -> int:
    """Read the command line."""
    if len(arguments) != 3:
        print("usage: controller.py PACKAGE FOLDER LIMIT_MS", file=sys.stderr)
        return 2
    package, parts, limit_ms = Path(arguments[0]), Path(arguments[1]), float(arguments[2])
    try:
        count, accepted = run(package, parts, limit_ms=limit_ms, accept=lambda part: print(part))
    except SsnEdgeError as error:  # such as a package that was changed, or an engine that is gone
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{accepted} of {count} parts accepted", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
