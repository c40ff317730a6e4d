"""The server in its own process: what it lets in, what it refuses, and what fuzzing does to it."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest
from pymodbus.client import ModbusTcpClient

from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import ConfigError, ListenError
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.outlets.modbus.address import parse_plc_address
from ssn_edge_runtime.outlets.modbus.epochs import RESERVED, Epochs
from ssn_edge_runtime.outlets.modbus.handshake import GiveTrigger, Handshake, Order
from ssn_edge_runtime.outlets.modbus.plc_server import plc_server
from ssn_edge_runtime.outlets.modbus.registers import (
    READABLE,
    REASON_NUMBERS,
    REGISTERS,
    STATE_NUMBERS,
    WRITABLE,
    HandshakeState,
    table_of_numbers,
    table_of_registers,
)
from ssn_edge_runtime.outlets.modbus.requests import Requests
from ssn_edge_runtime.outlets.modbus.server import LONGEST_REQUEST, MOST_CLIENTS
from tests.runtime.outlets.modbus.plc import PASS, Plc

ROOT = Path(__file__).parents[4]


class Line:
    """A control socket whose line executes and passes each part."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self.told: list[str] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            # Closing a file flushes it once more: whoever hung up must not end the whole line.
            with suppress(OSError):
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        with client, client.makefile("rw") as lines:
            for line in lines:
                words = line.split()
                if words[0] == "state":
                    lines.write('{"state":"ContinuousExecution"}\n')
                elif words[0] == "recipe":
                    lines.write(line)
                else:
                    self.told.append(line.strip())
                    lines.write(f"{words[1]} pass none 0x5AA5\n")
                lines.flush()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@contextmanager
def serving(
    folder: Path, *allow: str, deadline_ms: float = 500, listen: str = "127.0.0.1:0"
) -> Iterator[tuple[int, Line]]:
    """The server's process beside a line; its port."""
    said: list[str] = []
    line = Line(folder / "control")
    process = plc_server(
        listen, allow, folder / "control", deadline_ms=deadline_ms, folder=folder,
        on_message=said.append,
    )  # fmt: skip
    try:
        with process:
            yield int(said[0].partition(": ")[0].rpartition(":")[2]), line
    finally:
        line.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Line]]:
    with serving(tmp_path_factory.mktemp("s")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """In place of the rooms' own: the shared server's line has one."""


def exchange(port: int, frame: bytes) -> bytes:
    """What comes back for some bytes; nothing if it hangs up."""
    with socket.create_connection(("127.0.0.1", port), 5) as talk:
        talk.settimeout(5)
        talk.sendall(frame)
        with suppress(ConnectionError):
            return talk.recv(4096)
    return b""


def frame(request: bytes, *, protocol: int = 0, length: int | None = None) -> bytes:
    size = len(request) + 1 if length is None else length
    return b"\x12\x34" + protocol.to_bytes(2, "big") + size.to_bytes(2, "big") + b"\x01" + request


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        ("0600100001", 2),  # write a register that is only read
        ("0600040001", 2),  # one that is not there
        ("10000300020400010002", 2),  # the last writable one and the next
        ("100000000000", 3),
        ("1000000002020001", 3),  # fewer numbers than are announced
        ("06000200ff", 3),  # no such recipe
        ("0300000005", 2),  # a range that leaves the table
        ("0300100000", 3),
        ("030010007e", 3),
        ("03001000", 3),
        ("030010000101", 3),
        ("0500000000", 1),  # coils
        ("16000000000001", 1),  # mask write
        ("0800000000", 1),  # diagnostics
        ("2b0e0100", 1),  # device identification
        ("00", 1),
        ("ff", 1),
        ("170010000100100001020001", 2),  # read and write: what is written is refused
        ("170004000100000001020001", 2),  # what is read is refused: nothing is written
    ],
)
def test_what_is_not_in_the_table_is_refused(
    server: tuple[int, Line], request_: str, refusal: int
) -> None:
    request = bytes.fromhex(request_)
    before = registers_of(server[0])
    answer = exchange(server[0], frame(request))
    assert answer[:6] == b"\x12\x34\0\0\0\x03"
    assert answer[7:] == bytes([request[0] | 0x80, refusal])
    assert registers_of(server[0])[:4] == before[:4]


def registers_of(port: int) -> list[int]:
    with Plc(port) as plc:
        return [*plc.read(0, 4), *plc.status.values()]


def test_both_reading_functions_show_the_same_and_a_write_with_read_shows_what_it_wrote(
    server: tuple[int, Line],
) -> None:
    client = ModbusTcpClient("127.0.0.1", port=server[0])
    try:
        assert client.connect()
        client.write_registers(1, [11, 0, 12])
        assert client.read_input_registers(0, count=4).registers[1:] == [11, 0, 12]
        both = client.readwrite_registers(
            read_address=0, read_count=4, write_address=3, values=[13]
        )
        assert both.registers[1:] == [11, 0, 13]
    finally:
        client.close()


@pytest.mark.parametrize(
    "wrong",
    [
        frame(b"\x03\0\x10\0\x01", protocol=1),
        frame(b"\x03\0\x10\0\x01", length=0),
        frame(b"", length=1),
        frame(b"\x03" * 300, length=LONGEST_REQUEST + 2),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_no_modbus_is_hung_up_on(server: tuple[int, Line], wrong: bytes) -> None:
    assert exchange(server[0], wrong) == b""


def test_requests_that_come_in_one_go_or_byte_by_byte_are_answered_one_by_one(
    server: tuple[int, Line],
) -> None:
    one = frame(b"\x03\0\x10\0\x01")
    with socket.create_connection(("127.0.0.1", server[0]), 5) as talk:
        talk.sendall(one * 3)
        for byte in one:
            talk.sendall(bytes([byte]))
        talk.shutdown(socket.SHUT_WR)
        with talk.makefile("rb") as answers:
            assert answers.read() == (b"\x12\x34\0\0\0\x05\x01\x03\x02\0\x01") * 4


def test_more_clients_than_a_plant_has_are_refused_and_the_first_ones_are_not(
    server: tuple[int, Line],
) -> None:
    one = frame(b"\x03\0\x10\0\x01")
    sleep(0.2)
    talks = [socket.create_connection(("127.0.0.1", server[0]), 5) for _ in range(MOST_CLIENTS)]
    try:
        for talk in talks:
            talk.sendall(one)
            assert talk.recv(64)
        assert exchange(server[0], one) == b""
        talks[0].sendall(one)
        assert talks[0].recv(64)
    finally:
        for talk in talks:
            talk.close()


def test_only_the_ids_that_were_taken_are_given_to_the_line(tmp_path: Path) -> None:
    with serving(tmp_path) as (port, line), Plc(port) as plc:
        plc.begin()
        for plc_id in (5, 6, 5):
            assert plc.trigger(plc_id)[:2] == (plc_id, PASS)
            plc.write("acked_id", plc_id)
    ids = [int(each.split()[1]) for each in line.told]
    assert [each % 65536 for each in ids] == [5, 6, 5]
    assert ids == sorted(set(ids))


class Given:
    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.handshake = Handshake(deadline_ns=10**9, next_epoch=lambda: 1)
        self.handshake.line_said(LineState.CONTINUOUS_EXECUTION, 10**9)
        self.requests = Requests(self.handshake, self.orders.extend)


def test_one_request_may_carry_heartbeat_and_trigger(tmp_path: Path) -> None:
    given = Given()
    assert given.requests.answer(bytes.fromhex("1000000004080000000000000001"), 10**9)
    given.requests.answer(bytes.fromhex("1000000004080007000000000002"), 10**9)
    assert given.orders == [GiveTrigger(65536 + 7)]


def test_no_bytes_make_the_rules_fail_or_a_pass() -> None:
    random_ = random.Random(7)
    given = Given()
    for step in range(60_000):
        size = random_.choice([1, 2, 5, 5, 5, 6, 9, 12, 13, LONGEST_REQUEST])
        request = bytearray(random_.randbytes(size))
        if random_.random() < 0.7:
            request[0] = random_.choice([3, 4, 6, 16, 23])
        if random_.random() < 0.7 and size >= 5:
            request[1:5] = bytes([0, random_.randrange(40), 0, random_.randrange(6)])
        now_ns = 10**9 + step * 10**5
        if step % 1000 == 0:
            given.handshake.line_said(LineState.CONTINUOUS_EXECUTION, now_ns)
        answer = given.requests.answer(bytes(request), now_ns)
        assert 2 <= len(answer) <= LONGEST_REQUEST
        assert given.handshake.registers(now_ns)["result_code"] == 0
    assert given.orders  # some of them were triggers


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def server_of(folder: Path) -> int:
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread, or a process, that has just ended
            for pid in (task / "children").read_text().split():
                if str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
    raise AssertionError("no such process")


def fuzz(port: int, seed: int, until_s: float, served: list[int]) -> None:
    random_ = random.Random(seed)
    while monotonic() < until_s:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as talk:
            talk.settimeout(0.05)
            for _ in range(random_.randrange(1, 40)):
                request = random_.randbytes(random_.choice([1, 2, 5, 6, 9, 13, 60, 253]))
                what = random_.random()
                if what < 0.5:
                    codes = bytes([random_.choice([3, 4, 6, 16, 23, 5, 22, 43])])
                    data = frame(codes + bytes([0, random_.randrange(40), 0]) + request[:249])
                elif what < 0.7:
                    data = frame(request)
                elif what < 0.8:
                    data = frame(request, length=random_.randrange(65536))
                elif what < 0.9:
                    data = frame(request, protocol=random_.choice([0, 1, 65535]))
                else:
                    data = random_.randbytes(random_.randrange(1, 4096))
                talk.sendall(data)
                with suppress(TimeoutError):
                    served.append(len(talk.recv(4096)))


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(30, id="short", marks=pytest.mark.slow),
     pytest.param(600, id="long", marks=pytest.mark.soak)],
)  # fmt: skip
def test_fuzzed_it_neither_falls_nor_hangs_nor_grows_and_shows_no_pass(
    tmp_path: Path, seconds: int
) -> None:
    served: list[int] = []
    with serving(tmp_path, deadline_ms=100) as (port, _):
        pid = server_of(tmp_path)
        began_s = monotonic()
        fuzzers = [
            threading.Thread(target=fuzz, args=(port, seed, began_s + seconds, served))
            for seed in range(4)
        ]
        for each in fuzzers:
            each.start()
        sleep(seconds / 3)
        early_kib = peak_kib = resident_kib(pid)
        for each in fuzzers:
            while each.is_alive():
                each.join(1.0)
                peak_kib = max(peak_kib, resident_kib(pid))
        late_kib = resident_kib(pid)
        told = f"{len(served)} answers; {early_kib} KiB early, {late_kib} late, {peak_kib} at most"
        sys.stdout.write(f"fuzzed for {seconds} s: {told}\n")
        assert peak_kib < early_kib + 4096, told
        with Plc(port) as plc:
            assert plc.result[1] in (0, PASS)
            sleep(1.5)
            assert plc.result[1] != PASS
            plc.begin()
            assert plc.trigger(9)[:2] == (9, PASS)
    assert len(served) > 100


def test_each_number_stands_for_one_thing_and_each_reason_and_state_has_one() -> None:
    addresses = [each.address for each in REGISTERS]
    assert addresses == sorted(set(addresses))
    assert set(WRITABLE.values()) == {"trigger_id", "acked_id", "recipe", "plc_heartbeat"}
    handshake = Handshake(deadline_ns=1, next_epoch=lambda: 1)
    assert set(handshake.registers(0)) == set(READABLE.values())
    assert set(REASON_NUMBERS) == set(Reason)
    assert set(STATE_NUMBERS) == set(LineState)
    for numbers in (REASON_NUMBERS, STATE_NUMBERS):
        assert len(set(numbers.values())) == len(numbers)


def test_the_page_has_the_table_and_the_plc_s_program_the_addresses() -> None:
    page = (ROOT / "runtime" / "plc" / "README.md").read_text()
    assert table_of_registers() in page
    assert table_of_numbers() in page
    program = (ROOT / "runtime" / "plc" / "ssn_edge_handshake.st").read_text()
    for name in re.findall(r"\b(\d+: \w+)", program):
        number, _, register = name.partition(": ")
        assert READABLE[int(number)] == register, name
    said = {int(each) for each in re.findall(r"\b(\d+): \w+", program)}
    assert {16, 17, 19, 20, 21, 22, 23, 24, 25, 26} == said
    assert "ARRAY [0..16] OF UINT;  (* registers 16 to 32 *)" in program
    assert f"PASS_CODE : UINT := 16#{PASS:04X};" in program
    assert f"READY     : UINT := {HandshakeState.READY:d};" in program


@pytest.mark.parametrize(
    ("text", "allow", "said"),
    [
        ("", (), "the address of one interface"),
        ("192.168.10.5:0x1", ("10.0.0.1",), "a port"),
        ("192.168.10.5:70000", ("10.0.0.1",), "a port"),
        ("192.168.10.5:502", (), "name the PLC"),
        ("[::]:502", (), "name the PLC"),
        ("127.0.0.1", ("192.168.10.5/24",), "host bits set"),
        ("127.0.0.1:5020?", (), "nothing is no option"),
        ("127.0.0.1:5020?heartbeat=500", (), "heartbeat is no option of it; heartbeat_ms=500"),
        ("127.0.0.1:5020?heartbeat_ms", (), "100 to 10000 ms are wanted"),
        ("127.0.0.1:5020?heartbeat_ms=99", (), "100 to 10000 ms are wanted"),
        ("127.0.0.1:5020?heartbeat_ms=10001", (), "100 to 10000 ms are wanted"),
        ("127.0.0.1:5020?heartbeat_ms=-500", (), "100 to 10000 ms are wanted"),
        ("127.0.0.1:5020?heartbeat_ms=500&x=1", (), "100 to 10000 ms are wanted"),
        ("127.0.0.1:5020?heartbeat_ms=0.5", (), "100 to 10000 ms are wanted"),
    ],
)
def test_an_address_that_is_none_is_refused(text: str, allow: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_plc_address(text, allow)


@pytest.mark.parametrize(
    ("text", "heartbeat_ms"),
    [
        ("127.0.0.1:5020", 1000),
        ("127.0.0.1:5020?heartbeat_ms=1000", 1000),
        ("127.0.0.1:502?heartbeat_ms=100", 100),
        ("[::1]:5020?heartbeat_ms=10000", 10_000),
    ],
)
def test_an_address_may_say_when_a_plc_is_taken_for_lost(text: str, heartbeat_ms: int) -> None:
    at = parse_plc_address(text)
    assert at.heartbeat_ms == heartbeat_ms
    assert parse_plc_address(str(at)) == at


@pytest.mark.parametrize("heartbeat_ms", [300, 2500])
def test_a_plc_is_lost_after_the_time_of_the_address_and_not_before(
    tmp_path: Path, heartbeat_ms: int
) -> None:
    listen = f"127.0.0.1:0?heartbeat_ms={heartbeat_ms}"
    with serving(tmp_path, deadline_ms=60_000, listen=listen) as (port, _), Plc(port) as plc:
        plc.begin()
        plc.beat()
        plc.write("trigger_id", 1)
        beaten_s = monotonic()
        plc.beat()
        shown = []
        while (status := plc.status)["handshake"] == HandshakeState.READY:
            shown.append(plc.result[1])
            assert monotonic() - beaten_s < 30
        lost_after_s = monotonic() - beaten_s
        assert plc.result == (0, 0, 0)
    assert PASS in shown
    assert status["handshake"] == HandshakeState.NO_PLC
    assert lost_after_s >= heartbeat_ms / 1e3
    assert lost_after_s < heartbeat_ms / 1e3 + 2  # one request's time; the machine may be busy


def test_who_may_speak_is_told_by_address() -> None:
    at = parse_plc_address("0.0.0.0", ("192.168.10.0/24", "10.0.0.7"))
    assert (str(at), at.port) == ("0.0.0.0:502", 502)
    assert at.allows("192.168.10.20")
    assert at.allows("::ffff:10.0.0.7")
    assert not at.allows("10.0.0.8")
    assert not at.allows("nobody")
    assert parse_plc_address("[::1]:5020").allows("::1")


def test_a_number_is_given_once_also_by_processes_that_were_killed(tmp_path: Path) -> None:
    path = tmp_path / "modbus.json"
    seen = [Epochs(path).next() for _ in range(3)]
    epochs = Epochs(path)
    seen += [epochs.next() for _ in range(RESERVED + 2)]
    seen.append(Epochs(path).next())
    assert len(set(seen)) == len(seen)
    assert [each for each in seen if each is not None] == sorted(seen)  # type: ignore[type-var]
    path.write_text('{"next_epoch": -1}')
    with pytest.raises(ConfigError, match="does not say which ids"):
        Epochs(path)


def test_without_a_disk_no_number_is_given(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path / "none" / "modbus.json")
    (tmp_path / "none").write_text("")  # no folder any more
    assert epochs.next() is None


def test_a_file_of_ids_that_is_damaged_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "modbus.json").write_text("{")
    process = plc_server("127.0.0.1:0", (), tmp_path / "c", deadline_ms=1, folder=tmp_path)
    with pytest.raises(ListenError, match="does not say which ids"):
        process.open()
    process.close()


def test_without_pymodbus_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "pymodbus.py").write_text("raise ImportError('none here')\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ssn_edge_runtime.outlets.modbus.plc_server import main\n"
        "sys.exit(main(['127.0.0.1:0', '--control', 'c', '--deadline-ms', '1', '--epochs', 'e']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False,
        stdin=subprocess.PIPE, cwd=tmp_path, timeout=60, env=os.environ,
    )  # fmt: skip
    assert "ssn-edge[modbus]" in done.stdout
    assert done.returncode == 2


def test_a_server_ends_with_its_line_while_clients_hammer(tmp_path: Path) -> None:
    said: list[str] = []
    line = Line(tmp_path / "control")
    process = plc_server(
        "127.0.0.1:0", (), tmp_path / "control", deadline_ms=500, folder=tmp_path,
        on_message=said.append,
    )  # fmt: skip
    process.open()
    port = int(said[0].partition(": ")[0].rpartition(":")[2])

    def hammer() -> None:
        with suppress(Exception), Plc(port) as plc:
            while True:
                plc.beat()

    clients = [threading.Thread(target=hammer) for _ in range(4)]
    try:
        for client in clients:
            client.start()
        sleep(0.7)
        ended = process._process
        assert ended is not None
    finally:
        process.close()
        line.close()
        for client in clients:
            client.join(30)
    assert ended.returncode == 0  # by itself: it was not killed
