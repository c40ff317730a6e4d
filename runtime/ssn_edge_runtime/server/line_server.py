"""The local server of a guarded line, in a process of its own.

Between both is the control socket alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.outlets.process import DRAIN_S, OutletProcess, begin_beside
from ssn_edge_runtime.outlets.seldom import log_seldom
from ssn_edge_runtime.outlets.words import tell
from ssn_edge_runtime.server.address import parse_listen
from ssn_edge_runtime.server.inspection_server import InspectionServer
from ssn_edge_runtime.server.limits import ServerLimits
from ssn_edge_runtime.server.line_client import LineClient


def line_server(
    listen: str,
    control: Path,
    *,
    deadline_ms: float,
    takes_triggers: bool,
    on_message: Callable[[str], None] = lambda message: None,
) -> OutletProcess:
    """The server's process beside a line, not yet open.

    Args:
        listen: Where it listens, as `parse_listen` reads it.
        control: The line's control socket; asked once there is a request.
        deadline_ms: The line's.
        takes_triggers: Whether the line does.
        on_message: Told where it listens, and when it is gone for good.

    Raises:
        ConfigError: No address, or one that is not of this machine.
    """
    parse_listen(listen)  # what is no address is said before a process is begun
    arguments = [listen, "--control", str(control), "--deadline-ms", repr(deadline_ms)]
    arguments += ["--takes-triggers"] if takes_triggers else []
    module = "ssn_edge_runtime.server.line_server"
    what = "answering for the line"
    return OutletProcess(
        listen, module, arguments, what=what, outlet="listen", on_message=on_message
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ssn_edge_runtime.server.line_server",
        description="Answer local programs for a line that takes its control socket's words.",
    )
    parser.add_argument("listen", help="unix:PATH, or a loopback address and port")
    parser.add_argument("--control", type=Path, required=True, help="the line's control socket")
    parser.add_argument("--deadline-ms", type=float, required=True, help="the line's deadline")
    parser.add_argument("--takes-triggers", action="store_true", help="the line takes triggers")
    options = parser.parse_args(arguments)
    stop = begin_beside()
    log_seldom("listen")
    line = LineClient(options.control, deadline_ms=options.deadline_ms)
    try:
        with InspectionServer(
            None,
            parse_listen(options.listen),
            limits=ServerLimits(drain_s=DRAIN_S),
            trigger=line.trigger if options.takes_triggers else None,
            status=line.state,
        ) as server:
            tell(listens=str(server.address))
            stop.wait()
    except SsnEdgeError as error:
        tell(error=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
