"""A real line with its page, and clients of it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from simulated_line import read_lines

CAMERA = "test:?fps=20&width=320&height=240&defect_every=5"
TIMEOUT_S = 60.0


@dataclass
class Reply:
    status: int
    data: bytes
    headers: Mapping[str, str]

    @property
    def body(self) -> Any:
        return json.loads(self.data)


@dataclass
class PageLine:
    """A line that runs, and where its page is."""

    process: subprocess.Popen[str]
    port: int
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        document: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            body = None if document is None else json.dumps(document)
            given = {"Content-Type": "application/json"} if body else {}
            client.request(method, path, body, given | dict(headers or {}))
            answer = client.getresponse()
            return Reply(answer.status, answer.read(), dict(answer.headers))
        finally:
            client.close()

    def snapshot(self) -> Any:
        return self.ask("GET", "/api/snapshot").body

    def wait_for(self, is_so: Any) -> Any:
        """The first snapshot of which something holds."""
        until_s = monotonic() + TIMEOUT_S
        while True:
            seen = self.snapshot()
            if seen.get("line") and is_so(seen):
                return seen
            assert monotonic() < until_s, seen
            sleep(0.1)

    def records(self) -> list[dict[str, Any]]:
        return read_lines(self.output, is_running=True)

    def log_in(self, token: str) -> dict[str, str]:
        """Headers of somebody who is logged in."""
        origin = {"Origin": self.url}
        reply = self.ask("POST", "/api/login", {"token": token}, origin)
        assert reply.status == 200, reply.data
        cookie = reply.headers["Set-Cookie"].partition(";")[0]
        return origin | {"Cookie": cookie, "X-CSRF-Token": reply.body["csrf"]}


@contextmanager
def line_with_page(
    folder: Path, package: Path, *more: str, device: str = CAMERA
) -> Iterator[PageLine]:
    """Ended in order: all verdicts are delivered, and nothing went wrong."""
    command = [sys.executable, "-c", "from ssn_edge.cli import main; main()", "run"]
    command += ["--device", device, "--package", str(package), "--output", str(folder / "out")]
    command += ["--engine", "onnxruntime-cpu", "--page", "0", "--json", *more]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
        cwd=folder,
    )
    try:
        port = None
        assert process.stderr is not None
        said = []
        for text in process.stderr:
            said.append(text)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", text):
                port = int(found[1])
            if "judging with" in text:
                break
        assert port is not None, "".join(said)
        yield PageLine(process, port, folder / "out")
        assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
