"""Triggers as text, a line each: from a Unix socket, or from standard input.

::

    trigger 17 part-4711        17 pass none 0x5AA5
    trigger 19 part-1 @left     19 fail defect 0xA55A           (camera left; else the first)
    trigger 20 part-2 %brass    20 pass none 0x5AA5             (by recipe brass, this part alone;
                                                                 %: by the general settings)
    trigger 18                  18 unknown deadline 0x3CC3
    trigger 18                  18 unknown deadline 0x3CC3      (again: the same answer)
    encoder 123456              (nothing: where the belt is)
    recipe brass                recipe brass                    (for parts triggered from now on)
    recipe                      recipe                          (the general settings)
    package PATH [SETTINGS]     package ID                      (judges from the next part on)
    package                     package ID settled              (or probation: it may go back)
    user anna acknowledge line=9    user anna acknowledge           (a `user_action` record)
    state                       {"state":"ContinuousExecution", ...}
    status                      the same with latencies, which take milliseconds of the line's time
    anything else               error: ...

A trigger that makes no part (a bounce, a line that does not execute) is answered ``ID none CAUSE
0x0000``. Silence, or anything but ``pass``, is reject.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from select import PIPE_BUF
from types import TracebackType

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.line.answers import Answer
from ssn_edge_runtime.line.authority import Authority

LONGEST_LINE = 1024
LONGEST_NUMBER = 18
MOST_CLIENTS = 16
SOCKET_MODE = 0o660


def answer_line(answer: Answer) -> str:
    """An answer as its line of text."""
    if answer.verdict is None or answer.reason is None:
        return f"{answer.trigger_id} none {answer.detail.replace(' ', '_')} 0x0000"
    return f"{answer.trigger_id} {answer.verdict} {answer.reason} 0x{int(answer.code):04X}"


class _Talk:
    """One talker: bytes in, lines out; never waits.

    Args:
        authority: Whose triggers are given.
        reads: Descriptor that lines come from.
        writes: Descriptor that answers go to.
        name: Who it is, for the record.
    """

    def __init__(self, authority: Authority, reads: int, writes: int, name: str) -> None:
        self._name = name
        self._authority = authority
        self._reads = reads
        self._writes = writes
        self._buffer = b""
        self._owed = 0
        self.on_answered: Callable[[], None] = lambda: None
        self._can_write = True
        self.is_ended = False
        """Whether nothing more comes; answers may still be owed."""

    @property
    def is_over(self) -> bool:
        """Whether nothing comes and nothing is owed, or nobody listens."""
        return not self._can_write or (self.is_ended and self._owed == 0)

    def readable(self) -> None:
        """Take what has come."""
        try:
            data = os.read(self._reads, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.is_ended = True
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > LONGEST_LINE:
            self.say(f"error: a line of more than {LONGEST_LINE} bytes")
            self.is_ended = True
        for line in lines:
            self._obey(line.decode("utf-8", "replace").split())

    def say(self, text: str) -> None:
        """Send a line; a talker that does not listen is given up."""
        if not self._can_write:
            return
        rest = text.encode() + b"\n"
        try:
            # Writable means that a pipe takes so much at once; status lines may be longer.
            while rest and self._can_write:
                part, rest = rest[:PIPE_BUF], rest[PIPE_BUF:]
                is_free = select.select([], [self._writes], [], 0)[1]
                self._can_write = bool(is_free) and os.write(self._writes, part) == len(part)
        except OSError:
            self._can_write = False

    def _answer(self, answer: Answer) -> None:
        self._owed -= 1
        self.say(answer_line(answer))
        self.on_answered()

    def _obey(self, words: list[str]) -> None:
        if not words:
            return
        if words == ["status"]:
            status = self._authority.status(with_latency=True).to_dict()
            self.say(json.dumps(status, separators=(",", ":")))
        elif words == ["state"]:
            # Without latencies: they take milliseconds to sum up.
            self.say(json.dumps(self._authority.status().to_dict(), separators=(",", ":")))
        elif words[0] == "encoder" and len(words) == 2 and _is_whole(words[1]):
            try:
                self._authority.encoder(int(words[1]))
            except ConfigError as error:
                self.say(f"error: {error}")
        elif words[0] == "trigger" and (asked := _asked(words[1:])) is not None:
            trigger_id, part_id, camera, recipe = asked
            try:
                self._authority.trigger(
                    trigger_id, part_id, camera=camera, recipe=recipe, on_answer=self._answer
                )
            except ConfigError as error:
                self.say(f"error: {error}")
            else:
                self._owed += 1
        elif words == ["package"]:
            package_id, is_settled = self._authority.package()
            self.say(f"package {package_id} {'settled' if is_settled else 'probation'}")
        elif words[0] == "package" and len(words) in (2, 3):
            self._owed += 1
            self._authority.use_package(
                words[1],
                words[2] if len(words) == 3 else None,
                asked_by=self._name,
                on_done=self._swapped,
            )
        elif words[0] == "user" and len(words) >= 3:
            try:
                self._authority.note_user(words[1], words[2], words[3:])
            except ConfigError as error:
                self.say(f"error: {error}")
            else:
                self.say(" ".join(words[:3]))
        elif words[0] == "recipe" and len(words) <= 2:
            self._owed += 1
            recipe = words[1] if len(words) == 2 else None
            self._authority.use_settings(
                None, recipe, on_done=lambda refusal: self._switched(words, refusal)
            )
        else:
            self.say(
                "error: 'trigger ID [PART] [@CAMERA] [%RECIPE]', 'encoder COUNT', "
                "'recipe [NAME]', 'package [PATH [SETTINGS]]', 'user NAME ACTION [KEY=VALUE]', "
                "'state' or 'status' is wanted, ID a number above 0"
            )

    def _swapped(self, package_id: str | None, refusal: str | None) -> None:
        self._owed -= 1
        self.say(f"error: {refusal}" if package_id is None else f"package {package_id}")
        self.on_answered()

    def _switched(self, words: list[str], refusal: str | None) -> None:
        self._owed -= 1
        self.say(" ".join(words) if refusal is None else f"error: {refusal}")
        self.on_answered()


def _asked(words: list[str]) -> tuple[int, str | None, str | None, str | None] | None:
    """Id, part, camera and recipe of a trigger; None if these are none."""
    recipe = words.pop()[1:] if len(words) > 1 and words[-1].startswith("%") else None
    camera = words.pop()[1:] if len(words) > 1 and words[-1].startswith("@") else None
    if len(words) not in (1, 2) or not _is_whole(words[0]):
        return None
    return int(words[0]), words[1] if len(words) == 2 else None, camera, recipe


def _peer(client: socket.socket) -> str:
    """Who is at the other end, as the kernel says."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack(
        "3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return f"user {uid}, process {pid}"


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER


class StandardInput:
    """Triggers on standard input, answers on standard output; its end ends the run.

    Args:
        authority: Whose line it is.
        reads: Standard input.
        writes: Standard output.
    """

    def __init__(self, authority: Authority, reads: int = 0, writes: int = 1) -> None:
        self._authority = authority
        self._reads = reads
        self._talk = _Talk(authority, reads, writes, "standard input")

    def __enter__(self) -> StandardInput:
        """Begin to listen."""
        try:
            self._authority.watch(self._reads, self._readable)
        except PermissionError as error:
            # epoll takes no files; a file is no live source of triggers anyway.
            raise ConfigError(
                "standard input is a file; triggers come from a terminal or a pipe: "
                "cat FILE | ssn-edge run --trigger stdin"
            ) from error
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held."""

    def _readable(self) -> None:
        self._talk.readable()
        if self._talk.is_ended or self._talk.is_over:
            self._authority.unwatch(self._reads)
            self._authority.stop()  # once all is answered


class ControlSocket:
    """A Unix socket that takes triggers, mode 0660: its group may give them.

    Args:
        authority: Whose line it is.
        path: Where the socket is made, with its folder; one that nobody listens on is replaced.
    """

    def __init__(self, authority: Authority, path: Path) -> None:
        self._authority = authority
        self._path = path
        self._listener: socket.socket | None = None
        self._clients: dict[int, tuple[socket.socket, _Talk]] = {}
        self._silent: set[int] = set()

    def __enter__(self) -> ControlSocket:
        """Begin to listen.

        Raises:
            SourceError: Another line listens there, or the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        try:
            with suppress(FileNotFoundError, ConnectionRefusedError):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    probe.connect(str(self._path))
                raise SourceError(f"{self._path}: another line takes its triggers there")
            with suppress(FileNotFoundError):
                self._path.unlink()
            self._path.parent.mkdir(parents=True, exist_ok=True)  # the journal's comes later
            listener.bind(str(self._path))
            self._path.chmod(SOCKET_MODE)
            listener.listen(MOST_CLIENTS)
        except OSError as error:
            listener.close()
            raise SourceError(f"{self._path}: cannot be listened on ({error.strerror})") from error
        except SourceError:
            listener.close()
            raise
        self._listener = listener
        self._authority.watch(listener.fileno(), self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up on everybody; the run is over."""
        for client, _ in self._clients.values():
            client.close()
        self._clients.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with suppress(FileNotFoundError):
                self._path.unlink()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MOST_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        fd = client.fileno()
        talk = _Talk(self._authority, fd, fd, _peer(client))
        talk.on_answered = lambda: self._close_if_over(fd, talk)
        self._clients[fd] = (client, talk)
        self._authority.watch(fd, lambda: self._readable(fd))

    def _readable(self, fd: int) -> None:
        _, talk = self._clients[fd]
        talk.readable()
        if talk.is_ended and not talk.is_over:
            self._authority.unwatch(fd)  # it may still listen
            self._silent.add(fd)
        self._close_if_over(fd, talk)

    def _close_if_over(self, fd: int, talk: _Talk) -> None:
        client, current = self._clients.get(fd, (None, None))
        # What it asked for may be done long after it hung up, and its number is another's then.
        if client is None or current is not talk or not talk.is_over:
            return
        if fd not in self._silent:
            self._authority.unwatch(fd)
        self._silent.discard(fd)
        del self._clients[fd]
        client.close()
