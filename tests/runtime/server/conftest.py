"""Servers of the tiny package and of judges that a test holds in its hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.server import InspectionServer, ListenAddress, parse_listen

PASSED = Decision(Verdict.PASS, Reason.NONE, score=0.1, raw_score=-1.0, threshold=0.0)


class HeldJudge:
    """Answers with what it is given, once it is let go."""

    package_id = "ab" * 32
    precision = "fp32"
    engine_name = "held"
    engine_sha256 = "cd" * 32

    def __init__(self, answer: Any = PASSED, *, is_held: bool = True) -> None:
        self.answer = answer
        self.began = threading.Semaphore(0)
        self.calls = 0
        self.is_free = threading.Event()
        if not is_held:
            self.is_free.set()

    def inspect(self, frame: ByteImage) -> Decision:
        self.calls += 1
        self.began.release()
        assert self.is_free.wait(30.0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def inspector(package_path: Path) -> Iterator[Inspector]:
    """The tiny package on the real engine."""
    with Inspector.open(package_path, engine="onnxruntime-cpu", threads=1) as opened:
        yield opened


@pytest.fixture(params=["unix", "tcp"])
def listen(request: pytest.FixtureRequest, tmp_path: Path) -> ListenAddress:
    """Both ways to listen."""
    return parse_listen(f"unix:{tmp_path}/s.sock" if request.param == "unix" else "127.0.0.1:0")


@pytest.fixture
def unix(tmp_path: Path) -> ListenAddress:
    return parse_listen(f"unix:{tmp_path}/s.sock")


@pytest.fixture
def tcp() -> ListenAddress:
    return parse_listen("127.0.0.1:0")


@pytest.fixture
def serve() -> Iterator[Callable[..., InspectionServer]]:
    """Open a server that is closed at the test's end; a judge that is held is let go first."""
    with ExitStack() as opened:

        def make(judge: Any, address: ListenAddress, **options: Any) -> InspectionServer:
            server = opened.enter_context(InspectionServer(judge, address, **options))
            if isinstance(judge, HeldJudge):
                opened.callback(judge.is_free.set)
            return server

        yield make


@pytest.fixture
def held() -> type[HeldJudge]:
    return HeldJudge


@pytest.fixture(autouse=True, scope="module")
def no_thread_is_left(inspector: Inspector) -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert [thread for thread in threading.enumerate() if thread not in before] == []
