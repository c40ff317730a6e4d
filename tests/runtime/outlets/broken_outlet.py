"""An outlet's process that is broken, as `python -m broken_outlet HOW`."""

from __future__ import annotations

import json
import os
import sys

from ssn_edge_runtime.outlets.process import begin_beside
from ssn_edge_runtime.outlets.words import PeerReport, tell

HOWS = ("words", "nonsense", "endless", "flaps")


def main() -> None:
    how = sys.argv[1]
    stop = begin_beside()
    tell(listens=how)
    count = 0
    while not stop.is_set():
        count += 1
        report = PeerReport(is_lost=bool(count % 2), cause=f"flap {count}", losses=count)
        line = {
            "words": b'{"listens":"again"}\n',
            "nonsense": b"pass pass pass\n",
            "endless": b"pass" * 100,
            "flaps": json.dumps({"peer": report.to_dict()}).encode() + b"\n",
        }[how]
        os.write(1, line)  # as fast as it goes; a full pipe holds it up


if __name__ == "__main__":
    main()
