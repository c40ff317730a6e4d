"""A line in a process of its own, to be killed: it prints each answer once it was given."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import simulated_line

from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.sinks import Journal


def tell(answer: Answer) -> None:
    """On standard output, before anything else happens."""
    if answer.sequence is not None:
        sys.stdout.write(f"{answer.sequence} {answer.verdict} {answer.reason}\n")
        sys.stdout.flush()


def main(folder: Path, parts: int) -> None:
    # Parts are numbered by the clock, so that no run gives the ids of the one before.
    planned = replace(simulated_line.plan(3, spacing=0), start_ns=0)
    with Journal(folder) as journal:
        authority = Authority(
            {"belt": simulated_line.camera_command(planned)},
            simulated_line.engine_command(planned),
            journal,
            simulated_line.options(),
        )
        clock = simulated_line.SteppedClock()
        belt = simulated_line.Belt(authority, planned, parts, clock, tell=tell)
        belt.start()
        authority.run()
        belt.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
