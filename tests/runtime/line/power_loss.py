"""A disk that loses power: records what a program asks of it, and what may be left at any moment.

What an fsync returned for is kept. Of what came later, each file keeps nothing, or a part, or all
of it, or pages in its middle read as zeros; and the folder keeps the first so many of its changes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PAGE = 512
"""Smaller than a real one, so that short files have several."""


@dataclass
class Op:
    what: str
    file: int = -1
    name: str = ""
    to: str = ""
    data: bytes = b""
    size: int = 0


@dataclass
class Trace:
    """What was asked of the disk, in order.

    Args:
        folder: The only one that is looked at.
        ops: The requests.
        start: What was in the folder before.
    """

    folder: Path
    ops: list[Op] = field(default_factory=list)
    start: dict[str, bytes] = field(default_factory=dict)

    def mark(self, size: int) -> None:
        """Note what the program believes to be safe now."""
        self.ops.append(Op("mark", size=size))


@contextmanager
def recording(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trace]:
    """Records what this process does in a folder, by way of the functions that the journal uses."""
    trace = Trace(folder, start={each.name: each.read_bytes() for each in folder.iterdir()})
    names: dict[str, int] = {name: number for number, name in enumerate(sorted(trace.start))}
    fds: dict[int, int] = {}
    folders: set[int] = set()
    count = len(names)
    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "ftruncate", "close")}
    real_rename, real_replace, real_unlink = Path.rename, Path.replace, Path.unlink

    def open_(path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
        nonlocal count
        fd: int = real["open"](path, flags, mode, **rest)
        path = Path(os.fsdecode(path))
        if path == folder:
            folders.add(fd)
        elif path.parent == folder:
            if path.name not in names:
                names[path.name] = count
                trace.ops.append(Op("create", count, path.name))
                count += 1
            elif flags & os.O_TRUNC:
                trace.ops.append(Op("truncate", names[path.name], size=0))
            fds[fd] = names[path.name]
        return fd

    def write(fd: int, data: Any) -> int:
        done: int = real["write"](fd, data)
        if fd in fds:
            trace.ops.append(Op("write", fds[fd], data=bytes(data)[:done]))
        return done

    def fsync(fd: int) -> None:
        real["fsync"](fd)
        if fd in fds:
            trace.ops.append(Op("fsync", fds[fd]))
        elif fd in folders:
            trace.ops.append(Op("fsync folder"))

    def ftruncate(fd: int, size: int) -> None:
        real["ftruncate"](fd, size)
        if fd in fds:
            trace.ops.append(Op("truncate", fds[fd], size=size))

    def close(fd: int) -> None:
        fds.pop(fd, None)
        folders.discard(fd)
        real["close"](fd)

    def moved(path: Path, target: Any) -> None:
        names[Path(target).name] = names.pop(path.name)
        trace.ops.append(Op("rename", name=path.name, to=Path(target).name))

    def rename(path: Path, target: Any) -> Path:
        result = real_rename(path, target)
        if path.parent == folder:
            moved(path, target)
        return result

    def replace(path: Path, target: Any) -> Path:
        result = real_replace(path, target)
        if path.parent == folder:
            moved(path, target)
        return result

    def unlink(path: Path, missing_ok: bool = False) -> None:
        real_unlink(path, missing_ok=missing_ok)
        if path.parent == folder and names.pop(path.name, None) is not None:
            trace.ops.append(Op("unlink", name=path.name))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_)
        patched.setattr(os, "write", write)
        patched.setattr(os, "fsync", fsync)
        patched.setattr(os, "ftruncate", ftruncate)
        patched.setattr(os, "close", close)
        patched.setattr(Path, "rename", rename)
        patched.setattr(Path, "replace", replace)
        patched.setattr(Path, "unlink", unlink)
        yield trace


WAYS = ("nothing", "all", "part", "holes", "mixed")
"""What of the requests that no fsync covers has reached the disk."""


def left_after(trace: Trace, length: int, way: str, rng: random.Random) -> dict[str, bytes]:
    """What is in the folder when power is lost after so many requests."""
    names: dict[str, int] = {name: number for number, name in enumerate(sorted(trace.start))}
    safe: dict[int, bytes] = {names[name]: content for name, content in trace.start.items()}
    pending: dict[int, list[Op]] = {number: [] for number in safe}
    changes: list[Op] = []
    for op in trace.ops[:length]:
        if op.what == "create":
            safe[op.file], pending[op.file] = b"", []
            changes.append(op)
        elif op.what in ("rename", "unlink"):
            changes.append(op)
        elif op.what in ("write", "truncate"):
            pending[op.file].append(op)
        elif op.what == "fsync":
            safe[op.file] = applied(safe[op.file], pending[op.file])
            pending[op.file] = []
        elif op.what == "fsync folder":
            for change in changes:
                apply_change(names, change)
            changes = []
    kept = {"nothing": 0, "all": len(changes)}.get(way, rng.randint(0, len(changes)))
    for change in changes[:kept]:
        apply_change(names, change)
    return {
        name: survived(safe[number], pending[number], way, rng) for name, number in names.items()
    }


def applied(content: bytes, ops: list[Op]) -> bytes:
    for op in ops:
        content = content + op.data if op.what == "write" else content[: op.size]
    return content


def apply_change(names: dict[str, int], change: Op) -> None:
    if change.what == "create":
        names[change.name] = change.file
    elif change.what == "unlink":
        names.pop(change.name, None)
    elif change.name in names:
        names[change.to] = names.pop(change.name)


def survived(content: bytes, ops: list[Op], way: str, rng: random.Random) -> bytes:
    if way == "mixed":
        way = rng.choice(WAYS[:-1])
    if way == "nothing" or not ops:
        return content
    if way == "all":
        return applied(content, ops)
    count = rng.randint(1, len(ops))
    after = applied(content, ops[:count])
    if len(after) <= len(content):
        return after
    if way == "part":
        return after[: rng.randint(len(content), len(after))]
    new = bytearray(after)
    for page in range(len(content) // PAGE, len(after) // PAGE + 1):
        begin, end = max(page * PAGE, len(content)), min((page + 1) * PAGE, len(after))
        if begin < end and rng.random() < 0.4:
            new[begin:end] = bytes(end - begin)
    return bytes(new)
