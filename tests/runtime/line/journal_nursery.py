"""A child of the tests: for each line ``FOLDER ACKS`` on stdin, forks a writer and prints its pid.

A writer appends to the journal in FOLDER as fast as it can and, once `write` has returned, puts the
sequence number into the file ACKS. It runs until it is killed.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.record import DecisionRecord
from ssn_edge_runtime.sinks import Journal


def write_for_ever(folder: Path, acks: Path) -> None:
    acknowledged = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Journal(folder, sync_interval_s=0.005) as journal:
        while True:
            sequence = journal.next_sequence
            record = DecisionRecord(
                sequence=sequence,
                source="nursery",
                decided_at=datetime.now(timezone.utc),
                verdict=Verdict.PASS,
                reason=Reason.NONE,
                detail="x" * (sequence * 37 % 3000),
                timings_ms={},
                monotonic_ns=0,
            )
            journal.write(record)
            os.write(acknowledged, b"%d\n" % sequence)


def main() -> None:
    for line in sys.stdin:
        folder, acks = line.split()
        child = os.fork()
        if child == 0:
            write_for_ever(Path(folder), Path(acks))
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        os.waitpid(child, 0)
        sys.stdout.write("dead\n")
        sys.stdout.flush()


main()
