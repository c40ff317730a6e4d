"""`ssn-edge run --modbus ...`: a PLC, played by a real Modbus client, and a real guarded line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException
from test_command import start_line, wait_until_judging
from test_ends import verdicts

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.decision import Thresholds
from ssn_edge_runtime.outlets.modbus.handshake import IDS, LINE_SILENT_NS, PLC_SILENT_NS
from ssn_edge_runtime.outlets.modbus.registers import (
    ADDRESSES,
    GENERAL_SETTINGS,
    HandshakeState,
    recipes_crc,
)
from ssn_edge_runtime.settings import DeviceSettings, Fitted, Recipe
from ssn_edge_runtime.settings_store import SettingsStore
from tests.runtime.outlets.modbus.plc import PASS, Plc

LONG_MS = 20_000
"""A pass must be taken back by what a test does, and not by its deadline."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def line_for_plc(
    folder: Path, package: Path, *more: str, deadline_ms: int = LONG_MS, allow: str = "127.0.0.1"
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A line with its Modbus server; ended in order, unless it is gone."""
    port = free_port()
    options = ("--trigger", "software", "--deadline-ms", str(deadline_ms), "--keep", "none")
    address = ("--modbus", f"127.0.0.1:{port}", "--modbus-allow", allow)
    with start_line(package, folder / "out", *options, *address, *more) as line:
        try:
            wait_until_judging(line)
            yield line, port
            if line.poll() is None:
                line.send_signal(signal.SIGTERM)
                _, err = line.communicate(timeout=30)
                assert line.returncode == 0, err
        finally:
            line.kill()


def server_of(line: subprocess.Popen[str]) -> int:
    """The process of the Modbus server among the line's."""
    for pid in Path(f"/proc/{line.pid}/task/{line.pid}/children").read_text().split():
        with suppress(OSError):
            if b"plc_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return 0


def ids_of(folder: Path) -> list[int]:
    return [each["trigger_id"] for each in verdicts(folder / "out")]


def test_each_part_of_a_plc_has_one_record_whatever_becomes_of_its_ids(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    plc_ids = [65534, 65535, 1, 2]  # a counter that wraps
    with line_for_plc(tmp_path, package_path) as (_, port), Plc(port) as plc:
        plc.begin()
        for plc_id in plc_ids:
            assert plc.trigger(plc_id)[:2] == (plc_id, PASS)
            assert plc.trigger(plc_id)[:2] == (plc_id, PASS)  # a retry: the same answer
            plc.write("acked_id", plc_id)
            plc.write("trigger_id", plc_id)  # and after it: none any more
            assert plc.result == (0, 0, 0)
        assert plc.trigger(1)[1] == PASS  # the PLC counts from 1 again
        plc.write("acked_id", 7)  # not the one that is shown
        assert plc.result[:2] == (1, PASS)
        plc.write("acked_id", 1)
        plc.write("trigger_id", 0)  # and once more, by the book
        assert plc.trigger(1)[1] == PASS
        assert plc.status["untaken_triggers"] == 0
    ids = ids_of(tmp_path)
    assert [each % IDS for each in ids] == [*plc_ids, 1, 1]
    assert ids == sorted(set(ids))


def test_a_block_that_is_read_in_parts_shows_two_ids(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with line_for_plc(tmp_path, package_path) as (_, port), Plc(port) as plc, Plc(port) as other:
        plc.begin()
        plc.trigger(1)
        first, code = plc.read(ADDRESSES["result_id"], 2)
        other.write("acked_id", 1)
        other.write("trigger_id", 2)
        until_s = monotonic() + 20
        while other.result[0] != 2:
            assert monotonic() < until_s
            plc.beat()
            sleep(0.02)
        _, again = plc.read(ADDRESSES["result_reason"], 2)
    assert (first, code, again) == (1, PASS, 2)  # the PLC's program rejects on first != again


def test_a_pass_is_not_shown_from_its_deadline_on_and_may_be_acknowledged_late(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with (
        line_for_plc(tmp_path, package_path, deadline_ms=1500) as (_, port),
        Plc(port) as plc,
        plc.beating(),
    ):
        plc.begin()
        seen = []
        for plc_id in range(1, 4):
            plc.write("trigger_id", plc_id)
            taken_s = monotonic()
            while (before_s := monotonic()) - taken_s < 1.8:
                shown = plc.result
                seen.append(shown[:2])
                assert not (shown[1] == PASS and before_s - taken_s >= 1.5), shown
                sleep(0.01)
            assert plc.result == (plc_id, 0, 9)  # none, by its deadline
            plc.write("acked_id", plc_id)
            assert plc.result == (0, 0, 0)
    assert {(1, PASS), (2, PASS), (3, PASS)} & set(seen)


@pytest.mark.parametrize("how", ["stands", "is gone"])
def test_a_plc_whose_heartbeat_is_lost_sees_no_pass(
    tmp_path: Path, nothing_is_left: None, package_path: Path, how: str
) -> None:
    with line_for_plc(tmp_path, package_path) as (_, port):
        with Plc(port) as plc:
            plc.begin()
            assert plc.trigger(1)[1] == PASS
            if how == "stands":
                until_s = monotonic() + PLC_SILENT_NS / 1e9
                while monotonic() < until_s:
                    plc.write("plc_heartbeat", plc.read(ADDRESSES["plc_heartbeat"], 1)[0])
                    sleep(0.02)
        if how == "is gone":
            sleep(PLC_SILENT_NS / 1e9)
        with Plc(port) as again:
            assert again.result == (0, 0, 0)
            assert again.status["handshake"] == HandshakeState.NO_PLC
            assert again.status["plc_losses"] == 1
            again.beat()
            again.write("trigger_id", 1)  # what its register held before it restarted
            assert again.status["handshake"] == HandshakeState.WANTS_ZERO
            again.begin()
            assert again.trigger(1)[1] == PASS
    assert [each % IDS for each in ids_of(tmp_path)] == [1, 1]


def shows_pass(plc: Plc) -> bool:
    """Whether a PLC could take this for a pass; one that reads nothing cannot."""
    try:
        return plc.result[1] == PASS
    except (ModbusException, OSError, AssertionError):
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_line_that_is_killed_or_hangs_shows_no_pass_within_half_a_second(
    tmp_path: Path, package_path: Path, number: signal.Signals
) -> None:
    with line_for_plc(tmp_path, package_path) as (line, port), Plc(port) as plc, plc.beating():
        plc.begin()
        assert plc.trigger(1)[1] == PASS
        workers = Path(f"/proc/{line.pid}/task/{line.pid}/children").read_text().split()
        line.send_signal(number)
        sent_s = monotonic()
        while (before_s := monotonic()) - sent_s < 3:
            shown = shows_pass(plc)
            assert not (shown and before_s - sent_s >= LINE_SILENT_NS / 1e9)
            sleep(0.005)
        if number is signal.SIGSTOP:
            status = plc.status
            sleep(0.3)
            assert plc.status["device_heartbeat"] == status["device_heartbeat"]
            assert (status["line_state"], status["line_losses"]) == (0, 1)
            line.send_signal(signal.SIGCONT)
            plc.wait_for("handshake", HandshakeState.READY)
            assert plc.result == (0, 0, 0)  # what was shown before does not come back
            assert plc.trigger(2)[1] == PASS
        else:
            until_s = monotonic() + 20
            while any(runs(pid) for pid in workers):
                assert monotonic() < until_s, "a process outlived the line"
                sleep(0.02)
            assert not listens(port)


def test_a_server_that_is_killed_is_started_again_wants_a_zero_and_gives_no_id_twice(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with line_for_plc(tmp_path, package_path) as (line, port):
        with Plc(port) as plc:
            plc.begin()
            assert plc.trigger(1)[1] == PASS
        first = server_of(line)
        os.kill(first, signal.SIGKILL)
        until_s = monotonic() + 20
        while server_of(line) in (0, first) or not listens(port):
            assert monotonic() < until_s
            sleep(0.05)
        with Plc(port) as plc:
            plc.beat()
            plc.wait_for("handshake", HandshakeState.WANTS_ZERO)
            plc.beat()
            plc.write("trigger_id", 1)  # its register, written in each cycle
            assert (plc.result, plc.status["accepted_id"]) == ((0, 0, 0), 0)
            plc.begin()
            assert plc.trigger(1)[1] == PASS
    first_id, second_id = ids_of(tmp_path)
    assert (first_id % IDS, second_id % IDS) == (1, 1)
    assert first_id < second_id


def runs(pid: str) -> bool:
    """Whether a process is there; one that is dead and that nobody has reaped yet is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_who_is_not_in_the_list_is_hung_up_on_and_counted(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with line_for_plc(tmp_path, package_path, allow="127.0.0.2") as (_, port):
        stranger = ModbusTcpClient("127.0.0.1", port=port, timeout=2, retries=0)
        with suppress(ModbusException, OSError):
            stranger.connect()
            answer = stranger.read_holding_registers(16, count=4)
            assert answer.isError()
        stranger.close()
        plc = ModbusTcpClient("127.0.0.1", port=port, source_address=("127.0.0.2", 0))
        try:
            assert plc.connect()
            refused = plc.read_holding_registers(ADDRESSES["refused_clients"], count=1)
            assert refused.registers[0] >= 1
        finally:
            plc.close()


def test_a_plc_that_polls_at_100_hz_and_others_that_hammer_make_no_verdict_late(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    is_over = threading.Event()
    polls: list[int] = []

    def hammer(port: int) -> None:
        with Plc(port) as client:
            while not is_over.is_set():
                assert client.status["map_version"] == 1

    with line_for_plc(tmp_path, package_path, deadline_ms=1000) as (_, port):
        others = [threading.Thread(target=hammer, args=(port,)) for _ in range(3)]
        for other in others:
            other.start()
        try:
            with Plc(port) as plc:
                plc.begin()
                plc_id, due_s, until_s = 0, monotonic(), monotonic() + 4
                while monotonic() < until_s:
                    polls.append(plc.result[0])
                    plc.beat()
                    if polls[-1] == plc_id:  # the last one is there
                        plc.write("acked_id", plc_id)
                        plc_id += 1
                        plc.write("trigger_id", plc_id)
                    due_s += 0.01
                    sleep(max(0.0, due_s - monotonic()))
                assert plc.status["untaken_triggers"] == 0
        finally:
            is_over.set()
            for other in others:
                other.join(30)
    records = verdicts(tmp_path / "out")
    assert len(polls) > 100
    assert len(records) > 20
    assert {each["reason"] for each in records} <= {"none", "defect"}
    assert [each["trigger_id"] % IDS for each in records] == list(range(1, len(records) + 1))


@pytest.fixture
def settings_path(tmp_path: Path, package_path: Path) -> Path:
    """Two recipes: one that passes all, one that fails all."""
    with Inspector.open(package_path, engine="onnxruntime-cpu") as inspector:
        runs_on = (inspector.engine_name, inspector.engine_sha256)
        fitted = [Fitted(Thresholds(at, 9999.0), *runs_on) for at in (9999.0, -9999.0)]
        passes, fails = fitted
        settings = DeviceSettings(
            inspector.package_id,
            {"fp32": passes},
            recipes={"steel": Recipe({"fp32": passes}), "brass": Recipe({"fp32": fails})},
        )
    SettingsStore(tmp_path / "settings.json").save(lambda _: settings)
    return tmp_path / "settings.json"


def test_a_plc_chooses_a_recipe_by_its_number_in_the_order_of_names(
    tmp_path: Path, nothing_is_left: None, package_path: Path, settings_path: Path
) -> None:
    more = ("--settings", str(settings_path), "--engine", "onnxruntime-cpu")
    with line_for_plc(tmp_path, package_path, *more) as (_, port), Plc(port) as plc, plc.beating():
        plc.begin()
        assert plc.status["recipes_crc"] == recipes_crc(["brass", "steel"])
        assert plc.trigger(1)[1] == PASS
        for plc_id, number in enumerate((1, 2, 1, GENERAL_SETTINGS), 2):
            plc.write("acked_id", plc_id - 1)
            plc.write("recipe", number)
            plc.wait_for("recipe_answer", number)
            assert (plc.trigger(plc_id)[1] == PASS) == (number != 1)
        with pytest.raises(AssertionError, match="exception_code=3"):
            plc.write("recipe", 3)
    recipes = [each["recipe"] for each in verdicts(tmp_path / "out")]
    assert recipes == [None, "brass", "steel", "brass", None]


def test_a_plc_s_parts_are_judged_by_its_recipe_whoever_gives_the_line_another(
    tmp_path: Path, nothing_is_left: None, package_path: Path, settings_path: Path
) -> None:
    more = ("--settings", str(settings_path), "--engine", "onnxruntime-cpu")
    with line_for_plc(tmp_path, package_path, *more) as (_, port), Plc(port) as plc, plc.beating():
        plc.begin()
        for plc_id, (number, other) in enumerate(((1, "steel"), (GENERAL_SETTINGS, "steel")), 1):
            plc.write("recipe", number)
            plc.wait_for("recipe_answer", number)
            with socket.socket(socket.AF_UNIX) as somebody:
                somebody.connect(str(tmp_path / "out" / "control.sock"))
                somebody.settimeout(10)
                somebody.sendall(f"recipe {other}\n".encode())
                assert somebody.recv(100) == f"recipe {other}\n".encode()
            assert plc.status["recipe_answer"] == number
            plc.trigger(plc_id)
            plc.write("acked_id", plc_id)
    assert [each["recipe"] for each in verdicts(tmp_path / "out")] == ["brass", None]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--modbus", "0.0.0.0:5020"), "name the PLC: --modbus-allow"),
        (("--modbus", "127.0.0.1:5020", "--modbus-allow", "0.0.0.0/0"), "that is everybody"),
        (("--modbus", "plc.local:5020"), "the address of one interface"),
        (("--modbus-allow", "10.0.0.0/8"), "add --modbus ADDRESS"),
    ],
)
def test_what_would_let_anybody_in_is_refused_before_anything_is_opened(
    tmp_path: Path, package_path: Path, options: tuple[str, ...], said: str
) -> None:
    with start_line(package_path, tmp_path / "out", "--trigger", "software", *options) as line:
        _, err = line.communicate(timeout=60)
    assert line.returncode == 2
    assert said in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_a_plc_without_triggers_is_refused(tmp_path: Path, package_path: Path) -> None:
    with start_line(package_path, tmp_path / "out", "--modbus", "127.0.0.1:5020") as line:
        _, err = line.communicate(timeout=60)
    assert line.returncode == 2
    assert "add --trigger software" in err


def test_a_port_that_is_taken_ends_the_run_before_anything_is_written(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        address = f"127.0.0.1:{other.getsockname()[1]}"
        more = ("--trigger", "software", "--modbus", address)
        with start_line(package_path, tmp_path / "out", *more) as line:
            _, err = line.communicate(timeout=60)
    assert line.returncode == 5
    assert "cannot be listened on" in err
    assert not (tmp_path / "out").exists()
