"""The C controller compiles without a warning, and lets nothing through but an explicit pass."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.server import InspectionServer, parse_listen
from tests.runtime.server.conftest import HeldJudge

SOURCE = Path(__file__).parents[3] / "runtime" / "examples" / "controller.c"
Part = Callable[..., ByteImage]
Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) here")
    path = tmp_path_factory.mktemp("controller") / "controller"
    subprocess.run(
        [compiler, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", SOURCE, "-o", path],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


@pytest.fixture
def ask(program: Path, path: Path, tmp_path: Path) -> Ask:
    """Have the controller ask for a frame's verdict."""

    def run(frame: ByteImage, timeout_ms: int = 20_000) -> subprocess.CompletedProcess[str]:
        raw = tmp_path / "frame.raw"
        raw.write_bytes(frame.tobytes())
        height, width = frame.shape[:2]
        channels = 1 if frame.ndim == 2 else 3
        values = (path, raw, height, width, channels, timeout_ms)
        return subprocess.run(
            [program, *map(str, values)], capture_output=True, text=True, check=False, timeout=60
        )

    return run


def test_it_passes_a_good_part_and_rejects_a_bad_one_and_no_picture_of_one(
    ask: Ask, path: Path, package_path: Path, part: Part
) -> None:
    with (
        Inspector.open(package_path, engine="onnxruntime-cpu", threads=1) as inspector,
        InspectionServer(inspector, parse_listen(f"unix:{path}")),
    ):
        good = ask(part(11))
        assert (good.returncode, good.stdout) == (0, "pass\n")
        mono = ask(np.ascontiguousarray(part(11)[:, :, 1]))
        assert (mono.returncode, mono.stdout) == (0, "pass\n")
        bad = ask(part(11, defect=True))
        assert bad.returncode == 1
        assert '"verdict": "fail"' in bad.stdout
        black = ask(np.zeros((96, 128, 3), np.uint8))
        assert black.returncode == 1
        assert '"reason": "bad_exposure"' in black.stdout


def test_a_server_that_is_not_there_or_dead_is_a_reject(ask: Ask, path: Path, part: Part) -> None:
    for _ in range(2):
        answer = ask(part(11))
        assert (answer.returncode, answer.stdout) == (1, "reject: no answer in time\n")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))


def test_a_server_that_is_slow_is_a_reject_within_the_limit(
    ask: Ask, path: Path, part: Part
) -> None:
    judge = HeldJudge()
    with InspectionServer(judge, parse_listen(f"unix:{path}")):
        began = time.monotonic()
        answer = ask(part(11), timeout_ms=300)
        assert time.monotonic() - began < 10
        assert answer.returncode == 1
        assert answer.stdout.startswith("reject: ")
        judge.is_free.set()
        assert ask(part(11)).returncode == 0


def test_a_server_that_stops_answering_altogether_is_a_reject_within_the_limit(
    ask: Ask, path: Path, part: Part
) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        began = time.monotonic()
        answer = ask(part(11), timeout_ms=300)
        assert time.monotonic() - began < 10
    assert (answer.returncode, answer.stdout) == (1, "reject: no answer in time\n")


def reply(body: str, *, status: str = "200 OK", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}".encode()


PASS = '{"verdict": "pass", "verdict_code": 23205, "part_id": "PART"}'


@contextmanager
def saying(path: Path, answer: bytes, *, pause_s: float = 0.0) -> Iterator[None]:
    """A server that says the same to everybody; PART becomes the part's id."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(20)

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(20)
                asked = b""
                while b"\r\n\r\n" not in asked or len(asked.partition(b"\r\n\r\n")[2]) < 192:
                    asked += connection.recv(65536)
                part_id = asked.partition(b"part_id=")[2].partition(b"&")[0]
                assert part_id.startswith(b"part")
                said = answer.replace(b"PART", part_id)
                said = said.replace(b"LENGTH", str(len(said.partition(b"\r\n\r\n")[2])).encode())
                for place in range(0, len(said), max(1, len(said) if not pause_s else 5)):
                    connection.sendall(said[place : place + (5 if pause_s else len(said))])
                    time.sleep(pause_s)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join()


FRAME = np.full((8, 8, 3), 100, np.uint8)
SOUND = reply(PASS).replace(b"Content-Length: 61", b"Content-Length: LENGTH")


def test_the_stand_in_of_a_server_can_say_pass(ask: Ask, path: Path) -> None:
    with saying(path, SOUND):
        assert ask(FRAME).returncode == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"pass",
        SOUND[:-1],
        SOUND[:40],
        SOUND.replace(b"LENGTH", b"LENGTH0"),
        SOUND.replace(b"200 OK", b"500 Internal Server Error"),
        SOUND.replace(b"200 OK", b"202 Accepted"),
        SOUND.replace(b"HTTP/1.1", b"HTTP/9.9"),
        SOUND.replace(b"23205", b"42330"),
        SOUND.replace(b"23205", b"232050"),
        SOUND.replace(b"23205", b"0"),
        SOUND.replace(b"PART", b"part0"),
        SOUND.replace(b"LENGTH", b"999999"),
        SOUND.replace(b"Content-Length: LENGTH", b"X: y"),
        reply('{"detail": "\\"verdict_code\\": 23205, \\"part_id\\": \\"PART\\"", "x": 1}'),
        reply(PASS + "\0" * 10),
        SOUND + b"x" * (1 << 21),
    ],
    ids=range(17),
)
def test_an_answer_that_is_not_wholly_a_pass_of_this_part_is_a_reject(
    ask: Ask, path: Path, answer: bytes
) -> None:
    with saying(path, answer):
        assert ask(FRAME).returncode == 1


def test_a_pass_that_drips_in_after_the_limit_is_a_reject(ask: Ask, path: Path) -> None:
    with saying(path, SOUND, pause_s=0.05):
        answer = ask(FRAME, timeout_ms=200)
    assert (answer.returncode, answer.stdout) == (1, "reject: no answer in time\n")


@pytest.mark.parametrize(
    "values", [(), ("s", "f", "0", "8", "3", "100"), ("s", "f", "8", "8", "2", "100"), ("a",) * 9]
)
def test_a_wrong_call_is_code_2(program: Path, values: tuple[str, ...]) -> None:
    answer = subprocess.run([program, *values], capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert answer.stdout == ""


def test_a_file_that_holds_another_frame_is_a_reject(program: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(193))
    for name in ("f", "none"):
        values = ("none.sock", str(tmp_path / name), "8", "8", "3", "100")
        answer = subprocess.run([program, *values], capture_output=True, text=True, check=False)
        assert answer.returncode == 1
        assert answer.stdout.startswith("reject: ")
