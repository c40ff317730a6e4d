"""`ssn-edge run --device ... --listen ...`: HTTP triggers, by a process beside the line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import jsonschema
import pytest
from test_command import start_line, wait_until_judging
from test_ends import verdicts

from ssn_edge_runtime.decision import Reason
from ssn_edge_runtime.errors import ListenError
from ssn_edge_runtime.server import ListenAddress, Refusal, parse_listen
from ssn_edge_runtime.server.line_client import LineClient
from ssn_edge_runtime.server.line_server import line_server
from tests.runtime.server.clients import Reply, ask, connect

JSON = {"Content-Type": "application/json"}


@contextmanager
def listening(
    folder: Path, package: Path, *more: str
) -> Iterator[tuple[subprocess.Popen[str], ListenAddress]]:
    """A line with its server; ended in order."""
    listen = f"unix:{folder}/http.sock"
    with start_line(package, folder / "out", "--listen", listen, "--keep", "none", *more) as line:
        try:
            wait_until_judging(line)
            yield line, parse_listen(listen)
            line.send_signal(signal.SIGTERM)
            _, err = line.communicate(timeout=30)
            assert line.returncode == 0, err
        finally:
            line.kill()


def pull(address: ListenAddress, **document: object) -> Reply:
    return ask(address, "POST", "/v1/trigger", json.dumps(document).encode(), JSON)


def test_a_trigger_over_http_is_answered_with_the_line_s_verdict(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    more = ("--trigger", "software", "--deadline-ms", "5000")
    with listening(tmp_path, package_path, *more) as (_, address):
        reply = pull(address, trigger_id=7, part_id="part-a")
        assert reply.status == 200
        again = pull(address, trigger_id=7)
        wrong = pull(address, trigger_id=8, camera="nowhere")
        state, ready = ask(address, "GET", "/v1/state"), ask(address, "GET", "/readyz")
        description = ask(address, "GET", "/openapi.json").body
        assert ask(address, "POST", "/v1/inspect", b"").status == 404
    (record,) = verdicts(tmp_path / "out")
    assert (record["trigger_id"], record["part_id"]) == (7, "part-a")
    assert reply.verdict == (200, record["verdict"], record["reason"])
    assert again.verdict == reply.verdict
    assert wrong.verdict == (422, "unknown", "no_frame")
    assert "there is no camera nowhere" in wrong.body["detail"]
    assert state.body["state"] == state.body["line"]["state"] == "ContinuousExecution"
    assert state.body["line"]["last"]["trigger_id"] == 7
    assert state.body["verdicts"][reply.body["verdict"]] == 2
    assert ready.status == 200
    components = description["components"]
    for name, of in (("TriggerReply", reply), ("Refusal", wrong), ("State", state)):
        reference = {"$ref": f"#/components/schemas/{name}", "components": components}
        jsonschema.validate(of.body, reference)
    assert not (tmp_path / "http.sock").exists()


def test_a_line_without_triggers_shows_its_state_alone(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with listening(tmp_path, package_path) as (_, address):
        assert ask(address, "GET", "/readyz").status == 200
        assert pull(address, trigger_id=7).status == 404


def server_of(line: subprocess.Popen[str]) -> int:
    """The process of the server among the line's."""
    for pid in Path(f"/proc/{line.pid}/task/{line.pid}/children").read_text().split():
        with suppress(OSError):
            if b"line_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return 0


def test_a_server_that_dies_is_started_again(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    more = ("--trigger", "software", "--deadline-ms", "5000")
    with listening(tmp_path, package_path, *more) as (line, address):
        first = server_of(line)
        os.kill(first, signal.SIGKILL)
        until_s = monotonic() + 20
        while server_of(line) in (0, first) or not answers(address):
            assert monotonic() < until_s
            sleep(0.05)
        assert pull(address, trigger_id=1).status == 200
    assert [each["trigger_id"] for each in verdicts(tmp_path / "out")] == [1]


def test_a_server_ends_when_its_line_is_killed(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    more = ("--listen", f"unix:{tmp_path}/http.sock", "--keep", "none")
    with start_line(package_path, tmp_path / "out", *more) as line:
        wait_until_judging(line)
        server = server_of(line)
        assert server
        line.kill()
    until_s = monotonic() + 10
    while Path(f"/proc/{server}").exists():
        assert monotonic() < until_s
        sleep(0.01)


def answers(address: ListenAddress) -> bool:
    try:
        return ask(address, "GET", "/healthz").status == 200
    except OSError:
        return False


def nonsense(address: ListenAddress) -> None:
    with connect(address) as connection:
        connection.sendall(os.urandom(4096) + b"\r\n\r\n")
        connection.recv(4096)


def stall(address: ListenAddress) -> None:
    with connect(address) as connection:
        connection.sendall(b"POST /v1/trigger HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n{")
        sleep(0.5)


def hammer(address: ListenAddress) -> None:
    ask(address, "GET", "/v1/state")
    ask(address, "GET", "/readyz")


def repeat(address: ListenAddress) -> None:
    pull(address, trigger_id=60_000)


def test_clients_that_send_nonsense_stall_or_hammer_make_no_verdict_late(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    more = ("--trigger", "software", "--deadline-ms", "1000")
    is_over = threading.Event()

    def do(what: Callable[[ListenAddress], None], address: ListenAddress) -> None:
        while not is_over.is_set():
            with suppress(OSError, ValueError, AssertionError):
                what(address)

    told: list[str] = []
    with listening(tmp_path, package_path, *more) as (_, address):
        repeat(address)  # from now on it makes no part
        clients = [
            threading.Thread(target=do, args=(what, address))
            for what in (nonsense, stall, hammer, repeat) for _ in range(5)
        ]  # fmt: skip
        try:
            for client in clients:
                client.start()
            with socket.socket(socket.AF_UNIX) as talk:
                talk.settimeout(10)
                talk.connect(str(tmp_path / "out" / "control.sock"))
                lines = talk.makefile("rw")
                until_s = monotonic() + 4
                while monotonic() < until_s:
                    lines.write(f"trigger {len(told) + 1}\n")
                    lines.flush()
                    told.append(lines.readline())
                lines.close()
        finally:
            is_over.set()
            for client in clients:
                client.join(30)
    assert len(told) > 20
    reasons = {line.split()[2] for line in told}
    assert reasons <= {"none", "defect"}, reasons
    records = verdicts(tmp_path / "out")
    assert [each["trigger_id"] for each in records if each["trigger_id"] != 60_000] == list(
        range(1, len(told) + 1)
    )


def test_an_address_that_is_taken_ends_the_run_before_anything_is_written(
    tmp_path: Path, nothing_is_left: None, package_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "http.sock"))
        other.listen(1)
        more = ("--listen", f"unix:{tmp_path}/http.sock")
        with start_line(package_path, tmp_path / "out", *more) as line:
            _, err = line.communicate(timeout=30)
    assert line.returncode == 5
    assert "a server that runs listens there" in err
    assert not (tmp_path / "out").exists()


class Line:
    """Says what it is told to each client of its control socket."""

    def __init__(self, path: Path, answer: bytes, *, after_s: float = 0.0) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._answer, self._after_s = answer, after_s
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.recv(4096)
                sleep(self._after_s)
                client.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.mark.parametrize(
    ("answer", "after_s", "status", "reason"),
    [
        (b"7 pass none 0x5AA5\n", 0.2, 504, Reason.DEADLINE),
        (b"8 pass none 0x5AA5\n", 0.0, 500, Reason.INVALID_OUTPUT),
        (b"7 pass none", 0.0, 503, Reason.RESTART),
        (b"7 good none 0x5AA5\n", 0.0, 500, Reason.INVALID_OUTPUT),
        (b"7 pass none 0xA55A\n", 0.0, 500, Reason.INVALID_OUTPUT),
        (b"7 none the_line_is_Halted 0x0000\n", 0.0, 503, Reason.MISSED_TRIGGER),
        (b"", 0.0, 503, Reason.RESTART),
        (b"\xff\xff\n", 0.0, 500, Reason.INVALID_OUTPUT),
        (b"7 pass none 0x5AA5\n", 1.0, 504, Reason.DEADLINE),
    ],
)
def test_what_is_no_timely_pass_of_this_trigger_is_none(
    tmp_path: Path, answer: bytes, after_s: float, status: int, reason: Reason
) -> None:
    line = Line(tmp_path / "c", answer, after_s=after_s)
    try:
        with pytest.raises(Refusal) as caught:
            LineClient(tmp_path / "c", deadline_ms=100).trigger(7, None, None)
    finally:
        line.close()
    assert (caught.value.status, caught.value.reason) == (status, reason)


@pytest.mark.parametrize("part_id", ["%steel", "@left", "a b", "a\ntrigger 8", "", "\u00e4"])
def test_a_part_s_name_is_never_taken_for_a_camera_a_recipe_or_another_trigger(
    tmp_path: Path, part_id: str
) -> None:
    line = Line(tmp_path / "c", b"7 pass none 0x5AA5\n")
    try:
        with pytest.raises(Refusal) as caught:
            LineClient(tmp_path / "c", deadline_ms=5000).trigger(7, part_id, None)
    finally:
        line.close()
    assert caught.value.status == 422


def test_the_state_is_asked_for_a_few_times_a_second_however_many_want_it(tmp_path: Path) -> None:
    line = Line(tmp_path / "c", b'{"state":"Ready"}\n')
    asked = 0
    client = LineClient(tmp_path / "c", deadline_ms=100)
    original: Any = client._ask_state

    def counted() -> Any:
        nonlocal asked
        asked += 1
        return original()

    client._ask_state = counted  # type: ignore[method-assign]
    try:
        for _ in range(200):
            assert client.state() == {"state": "Ready"}
    finally:
        line.close()
    assert asked <= 3


def test_a_server_whose_process_does_not_begin_is_a_listen_error(tmp_path: Path) -> None:
    process = line_server(
        f"unix:{tmp_path}/none/x.sock", tmp_path / "c", deadline_ms=1, takes_triggers=True
    )
    with pytest.raises(ListenError, match="its folder must be there"):
        process.open()
