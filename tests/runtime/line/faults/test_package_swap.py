"""Another package while the line runs: no part is missed, and each record names what judged it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import numpy as np
import onnx
import pytest
import simulated_line
from running_line import while_running

from ssn_edge_export.signing import sign_package_file
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Thresholds
from ssn_edge_runtime.line.authority import Authority
from ssn_edge_runtime.line.control import ControlSocket
from ssn_edge_runtime.line.options import CAPTURE_MODULE, FreePolicy, TriggerKind, package_command
from ssn_edge_runtime.line.package_swap import PROBATION_PARTS
from ssn_edge_runtime.line.worker_process import WorkerCommand
from ssn_edge_runtime.settings import DeviceSettings, Fitted
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.sinks import DeviceKey, Journal, audit_log
from ssn_edge_runtime.trust import Trust, TrustState

IMAGES = 9


@pytest.fixture
def images(part: Callable[..., ByteImage]) -> list[ByteImage]:
    return [part(number, defect=number % 3 == 0) for number in range(IMAGES)]


@pytest.fixture
def other(
    tmp_path: Path, make_package: Callable[..., Path], tiny_model: Callable[..., onnx.ModelProto]
) -> Path:
    """A package that gives other scores."""
    model = tiny_model(gain=1 / 20).SerializeToString()
    return Path(shutil.move(make_package(model=model), tmp_path / "other.ssn"))


@pytest.fixture
def line(
    tmp_path: Path, package_path: Path, images: list[ByteImage]
) -> Iterator[Callable[..., Authority]]:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, image in enumerate(images):
        np.save(frames / f"{number}.npy", image)
    camera = WorkerCommand(
        "looping_camera:make", {"folder": str(frames), "period_ms": 10}, CAPTURE_MODULE
    )
    with Journal(tmp_path / "out") as journal:

        def make(
            *, trust: Trust | None = None, package: Path = package_path, beat_ms: int = 5000
        ) -> Authority:
            options = simulated_line.options(
                trigger=TriggerKind.FREE,
                policy=FreePolicy.EVERY,
                # An engine that a busy machine keeps waiting is none that hangs.
                engine=simulated_line.limits(beat_ms=beat_ms),
            )
            command = package_command(
                str(package), engine="onnxruntime-cpu", threads=1, trust=trust
            )
            return Authority({"loop": camera}, command, journal, options)

        yield make


Answer = tuple[str | None, str | None]


def ask(authority: Authority, package: Path, settings: Path | None = None) -> Answer:
    """What came of a swap, asked for in another thread than the line's."""
    future: Future[Answer] = Future()
    authority.use_package(
        str(package),
        None if settings is None else str(settings),
        asked_by="the test",
        on_done=lambda *told: future.set_result(told),
    )
    return future.result(60)


def wait_for(is_so: Callable[[], bool]) -> None:
    until_s = monotonic() + 120
    while not is_so():
        assert monotonic() < until_s, "it did not come to be"
        sleep(0.05)


def events(folder: Path) -> list[dict[str, Any]]:
    return [
        each["detail"]
        for each in simulated_line.read_lines(folder, is_running=True)
        if each.get("event") == "package"
    ]


def has(folder: Path, name: str) -> bool:
    return any(name in each for each in events(folder))


def truth(package: Path, images: list[ByteImage], **more: Any) -> tuple[str, list[Decision]]:
    with Inspector.open(package, engine="onnxruntime-cpu", threads=1, **more) as inspector:
        return inspector.package_id, [inspector.inspect(image) for image in images]


def check(folder: Path, truths: dict[str, list[Decision]]) -> list[str]:
    """Every part has its one record, of the package that it names; gives these in order."""
    verdicts = [each for each in simulated_line.read_lines(folder) if each["kind"] == "verdict"]
    assert [each["sequence"] for each in verdicts] == list(range(1, len(verdicts) + 1))
    judged = [each for each in verdicts if each["raw_score"] is not None]
    for record in judged:
        decision = truths[str(record["package_id"])][int(str(record["part_id"]))]
        assert record["raw_score"] == decision.raw_score
        assert record["verdict"] == decision.verdict.value
    assert audit_log(folder).is_whole
    return [str(each["package_id"]) for each in judged]


def order(ids: list[str]) -> list[str]:
    return [each for number, each in enumerate(ids) if number == 0 or ids[number - 1] != each]


def engines(authority: Authority) -> dict[str, int]:
    return {
        each.name: each.pid
        for each in authority.status().workers
        if each.name.startswith("engine") and each.pid is not None
    }


def test_the_next_part_goes_to_the_new_package_and_the_old_one_leaves_once_it_has_proved_itself(
    tmp_path: Path,
    nothing_is_left: None,
    package_path: Path,
    other: Path,
    images: list[ByteImage],
    line: Callable[..., Authority],
) -> None:
    (old_id, old), (new_id, new) = truth(package_path, images), truth(other, images)
    assert old_id != new_id
    assert old[0].raw_score != new[0].raw_score
    authority = line()

    def work() -> None:
        assert set(engines(authority)) == {"engine"}
        assert ask(authority, other) == (new_id, None)
        assert set(engines(authority)) == {"engine", "engine-2"}
        refused = ask(authority, package_path)
        assert refused[0] is None
        assert "on probation" in str(refused[1])
        wait_for(lambda: has(tmp_path / "out", "settled_after_parts"))
        wait_for(lambda: set(engines(authority)) == {"engine-2"})
        assert ask(authority, package_path) == (old_id, None)  # and back, if someone wants it
        threading.Event().wait(0.3)

    while_running(authority, work)
    assert order(check(tmp_path / "out", {old_id: old, new_id: new})) == [old_id, new_id, old_id]
    noted = events(tmp_path / "out")
    (swapped,) = [each for each in noted if each.get("previous_package_id") == old_id]
    assert swapped["package_id"] == new_id
    assert swapped["asked_by"] == "the test"
    settled = [each for each in noted if "settled_after_parts" in each]
    assert [each["settled_after_parts"] for each in settled] == [PROBATION_PARTS]
    # The first record of a package stands behind the event that names it.
    lines = simulated_line.read_lines(tmp_path / "out")
    event = next(number for number, each in enumerate(lines) if each.get("detail") == swapped)
    first = next(number for number, each in enumerate(lines) if each.get("package_id") == new_id)
    assert first > event


def test_triggers_that_come_during_a_swap_are_all_answered_once(
    tmp_path: Path,
    nothing_is_left: None,
    package_path: Path,
    other: Path,
    images: list[ByteImage],
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, image in enumerate(images):
        np.save(frames / f"{number}.npy", image)
    camera = WorkerCommand(
        "looping_camera:make", {"folder": str(frames), "period_ms": 10}, CAPTURE_MODULE
    )
    answers: list[Any] = []
    with Journal(tmp_path / "out") as journal:
        authority = Authority(
            {"loop": camera},
            package_command(str(package_path), engine="onnxruntime-cpu", threads=1),
            journal,
            simulated_line.options(),
        )

        def work() -> None:
            swap: Future[Answer] = Future()
            for number in range(1, 241):
                if number == 20:
                    authority.use_package(
                        str(other),
                        asked_by="the test",
                        on_done=lambda *told: swap.set_result(told),
                    )
                answers.append(authority.ask(number))
                threading.Event().wait(0.02)
                if number == 240:
                    assert swap.result(60)[1] is None
            for _ in range(20):
                answers.append(authority.ask(len(answers) + 1))
                threading.Event().wait(0.02)
            for each in answers:
                each.result(30)

        while_running(authority, work)
    told = [each.result(0) for each in answers]
    assert [each.trigger_id for each in told] == list(range(1, len(answers) + 1))
    assert all(each.verdict is not None for each in told)
    verdicts = [
        each for each in simulated_line.read_lines(tmp_path / "out") if each["kind"] == "verdict"
    ]
    assert [each["trigger_id"] for each in verdicts] == list(range(1, len(answers) + 1))
    assert not [each for each in verdicts if each["reason"] in ("engine_error", "invalid_output")]
    ids = [str(each["package_id"]) for each in verdicts if each["raw_score"] is not None]
    assert len(order(ids)) == 2


@pytest.mark.parametrize("fault", ["absent", "damaged", "self-test", "no certificate"])
def test_a_package_that_does_not_open_or_fails_its_self_test_changes_nothing(
    tmp_path: Path,
    nothing_is_left: None,
    package_path: Path,
    other: Path,
    make_package: Callable[..., Path],
    tiny_model: Callable[..., onnx.ModelProto],
    images: list[ByteImage],
    line: Callable[..., Authority],
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old_id, old = truth(package_path, images)
    if fault == "absent":
        other.unlink()
    elif fault == "damaged":
        data = bytearray(other.read_bytes())
        data[len(data) // 2] ^= 1
        other.write_bytes(data)
    elif fault == "self-test":
        other = _with_wrong_golden(tmp_path, make_package, tiny_model)
    authority = line()
    if fault == "no certificate":
        arguments = {**authority._engine.worker.command.arguments}
        monkeypatch.setattr(
            "ssn_edge_runtime.line.package_swap._command",
            lambda command, change: WorkerCommand(
                command.factory,
                {**arguments, "package": change.package, "engine": "openvino"},
                command.module,
            ),
        )
    words = {
        "absent": "cannot be opened",
        "damaged": "is damaged",
        "self-test": "does not give what",
        "no certificate": "openvino",
    }[fault]

    def work() -> None:
        package_id, refusal = ask(authority, other)
        assert package_id is None
        assert words in str(refusal)
        wait_for(lambda: set(engines(authority)) == {"engine"})
        threading.Event().wait(0.3)

    while_running(authority, work)
    assert order(check(tmp_path / "out", {old_id: old})) == [old_id]
    (refused,) = [each for each in events(tmp_path / "out") if "refused" in each]
    assert words in refused["refused"]
    assert refused["asked_for"] == str(other)
    assert refused["asked_by"] == "the test"


def _with_wrong_golden(
    tmp_path: Path,
    make_package: Callable[..., Path],
    tiny_model: Callable[..., onnx.ModelProto],
) -> Path:
    from dataclasses import replace

    from ssn_edge_export.package_writer import write_package
    from ssn_edge_runtime.package import Package

    path = tmp_path / "wrong.ssn"
    with Package.open(make_package()) as right:
        entries = {name: right.read(name) for name in right.manifest.entries}
        entries["models/fp32.onnx"] = tiny_model(gain=1 / 7).SerializeToString()
        write_package(path, replace(right.manifest, entries={}), entries)
    return path


@pytest.mark.parametrize("harm", [signal.SIGKILL, signal.SIGSTOP, None])
def test_an_engine_error_on_probation_brings_the_old_package_back_with_its_settings(
    tmp_path: Path,
    nothing_is_left: None,
    package_path: Path,
    other: Path,
    make_package: Callable[..., Path],
    tiny_model: Callable[..., onnx.ModelProto],
    images: list[ByteImage],
    line: Callable[..., Authority],
    harm: signal.Signals | None,
) -> None:
    if harm is None:
        # It passes its self-test on a grey picture, and gives what cannot be on any part.
        other = make_package(
            model=tiny_model(gain=1e4).SerializeToString(),
            golden_frames=(np.full((96, 128, 3), 128, dtype=np.uint8),),
        )
    (old_id, old), (new_id, new) = truth(package_path, images), truth(other, images)
    authority = line()

    def work() -> None:
        assert ask(authority, other) == (new_id, None)
        if harm is not None:
            os.kill(engines(authority)["engine-2"], harm)
        wait_for(lambda: has(tmp_path / "out", "rolled_back"))
        wait_for(lambda: set(engines(authority)) == {"engine"})
        threading.Event().wait(0.3)

    while_running(authority, work)
    judged = check(tmp_path / "out", {old_id: old, new_id: new})
    assert judged[0] == judged[-1] == old_id
    (back,) = [each for each in events(tmp_path / "out") if "rolled_back" in each]
    assert (back["package_id"], back["previous_package_id"]) == (old_id, new_id)
    if harm is None:
        assert "invalid_output" in back["rolled_back"]
    assert not has(tmp_path / "out", "settled_after_parts")


def test_parts_that_turn_bad_never_bring_the_old_package_back_and_settings_come_with_the_new_one(
    tmp_path: Path,
    nothing_is_left: None,
    package_path: Path,
    other: Path,
    images: list[ByteImage],
    line: Callable[..., Authority],
) -> None:
    with Inspector.open(other, engine="onnxruntime-cpu") as inspector:
        fitted = Fitted(Thresholds(-9000.0, 2.0), inspector.engine_name, inspector.engine_sha256)
        settings = DeviceSettings(inspector.package_id, {"fp32": fitted})
    store = SettingsStore(tmp_path / "settings" / "settings.json")
    store.save(lambda _: settings)
    old_id, old = truth(package_path, images)
    new_id, new = truth(other, images, settings=store.path)
    assert {each.verdict for each in new} == {"fail"}
    authority = line()

    def work() -> None:
        assert ask(authority, other, store.path) == (new_id, None)
        wait_for(lambda: has(tmp_path / "out", "settled_after_parts"))

    while_running(authority, work)
    assert order(check(tmp_path / "out", {old_id: old, new_id: new})) == [old_id, new_id]
    assert not has(tmp_path / "out", "rolled_back")
    lines = simulated_line.read_lines(tmp_path / "out")
    of_new = [each for each in lines if each.get("package_id") == new_id and "verdict" in each]
    assert {each["settings_id"] for each in of_new} == {new[0].settings_id}


@pytest.mark.parametrize(
    "swaps", [pytest.param(6, id="short"), pytest.param(100, id="long", marks=pytest.mark.soak)]
)
def test_swaps_under_kills_leave_each_part_one_record_of_the_package_that_judged_it(
    tmp_path: Path,
    nothing_is_left: None,
    package_path: Path,
    other: Path,
    images: list[ByteImage],
    line: Callable[..., Authority],
    swaps: int,
) -> None:
    truths = dict(truth(each, images) for each in (package_path, other))
    random, told = Random(11), []
    authority = line(beat_ms=simulated_line.BEAT_MS)  # some are stopped, and are to be missed soon

    def work() -> None:
        for number in range(swaps):
            future: Future[Answer] = Future()
            authority.use_package(
                str((other, package_path)[number % 2]),
                asked_by="the test",
                on_done=lambda *told, future=future: future.set_result(told),  # type: ignore[misc]
            )
            for _ in range(random.randrange(4)):
                threading.Event().wait(random.uniform(0.0, 0.5))
                victim = random.choice(list(engines(authority).values()) or [0])
                with suppress(ProcessLookupError):
                    if victim:
                        os.kill(victim, random.choice([signal.SIGKILL, signal.SIGSTOP]))
            told.append(future.result(90))
            threading.Event().wait(random.uniform(0.0, 0.8))
        wait_for(lambda: authority.package()[1])
        wait_for(lambda: len(engines(authority)) == 1)
        threading.Event().wait(0.5)

    while_running(authority, work)
    judged = check(tmp_path / "out", truths)
    assert len(told) == swaps
    assert len(judged) > 20
    assert judged[-1] == authority.package()[0]


def test_a_signed_line_takes_no_stranger_and_notes_what_it_took_once_that_has_proved_itself(
    tmp_path: Path,
    nothing_is_left: None,
    package_path: Path,
    other: Path,
    images: list[ByteImage],
    line: Callable[..., Authority],
) -> None:
    key = DeviceKey.make(tmp_path / "release.key")
    own = Path(shutil.copy(package_path, tmp_path / "own.ssn"))
    sign_package_file(own, key, serial=5)
    state = TrustState(tmp_path / "state.json")
    authority = line(trust=Trust(tmp_path / "release.key.pub", state.path), package=own)

    def work() -> None:
        assert "it is not signed" in str(ask(authority, other)[1])
        sign_package_file(other, key, serial=4)
        assert "older package" in str(ask(authority, other)[1])
        sign_package_file(other, key, serial=6)
        assert ask(authority, other)[1] is None
        assert state.read().packages == {"tiny": 5}
        wait_for(lambda: has(tmp_path / "out", "settled_after_parts"))
        wait_for(lambda: state.read().packages == {"tiny": 6})

    while_running(authority, work)


def test_the_control_socket_takes_a_package_and_the_record_says_who_asked(
    tmp_path: Path, nothing_is_left: None, other: Path, line: Callable[..., Authority]
) -> None:
    with Inspector.open(other, engine="onnxruntime-cpu") as inspector:
        new_id = inspector.package_id
    authority = line()
    with ControlSocket(authority, tmp_path / "control"):

        def work() -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.connect(str(tmp_path / "control"))
                control.sendall(b"package absent.ssn\n")
                with control.makefile() as told:
                    assert told.readline().startswith("error: ")
                    control.sendall(f"package {other}\n".encode())
                    assert told.readline() == f"package {new_id}\n"

        while_running(authority, work)
    asked = {each["asked_by"] for each in events(tmp_path / "out") if "asked_by" in each}
    assert asked == {f"user {os.getuid()}, process {os.getpid()}"}
