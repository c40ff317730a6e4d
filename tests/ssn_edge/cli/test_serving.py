"""`ssn-edge run --listen` as a process: what it says, answers, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime import DeviceSettings, Inspector, Thresholds
from ssn_edge_runtime.server import ListenAddress, parse_listen
from ssn_edge_runtime.settings import Fitted
from ssn_edge_runtime.settings_store import SettingsStore
from tests.runtime import conftest as runtime
from tests.runtime.server.clients import Client, ask, inspect


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "part.ssn"
    frames = (runtime._part(1), runtime._part(2, defect=True))
    write_package(
        path, *runtime._contents(runtime._manifest(), runtime._model().SerializeToString(), frames)
    )
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "ssn_edge", "run", *map(str, arguments)]


@contextmanager
def serving(listen: str, package: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command("--listen", listen, "--package", package, *options),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said_address(process: subprocess.Popen[str]) -> ListenAddress:
    """Where it says that it answers."""
    assert process.stderr is not None
    line = process.stderr.readline()
    address, colon, rest = line.rpartition(": answering with part.ssn (id ")
    assert colon, line
    assert "fp32 on onnxruntime-cpu" in rest
    return parse_listen(address)


def refusal(*arguments: str | Path) -> tuple[int, str]:
    answer = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=60
    )
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1, answer.stderr
    return answer.returncode, answer.stderr


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_it_serves_a_package_until_sigterm_and_prints_what_it_answered(
    package: Path, tmp_path: Path, kind: str
) -> None:
    listen = f"unix:{tmp_path}/s.sock" if kind == "unix" else "127.0.0.1:0"
    with serving(listen, package, "--json") as process:
        address = said_address(process)
        client = Client(address)
        assert inspect(client, runtime._part(11)).verdict == (200, "pass", "none")
        assert inspect(client, runtime._part(11, defect=True)).verdict == (200, "fail", "defect")
        assert ask(address, "GET", "/nowhere").status == 404
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=30)
        client.close()
    assert (process.returncode, stderr) == (0, "")
    counts = json.loads(stdout)
    assert counts["verdicts"] == {"pass": 1, "fail": 1, "unknown": 0}
    assert counts["refusals"] == {"404": 1}
    assert counts["latency_ms"]["total"]["count"] == 2
    assert list(tmp_path.iterdir()) == []


def test_a_killed_servers_socket_is_taken_over_and_a_running_ones_is_not(
    package: Path, tmp_path: Path
) -> None:
    listen = f"unix:{tmp_path}/s.sock"
    with serving(listen, package) as first:
        said_address(first)
        code, said = refusal("--listen", listen, "--package", package)
        assert code == 5
        assert "a server that runs listens there" in said
    assert (tmp_path / "s.sock").exists()
    with serving(listen, package) as second:
        address = said_address(second)
        assert ask(address, "GET", "/readyz").status == 200
        second.send_signal(signal.SIGINT)
        stdout, _ = second.communicate(timeout=30)
    assert second.returncode == 0
    assert stdout.startswith("answered: 0 pass, 0 fail, 0 unknown\n")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--listen", "0.0.0.0:8090"), 2, "other machines could reach"),
        (("--listen", "8090"), 2, "is wanted"),
        (("--listen", "127.0.0.1:0", "--max-frames", "3"), 2, "--max-frames is for a camera"),
        (("--listen", "unix:/nowhere/at/all.sock"), 5, "its folder must be there"),
        (("--listen", "127.0.0.1:0", "--precision", "fp64"), 2, "fp64"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_its_exit_code(
    package: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    found, said = refusal(*arguments, "--package", package)
    assert (found, says in said) == (code, True), said


def test_a_client_that_sends_frame_after_frame_loses_none_of_its_answers_at_sigterm(
    package: Path, tmp_path: Path
) -> None:
    listen = f"unix:{tmp_path}/s.sock"
    with serving(listen, package) as process:
        client = Client(said_address(process))
        frame = runtime._part(11)
        answered = 0
        for index in range(2000):
            if index == 20:
                process.send_signal(signal.SIGTERM)
            try:
                reply = inspect(client, frame)
            except OSError:  # closed between two frames
                break
            assert reply.verdict in ((200, "pass", "none"), (503, "unknown", "restart"))
            answered += reply.status == 200
            if reply.headers.get("Connection") == "close":
                break
            time.sleep(0.005)
        else:
            pytest.fail("it goes on after SIGTERM")
        client.close()
        stdout, _ = process.communicate(timeout=30)
    assert stdout.startswith(f"answered: {answered} pass, ")


def test_it_answers_with_this_devices_settings(package: Path, tmp_path: Path) -> None:
    with Inspector.open(package, engine="onnxruntime-cpu") as inspector:
        fitted = Fitted(Thresholds(-9.0, 2.0), inspector.engine_name, inspector.engine_sha256)
        settings = DeviceSettings(inspector.package_id, {"fp32": fitted})
    store = SettingsStore(tmp_path / "settings.json")
    store.save(lambda _: settings)
    with serving("127.0.0.1:0", package, "--settings", str(store.path)) as process:
        answer = inspect(said_address(process), runtime._part(1))
    assert answer.verdict == (200, "fail", "defect")


@pytest.mark.parametrize("option", ["--halt-after", "--key", "--sqlite", "--csv"])
def test_options_of_a_camera_are_refused(package: Path, option: str) -> None:
    code, text = refusal("--listen", "127.0.0.1:0", "--package", package, option, "3")
    assert code == 2
    assert f"{option} is for a camera" in text
