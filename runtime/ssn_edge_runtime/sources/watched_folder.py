"""A folder that another program writes pictures to: each new one is a part."""

from __future__ import annotations

import os
import select
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from ssn_edge_runtime.errors import ConfigError, PictureError, SourceError
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES, read_picture
from ssn_edge_runtime.sources.base import DamagedFrame, Frame, NoFrameYet, Source

POLL_S = 0.25
SETTLED_S = 1.0
"""Where the kernel does not tell: how long size and time of a file must stand before it is read."""


class WatchedFolderSource(Source):
    """New pictures of a folder, in the order in which they were completed; part id = file name.

    A picture counts once it is complete: renamed into the folder, or closed by its writer. A file
    counts once, however often it is closed; another file under the same name, renamed over it or
    written after it was taken away, counts again. Hidden files, other suffixes and folders below do
    not count, so a writer may use ``.part-17.png`` or ``part-17.png.tmp`` and rename. A picture
    that is taken away before it was read is told as damaged.

    Nothing is dropped: pictures wait for the judge. While none comes, `read` raises `NoFrameYet`.

    The kernel tells what is complete (inotify). Where it does not, a file is complete when size and
    time stood for a second: if the library ``inotify_simple`` is missing, for files that were
    there on opening and shall count, and for those that came while the source was closed. Files
    that settle together come in the order of their names. A writer that pauses for longer than that
    must write to another name and rename.

    Args:
        path: The folder.
        existing: Whether pictures that it already holds count.
        polls: Look by the clock, even where the kernel could tell: a network folder that another
            machine writes to is not seen by this one's kernel.
    """

    is_live = False
    tells_exposure = False

    def __init__(self, path: Path, *, existing: bool = False, polls: bool = False) -> None:
        self._path = path
        self._existing = existing
        self._polls = polls
        self._kernel: _Inotify | None = None
        self._is_open = False
        self._passed_over: dict[str, _State] = {}
        self._taken: dict[str, _State] = {}
        self._unsettled: dict[str, tuple[_State, float]] = {}
        self._waiting: list[str] = []
        self._was_open = False
        self._index = 0

    @property
    def name(self) -> str:
        """The folder as it was given."""
        return str(self._path)

    def open(self) -> None:
        """Begin to watch.

        Raises:
            SourceError: The folder is not there or cannot be watched.
        """
        if not self._path.is_dir():
            raise SourceError(f"{self._path}: there is no such folder to watch")
        if not self._polls:
            try:
                self._kernel = _Inotify(self._path)
            except ModuleNotFoundError:
                self._kernel = None
        # First watch, then look: what is completed in between is found twice, and counts once.
        if not self._was_open and not self._existing:
            self._passed_over = self._states()
        self._was_open = True
        self._is_open = True
        self._look()

    def read(self, timeout_s: float) -> Frame | None:
        """Read the next picture.

        Raises:
            NoFrameYet: None was completed within the timeout.
            DamagedFrame: This picture cannot be used; the next call gives the one after it.
            SourceError: Not open, or the folder is gone.
        """
        if not self._is_open:
            raise SourceError(f"{self._path}: is not open")
        deadline = monotonic() + timeout_s
        while not self._waiting:
            left_s = deadline - monotonic()
            if left_s <= 0:
                raise NoFrameYet(f"{self._path}: no new picture within {timeout_s:.1f} s")
            self._wait(left_s)
        name = self._waiting.pop(0)
        index = self._index
        self._index += 1
        path = self._path / name
        try:
            image = read_picture(path)
        except PictureError as error:
            raise DamagedFrame(str(error), index=index, part_id=name) from error
        return Frame.taken_now(image, source=self.name, index=index, part_id=name, path=path)

    def close(self) -> None:
        """Stop watching; what was seen is remembered."""
        self._is_open = False
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def _wait(self, timeout_s: float) -> None:
        if self._kernel is None:
            select.select([], [], [], min(timeout_s, POLL_S))
            self._look()
            return
        events = self._kernel.wait(min(timeout_s, POLL_S) if self._unsettled else timeout_s)
        for name, is_there in events or ():
            if is_there:
                # Its writer is done with it, even if it was begun before the source was opened.
                self._passed_over.pop(name, None)
                self._complete(name)
            else:
                self._taken.pop(name, None)
        if events is None or self._unsettled:
            self._look()

    def _complete(self, name: str) -> None:
        if _is_part(name):
            try:
                state = _state((self._path / name).stat())
            except OSError:
                state = _State(0, 0, 0)  # taken away again; reading it will tell
            taken = self._taken.get(name)
            if taken is None or taken.inode != state.inode:
                self._take(name, state)

    def _look(self) -> None:
        """Look at all files, and take those that have settled."""
        now = monotonic()
        states = self._states()
        for name, state in sorted(states.items()):
            if self._is_known(name, state):
                continue
            before, since = self._unsettled.get(name, (None, now))
            if before != state:
                self._unsettled[name] = (state, now)
            elif now - since >= SETTLED_S:
                self._take(name, state)
        for gone in self._unsettled.keys() - states.keys():
            del self._unsettled[gone]
        for gone in self._taken.keys() - states.keys():
            del self._taken[gone]

    def _is_known(self, name: str, state: _State) -> bool:
        if self._passed_over.get(name) == state:
            return True
        taken = self._taken.get(name)
        if taken is None:
            return False
        # The kernel tells when a file goes; without it, a number may be given to the next file.
        return taken == state if self._kernel is None else taken.inode == state.inode

    def _take(self, name: str, state: _State) -> None:
        self._unsettled.pop(name, None)
        self._taken[name] = state
        self._waiting.append(name)

    def _states(self) -> dict[str, _State]:
        found: dict[str, _State] = {}
        try:
            with os.scandir(self._path) as entries:
                for entry in entries:
                    if _is_part(entry.name) and entry.is_file():
                        found[entry.name] = _state(entry.stat())
        except FileNotFoundError:
            if not self._path.is_dir():
                raise SourceError(f"{self._path}: the watched folder is gone") from None
        except OSError as error:
            raise SourceError(f"{self._path}: cannot be listed ({error.strerror})") from error
        return found


class _State(NamedTuple):
    """Which file lies under a name, and how it stands."""

    inode: int
    size: int
    modified_ns: int


def _state(stat: os.stat_result) -> _State:
    return _State(stat.st_ino, stat.st_size, stat.st_mtime_ns)


class _Inotify:
    """The kernel's word: which files were completed, and which went."""

    def __init__(self, path: Path) -> None:
        import inotify_simple

        self._path = path
        self._flags = flags = inotify_simple.flags
        self._inotify = inotify_simple.INotify()
        try:
            self._inotify.add_watch(
                str(path),
                flags.CLOSE_WRITE
                | flags.MOVED_TO
                | flags.DELETE
                | flags.MOVED_FROM
                | flags.DELETE_SELF
                | flags.MOVE_SELF,
            )
        except OSError as error:
            self._inotify.close()
            raise SourceError(f"{path}: cannot be watched ({error.strerror})") from error

    def wait(self, timeout_s: float) -> list[tuple[str, bool]] | None:
        """Names in the order of events, and whether the file is there; None if some were lost."""
        ready, _, _ = select.select([self._inotify.fileno()], [], [], timeout_s)
        events = self._inotify.read(timeout=0) if ready else []
        flags = self._flags
        if any(event.mask & (flags.DELETE_SELF | flags.MOVE_SELF) for event in events):
            raise SourceError(f"{self._path}: the watched folder is gone")
        if any(event.mask & flags.Q_OVERFLOW for event in events):
            return None
        there = flags.CLOSE_WRITE | flags.MOVED_TO
        return [
            (event.name, bool(event.mask & there))
            for event in events
            if event.name and not event.mask & flags.ISDIR
        ]

    def close(self) -> None:
        """Give the descriptor back."""
        self._inotify.close()


def _is_part(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES


def watch_folder(text: str, *, existing: bool) -> WatchedFolderSource:
    """The source of an address.

    Raises:
        ConfigError: It is a file.
    """
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--device watch:{text}: is a file; a folder is wanted")
    return WatchedFolderSource(path, existing=existing)
