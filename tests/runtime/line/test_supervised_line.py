"""A watched line: it counts, alarms, halts and changes settings, and never judges otherwise."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.loop import Judge, run_line
from ssn_edge_runtime.manifest import Manifest
from ssn_edge_runtime.pictures import encode_png
from ssn_edge_runtime.settings import DeviceSettings, Fitted, LineSettings, Recipe
from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.sinks import Journal, verify_chain
from ssn_edge_runtime.supervision import (
    HardwareWatchdog,
    HealthReader,
    HealthSampler,
    Notifier,
)
from ssn_edge_runtime.supervision.health import SAMPLED_EVERY_S
from ssn_edge_runtime.supervision.heartbeat import Heartbeat
from ssn_edge_runtime.supervision.journal_reading import verdicts_since
from ssn_edge_runtime.supervision.supervisor import Overrides, Supervisor

Surfaces = Callable[[int], list[ByteImage]]
Records = Callable[[Path], list[dict[str, Any]]]
PACKAGE_ID, ENGINE = "ab" * 32, "0" * 64


class WithoutSettings:
    """A judge's settings: none."""

    settings = None
    recipe = None

    def apply_settings(self, settings: Path, recipe: str | None = None) -> None:
        raise AssertionError("there is no settings file")


def supervised(
    source: Any, judge: Judge, output: Path, supervisor: Supervisor, **options: Any
) -> Supervisor:
    with source, Journal(output) as journal, supervisor:
        run_line(source, judge, journal, observer=supervisor, **options)
    return supervisor


def events(output: Path, lines: Callable[[Path], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [line for line in lines(output) if line["kind"] == "event"]


@pytest.fixture
def lines() -> Callable[[Path], list[dict[str, Any]]]:
    """All lines of a journal."""

    def read(output: Path) -> list[dict[str, Any]]:
        return [json.loads(each) for each in (output / "decisions.jsonl").read_bytes().splitlines()]

    return read


@pytest.mark.parametrize("is_shadow", [False, True])
def test_in_shadow_mode_all_is_judged_and_recorded_and_nothing_is_driven(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any, lines: Any, is_shadow: bool
) -> None:
    driven: list[str] = []
    supervised(
        scripted(surfaces(6), is_live=False),
        judge,
        output,
        Supervisor(WithoutSettings()),
        is_shadow=is_shadow,
        on_decision=lambda record, _: driven.append(record.verdict.value),
    )
    found = lines(output)
    verdicts = [line["verdict"] for line in found if line["kind"] == "verdict"]
    assert verdicts == ["fail", "pass", "pass"] * 2
    assert driven == ([] if is_shadow else verdicts)
    assert found[0]["event"] == "start"
    assert found[0]["detail"]["shadow"] is is_shadow


def test_rejects_in_a_row_raise_an_alarm_and_then_halt_the_line(
    output: Path, judge: Judge, surface: Callable[..., ByteImage], scripted: Any, lines: Any
) -> None:
    images = [surface(1), *(surface(seed, defect=True) for seed in range(2, 30))]
    told: list[str] = []
    supervisor = Supervisor(
        WithoutSettings(),
        overrides=Overrides(alarm_after=3, halt_after=5),
        on_alarm=lambda alarm: told.append(str(alarm)),
    )
    supervised(scripted(images, is_live=False), judge, output, supervisor)
    found = lines(output)
    assert [line.get("verdict", line.get("event")) for line in found] == [
        "start", "pass", "fail", "fail", "fail", "alarm", "fail", "fail", "alarm", "state", "stop"
    ]  # fmt: skip
    alarms = [line["detail"] for line in found if line.get("event") == "alarm"]
    assert [(each["value"], each["halt"], each["sequence"]) for each in alarms] == [
        (3, False, 4),
        (5, True, 6),
    ]
    assert found[-2]["detail"]["state"] == "Halted"
    assert supervisor.halted == "5 parts in a row did not pass (limit 5, the line halts)"
    assert len(told) == 2
    assert verify_chain(output / "decisions.jsonl").is_whole


def test_too_hot_a_device_gives_unknown_and_the_judge_is_not_asked(
    output: Path, judge: Any, surfaces: Surfaces, scripted: Any, tmp_path: Path, records: Records
) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal")
    (zone / "temp").write_text("91000")
    judge.inspect = lambda frame: pytest.fail("the judge was asked")
    supervisor = Supervisor(
        WithoutSettings(),
        overrides=Overrides(max_temperature_c=90.0),
        health=HealthSampler(HealthReader(root=tmp_path)),
    )
    supervised(scripted(surfaces(4), is_live=False), judge, output, supervisor)
    found = [line for line in records(output) if line["kind"] == "verdict"]
    assert [line["reason"] for line in found] == ["overheated"] * 4
    assert found[0]["detail"] == "cpu-thermal has 91.0 degrees C, the limit is 90.0"


def test_sensors_that_hang_are_no_proof_of_a_cool_device(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("41000")
    now_s = [1000.0]
    health = HealthSampler(HealthReader(root=tmp_path, clock=lambda: 1000.0), every_s=60)
    with Supervisor(WithoutSettings(), health=health, clock=lambda: now_s[0]) as supervisor:
        assert supervisor.before_part() is None
        now_s[0] += 60
        decision = supervisor.before_part()
    assert decision is not None
    assert (decision.verdict, decision.reason) == ("unknown", "overheated")
    assert decision.detail == "the device's sensors have not answered for 60 s"


def test_sensors_that_tell_no_more_are_no_proof_of_a_cool_device(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("41000")
    now_s = [1000.0]
    reader = HealthReader(root=tmp_path, clock=lambda: now_s[0])
    health = HealthSampler(reader, every_s=0.01)
    with Supervisor(WithoutSettings(), health=health, clock=lambda: now_s[0]) as supervisor:
        assert supervisor.inhibit() is None
        (zone / "temp").unlink()  # a driver that is gone; the sampler goes on looking
        while health.latest.temperatures_c:
            time.sleep(0.01)
        assert supervisor.inhibit() is None  # one look that failed is none yet
        now_s[0] += 60
        found = supervisor.inhibit()
    assert found == ("overheated", "the device's sensors have not answered for 60 s")


def settings_with(image: float, **changes: Any) -> DeviceSettings:
    own = Fitted(Thresholds(image, 9.0), "fake", ENGINE)
    return replace(DeviceSettings(PACKAGE_ID, {"fp32": own}), **changes)


def test_settings_replaced_while_running_are_an_event_before_the_first_part_judged_with_them(
    output: Path,
    tmp_path: Path,
    manifest: Manifest,
    part: Callable[..., ByteImage],
    scripted: Any,
    lines: Any,
) -> None:
    store = SettingsStore(tmp_path / "device" / "settings.json")
    first = store.save(lambda _: settings_with(2.0))
    saved: dict[int, DeviceSettings] = {}

    def change(sequence: int) -> None:
        if sequence == 2:
            saved[2] = store.save(lambda _: settings_with(0.5, line=LineSettings(alarm_after=2)))
        if sequence == 4:  # for another package: refused
            store.save(lambda _: settings_with(3.0, package_id="cd" * 32))
        if sequence == 6:
            saved[6] = store.roll_back(1)

    engine = FakeEngine([1.0], input_size_hw=manifest.geometry.input_size_hw)
    with Inspector(engine, manifest, precision="fp32", package_id=PACKAGE_ID) as inspector:
        inspector.apply_settings(store.path)
        supervisor = Supervisor(
            inspector,
            settings_path=store.path,
            on_record=lambda record: change(record.sequence),
        )
        images = [part(seed) for seed in range(8)]
        supervised(scripted(images, is_live=False), inspector, output, supervisor)
    story = [
        line["detail"].get("settings_id", "refused")
        if line.get("event") == "settings"
        else (line.get("event") or (line["verdict"], line["settings_id"]))
        for line in lines(output)
    ]
    one, two = first.settings_id, saved[2].settings_id
    assert saved[6] == first
    assert story == [
        "start", ("pass", one), ("pass", one),
        two, ("fail", two), ("fail", two), "alarm",
        "refused", ("fail", two), ("fail", two),
        one, ("pass", one), ("pass", one), "stop",
    ]  # fmt: skip
    (refusal,) = (each for each in events(output, lines) if "refused" in each["detail"])
    assert "are for package cdcdcdcdcdcd" in refusal["detail"]["refused"]
    start = lines(output)[0]["detail"]
    assert (start["settings_id"], start["recipe"]) == (one, None)


def test_counters_are_for_each_recipe_and_come_back_after_a_restart(
    output: Path,
    manifest: Manifest,
    part: Callable[..., ByteImage],
    scripted: Any,
) -> None:
    settings = settings_with(2.0, recipes={"large": Recipe()})
    for run in (1, 2):
        engine = FakeEngine([1.0, 3.0], input_size_hw=manifest.geometry.input_size_hw)
        with Inspector(engine, manifest, precision="fp32", package_id=PACKAGE_ID) as inspector:
            inspector.apply_settings(settings, "large" if run == 2 else None)
            supervisor = Supervisor(inspector)
            supervisor.count_again(output)
            images = [part(seed) for seed in range(6)]
            supervised(scripted(images, is_live=False), inspector, output, supervisor)
    rows = {row["recipe"]: row for row in supervisor.counters.to_list()}
    assert set(rows) == {None, "large"}
    for row in rows.values():
        assert row["verdicts"] == {"pass": 3, "fail": 3, "unknown": 0}
        assert row["reasons"] == {"defect": 3}
    assert supervisor.to_dict()["shifts_complete"] is True


def test_reading_back_ends_at_the_moment_or_at_the_limit(
    output: Path, judge: Judge, surfaces: Surfaces, scripted: Any, records: Records
) -> None:
    supervised(scripted(surfaces(20), is_live=False), judge, output, Supervisor(WithoutSettings()))
    verdicts = [line for line in records(output) if line["kind"] == "verdict"]
    since = datetime.fromisoformat(verdicts[12]["decided_at"].replace("Z", "+00:00"))
    found, is_all = verdicts_since(output, since)
    assert [line["sequence"] for line in found] == list(range(20, 12, -1))
    assert is_all
    with (output / "decisions.jsonl").open("ab") as file:
        file.write(b'{"kind":"verdict","torn')
    assert verdicts_since(output, since)[0] == found
    few, is_all = verdicts_since(output, since, limit_bytes=3000)
    assert few == found[: len(few)]
    assert 0 < len(few) < 8
    assert not is_all
    assert verdicts_since(output / "none", since) == ([], True)


def test_signs_of_life_stop_while_a_part_is_stuck_and_go_on_without_parts(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        with (
            Notifier(str(tmp_path / "notify"), watchdog_s=0.15) as notifier,
            Heartbeat(notifier) as heartbeat,
        ):
            for _ in range(3):
                assert manager.recv(99) == b"WATCHDOG=1"
            heartbeat.begin()
            time.sleep(0.3)
            manager.setblocking(False)
            while True:  # those from before it was stuck
                try:
                    manager.recv(99)
                except BlockingIOError:
                    break
            assert heartbeat.is_stuck
            manager.settimeout(0.5)
            with pytest.raises(TimeoutError):
                manager.recv(99)
            heartbeat.end()
            manager.settimeout(20)
            assert manager.recv(99) == b"WATCHDOG=1"


def test_overheating_is_found_within_its_bound(tmp_path: Path) -> None:
    """Stated: one look every `SAMPLED_EVERY_S`."""
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("41000")
    supervisor = Supervisor(
        WithoutSettings(),
        overrides=Overrides(max_temperature_c=90.0),
        health=HealthSampler(HealthReader(root=tmp_path)),
    )
    with supervisor:
        assert supervisor.before_part() is None
        (zone / "temp").write_text("95000")
        began_s = time.monotonic()
        while supervisor.before_part() is None and time.monotonic() - began_s < 20:
            time.sleep(0.01)
        assert time.monotonic() - began_s < SAMPLED_EVERY_S + 5  # the bound, and a busy machine


_HOLDS_THE_LOCK = """
import ctypes, sys, time
from ssn_edge_runtime.supervision import Heartbeat, Notifier
with Notifier(sys.argv[1], watchdog_s=0.3) as notifier, Heartbeat(notifier) as heartbeat:
    time.sleep(0.5)
    heartbeat.begin()
    notifier.status("held")
    ctypes.PyDLL(None).sleep(2)  # an engine call that keeps the interpreter lock
    notifier.status("free")
    heartbeat.end()
    time.sleep(0.5)
"""


def test_a_call_that_holds_the_interpreter_lock_stops_the_signs_of_life(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLDS_THE_LOCK, str(tmp_path / "notify")]
        )
        assert process.wait(timeout=60) == 0
        manager.setblocking(False)
        told = []
        while True:
            try:
                told.append(manager.recv(99).decode())
            except BlockingIOError:
                break
    held, free = told.index("STATUS=held"), told.index("STATUS=free")
    assert told[:held].count("WATCHDOG=1") >= 2
    # At most one that was due as the call began or as it ended; without the hold it were twenty.
    assert told[held:free].count("WATCHDOG=1") <= 1
    assert told[-1] == "WATCHDOG=1"


def test_the_boards_watchdog_gets_signs_of_life_and_is_disarmed_at_the_end(
    output: Path, tmp_path: Path, judge: Judge, surfaces: Surfaces, scripted: Any
) -> None:
    device = tmp_path / "watchdog"
    os.mkfifo(device)
    other_end = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    supervisor = Supervisor(WithoutSettings(), hardware=HardwareWatchdog(device))
    supervised(scripted(surfaces(3), is_live=False), judge, output, supervisor)
    assert os.read(other_end, 99).strip(b"\0") == b"V"
    os.close(other_end)


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ssn_edge", "run", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_the_command_tells_the_service_manager_its_whole_life(
    tmp_path: Path, package_path: Path, part: Callable[..., ByteImage]
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for seed in range(3):
        (folder / f"{seed}.png").write_bytes(encode_png(part(seed)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = command(
            "--device", str(folder), "--package", str(package_path), "--shadow", "--lock-memory",
            cwd=tmp_path, env=environment,
        )  # fmt: skip
        _, err = process.communicate(timeout=120)
        manager.setblocking(False)
        told = []
        while True:
            try:
                told += manager.recv(999).decode().split("\n")
            except BlockingIOError:
                break
    assert process.returncode == 0, err
    assert told[0] == "READY=1"
    assert told[1].startswith(f"STATUS={folder}: judging with part.ssn")
    assert told[-1] == "STOPPING=1"
    assert "shadow mode: nothing is driven" in err
    assert "locked memory: " in err


def test_a_line_that_halts_ends_with_code_4_and_says_why(
    tmp_path: Path, package_path: Path, part: Callable[..., ByteImage]
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for seed in range(6):
        (folder / f"{seed}.png").write_bytes(encode_png(part(seed, defect=True)))
    process = command(
        "--device", str(folder), "--package", str(package_path), "--json",
        "--alarm-after", "2", "--halt-after", "4", "--keep", "none", cwd=tmp_path,
    )  # fmt: skip
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    assert "alarm: 2 parts in a row did not pass (limit 2)" in err
    assert "halted: 4 parts in a row did not pass (limit 4, the line halts); look at" in err
    result = json.loads(out)
    assert result["records"] == 4
    assert [each["halt"] for each in result["supervision"]["alarms"]] == [False, True]
    (shift,) = result["supervision"]["shifts"]
    assert shift["verdicts"] == {"pass": 0, "fail": 4, "unknown": 0}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--settings", "none.json"], "no settings none.json; make them: ssn-edge settings set"),
        (["--recipe", "large"], "recipes are in the settings, and there are none here"),
        (["--halt-after", "0"], "halt_after is 0; 1 or more"),
        (["--alarm-reject-rate", "2"], "--alarm-reject-rate 2: a share between 0 and 1"),
        (["--max-temperature", "-3"], "max_temperature_c is -3.0; 0 to 150"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_written(
    tmp_path: Path, package_path: Path, arguments: list[str], complaint: str
) -> None:
    process = command(
        "--device", str(tmp_path), "--package", str(package_path), *arguments, cwd=tmp_path
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert complaint in err
    assert list(tmp_path.iterdir()) == []
