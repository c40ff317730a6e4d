"""Writers on one chain, each killed at a random moment in mid-writing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ssn_edge_runtime.sinks import Journal, SqliteFollower, Tail, audit_log


class Nursery:
    """Raises writers and kills them."""

    def __init__(self, process: subprocess.Popen[str], output: Path, acks: Path) -> None:
        self.process = process
        self.output = output
        self.acks = acks

    def write_and_die(self, seconds: float, pause_s: float = 0.0) -> None:
        """Let a writer write for so long after its first acknowledgement."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        already = self.acks.stat().st_size
        self.process.stdin.write(f"{self.output} {self.acks} {pause_s}\n")
        self.process.stdin.flush()
        writer = int(self.process.stdout.readline())
        while self.acks.stat().st_size == already:
            time.sleep(0.001)
        time.sleep(seconds)
        os.kill(writer, signal.SIGKILL)
        assert self.process.stdout.readline() == "dead\n"

    def acknowledged(self, offset: int) -> tuple[list[tuple[str, int]], int]:
        """What was acknowledged from an offset on, and where the next begins."""
        with self.acks.open("rb") as file:
            file.seek(offset)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        words = (line.split() for line in data[:whole].decode().splitlines())
        return [(kind, int(sequence)) for kind, sequence in words], offset + whole


@pytest.fixture
def nursery(output: Path, tmp_path: Path) -> Iterator[Nursery]:
    acks = tmp_path / "acks"
    acks.touch()
    with start_nursery(output, acks) as nursery:
        yield nursery


@contextmanager
def start_nursery(output: Path, acks: Path) -> Iterator[Nursery]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("journal_nursery.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    with process:
        yield Nursery(process, output, acks)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize("kills", [20, pytest.param(300, marks=pytest.mark.soak)])
def test_a_killed_writer_loses_and_tears_nothing_that_was_acknowledged(
    nursery: Nursery, output: Path, kills: int
) -> None:
    moments = random.Random(kills)
    accepted: set[int] = set()
    decided: list[int] = []
    offset = 0
    reader = Tail(output)
    restarts = 0
    with reader:
        for _ in range(kills):
            nursery.write_and_die(moments.uniform(0.0, 0.03))
            acks, offset = nursery.acknowledged(offset)
            while lines := reader.read():
                for line in lines:
                    sequence = line.document.get("sequence")
                    assert isinstance(sequence, int) or line.kind == "event"
                    if line.kind == "trigger":
                        accepted.add(int(str(sequence)))
                    elif line.kind == "verdict":
                        decided.append(int(str(sequence)))
                        restarts += line.document["reason"] == "restart"
            assert {sequence for kind, sequence in acks if kind == "t"} <= accepted
            assert {sequence for kind, sequence in acks if kind == "d"} <= set(decided)
            with Journal(output) as journal:  # which the next writer takes up from
                open_triggers = {each.sequence for each in journal.open_triggers}
                assert open_triggers == accepted - set(decided)
                assert journal.next_sequence == max(accepted | set(decided)) + 1
    assert restarts > 0
    assert len(decided) == len(set(decided))
    assert accepted | set(decided) == set(range(1, max(accepted | set(decided)) + 1))
    report = audit_log(output)
    assert {each.kind.value for each in report.problems} <= {"trigger"}  # those that are open now
    assert report.open_triggers == len(accepted - set(decided))
    assert report.files > 3


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.soak)])
def test_a_killed_database_follower_neither_loses_nor_doubles_a_line(
    nursery: Nursery, output: Path, tmp_path: Path, kills: int
) -> None:
    moments = random.Random(kills)
    database = tmp_path / "line.sqlite"
    command = [
        sys.executable, "-m", "ssn_edge_runtime.sinks.follow", str(output),
        "--sqlite", str(database), "--csv", str(tmp_path / "line.csv"),
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for _ in range(kills):
        follower = subprocess.Popen(command, env=env)
        nursery.write_and_die(moments.uniform(0.2, 0.7), pause_s=0.001)  # it is slow to start
        follower.kill()
        follower.wait()
    subprocess.run([*command, "--once"], env=env, check=True)
    with Tail(output) as reader:
        lines = list(iter(lambda: reader.read(10**6), []))
    wanted = [(line.line, line.sha256) for block in lines for line in block]
    with SqliteFollower(output, database) as follower_now:
        assert follower_now._database is not None
        found = follower_now._database.execute(
            "SELECT line, sha256 FROM verdicts UNION ALL SELECT line, sha256 FROM triggers "
            "UNION ALL SELECT line, sha256 FROM events ORDER BY line"
        ).fetchall()
    assert found == wanted
    rows = (tmp_path / "line.csv").read_text().splitlines()[1:]
    verdicts = [line for block in lines for line in block if line.kind == "verdict"]
    assert [row.split(",")[0] for row in rows] == [str(line.line) for line in verdicts]
