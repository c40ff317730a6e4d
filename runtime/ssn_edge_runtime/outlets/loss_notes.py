"""When a lost peer is worth an event: at once, and then once a minute with what was left out. Pure.

The same rule whatever was lost: a broker, a PLC's heartbeat, the outlet's own process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ssn_edge_runtime.outlets.seldom import EVERY_S, Seldom
from ssn_edge_runtime.outlets.words import PeerReport
from ssn_edge_runtime.record import EventKind, Scalar

Note = tuple[EventKind, Mapping[str, Scalar]]


class LossNotes:
    """The events of one peer of one outlet.

    A loss and its end are told at once. From then on for `every_s`, another loss is only counted;
    after it, the next event stands for all of them. So there are at most two events of losses
    within that time, and one of messages that were left out, whatever the peer or its outlet does.

    Args:
        outlet: Such as ``mqtt``.
        peer: Which one, without secrets.
        what: ``peer``, or ``process``: the outlet's own.
        every_s: In seconds.
    """

    def __init__(self, outlet: str, peer: str, what: str, *, every_s: float = EVERY_S) -> None:
        self._whose: dict[str, Scalar] = {"outlet": outlet, "what": what, "peer": peer}
        self._last = PeerReport()
        self._losses = Seldom(every_s)
        self._away_ms = 0  # of the losses that are untold
        self._left_out = Seldom(every_s)
        self._refused = 0  # of those that are untold
        self._dropped_away = 0
        self._is_told_lost = False

    def see(self, report: PeerReport) -> None:
        """Take what is known now; counts that went back are taken as standing still."""
        last = self._last
        dropped = max(0, report.dropped - last.dropped)
        refused = max(0, report.refused - last.refused)
        self._losses.untold += max(0, report.losses - last.losses)
        self._away_ms += max(0, report.away_ms - last.away_ms)
        self._left_out.untold += dropped + refused
        self._refused += refused
        self._dropped_away += dropped
        self._last = report

    def begin_again(self) -> None:
        """The process that counts is another one: its counts begin at 0."""
        last = self._last
        self._last = PeerReport(is_lost=last.is_lost, cause=last.cause)

    def notes(self, now_s: float) -> Iterator[Note]:
        """The events that are due.

        Args:
            now_s: Monotonic, in seconds.
        """
        is_lost, is_free = self._last.is_lost, self._losses.is_free(now_s)
        if is_lost and is_free and (self._losses.untold or not self._is_told_lost):
            self._is_told_lost = True
            self._dropped_away = 0
            cause = {"cause": self._last.cause}
            yield EventKind.OUTLET_LOST, self._whose | cause | self._summed(now_s)
        elif not is_lost and self._is_told_lost:
            self._is_told_lost = False  # the minute goes on: there is one such end for each loss
            yield EventKind.OUTLET_BACK, self._whose | self._back(self._losses.told_s)
        elif not is_lost and is_free and self._losses.untold:
            yield EventKind.OUTLET_BACK, self._whose | self._back(now_s)
        if self._left_out.untold and self._left_out.is_free(now_s):
            yield EventKind.UNDELIVERED, self._whose | self._never_given(now_s)

    def _back(self, told_s: float) -> dict[str, Scalar]:
        dropped, self._dropped_away = self._dropped_away, 0
        return self._summed(told_s) | {"waiting": self._last.waiting, "dropped": dropped}

    def _summed(self, told_s: float) -> dict[str, Scalar]:
        """Losses and the time away since the last event."""
        away_ms, self._away_ms = self._away_ms, 0
        return {"losses": self._losses.tell(told_s), "away_s": away_ms / 1e3}

    def _never_given(self, now_s: float) -> dict[str, Scalar]:
        messages, refused = self._left_out.tell(now_s), self._refused
        self._refused = 0
        return {
            "dropped": messages - refused,
            "refused": refused,
            "to_line": self._last.to_line or None,
        }
