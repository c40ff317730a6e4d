"""What a peer is owed: in order, within bounds, with what did not fit counted. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ssn_edge_runtime.errors import ConfigError

MOST_MESSAGES = 20_000
MOST_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the journal.

    Args:
        line: Number of its line.
        kind: ``verdict`` or ``event``.
        payload: JSON.
    """

    line: int
    kind: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that a peer is never given.

    Args:
        messages: How many.
        first_line: Of the journal, of the first of them.
        last_line: Of the last.
    """

    messages: int
    first_line: int
    last_line: int

    def __add__(self, other: Gap) -> Gap:
        """Both as one."""
        return Gap(
            self.messages + other.messages,
            min(self.first_line, other.first_line),
            max(self.last_line, other.last_line),
        )


Owed = Message | Gap


class Backlog:
    """Messages that wait for a peer, oldest first.

    Beyond the limits the oldest go, and one `Gap` stands in their place: the peer is told. What is
    on its way to the peer stays, so that a message is never both given and counted as dropped.

    Args:
        after_line: Line up to which the peer was given everything.
        most_messages: That wait or are on their way.
        most_bytes: Of their payloads.
    """

    def __init__(
        self,
        after_line: int = 0,
        *,
        most_messages: int = MOST_MESSAGES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        if most_messages < 1 or most_bytes < 1:
            raise ConfigError(
                f"a buffer of {most_messages} messages and {most_bytes} bytes holds none; 1 or "
                "more of both are wanted"
            )
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._waiting: deque[Message] = deque()
        self._sent: deque[Owed] = deque()
        self._settled: set[int] = set()
        self._gap: Gap | None = None
        self._bytes = 0
        self._read_line = after_line
        self.dropped = 0
        """Messages that were ever left out."""
        self.dropped_to_line = 0
        """The last of their lines."""

    def __len__(self) -> int:
        """How many messages wait or are on their way."""
        return len(self._waiting) + sum(isinstance(each, Message) for each in self._sent)

    @property
    def bytes(self) -> int:
        """Of their payloads, together."""
        return self._bytes

    @property
    def in_flight(self) -> int:
        """How many are on their way, gaps included."""
        return len(self._sent)

    @property
    def is_empty(self) -> bool:
        """Whether the peer has, or was told of, everything."""
        return not self._sent and not self._waiting and self._gap is None

    @property
    def position(self) -> int:
        """The journal's line up to which nothing is owed any more."""
        owed = [_first_line(each) for each in self._sent]
        if self._gap is not None:
            owed.append(self._gap.first_line)
        if self._waiting:
            owed.append(self._waiting[0].line)
        return min(owed) - 1 if owed else self._read_line

    def passed(self, line: int) -> None:
        """Tell that the journal was read up to a line, whether or not it made a message."""
        self._read_line = max(self._read_line, line)

    def add(self, message: Message) -> None:
        """Take a message, and drop the oldest that wait if there is no room."""
        self.passed(message.line)
        self._waiting.append(message)
        self._bytes += len(message.payload)
        while self._waiting and (len(self) > self._most_messages or self._bytes > self._most_bytes):
            oldest = self._waiting.popleft()
            self._bytes -= len(oldest.payload)
            self.lost(Gap(1, oldest.line, oldest.line))

    def lost(self, gap: Gap) -> None:
        """Count messages that cannot be given; they come before all that waits."""
        self.dropped += gap.messages
        self.dropped_to_line = max(self.dropped_to_line, gap.last_line)
        self._gap = gap if self._gap is None else self._gap + gap
        self.passed(gap.last_line)

    def take(self) -> Owed | None:
        """The next to be sent, which is on its way then; None if nothing waits."""
        taken: Owed
        if self._gap is not None:
            taken, self._gap = self._gap, None
        elif self._waiting:
            taken = self._waiting.popleft()
        else:
            return None
        self._sent.append(taken)
        return taken

    def settle(self, taken: Owed) -> None:
        """The peer has it; in any order. Unknown ones are ignored: acknowledged twice."""
        for each in self._sent:
            if each is taken:
                self._settled.add(id(each))
        while self._sent and id(self._sent[0]) in self._settled:
            first = self._sent.popleft()
            self._settled.discard(id(first))
            if isinstance(first, Message):
                self._bytes -= len(first.payload)

    def give_back(self) -> None:
        """The peer is lost: what is on its way and was not acknowledged is sent again, in order."""
        back = [each for each in self._sent if id(each) not in self._settled]
        for each in self._sent:
            if id(each) in self._settled and isinstance(each, Message):
                self._bytes -= len(each.payload)
        self._sent.clear()
        self._settled.clear()
        for each in reversed(back):
            if isinstance(each, Gap):
                self._gap = each if self._gap is None else self._gap + each
            else:
                self._waiting.appendleft(each)


def _first_line(owed: Owed) -> int:
    return owed.line if isinstance(owed, Message) else owed.first_line
