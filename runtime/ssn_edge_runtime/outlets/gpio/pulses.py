"""When a wire is active: pulses that end by themselves, and never two in one. No clock, no chip."""

from __future__ import annotations

from typing import Protocol


class Wire(Protocol):
    """One output."""

    def drive(self, *, is_active: bool) -> None:
        """Make it active or not.

        Raises:
            OSError: It cannot be driven.
        """
        ...


class Pulses:
    """The pulses of one wire; idle is inactive.

    Args:
        wire: Inactive.
        pulse_ns: How long each is at most.
    """

    def __init__(self, wire: Wire, pulse_ns: int) -> None:
        self._wire = wire
        self._pulse_ns = pulse_ns
        self._end_ns: int | None = None
        self.given = 0
        self.late = 0
        """Asked for when their time was over: none was given."""
        self.merged = 0
        """Asked for while another lasted: who counts edges would have missed them, so none was."""

    @property
    def end_ns(self) -> int | None:
        """When the pulse that lasts is to end."""
        return self._end_ns

    def give(self, until_ns: int, now_ns: int) -> None:
        """Begin a pulse.

        Args:
            until_ns: It lasts no longer than until then.
            now_ns: Now.

        Raises:
            OSError: The wire cannot be driven.
        """
        self.tick(now_ns)
        if now_ns >= until_ns:
            self.late += 1
        elif self._end_ns is not None:
            self.merged += 1
        else:
            self._end_ns = min(until_ns, now_ns + self._pulse_ns)
            self.given += 1
            self._wire.drive(is_active=True)

    def tick(self, now_ns: int) -> None:
        """End the pulse whose time is over.

        Raises:
            OSError: The wire cannot be driven.
        """
        if self._end_ns is not None and now_ns >= self._end_ns:
            self._wire.drive(is_active=False)
            self._end_ns = None
