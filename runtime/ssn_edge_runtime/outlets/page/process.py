"""The page's own process beside a line: `python -m ssn_edge_runtime.outlets.page.process`.

Between both are the control socket, the journal's files, and memory that pictures are laid into.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import cv2

from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.outlets.page.access import Access
from ssn_edge_runtime.outlets.page.changes import Changes
from ssn_edge_runtime.outlets.page.endpoints import PageEndpoints
from ssn_edge_runtime.outlets.page.options import PageOptions
from ssn_edge_runtime.outlets.page.settings_signer import SettingsSigner
from ssn_edge_runtime.outlets.page.snapshot import LOOK_S, Watch
from ssn_edge_runtime.outlets.process import DRAIN_S, OutletProcess, begin_beside, tell
from ssn_edge_runtime.server.address import bind
from ssn_edge_runtime.server.http_server import HttpServer
from ssn_edge_runtime.server.limits import ServerLimits
from ssn_edge_runtime.server.line_client import LineClient
from ssn_edge_runtime.trust import Trust

MOST_CONNECTIONS = 128
"""Some twenty browsers, each with the six that it opens to begin with."""
LIMITS = ServerLimits(
    connections=MOST_CONNECTIONS, waiting=0, max_body_bytes=4096, idle_s=15.0, write_s=10.0,
    drain_s=DRAIN_S,
)  # fmt: skip


def page_outlet(
    options: PageOptions,
    control: Path,
    folder: Path,
    package: Path,
    settings: Path | None,
    *,
    deadline_ms: float,
    trust: Trust | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> OutletProcess:
    """The page's process beside a line, not yet open.

    Args:
        options: Where it is served, and to whom.
        control: The line's control socket.
        folder: Of the line's journal.
        package: That is judged with.
        settings: The settings in force, if any.
        deadline_ms: The line's.
        trust: Whom the line trusts; None where it takes settings that nobody signed.
        on_message: Told where it listens, and when it is gone for good.
    """
    arguments = ["--options", options.to_json(), "--control", str(control)]
    arguments += ["--folder", str(folder), "--package", str(package)]
    arguments += ["--deadline-ms", repr(deadline_ms)]
    arguments += [] if settings is None else ["--settings", str(settings)]
    arguments += [] if trust is None else ["--trust", json.dumps(trust.to_dict())]
    return OutletProcess(
        f"--page {options.listen}",
        "ssn_edge_runtime.outlets.page.process",
        arguments,
        what="the live page of the line",
        on_message=on_message,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(description="The live page of a line.")
    parser.add_argument("--options", required=True)
    for name in ("--control", "--folder", "--package"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--settings", type=Path)
    parser.add_argument("--deadline-ms", type=float, required=True)
    parser.add_argument("--trust", type=json.loads)
    given = parser.parse_args(arguments)
    stop = begin_beside()
    cv2.setNumThreads(1)  # the cores are the line's
    try:
        options = PageOptions.from_json(given.options)
        tls = options.tls()
        bound = bind(options.address)
        access = Access(options, bound.address.port)
        line = LineClient(given.control, deadline_ms=given.deadline_ms)
        trust = None if given.trust is None else Trust.from_dict(given.trust)
        signer = SettingsSigner(options.read_signing_key(), trust)
        watch = Watch(line, given.folder, given.settings, given.package, signer)
    except SsnEdgeError as error:
        tell(error=str(error))
        return error.exit_code
    endpoints = PageEndpoints(watch, access, Changes(watch), LIMITS)
    server = HttpServer(bound.listening, endpoints, tls=tls)
    server.start()
    scheme = "http" if tls is None else "https"
    tell(listens=f"{scheme}://{bound.address}/")
    try:
        while not stop.wait(LOOK_S):
            watch.look()
    finally:
        endpoints.is_stopping = True
        until_s = monotonic() + LIMITS.drain_s
        server.stop_accepting()
        bound.close()
        server.end_conversations(until_s)
        watch.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
