"""A child of the tests: forks a writer for each line on stdin, and prints its process id.

A line is ``FOLDER ACKS PAUSE_S``. The writer opens the journal in FOLDER, gives each trigger that
is open an `unknown(restart)`, and then accepts triggers and decides parts, with so long a pause
between two. Once a method has returned, it puts ``t SEQUENCE`` or ``d SEQUENCE`` into the file
ACKS. It runs until it is killed.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.record import DecisionRecord, TriggerRecord
from ssn_edge_runtime.sinks import Journal


def decision(sequence: int, reason: Reason) -> DecisionRecord:
    return DecisionRecord(
        sequence=sequence,
        source="nursery",
        decided_at=datetime.now(timezone.utc),
        verdict=Verdict.PASS if reason is Reason.NONE else Verdict.UNKNOWN,
        reason=reason,
        detail="x" * (sequence * 37 % 3000),
        timings_ms={},
        monotonic_ns=0,
    )


def write_for_ever(folder: Path, acks: Path, pause_s: float) -> None:
    acknowledged = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Journal(folder, sync_interval_s=0.005, segment_bytes=100_000) as journal:
        for trigger in journal.open_triggers:
            journal.write(decision(trigger.sequence, Reason.RESTART))
            os.write(acknowledged, b"d %d\n" % trigger.sequence)
        while True:
            if pause_s:
                time.sleep(pause_s)
            sequence = journal.next_sequence
            if sequence % 3 == 0 or len(journal.open_triggers) > 3:
                for trigger in reversed(journal.open_triggers):
                    journal.write(decision(trigger.sequence, Reason.NONE))
                    os.write(acknowledged, b"d %d\n" % trigger.sequence)
            if sequence % 2:
                journal.accept(
                    TriggerRecord(
                        sequence=sequence,
                        trigger_id=sequence % 65535 + 1,
                        source="nursery",
                        trigger_at=datetime.now(timezone.utc),
                        monotonic_ns=0,
                    )
                )
                os.write(acknowledged, b"t %d\n" % sequence)
            else:
                journal.write(decision(sequence, Reason.NONE))
                os.write(acknowledged, b"d %d\n" % sequence)


def main() -> None:
    for line in sys.stdin:
        folder, acks, pause_s = line.split()
        child = os.fork()
        if child == 0:
            write_for_ever(Path(folder), Path(acks), float(pause_s))
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        os.waitpid(child, 0)
        sys.stdout.write("dead\n")
        sys.stdout.flush()


main()
