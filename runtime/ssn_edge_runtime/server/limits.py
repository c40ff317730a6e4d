"""What the local server bounds, so that no client can take more than its share."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ssn_edge_runtime.errors import ConfigError

MAX_PIXELS = 1 << 25
"""Of a frame: 33.5 million, more than a line camera of 8192 pixels sees in 4096 lines."""
MAX_BODY_BYTES = 3 * MAX_PIXELS
"""A raw colour frame of that size; 96 MiB."""
MAX_DEADLINE_MS = 60_000


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of a server; memory is at most `waiting` + 1 frames of `max_pixels`.

    Args:
        connections: At once; one more is answered 503.
        waiting: Frames that wait for the engine while it has one; one more is answered 503.
        max_body_bytes: Of a request.
        max_pixels: Of a frame, also of one that is still encoded.
        deadline_ms: Of a request that names none.
        idle_s: How long a connection may lie idle or take to send a request's head.
        write_s: How long a client may take to receive an answer.
        drain_s: How long `close` waits for answers in hand.
        stuck_s: An engine that is in one call for longer makes the server unready.
    """

    connections: int = 32
    waiting: int = 4
    max_body_bytes: int = MAX_BODY_BYTES
    max_pixels: int = MAX_PIXELS
    deadline_ms: float = 10_000.0
    idle_s: float = 60.0
    write_s: float = 10.0
    drain_s: float = 10.0
    stuck_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse a bound that would let nothing through, or no bound at all."""
        for each in fields(self):
            value = getattr(self, each.name)
            if not 0 < value < float("inf") and (each.name, value) != ("waiting", 0):
                raise ConfigError(f"the server's limit {each.name} is {value}; it must be above 0")
        if self.deadline_ms > MAX_DEADLINE_MS:
            raise ConfigError(
                f"the server's deadline is {self.deadline_ms} ms; at most {MAX_DEADLINE_MS} is "
                "wanted"
            )
