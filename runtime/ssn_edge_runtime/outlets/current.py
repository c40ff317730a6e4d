"""What is true of a line now, for peers that keep the last word: state, counts, signed head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.record import canonical_json, utc_text
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.server.line_client import LineClient
from ssn_edge_runtime.sinks.heads import HEAD_NAME, read_head

LOOK_S = 0.5
COUNTERS_S = 1.0
CURRENT_SCHEMA = 1


class CurrentValues:
    """Looks at a line a few times a second, and tells what changed.

    The last verdict is not among it: what is kept must not look like a pass of now.

    Args:
        line: Whose control socket is asked.
        folder: Of its journal, where the head lies.
    """

    def __init__(self, line: LineClient, folder: Path) -> None:
        self._line = line
        self._head = folder / HEAD_NAME
        self._looked_s = float("-inf")
        self._counted_s = float("-inf")
        self._last: dict[str, object] = {}

    def forget(self) -> None:
        """Tell all of it anew: the peer was lost."""
        self.look_at_once()
        self._last.clear()

    def look_at_once(self) -> None:
        """Look at the next call of `changed`, however soon that is."""
        self._looked_s = self._counted_s = float("-inf")

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Topic and payload of what changed since the last look; waits a second at most."""
        now_s = monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        state, counters = self._ask()
        self._looked_s = monotonic()
        yield from self._if_new("state", state)
        if counters is not None and now_s - self._counted_s >= COUNTERS_S:
            self._counted_s = now_s
            yield from self._if_new("counters", {"counters": counters})
        with suppress(StorageError):  # there is none yet
            yield from self._if_new("head", read_head(self._head).to_dict(), is_plain=True)

    def _ask(self) -> tuple[dict[str, object], object]:
        try:
            found = self._line.state()
        except Refusal as refusal:
            return dead_state(refusal.detail), None
        state = {name: found.get(name) for name in ("state", "cause", "settings_id", "recipe")}
        return state, found.get("counters")

    def _if_new(
        self, topic: str, content: dict[str, object], *, is_plain: bool = False
    ) -> Iterator[tuple[str, bytes]]:
        if self._last.get(topic) == content:
            return
        self._last[topic] = content
        document = content
        if not is_plain:
            at = utc_text(datetime.now(timezone.utc))
            document = {"schema": CURRENT_SCHEMA, "kind": topic, "at": at, **content}
        yield topic, canonical_json(document)


def dead_state(cause: str) -> dict[str, object]:
    """The state of a line that does not tell: none of the names, so that nothing waits for it."""
    return {"state": None, "cause": cause, "settings_id": None, "recipe": None}
