"""The processes beside a line that were asked for: each an outlet of its own."""

from __future__ import annotations

from collections.abc import Callable

from ssn_edge.line_request import LineRequest
from ssn_edge_runtime.line.options import TriggerKind
from ssn_edge_runtime.outlets.page.process import page_outlet
from ssn_edge_runtime.outlets.process import OutletProcess
from ssn_edge_runtime.server.line_server import line_server


def outlets_of(request: LineRequest, on_message: Callable[[str], None]) -> list[OutletProcess]:
    """What is to run beside the line, not yet open.

    Raises:
        ConfigError: An address that is none.
    """
    control = request.control_path
    outlets: list[OutletProcess] = []
    if request.listen is not None and control is not None:
        outlets.append(
            line_server(
                request.listen,
                control.absolute(),
                deadline_ms=request.deadline_ms,
                takes_triggers=request.line_options().trigger is TriggerKind.SOFTWARE,
                on_message=on_message,
            )
        )
    if request.page is not None and control is not None:
        outlets.append(
            page_outlet(
                request.page,
                control.absolute(),
                request.output.absolute(),
                request.package.absolute(),
                None if request.settings is None else request.settings.absolute(),
                deadline_ms=request.deadline_ms,
                on_message=on_message,
            )
        )
    return outlets
