"""The PLC's server's side of the line: one connection to its control socket, for all there is.

Its end is the line's: a line that is killed is noticed at once, one that hangs within
`LINE_SILENT_NS`. Lines are taken in order, so that a trigger after a recipe is judged with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ssn_edge_runtime.decision import Reason, Verdict
from ssn_edge_runtime.line.states import LineState
from ssn_edge_runtime.outlets.modbus.handshake import GiveTrigger, Handshake, Order
from ssn_edge_runtime.verdict_codes import verdict_code

ASK_EVERY_S = 0.1
SILENT_S = 0.5
TRY_AGAIN_S = 0.2
LONGEST_LINE = 1 << 18

logger = logging.getLogger(__name__)


class LineLink:
    """Carries a handshake's orders to a line, and the line's words to the handshake.

    Args:
        control: The line's control socket.
        handshake: Whose line it is.
        clock: Nanoseconds, monotonic.
    """

    def __init__(self, control: Path, handshake: Handshake, clock: Callable[[], int]) -> None:
        self._control = control
        self._handshake = handshake
        self._clock = clock
        self._writer: asyncio.StreamWriter | None = None

    def tell(self, orders: Sequence[Order]) -> None:
        """Tell the line; without one, nothing is told: its loss abandons what was ordered."""
        if self._writer is None or self._writer.is_closing():
            return
        for order in orders:
            if isinstance(order, GiveTrigger):
                line = f"trigger {order.line_id}"
                if order.recipe is not None:
                    line += f" %{order.recipe}"
            else:
                line = "recipe" if order.name is None else f"recipe {order.name}"
            self._writer.write(line.encode() + b"\n")

    async def run(self) -> None:
        """Stay connected until cancelled."""
        was_lost = False
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(
                    str(self._control), limit=LONGEST_LINE
                )
            except OSError:
                await asyncio.sleep(TRY_AGAIN_S)
                continue
            if was_lost:
                logger.warning("the line answers again")
            self._writer = writer
            asking = asyncio.create_task(self._ask(writer))
            try:
                await self._hear(reader)
            finally:
                self._writer = None
                asking.cancel()
                with suppress(asyncio.CancelledError):
                    await asking
                writer.transport.abort()
                self._handshake.line_lost()
            was_lost = True
            logger.warning("the line is lost: the PLC sees no result until it answers again")
            await asyncio.sleep(TRY_AGAIN_S)

    async def _ask(self, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"state\n")
            await asyncio.sleep(ASK_EVERY_S)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        """Take lines until the line hangs up, says nothing for too long, or says nonsense."""
        with suppress(OSError, ValueError, asyncio.TimeoutError):
            while line := await asyncio.wait_for(reader.readline(), SILENT_S):
                if not line.endswith(b"\n"):
                    return
                self._take(line.decode("utf-8", "replace").strip())

    def _take(self, line: str) -> None:
        now_ns = self._clock()
        words = line.split()
        if line.startswith("{"):
            state = LineState(json.loads(line)["state"])
            self.tell(self._handshake.line_said(state, now_ns))
        elif words[:1] == ["recipe"] and len(words) <= 2:
            self._handshake.recipe_used(words[1] if len(words) == 2 else None)
        elif words[:1] == ["error:"]:
            logger.warning("the line refuses: %s", line.removeprefix("error:").strip())
            self._handshake.complained(now_ns)
        elif len(words) == 4 and words[0].isascii() and words[0].isdecimal():
            self._handshake.answered(int(words[0]), *_verdict_of(words[1:]), now_ns)
        else:
            raise ValueError("that is none of the line's words")


def _verdict_of(words: Sequence[str]) -> tuple[Verdict | None, Reason]:
    """Verdict and reason of an answer; what says two things is no pass."""
    if words[0] == "none":
        return None, Reason.MISSED_TRIGGER
    verdict, reason = Verdict(words[0]), Reason(words[1])
    if words[2] != f"0x{int(verdict_code(verdict)):04X}":
        return Verdict.UNKNOWN, Reason.INVALID_OUTPUT
    return verdict, reason
