"""A judge that writes down each warm-up, and may hang in the first of its first process."""

from __future__ import annotations

import time
from pathlib import Path

from fault_plan import Plan
from simulated_engine import SimulatedJudge


class WarmJudge(SimulatedJudge):
    def __init__(self, notes: Path, hangs: bool) -> None:
        super().__init__(Plan(0, 0, 1, 0, often=0.0, spacing=0), 1.0, 0)
        self._notes = notes
        self._hangs = hangs

    def warm_up(self) -> None:
        is_first = not self._notes.exists()
        with self._notes.open("a") as file:
            file.write("warm\n")
        if self._hangs and is_first:
            time.sleep(60)


def make(notes: str, hangs: bool) -> WarmJudge:
    return WarmJudge(Path(notes), hangs)
