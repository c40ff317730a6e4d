from __future__ import annotations

from pathlib import Path

from ssn_edge_runtime.sinks.group_sync import GroupSync, Position


class Interrupted(GroupSync):
    """The thread syncs just when the writer has said half of what it has to say."""

    is_armed = False

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if self.is_armed and name in ("_position", "_dirty_since_ns"):
            self.is_armed = False
            self._sync()


def test_a_sync_at_any_moment_takes_no_line_for_safe_that_still_waits(tmp_path: Path) -> None:
    """What is told as safe, a published head signs, and the retirement of segments relies on."""
    safe: list[Position] = []
    with (tmp_path / "log").open("wb", buffering=0) as log:
        sync = Interrupted(tmp_path, 60.0, safe.append)
        sync._fd = log.fileno()
        for number in range(1, 4):
            log.write(b"line\n")
            sync.is_armed = True
            sync.wrote(Position(number, "ab", number), is_synced=False)
            # Whatever is safe now does not wait for a sync.
            assert not (sync.safe_line == number and sync.lag_s > 0)
            sync._sync()
            assert (sync.safe_line, sync.lag_s) == (number, 0.0)
    assert [each.line for each in safe] == [1, 2, 3]
