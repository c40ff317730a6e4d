"""A folder that another program writes pictures to: each new one is a part."""

from __future__ import annotations

import os
import select
from pathlib import Path
from time import monotonic

from ssn_edge_runtime.errors import ConfigError, PictureError, SourceError
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES, read_picture
from ssn_edge_runtime.sources.base import DamagedFrame, Frame, NoFrameYet, Source

POLL_S = 0.25
SETTLED_S = 1.0
"""Where the kernel does not tell: how long size and time of a file must stand before it is read."""
_FORGET_EVERY = 10_000


class WatchedFolderSource(Source):
    """New pictures of a folder, in the order in which they were completed; part id = file name.

    A picture counts once it is complete: renamed into the folder, or closed by its writer. A name
    counts once for as long as the file lies there, however often it is written. Hidden files,
    other suffixes and folders below do not count, so a writer may use ``.part-17.png`` or
    ``part-17.png.tmp`` and rename.

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
        self._passed_over: set[str] = set()
        self._taken: set[str] = set()
        self._unsettled: dict[str, tuple[tuple[int, int], float]] = {}
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
            self._passed_over = set(self._states())
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
        if self._index % _FORGET_EVERY == 0:
            self._forget()
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
        names = self._kernel.wait(min(timeout_s, POLL_S) if self._unsettled else timeout_s)
        for name in names or ():
            # Its writer is done with it, even if it was begun before the source was opened.
            self._passed_over.discard(name)
            self._take(name)
        if names is None or self._unsettled:
            self._look()

    def _look(self) -> None:
        """Look at all files, and take those that have settled."""
        now = monotonic()
        states = self._states()
        for name, state in sorted(states.items()):
            if name in self._taken or name in self._passed_over:
                continue
            before, since = self._unsettled.get(name, (None, now))
            if before != state:
                self._unsettled[name] = (state, now)
            elif now - since >= SETTLED_S:
                self._take(name)
        for gone in self._unsettled.keys() - states.keys():
            del self._unsettled[gone]

    def _take(self, name: str) -> None:
        self._unsettled.pop(name, None)
        if _is_part(name) and name not in self._taken:
            self._taken.add(name)
            self._waiting.append(name)

    def _forget(self) -> None:
        """Remember the names that lie there, not all that ever did."""
        there = {*self._states(), *self._waiting}
        self._taken &= there
        self._passed_over &= there

    def _states(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        try:
            with os.scandir(self._path) as entries:
                for entry in entries:
                    if _is_part(entry.name) and entry.is_file():
                        stat = entry.stat()
                        found[entry.name] = (stat.st_size, stat.st_mtime_ns)
        except FileNotFoundError:
            if not self._path.is_dir():
                raise SourceError(f"{self._path}: the watched folder is gone") from None
        except OSError as error:
            raise SourceError(f"{self._path}: cannot be listed ({error.strerror})") from error
        return found


class _Inotify:
    """The kernel's word: which files were closed after writing, or renamed into the folder."""

    def __init__(self, path: Path) -> None:
        import inotify_simple

        self._path = path
        self._flags = flags = inotify_simple.flags
        self._inotify = inotify_simple.INotify()
        try:
            self._inotify.add_watch(
                str(path),
                flags.CLOSE_WRITE | flags.MOVED_TO | flags.DELETE_SELF | flags.MOVE_SELF,
            )
        except OSError as error:
            self._inotify.close()
            raise SourceError(f"{path}: cannot be watched ({error.strerror})") from error

    def wait(self, timeout_s: float) -> list[str] | None:
        """Names in the order of the kernel's events; None if it lost some."""
        ready, _, _ = select.select([self._inotify.fileno()], [], [], timeout_s)
        events = self._inotify.read(timeout=0) if ready else []
        flags = self._flags
        if any(event.mask & (flags.DELETE_SELF | flags.MOVE_SELF) for event in events):
            raise SourceError(f"{self._path}: the watched folder is gone")
        if any(event.mask & flags.Q_OVERFLOW for event in events):
            return None
        return [event.name for event in events if event.name and not event.mask & flags.ISDIR]

    def close(self) -> None:
        """Give the descriptor back."""
        self._inotify.close()


def _is_part(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES


def watched_folder(text: str, *, existing: bool) -> WatchedFolderSource:
    """The source of an address.

    Raises:
        ConfigError: It is a file.
    """
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--device watch:{text}: is a file; a folder is wanted")
    return WatchedFolderSource(path, existing=existing)
