"""A package behind the local server: what `ssn-edge run --listen` does, callable from Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.errors import EngineError
from ssn_edge_runtime.server import InspectionServer, ServerLimits, parse_listen
from ssn_edge_runtime.trust import Trust


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """What a server of verdicts is asked for.

    Args:
        listen: ``unix:/run/ssn-edge.sock``, or a loopback address and port.
        package: The model package.
        engine: ``auto``, or a name of `ssn_edge_runtime.engines.ENGINES`.
        precision: ``auto``, ``fp32``, ``fp16`` or ``int8``.
        settings: This device's settings; None for the package's own thresholds.
        recipe: Which of their recipes.
        trust: Who must have signed package and settings; None takes them signed or not.
    """

    listen: str
    package: Path
    engine: str = "auto"
    precision: str = "auto"
    settings: Path | None = None
    recipe: str | None = None
    trust: Trust | None = None


def serve_package(
    request: ServeRequest,
    *,
    stop: threading.Event,
    limits: ServerLimits | None = None,
    on_message: Callable[[str], None] = lambda message: None,
) -> Mapping[str, object]:
    """Judge the frames that local clients send, until `stop` is set; answer those in hand first.

    Args:
        request: What to serve, and where.
        stop: Ends it; set it from a signal handler.
        limits: What is bounded.
        on_message: Told in a line once frames are answered.

    Returns:
        What was answered: verdicts, refusals and latencies, as JSON has them.

    Raises:
        ConfigError: An address that is none or that other machines could reach; no such engine.
        ListenError: It cannot be listened on.
        PackageError: Not a whole, unchanged package.
        EngineError: The engine cannot run here, has no device certificate, or does not return from
            a call at the end.
        CertificateError: It fails the self-test.
    """
    address = parse_listen(request.listen)
    inspector = Inspector.open(
        request.package,
        engine=request.engine,
        precision=request.precision,
        settings=request.settings,
        recipe=request.recipe,
        trust=request.trust,
    )
    server = InspectionServer(inspector, address, limits=limits)
    try:
        with server:
            on_message(
                f"{server.address}: answering with {request.package.name} "
                f"(id {inspector.package_id[:16]}, {inspector.precision} on "
                f"{inspector.engine_name})"
            )
            stop.wait()
    finally:
        # Closing an inspector waits for its call; one that hangs must not hang the end as well.
        if not server.is_stuck:
            inspector.close()
    if server.is_stuck:
        raise EngineError(
            f"{inspector.engine_name} did not return from its last call; see what the driver logged"
        )
    return server.counts()
