"""Several cameras on one engine."""

from __future__ import annotations

import json
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import paced_camera
import pytest
import simulated_line
from test_command import start_line, wait_until_judging
from test_ends import QUIET, events, run_beside, verdicts

from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.camera import Camera
from ssn_edge_runtime.line.frame_desk import FrameDesk
from ssn_edge_runtime.line.ledger import Part, SeenFrame, TriggerLedger
from ssn_edge_runtime.line.options import FreePolicy, LineOptions, TriggerKind
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.sinks import Journal

FREE = {"trigger": TriggerKind.FREE}


def make_line(journal: Journal, options: LineOptions, *, work_ms: float) -> Authority:
    """A camera of 100 frames a second and one of 10."""
    cameras = {
        "fast": paced_camera.command("the fast one", 10),
        "slow": paced_camera.command("the slow one", 100),
    }
    planned = simulated_line.plan(1, **QUIET)
    engine = simulated_line.engine_command(planned, work_ms=work_ms)
    return Authority(cameras, engine, journal, options)


def judged(folder: Path) -> Counter[object]:
    return Counter(each["source"] for each in verdicts(folder) if each["raw_score"] is not None)


def test_free_running_a_fast_camera_does_not_starve_a_slow_one(
    tmp_path: Path, nothing_is_left: None
) -> None:
    with Journal(tmp_path) as journal:  # the engine takes 25 frames a second of 110
        make_line(journal, simulated_line.options(**FREE, max_parts=50), work_ms=40).run()
    of = judged(tmp_path)
    assert of["the slow one"] >= 8
    assert of["the fast one"] >= 8
    assert {event["detail"]["source"] for event in events(tmp_path, "drop_range")} >= {  # type: ignore[index]
        "the fast one"
    }


class Engine:
    """Takes one frame at each asking."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.wants_frame = False

    def enqueue(self, part: Part) -> None:
        self.parts.append(part)
        self.wants_frame = False

    def feed(self) -> None:
        pass


@pytest.mark.parametrize("policy", [FreePolicy.LATEST, FreePolicy.BLOCK])
def test_cameras_take_turns_even_if_one_s_frame_is_always_the_older(policy: FreePolicy) -> None:
    options = simulated_line.options(**FREE, policy=policy)
    ledger = TriggerLedger(options.rules, next_sequence=1, cameras=2)
    engine, cameras = (
        Engine(),
        {key: Camera(key, WorkerCommand("a:b"), options) for key in ("left", "right")},
    )
    desk = FrameDesk(
        ledger, engine, SimpleNamespace(counters=Counter()), cameras, options,  # type: ignore[arg-type]
        SimpleNamespace(state=LineState.CONTINUOUS_EXECUTION),  # type: ignore[arg-type]
    )  # fmt: skip
    for turn in range(1, 21):
        now_ns = turn * 1_000_000
        for key, camera in cameras.items():
            camera.waiting.clear()
            age_ns = 900 if key == "left" else 100
            camera.waiting.append(
                SeenFrame(key, 0, 1, (4, 4), turn, now_ns - age_ns, exposed_ns=now_ns - age_ns)
            )
        engine.wants_frame = True
        desk.admit(now_ns)
        for part in ledger.undecided:
            ledger.fail(part, Reason.DEADLINE, "", now_ns)
    for camera in cameras.values():
        camera.close()
    assert Counter(part.camera for part in engine.parts) == {"left": 10, "right": 10}


def test_where_each_frame_has_a_record_the_slow_camera_finds_room_as_well(
    tmp_path: Path, nothing_is_left: None
) -> None:
    options = simulated_line.options(**FREE, policy=FreePolicy.EVERY, max_parts=220)
    with Journal(tmp_path) as journal:
        make_line(journal, options, work_ms=15).run()
    records = verdicts(tmp_path)
    reasons = Counter((each["source"], each["reason"]) for each in records)
    assert reasons["the fast one", "overrun"] > 0
    assert reasons["the slow one", "overrun"] == 0


def test_a_rate_triggers_each_camera(tmp_path: Path, nothing_is_left: None) -> None:
    options = simulated_line.options(trigger=TriggerKind.RATE, rate_hz=5.0, max_parts=8)
    with Journal(tmp_path) as journal:
        make_line(journal, options, work_ms=1).run()
    sources = [record["source"] for record in verdicts(tmp_path)]
    assert sources == ["the fast one", "the slow one"] * 4


def test_an_id_of_one_camera_s_part_is_never_answered_with_another_camera_s_verdict(
    tmp_path: Path, nothing_is_left: None
) -> None:
    told: list[tuple[object, str]] = []
    for _ in range(2):  # and over a restart
        with Journal(tmp_path) as journal:
            authority = make_line(journal, simulated_line.options(), work_ms=1)

            def drive(authority: Authority = authority) -> None:
                for camera in ("fast", "slow"):
                    answer = authority.ask(17, camera=camera).result(5)
                    told.append((answer.verdict, answer.detail))

            run_beside(authority, drive)
    assert [record["source"] for record in verdicts(tmp_path)] == ["the fast one"]
    assert [verdict is None for verdict, _ in told] == [False, True, False, True]
    assert "another part's" in told[1][1]
    assert "which the fast one saw" in told[3][1]


def test_an_id_of_one_part_is_never_answered_with_the_verdict_of_a_part_of_another_name(
    tmp_path: Path, nothing_is_left: None
) -> None:
    told: list[tuple[object, str]] = []
    with Journal(tmp_path) as journal:
        authority = make_line(journal, simulated_line.options(), work_ms=1)

        def drive() -> None:
            for part_id in ("part-a", "part-b", None, "part-a"):
                answer = authority.ask(17, part_id, camera="fast").result(5)
                told.append((answer.verdict, answer.detail))
            with pytest.raises(ConfigError, match="63 bit"):
                authority.trigger(2**63)

        run_beside(authority, drive)
    assert [record["part_id"] for record in verdicts(tmp_path)] == ["part-a"]
    assert [verdict is None for verdict, _ in told] == [False, True, False, False]
    assert told[1][1] == "this id is another part's, which is called part-a"


def test_the_command_takes_several_cameras_and_triggers_name_theirs(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    devices = ("left=test:?fps=30&width=128&height=96", "--device",
               "right=test:?fps=20&width=128&height=96&seed=5")  # fmt: skip
    more = ("--trigger", "software", "--deadline-ms", "5000", "--max-frames", "3")
    told = []
    with start_line(package_path, tmp_path, *more, device=devices) as line:
        wait_until_judging(line)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(tmp_path / "control.sock"))
            lines = client.makefile("rw")
            for asked in ("trigger 1 a @middle", "trigger 1 a b", "status", "trigger 1 part-a",
                          "trigger 2 @right", "trigger 3 part-b @right"):  # fmt: skip
                lines.write(asked + "\n")
                lines.flush()
                told.append(lines.readline())
            lines.close()
        _, err = line.communicate(timeout=30)
    assert line.returncode == 0, err
    assert "there is no camera middle; left, right are there" in told[0]
    assert told[1].startswith("error: 'trigger ID [PART] [@CAMERA] [%RECIPE]'")
    assert [worker["name"] for worker in json.loads(told[2])["workers"]] == [
        "engine", "camera left", "camera right",
    ]  # fmt: skip
    assert [line.split()[0] for line in told[3:]] == ["1", "2", "3"]
    records = verdicts(tmp_path)
    assert [each["part_id"] for each in records] == ["part-a", None, "part-b"]
