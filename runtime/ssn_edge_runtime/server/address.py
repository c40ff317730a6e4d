"""Where the local server listens: a Unix socket, or loopback. Nowhere else."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from ssn_edge_runtime.errors import ConfigError, ListenError

SOCKET_MODE = 0o660
"""Owner and group may connect; give the controller's user that group."""
LONGEST_SOCKET_PATH = 107
"""In bytes: what the kernel's address of a Unix socket holds."""
BACKLOG = 64
_UNIX = "unix:"
_LOCK_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A Unix socket's path, or a loopback address and port.

    Args:
        path: Of the Unix socket; None for TCP.
        host: Loopback address as digits; None for a Unix socket.
        port: 0 takes any that is free.
    """

    path: Path | None = None
    host: str | None = None
    port: int = 0

    def __str__(self) -> str:
        """As it is written on the command line."""
        if self.path is not None:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in str(self.host) else f"{self.host}:{self.port}"


def parse_listen(text: str) -> ListenAddress:
    """``unix:/run/ssn-edge.sock``, ``127.0.0.1:8090``, ``[::1]:8090`` or ``localhost:8090``.

    Raises:
        ConfigError: Anything else, above all an address that other machines can reach.
    """
    if text.startswith(_UNIX):
        path = text[len(_UNIX) :]
        if not path or path.endswith("/") or "\0" in path:
            raise _wrong(text, "it names no file")
        if len(os.fsencode(Path(path).absolute())) > LONGEST_SOCKET_PATH:
            raise _wrong(text, f"a socket's path has at most {LONGEST_SOCKET_PATH} bytes")
        return ListenAddress(path=Path(path).absolute())
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 0xFFFF:
        raise _wrong(text, "it is no address")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare == "localhost":
        bare = "127.0.0.1"
    try:
        is_loopback = ipaddress.ip_address(bare).is_loopback
    except ValueError:
        raise _wrong(
            text, f"{host or 'nothing'} is no address of this machine's loopback"
        ) from None
    if not is_loopback:
        raise ConfigError(
            f"--listen {text}: other machines could reach {host}, and this server asks nobody who "
            "they are; listen on 127.0.0.1 or on a Unix socket, and let a proxy with a password "
            "and TLS stand before it"
        )
    return ListenAddress(host=bare, port=int(port))


class BoundSocket:
    """A socket that listens, with the file that it owns, if any.

    Args:
        listening: It.
        path: Its file, for a Unix socket.
    """

    def __init__(self, listening: socket.socket, path: Path | None = None) -> None:
        self.listening = listening
        self._path = path
        self._inode = None if path is None else _inode_of(path)

    @property
    def address(self) -> ListenAddress:
        """Where it listens, with the port that was given out."""
        if self._path is not None:
            return ListenAddress(path=self._path)
        host, port = self.listening.getsockname()[:2]
        return ListenAddress(host=host, port=port)

    def close(self) -> None:
        """Remove the file, unless another server has replaced it, and stop listening."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                if _inode_of(self._path) == self._inode:
                    self._path.unlink()
        self.listening.close()


def bind(address: ListenAddress) -> BoundSocket:
    """Listen there.

    A socket file that a dead server left is replaced; one that answers is not, nor is anything that
    is no socket, a symbolic link included. The file has `SOCKET_MODE`, whatever the umask, before
    anyone can connect.

    Raises:
        ListenError: Somebody listens there already, or it may not be listened on.
    """
    if address.path is not None:
        return _bind_unix(address.path)
    family = socket.AF_INET6 if ":" in str(address.host) else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ListenError(
            f"cannot listen on {address}: {error.strerror}; end what listens there, or take "
            "another port"
        ) from error
    return BoundSocket(listening)


def _bind_unix(path: Path) -> BoundSocket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked(path.parent):
            _remove_if_dead(path)
            # Under its own name, which tools then show; `bind` follows no link, and nobody can
            # connect before `listen`, when the mode is right.
            listening.bind(str(path))
            _set_mode(path)
            listening.listen(BACKLOG)
            return BoundSocket(listening, path)
    except OSError as error:
        listening.close()
        raise ListenError(
            f"cannot listen on {_UNIX}{path}: {error.strerror}; its folder must be there and "
            "writable for this user"
        ) from error
    except ListenError:
        listening.close()
        raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder: of two servers that start at once, one sees the other's socket."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        until_s = monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > until_s:
                    raise ListenError(
                        f"{folder}: another program has held its lock for {_LOCK_TIMEOUT_S:.0f} s; "
                        "end it, or listen in a folder of its own"
                    ) from None
                sleep(0.02)
        yield
    finally:
        os.close(handle)


def _remove_if_dead(path: Path) -> None:
    """Make room at a path: of what may lie there, only a socket that nobody listens on goes."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise ListenError(f"{path} is a symbolic link, which is not followed; remove it")
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} is there and is no socket; choose another path, or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_CONNECT_TIMEOUT_S)
        try:
            asking.connect(str(path))
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                path.unlink()
                return
            if error.errno not in (errno.EAGAIN, errno.ETIMEDOUT) and not isinstance(
                error, TimeoutError
            ):
                raise
    raise ListenError(f"{path}: a server that runs listens there; end it, or choose another path")


def _set_mode(path: Path) -> None:
    """Give the socket at a path its mode; never what a link there leads to."""
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        if stat.S_ISSOCK(os.fstat(handle).st_mode):
            Path(f"/proc/self/fd/{handle}").chmod(SOCKET_MODE)
    finally:
        os.close(handle)


def _inode_of(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"--listen {text}: {why}; unix:/run/ssn-edge.sock or 127.0.0.1:8090 is wanted"
    )
